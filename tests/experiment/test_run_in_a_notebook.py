"""What a notebook shows of a run."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import yaml

from rl_framework import Experiment, Run


def rows(run: Run) -> dict[str, str]:
    found = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", run._repr_html_())
    return {html.unescape(name): html.unescape(value) for name, value in found}


def folder(path: Path, settings: object, results: object = None) -> Run:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    if results is not None:
        (path / "results.json").write_text(json.dumps(results))
    return Run.open(path)


RESULTS = {"mean": 480.0, "iqm": 490.5, "interval_95": [470.0, 495.25]}


def test_a_run_with_a_result_and_a_video(tmp_path: Path) -> None:
    settings = {"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}}
    run = folder(tmp_path / "mine", settings, RESULTS)
    (run.folder / "videos").mkdir()
    (run.folder / "videos" / "final.mp4").touch()
    assert rows(run) == {
        "algorithm": "ppo",
        "environment": "CartPole-v1",
        "status": "empty",
        "timesteps": "0",
        "mean return": "480.00",
        "IQM": "490.50",
        "95 % interval of the mean": "470.00 to 495.25",
        "videos": "final.mp4",
        "folder": str(run.folder),
    }


def test_several_seeds_say_that_they_are_summarised(tmp_path: Path) -> None:
    parts = {"agent": {"type": "composed", "parts": [{"type": "ppo"}, "rnd"]}, "environment": {"type": "unity"}}
    run = folder(tmp_path / "mine", {**parts, "seeds": [3, 5]}, RESULTS)
    for seed in (3, 5):
        folder(run.folder / f"seed-{seed}", {**parts, "seed": seed})
    shown = rows(run)
    assert (shown["algorithm"], shown["environment"]) == ("ppo+rnd", "unity")
    assert shown["IQM of the seeds"] == "490.50"
    assert shown["95 % interval of the IQM"] == "470.00 to 495.25"
    assert shown["seed-3"] == shown["seed-5"] == "empty"


@pytest.mark.parametrize(
    "settings", [{}, {"agent": "ppo", "environment": 3}, {"agent": {"parts": 1}}], ids=["none", "odd", "odd-parts"]
)
def test_a_configuration_that_was_changed_by_hand_is_shown_as_far_as_it_goes(tmp_path: Path, settings: object) -> None:
    shown = rows(folder(tmp_path / "mine", settings))
    assert shown["status"] == "empty"
    assert "algorithm" not in shown


def test_no_name_becomes_html(tmp_path: Path) -> None:
    hostile = "<script>alert(1)<script>"
    run = folder(tmp_path / "<b>", {"agent": {"algorithm": hostile}, "environment": {"id": hostile}})
    assert "<script" not in run._repr_html_()
    assert "<b>" not in run._repr_html_()
    assert rows(run)["environment"] == hostile


def test_an_experiment_says_which_one_it_is(tmp_path: Path) -> None:
    experiment = Experiment.from_config({"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}})
    assert repr(experiment) == "Experiment('ppo-CartPole-v1', folder=None)"
    assert (
        repr(Experiment(experiment.config, folder="runs/mine")) == "Experiment('ppo-CartPole-v1', folder='runs/mine')"
    )
