"""The code, the files and the messages in docs/experiments.md are exactly as printed."""

from __future__ import annotations

import re
from pathlib import Path

from rl_framework.experiment import Experiment, ExperimentConfig, Run
from rl_framework.experiment.config import (
    EnvironmentConfig,
    EpisodesConfig,
    EvaluationConfig,
    TrainingConfig,
    VideoConfig,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experiments.md"


def test_the_page_on_experiments_runs() -> None:
    names: dict[str, object] = {}
    shown = ""
    for language, code in re.findall(r"```(python|yaml|text)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        if language == "yaml":
            name = re.match(r"# (\w+\.yaml)\n", code)
            assert name is not None
            Path(name[1]).write_text(code)
        elif language == "python":
            exec(compile(code, "experiments.md", "exec"), names)
        else:
            shown = code
    assert shown.strip() == names["message"]
    run, longer, several = names["run"], names["longer"], names["several"]
    assert isinstance(run, Run)
    assert isinstance(longer, Run)
    assert isinstance(several, Run)
    assert (longer.status, longer.timestep) == ("finished", 1536)
    assert [each.name for each in several.seeds] == ["seed-0", "seed-1", "seed-2"]
    experiment = names["experiment"]
    assert isinstance(experiment, Experiment)
    assert names["result"] == Run.open("runs/mine").results


def test_the_page_names_every_key() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(), flags=re.MULTILINE))
    for section, config in {
        "environment": EnvironmentConfig,
        "episodes": EpisodesConfig,
        "training": TrainingConfig,
        "evaluation": EvaluationConfig,
        "video": VideoConfig,
    }.items():
        named = set(re.findall(r"`(\w+)`", rows[section]))
        missing = set(config.model_fields) - named - {"revision"}
        assert missing == set(), section
    assert set(ExperimentConfig.model_fields) <= {*rows, *re.findall(r"`(\w+)`", PAGE.read_text())}
