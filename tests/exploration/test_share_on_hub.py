"""The example runs unchanged against a Hub on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers.hub import loopback_hub

SCRIPT = Path(__file__).resolve().parents[2] / "exploration" / "share_on_hub.py"


def test_it_shares_and_fetches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with loopback_hub(monkeypatch, tmp_path / "cache") as hub:
        command = [sys.executable, str(SCRIPT), "tester/ppo-CartPole-v1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        repository = hub.repositories["model", "tester/ppo-CartPole-v1"]
    address, result = done.stdout.splitlines()
    assert address.startswith(f"{hub.url}/tester/ppo-CartPole-v1/commit/")
    assert "(20 episodes)" in result
    files = repository.files
    assert {"README.md", "agent.zip", "learning_curve.png", "replay.mp4", "results.json"} <= set(files)
    checkpoints = [f"checkpoints/checkpoint_{steps:012d}.zip" for steps in (3072, 4096)]
    assert [path for path in sorted(files) if path.startswith("checkpoints/")] == checkpoints


def test_it_takes_under_fifteen_lines() -> None:
    code = SCRIPT.read_text().rpartition('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) < 15
