"""docs/unity.md and the example work as printed, in the scene of `tests.servers.unity`; no Unity build was run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.environment.unity_demonstrations import record_walks
from tests.environment.unity_scenes import Scene

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")


def test_the_page_runs(tmp_path: Path) -> None:
    Scene(tmp_path / "builds", "--agents", 32)
    (tmp_path / "Demonstrations").mkdir()
    record_walks(tmp_path / "Demonstrations" / "Reach.demo", 100)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "unity.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 3
    for code in blocks:
        exec(compile(code, "unity.md", "exec"), names)
    for name in ("reach.zip", "Reach.onnx", "Player.onnx"):
        assert (tmp_path / name).exists()
    assert names["result"].mean > 1.3


def test_the_example_leaves_everything_and_says_where(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "builds", "--agents", 8)
    script = str(ROOT / "exploration" / "train_in_unity.py")
    command = [sys.executable, script, str(scene.path), "--total-timesteps", "1000", "--n-eval-episodes", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no video: " in done.stderr
    assert "CameraSensorComponent" in done.stderr
    for name in ("agent.zip", "evaluation.json", "metrics.jsonl", "model.onnx"):
        assert str(Path("runs/ppo-unity") / name) in done.stdout
