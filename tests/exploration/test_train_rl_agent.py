"""The main job, as `make demo` runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "exploration" / "train_rl_agent.py"


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=True).stdout


def test_the_script_leaves_everything_and_says_where() -> None:
    output = _run("--total-timesteps", "2048", "--n-eval-episodes", "10")
    directory = Path("runs/ppo-CartPole-v1")
    expected = ["agent.zip", "evaluation.json", "learning_curve.png", "metrics.jsonl", "record.json", "replay.mp4"]
    for name in [*expected, "tensorboard"]:
        assert (directory / name).exists(), name
        assert str(directory / name) in output
    for row in ("mean return", "standard deviation", "IQM", "95 % interval"):
        assert row in output
    assert len(json.loads((directory / "evaluation.json").read_text())["returns"]) == 10
    assert list((directory / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_the_main_job_reaches_475_twice_in_a_row() -> None:
    for name in ("ppo-CartPole-v1", "ppo-CartPole-v1-2"):
        output = _run()
        match = re.search(r"mean return\s+([\d.]+)", output)
        assert match is not None
        assert float(match[1]) >= 475
        assert (Path("runs") / name / "replay.mp4").stat().st_size > 0
