"""The main job of imitation, as a script and as a notebook."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.kernels import private_sockets

from rl_framework import ImitationAgent, load_agent

EXPLORATION = Path(__file__).resolve().parents[2] / "exploration"


def _run(*arguments: str) -> str:
    script = str(EXPLORATION / "train_il_agent.py")
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_script_leaves_everything_and_says_where() -> None:
    output = _run("--total-timesteps", "60000", "--n-eval-episodes", "10")
    directory = Path("runs/bc-CartPole-v1")
    for name in ("agent.zip", "evaluation.json", "metrics.jsonl", "record.json", "replay.mp4"):
        assert (directory / name).exists(), name
        assert str(directory / name) in output
    returns = json.loads((directory / "evaluation.json").read_text())["returns"]
    assert len(returns) == 10
    assert sum(returns) / 10 > 300
    assert isinstance(load_agent(directory / "agent.zip"), ImitationAgent)


def test_the_notebook_runs_and_does_the_same(tmp_path: Path) -> None:
    notebook = nbformat.read(EXPLORATION / "train_il_agent.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what is stored is not what was once seen
    (tmp_path / "exploration").mkdir()
    (tmp_path / "data").symlink_to(EXPLORATION.parent / "data")
    resources = {"metadata": {"path": str(tmp_path / "exploration")}}
    with private_sockets() as config:
        NotebookClient(notebook, timeout=300, resources=resources, config=config).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "<table" in next(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    text = "\n".join(output["text"] for output in outputs if output.get("name") == "stdout")
    means = [float(found) for found in re.findall(r"mean return\s+([\d.]+)", text)]
    assert means[0] > 450
    assert means[1] < means[0]
    assert (tmp_path / "exploration" / "runs" / "clone.zip").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "expected"), [("bc", 475), ("dagger", 475), ("gail", 300)])
def test_every_algorithm_of_the_script_learns(algorithm: str, expected: float) -> None:
    match = re.search(r"mean return\s+([\d.]+)", _run("--algorithm", algorithm))
    assert match is not None
    assert float(match[1]) >= expected
