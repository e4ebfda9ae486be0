"""The code in docs/ works exactly as printed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import rl_framework
from rl_framework import registry
from rl_framework.environment import known_environments

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


def _own_registries(monkeypatch: pytest.MonkeyPatch, *registries: registry.Registry) -> None:
    for registered in registries:
        assert list(registered)  # its own names are there only now
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


def test_the_page_on_composed_agents_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _own_registries(monkeypatch, registry.networks)
    names: dict[str, object] = {}
    for code in _code("composed-agents.md"):
        exec(compile(code, "composed-agents.md", "exec"), names)
    agent = names["agent"]
    assert isinstance(agent, rl_framework.ComposedAgent)
    assert agent.num_timesteps >= 20_000
    page = (DOCS / "composed-agents.md").read_text()
    parts = {
        registry.parts.name_of(getattr(rl_framework.agent.reinforcement.parts, name))
        for name in re.findall(r"^\| `(\w+)` \| [a-z]", page.partition("## Networks")[0], flags=re.MULTILINE)  # type: ignore[attr-defined]
    }
    assert parts == set(registry.parts)
    networks = re.findall(r"^\| `(\w+)` \|", page.partition("## Networks")[2], flags=re.MULTILINE)
    assert set(networks) == set(registry.networks) - {"wide"}


def test_the_part_of_the_tutorial_fits_a_screen_and_finds_the_treasure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _own_registries(monkeypatch, registry.parts)
    monkeypatch.chdir(tmp_path)
    part, training, auxiliary = _code("parts.md")
    names: dict[str, object] = {}
    for code in (part, training, auxiliary):
        exec(compile(code, "parts.md", "exec"), names)
    assert len(part.splitlines()) <= 45
    sea = {"size": 12}
    returns = {}
    for name in ("alone", "curious"):
        agent = names[name]
        assert isinstance(agent, rl_framework.ComposedAgent)
        result = agent.evaluate("rl_framework/DeepSea-v0", 5, deterministic=True, seed=0, environment_kwargs=sea)
        returns[name] = result.mean
    assert returns["curious"] > 0.9
    assert returns["alone"] < 0.1
    assert rl_framework.load_agent("curious.zip").num_timesteps >= 24_000


@pytest.mark.skipif(not all(map(find_spec, ("Box2D", "ale_py", "cv2"))), reason="the extras are not installed")
def test_the_page_on_environments_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.wrappers, "_entries", dict(registry.wrappers._entries))
    names: dict[str, Any] = {}
    for code in _code("environments.md"):
        exec(compile(code, "environments.md", "exec"), names)
    assert names["loaded"].wrappers == [{"type": "sticky_actions"}, {"type": "frame_stack", "stack_size": 4}]
    assert len(names["result"].returns) == 2
    assert names["atari"] == ["atari", {"type": "frame_stack", "stack_size": 4}]
    assert names["observation"].shape == (4, 4)
    assert names["action"] in (0, 1)
    assert names["source"] == "ALE/Pong-v5"
    assert "gymnasium" in names["installed"]
    assert not {"isaac", "omniverse"} & set(names["installed"])


def test_the_page_on_environments_names_every_family_and_wrapper() -> None:
    page = (DOCS / "environments.md").read_text()
    families = {family.name: family for family in known_environments()}
    rows = dict(re.findall(r"^\| `(\w+)` \| (`[\w-]+`|none) \| `", page, flags=re.MULTILINE))
    assert {name: None if extra == "none" else extra.strip("`") for name, extra in rows.items()} == {
        name: family.extra for name, family in families.items()
    }
    table = page.partition("| name | arguments |")[2].partition("\n\n")[0]
    ours = {entry.name for entry in registry.wrappers.describe() if entry.origin == "rl_framework"}
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == ours
