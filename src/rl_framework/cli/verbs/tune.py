"""`rl-framework tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

if TYPE_CHECKING:
    from rich.table import Table

    from rl_framework.experiment.tuning.result import TrialRecord, TuningResult
    from rl_framework.experiment.tuning.tuning import Tuning

__all__ = ["command"]

_ROWS = 10
"""Trials in the table for people; results.json has all of them."""


def command(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file with a section tuning; or the folder of a study, which goes on.",
            show_default=False,
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option("--trials", help="How many in all, those before an interruption included.", show_default="20"),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", help="Seconds after which no further trial begins.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that train at the same time.", show_default="1"),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="tpe, random, grid, cmaes, qmc or gp.", show_default="tpe")
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            "--pruner",
            help="median, percentile, successive_halving, hyperband, threshold or none.",
            show_default="median",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="A journal file, or sqlite:///path.", show_default="a journal in the folder"),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", help="Name of the study and of its folder.", show_default="name of the run, -tuning"),
    ] = None,
    confirm_seeds: Annotated[
        int | None,
        typer.Option("--confirm-seeds", help="Fresh seeds for the best; 0: none.", show_default="5"),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", help="How many of the best are measured on them.", show_default="1"),
    ] = None,
    run_dir: Annotated[Path | None, typer.Option("--run-dir", help="Where runs lie.", show_default="runs")] = None,
    device: options.Device = None,
    overrides: options.Overrides = None,
) -> Answer:
    """Search for parameters, and measure the best ones again on fresh seeds.

    rl-framework tune walker.yaml --trials 50 --workers 4

    rl-framework tune walker.yaml 'tuning.search={agent.parameters.learning_rate: auto}'

    Each trial is a run in the folder of the study. The same command goes on with what was interrupted or killed.
    """
    import shlex

    from rl_framework.cli.output import note
    from rl_framework.cli.verb import INTERRUPTED, keep_failures_in

    given = {
        "--trials": ("tuning.trials", trials),
        "--timeout": ("tuning.timeout", timeout),
        "--workers": ("tuning.workers", workers),
        "--sampler": ("tuning.sampler", sampler),
        "--pruner": ("tuning.pruner", pruner),
        "--storage": ("tuning.storage", storage),
        "--study": ("tuning.study", study),
        "--confirm-seeds": ("tuning.confirm.seeds", confirm_seeds),
        "--candidates": ("tuning.confirm.candidates", candidates),
        "--run-dir": ("run_directory", None if run_dir is None else str(run_dir)),
        "--device": ("device", device),
    }
    tuning = _made(config, {option: each for option, each in given.items() if each[1] is not None}, overrides or [])
    note(_beginning(tuning))
    told: list[TrialRecord] = []

    def tell(trial: TrialRecord) -> None:
        told.append(trial)
        note(_line(trial, tuning))

    with keep_failures_in(lambda: tuning.folder):
        try:
            result = tuning.run(tell)
        except KeyboardInterrupt:
            line = f"rl-framework tune {shlex.quote(str(tuning.folder))}"
            note(f"interrupted after {len(told)} trials of this session")
            data = {"interrupted": True, "folder": str(tuning.folder), "resume": line}
            return Answer(data, ["To go on:", line], exit_code=INTERRUPTED)
    return Answer(result.to_data(), _shown(result))


def _made(config: str, given: dict[str, tuple[str, Any]], overrides: list[str]) -> Tuning:
    import json

    from rl_framework.cli.configuration import in_words_of_options
    from rl_framework.errors import ConfigurationError
    from rl_framework.experiment import Tuning

    changes = [f"{key}={json.dumps(value)}" for key, value in given.values()]
    try:
        return Tuning.from_yaml(config, [*changes, *overrides])
    except ConfigurationError as error:
        raise in_words_of_options(error, {key: option for option, (key, _) in given.items()}) from error


def _beginning(tuning: Tuning) -> str:
    asked = tuning.config.tuning
    assert asked is not None  # a search has one
    keys = ", ".join(asked.search)
    return f"Searching {keys}; {asked.trials} trials, {asked.metric}, {asked.direction}; folder: {tuning.folder}"


def _line(trial: TrialRecord, tuning: Tuning) -> str:
    from rl_framework.experiment.tuning.result import shown_parameters

    asked = tuning.config.tuning
    assert asked is not None  # a search has one
    value = "" if trial.value is None else f" {trial.value:.6g}"
    reason = f": {trial.reason}" if trial.reason else ""
    return f"trial {trial.number}: {trial.state}{value}{reason} ({shown_parameters(trial.parameters)})"


def _shown(result: TuningResult) -> list[Any]:
    counts = ", ".join(f"{count} {state}" for state, count in result.counts().items())
    shown: list[Any] = [f"{len(result.trials)} trials: {counts}"]
    if result.best is None:
        return [*shown, "No trial is complete so far."]
    shown.append(_table(result))
    if result.importance:
        parts = ", ".join(f"{key} {100 * share:.0f} %" for key, share in result.importance.items())
        shown.append(f"What matters: {parts}")
    for each in result.confirmations[1:]:
        shown.append(_other(each))
    shown.append(result.words())
    if result.best_config is not None:
        shown += ["To train with it:", f"rl-framework train --config {result.best_config}"]
    return shown


def _other(confirmation: Any) -> str:
    if confirmation.value is None:
        return f"Trial {confirmation.number} was not confirmed: {confirmation.reason}"
    low, high = confirmation.interval
    return f"Trial {confirmation.number} on the same seeds: IQM {confirmation.value:.6g}, {low:.6g} to {high:.6g}"


def _table(result: TuningResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    ranked = result.ranked()[:_ROWS]
    keys = list(dict.fromkeys(key for trial in ranked for key in trial.parameters))
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"The best {len(ranked)}", title_justify="left")
    for column in ("trial", result.metric, *keys):
        table.add_column(column.removeprefix("agent.parameters."), overflow="fold")
    for trial in ranked:
        values = [trial.parameters.get(key) for key in keys]
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        table.add_row(*map(Text, (str(trial.number), f"{trial.value:.6g}", *cells)))
    return table
