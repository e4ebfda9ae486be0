"""The code in docs/multi-agent.md works exactly as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rl_framework import MultiAgent
from rl_framework.evaluation import MultiAgentResult

PAGE = Path(__file__).resolve().parents[1] / "docs" / "multi-agent.md"


def test_the_page_on_several_agents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "multi-agent.md", "exec"), names)
    assert isinstance(names["multi"], MultiAgent)
    assert isinstance(names["result"], MultiAgentResult)
    assert set(names["actions"]) == {"adversary_0", "adversary_1", "adversary_2", "agent_0"}  # type: ignore[call-overload]
    assert {name: len(found) for name, found in names["episodes"].items()} == {  # type: ignore[attr-defined]
        "adversary": 6,
        "agent": 2,
    }
