"""The tutorials, run in a real kernel from their first cell to their last."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from tests.kernels import private_sockets

from rl_framework import Run, load_agent

EXPLORATION = Path(__file__).resolve().parents[2] / "exploration"


class Tutorial:
    """A notebook that was run, and what its cells show."""

    def __init__(self, name: str, folder: Path) -> None:
        self.notebook = nbformat.read(EXPLORATION / f"{name}.ipynb", as_version=4)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in self.notebook.cells)
        resources = {"metadata": {"path": str(folder)}}
        with private_sockets() as config:
            NotebookClient(self.notebook, timeout=300, resources=resources, config=config).execute()

    def shown(self, kind: str, containing: str) -> list[str]:
        """Returns what is shown in one form by the cell that has a text."""
        (cell,) = (cell for cell in self.notebook.cells if containing in cell.source and cell.cell_type == "code")
        data: list[dict[str, Any]] = [output["data"] for output in cell.outputs if "data" in output]
        return [each[kind] for each in data if kind in each]

    def table(self, containing: str) -> str:
        """Returns the text of the table that a cell shows, name and value one after the other."""
        (page,) = self.shown("text/html", containing)
        return re.sub(r"(<[^>]*>)+", "|", page)

    def video(self, containing: str) -> bytes:
        """Returns the video that a cell plays."""
        (page,) = self.shown("text/html", containing)
        found = re.search(r'src="data:video/mp4;base64,([^"]+)"', page)
        assert found is not None
        return base64.b64decode(found[1], validate=True)

    def has_one_curve(self, containing: str) -> bool:
        """Tells whether a cell shows a single picture, however often it changed."""
        pictures = self.shown("image/png", containing)
        return len(pictures) == 1 and base64.b64decode(pictures[0]).startswith(b"\x89PNG")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")


def test_experiments(tmp_path: Path) -> None:
    tutorial = Tutorial("tutorial_experiments", tmp_path)
    assert "|trained for|nothing so far|" in tutorial.table("experiment.build()")
    assert tutorial.has_one_curve("experiment.train()")
    assert "|status|unfinished|" in tutorial.table("experiment.train()")
    assert tutorial.has_one_curve("train(resume=True)")
    assert "|mean return|" in tutorial.table("resumed.evaluate()")
    assert "|trainings|" in tutorial.table("run.load_agent()")
    assert "resumed from checkpoint_" in tutorial.table("run.load_agent()")

    run = Run.open(tmp_path / "runs" / "tutorial")
    assert (run.status, run.timestep) == ("finished", 12_288)
    assert run.results is not None
    assert run.results.mean > 60  # it learned: by chance it is 20
    assert tutorial.video("resumed.record()") == run.videos[0].read_bytes()
    timesteps = [record.timestep for record in run.metrics() if "evaluation/mean_return" in record.metrics]
    assert timesteps == [3_072, 6_144, 9_216, 12_288]  # none is missing or there twice

    curious = Run.open(tmp_path / "runs" / "deep-sea").results
    assert curious is not None
    assert curious.mean == pytest.approx(0.99)  # the end of the chain, which one wrong move misses
    assert "|part ppo|" in tutorial.table("deep_sea.agent")
    assert [run.name for run in Run.list(tmp_path / "runs")] == ["tutorial", "deep-sea"]


@pytest.mark.slow
def test_first_agent(tmp_path: Path) -> None:
    tutorial = Tutorial("tutorial_first_agent", tmp_path)
    assert tutorial.has_one_curve("agent.train(")
    assert "|trained for|20,480 timesteps|" in tutorial.table("agent.train(")
    mean = re.search(r"\|mean return\|([\d.]+)\|", tutorial.table("result = agent.evaluate("))
    assert mean is not None
    assert float(mean[1]) > 300
    assert "2e-3 is better than 2e-4" in tutorial.table("comparison = compare(")
    assert tutorial.video("record_video(\n") == (tmp_path / "runs" / "tutorial" / "replay.mp4").read_bytes()
    assert tutorial.shown("text/plain", "load_agent(path)") == ["True"]
    assert load_agent(tmp_path / "runs" / "tutorial" / "agent.zip").observation_space.shape == (4,)
