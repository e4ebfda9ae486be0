"""The example with several agents runs from end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rl_framework import MultiAgent, load_agent

SCRIPT = Path(__file__).resolve().parents[2] / "exploration" / "train_multi_agent.py"


def test_the_script_leaves_the_agents_together_and_each_by_itself(tmp_path: Path) -> None:
    arguments = ["--total-timesteps", "200", "--n-eval-episodes", "4", "--root", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    directory = tmp_path / "multi-simple_tag"
    for name in ("agent.zip", "groups", "metrics.jsonl", "evaluation.json"):
        assert str(directory / name) in output
    assert "mean return of adversary" in output
    assert isinstance(load_agent(directory / "agent.zip"), MultiAgent)
    assert not isinstance(load_agent(directory / "groups" / "agent.zip"), MultiAgent)
