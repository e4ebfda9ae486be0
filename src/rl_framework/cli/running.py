"""Running an experiment, from its beginning or on from where it ended, and saying what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from rl_framework.cli.output import note
from rl_framework.cli.progress import TrainingProgress
from rl_framework.cli.verb import INTERRUPTED, Answer, keep_failures_in
from rl_framework.experiment import Experiment, Run
from rl_framework.progress import without_bar
from rl_framework.training import Training

__all__ = ["resume_line", "run"]


def run(make: Callable[..., tuple[Experiment, list[str]]], is_resumed: bool = False) -> Answer:
    """Trains, evaluates, films and uploads.

    Args:
        make: Makes the experiment, given `callbacks`; returns it, and lines about it.
        is_resumed: Whether it goes on.
    """
    made: list[Experiment] = []

    def announce(training: Training) -> None:
        _announce(made[0], training)

    progress = TrainingProgress(announce=announce)
    experiment, lines = make(callbacks=[progress])
    made.append(experiment)
    progress.is_shown = experiment.config.training.progress_bar
    for line in [*lines, *_choices(experiment)]:
        note(line)
    with keep_failures_in(lambda: experiment.folder), without_bar("training"):
        try:
            done = experiment.run(resume=is_resumed)
        except KeyboardInterrupt:
            return _interrupted(experiment)
    return Answer(_data(done), _shown(done))


def resume_line(folder: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"rl-framework resume {shlex.quote(str(folder))}"


def _choices(experiment: Experiment) -> list[str]:
    """Says what the configuration left open and was chosen."""
    environment = experiment.config.environment
    if environment is None or not environment.wrappers:
        return []
    names = []
    for wrapper in environment.wrappers:
        arguments = ", ".join(f"{name} {value}" for name, value in wrapper.given().items())
        names.append(f"{wrapper.type} ({arguments})" if arguments else wrapper.type)
    return [f"Wrappers: {', '.join(names)}; 'environment.wrappers=[]' does without"]


def _announce(experiment: Experiment, training: Training) -> None:
    record = training.record
    seeds = experiment.config.seeds
    folder = experiment.folder if seeds is None else f"{experiment.folder}/seed-{training.seed}"
    named = experiment.config.environment
    name = record.get("environment") or (named and (named.id or named.type))
    where = f" in {name}" if name else ""
    times = f" × {record['n_environments']}" if record.get("n_environments", 0) > 1 else ""
    device = f", on {record['device']}" if record.get("device") else ""
    verb = f"goes on at timestep {training.timestep:,}" if training.resumed else "begins"
    note(f"Training {verb}{where}{times}, seed {training.seed}{device}; run: {folder}")


def _interrupted(experiment: Experiment) -> Answer:
    folder = experiment.folder
    if folder is None or not folder.is_dir():
        note("interrupted before there was anything to keep")
        return Answer({"interrupted": True, "run": None}, exit_code=INTERRUPTED)
    found = Run.open(folder)
    kept = "" if found.checkpoints or found.seeds else ", without a checkpoint: resuming begins anew"
    note(f"interrupted{kept}")
    data = {"interrupted": True, **_data(found)}
    return Answer(data, ["To go on:", resume_line(folder)], exit_code=INTERRUPTED)


def _data(found: Run) -> dict[str, Any]:
    return {
        "run": str(found.folder),
        "status": found.status,
        "timestep": found.timestep,
        "agent": str(found.agent_path) if found.agent_path.is_file() else None,
        "videos": _videos(found),
        "results": found.summary,
        "seeds": {each.name.removeprefix("seed-"): str(each.folder) for each in found.seeds},
        "resume": resume_line(found.folder),
    }


def _videos(found: Run) -> list[str]:
    return [str(path) for run in (found, *found.seeds) for path in run.videos]


def _shown(found: Run) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if found.results is not None:
        lines.append(str(found.results))
    elif found.summary is not None:
        summary, (low, high) = found.summary, found.summary["interval_95"]
        each = ", ".join(f"{seed}: {score:.2f}" for seed, score in summary["scores"].items())
        lines.append(
            f"{summary['n_seeds']} seeds: mean return {summary['mean']:.2f} ± {summary['std']:.2f}, IQM "
            f"{summary['iqm']:.2f}, 95 % interval {low:.2f} to {high:.2f} ({each})"
        )
    lines += [f"Video: {path}" for path in _videos(found)]
    if found.agent_path.is_file():
        lines.append(f"Agent: {found.agent_path} ({found.timestep:,} timesteps)")
    lines.append("To train it for longer, add --total-timesteps to:")
    lines.append(resume_line(found.folder))
    return lines
