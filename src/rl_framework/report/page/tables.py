"""What the runs are and what they were made with, as tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rl_framework.report.page.document import Table
from rl_framework.report.page.groups import Group
from rl_framework.report.page.runs import OWN_OF_A_RUN, ReportedRun
from rl_framework.report.page.texts import Rows, rows_of, shortened
from rl_framework.report.plots import EPISODE_RETURN

__all__ = ["configuration_table", "overview", "record_table"]

_WINDOW = 100
_MOST_VALUES = 6
_NEVER_THE_SAME = ("started",)


def overview(groups: Sequence[Group]) -> Table:
    """Returns one row a run: how far it got and what came of it."""
    rows = [_overview_row(run) for group in groups for run in group.runs]
    return (
        (
            "run",
            "seed",
            "timesteps",
            "training time",
            "episodes",
            f"mean return, last {_WINDOW} episodes",
            "evaluation: mean ± deviation",
            "95 % interval of the mean",
        ),
        rows,
    )


def _overview_row(run: ReportedRun) -> list[str]:
    returns = run.metrics.series.get(EPISODE_RETURN)
    last = "" if returns is None else f"{returns.values[-_WINDOW:].mean():.2f}"
    evaluated, interval = "", ""
    reached, planned = run.metrics.last_timestep, run.planned_timesteps
    if run.result is not None:
        low, high = run.result.confidence_interval()
        evaluated = f"{run.result.mean:.2f} ± {run.result.std:.2f} ({run.result.n_episodes} ep.)"
        interval = f"{low:.2f} to {high:.2f}"
    return [
        shortened(run.name, 80),
        shortened(run.seed, 24),
        f"{reached:,}" if planned is None or planned <= reached else f"{reached:,} of {planned:,}",
        _duration(run.metrics.seconds),
        "" if returns is None else f"{len(returns.values):,}",
        last,
        evaluated,
        interval,
    ]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return ""
    if seconds < 86_400:
        return time.strftime("%H:%M:%S", time.gmtime(seconds))
    return f"{seconds / 86_400:.1f} days"


def configuration_table(groups: Sequence[Group]) -> tuple[Table, list[int]] | None:
    """Returns the configurations beside each other, and which rows differ; None: there is none."""
    return _side_by_side(groups, lambda run: run.settings)


def record_table(groups: Sequence[Group]) -> tuple[Table, list[int]] | None:
    """Returns what the last call of `train` of each run recorded, and which rows differ; None: nothing."""
    return _side_by_side(groups, lambda run: run.records[-1] if run.records else None)


def _side_by_side(
    groups: Sequence[Group], data_of: Callable[[ReportedRun], Mapping[str, Any] | None]
) -> tuple[Table, list[int]] | None:
    columns = [[rows_of(data) for run in group.runs if (data := data_of(run)) is not None] for group in groups]
    keys = list(dict.fromkeys(key for column in columns for rows in column for key in rows))
    if not keys:
        return None
    own = (*OWN_OF_A_RUN, *_NEVER_THE_SAME)
    table = [[key, *(_together(column, key) for column in columns)] for key in keys]
    marked = []
    for index, (key, *cells) in enumerate(table):
        # Runs of which nothing is known do not differ.
        known = {cell for cell, column in zip(cells, columns, strict=True) if column}
        if len(known) > 1 and key not in own:
            marked.append(index)
    return (("key", *(shortened(group.name, 60) for group in groups)), table), marked


def _together(runs: Sequence[Rows], key: str) -> str:
    """Returns the values of several runs, each once."""
    values = list(dict.fromkeys(rows[key] for rows in runs if key in rows))
    more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return " | ".join(values[:_MOST_VALUES]) + more
