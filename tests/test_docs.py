"""The code in docs/ works exactly as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rl_framework
from rl_framework import registry

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _code(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


def test_the_custom_algorithm_learns_and_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.algorithms, "_entries", dict(registry.algorithms._entries))
    (code,) = _code("custom-agents.md")
    names: dict[str, object] = {}
    exec(compile(code, "custom-agents.md", "exec"), names)
    lake = {"is_slippery": False}
    for name in ("agent", "same_agent"):
        agent = names[name]
        assert isinstance(agent, rl_framework.RLAgent)
        result = agent.evaluate("FrozenLake-v1", 20, deterministic=True, seed=0, environment_kwargs=lake)
        assert result.mean == 1.0
    assert len((DOCS / "custom-agents.md").read_text().splitlines()) <= 75


def test_the_page_on_imitation_runs_from_the_root_of_a_clone(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(DOCS.parent / "data")
    names: dict[str, object] = {}
    for code in _code("imitation.md"):
        exec(compile(code, "imitation.md", "exec"), names)
    agent, same_agent, episodes = names["agent"], names["same_agent"], names["episodes"]
    assert isinstance(agent, rl_framework.ImitationAgent)
    assert isinstance(same_agent, rl_framework.ImitationAgent)
    assert isinstance(episodes, rl_framework.EpisodeSequence)
    observations = episodes[0].observations
    assert (agent.choose_action(observations) == same_agent.choose_action(observations)).all()
    assert agent.evaluate("CartPole-v1", 10, deterministic=True, seed=0).mean > 300
    assert isinstance(names["offline"], rl_framework.OfflineAgent)
    documented = set(re.findall(r"^\| `(\w+)` \| `", (DOCS / "imitation.md").read_text(), flags=re.MULTILINE))
    assert documented == set(registry.imitation_algorithms)
