"""Runs of one configuration together: what they say on average, and how certain that is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.evaluation import EvaluationResult, compare
from rl_framework.evaluation.inference import t_quantile
from rl_framework.report.page.runs import ReportedRun
from rl_framework.report.page.series import Series
from rl_framework.report.plots import rolling_mean

__all__ = ["Curve", "Group", "comparisons", "group_runs", "mean_over_runs", "repeated_seeds"]

_LEVEL = 0.95
_MOST_COMPARED_BY_PAIRS = 4


@dataclass
class Group:
    """Runs that differ by nothing but their seeds.

    Attributes:
        name: What to call it; no two are called the same.
        runs: At least one.
        number: Its place on the page, from 0, which decides its colour.
    """

    name: str
    runs: list[ReportedRun]
    number: int

    @property
    def results(self) -> list[EvaluationResult]:
        """The evaluations of its runs."""
        return [run.result for run in self.runs if run.result is not None]


class Curve(NamedTuple):
    """A mean with an interval; all arrays have the shape `(n,)`."""

    timesteps: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def group_runs(runs: Sequence[ReportedRun]) -> list[Group]:
    """Puts runs of the same configuration together, in the order of their first ones."""
    by_kind: dict[str, list[ReportedRun]] = {}
    for run in runs:
        by_kind.setdefault(run.kind, []).append(run)
    groups: list[Group] = []
    for number, members in enumerate(by_kind.values()):
        name, taken = _name(members), {group.name for group in groups}
        unique = (
            name
            if name not in taken
            else next(n for n in (f"{name} ({i})" for i in range(2, 10_000)) if n not in taken)
        )
        groups.append(Group(unique, members, number))
    return groups


def _name(runs: Sequence[ReportedRun]) -> str:
    if len(runs) == 1:
        return runs[0].name
    families = {run.family for run in runs}
    family = families.pop()
    if family is not None and not families:
        return family
    given, *others = [(run.settings or {}).get("name") for run in runs]
    if isinstance(given, str) and given not in ("", "null") and all(other == given for other in others):
        return given
    shared = os.path.commonprefix([run.name for run in runs])  # noqa: RUF071  # characters are meant
    shared = shared.rstrip("-_ ./0123456789")
    shared = shared.removesuffix("seed").rstrip("-_ ./")
    return shared or f"{runs[0].name} and {len(runs) - 1} more"


def mean_over_runs(curves: Sequence[Series], points: int) -> Curve | None:
    """Averages curves over several runs.

    The interval is Student's t interval of the mean, 95 %, at each timestep by itself. It covers other seeds of the
    same configuration as far as the curves vary roughly normally; with two or three runs it is wide, as it should be.

    Args:
        curves: One a run.
        points: How many timesteps to take at most; there where the runs were measured, if that was not more often.
            Between its own ones, a curve is interpolated; one with more values counts with the mean of those since the
            timestep before.

    Returns:
        The curve over the timesteps that all runs have reached; None: there are fewer than two runs, or none such.
    """
    if len(curves) < 2:
        return None
    start, end = max(curve.timesteps[0] for curve in curves), min(curve.timesteps[-1] for curve in curves)
    if start > end:
        return None
    timesteps = _timesteps(curves, start, end, points)
    smooth = [rolling_mean(curve.values, max(1, len(curve.values) // len(timesteps))) for curve in curves]
    values = np.stack([np.interp(timesteps, curve.timesteps, each) for curve, each in zip(curves, smooth, strict=True)])
    mean = values.mean(axis=0)
    half = t_quantile((1 + _LEVEL) / 2, len(curves) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(curves))
    return Curve(timesteps, mean, mean - half, mean + half)


def _timesteps(curves: Sequence[Series], start: int, end: int, points: int) -> npt.NDArray[np.float64]:
    # Between two evaluations the lines of the runs may cross, which would look as if nothing were uncertain there.
    own = [np.unique(each.timesteps[(each.timesteps >= start) & (each.timesteps <= end)]) for each in curves]
    fewest = min(own, key=len)
    if len(fewest) > points:
        return np.unique(np.linspace(start, end, points))
    return np.unique([start, *fewest, end]).astype(np.float64)


def repeated_seeds(groups: Sequence[Group]) -> Iterator[str]:
    """Yields a sentence about every seed that several runs of a configuration have."""
    for group in groups:
        counts = Counter(run.seed for run in group.runs if run.seed)
        for seed, count in counts.items():
            if count > 1:
                yield (
                    f"{group.name}: {count} runs have the seed {seed}. They say little more than one of them, and make "
                    "the intervals narrower than they should be."
                )


def comparisons(groups: Sequence[Group]) -> Iterator[tuple[str, str]]:
    """Compares the evaluations of the groups, pair by pair; of many, all with the one that has the highest mean.

    Yields:
        What is compared, and the paragraph.
    """
    evaluated = [group for group in groups if group.results]
    pairs = list(combinations(evaluated, 2))
    if len(evaluated) > _MOST_COMPARED_BY_PAIRS:
        best = max(evaluated, key=lambda group: float(np.mean([result.mean for result in group.results])))
        pairs = [(best, group) for group in evaluated if group is not best]
    for a, b in pairs:
        places = [sorted({result.environment or "" for result in group.results}) for group in (a, b)]
        if places[0] != places[1]:
            both = " and ".join(", ".join(each) or "an unknown one" for each in places)
            yield f"{a.name} and {b.name}", f"They were evaluated in different environments ({both}): not compared."
            continue
        try:
            words = str(compare(a.results, b.results, names=(a.name, b.name)))
        except ArgumentError as error:
            words = f"They cannot be compared: {error}"
        yield f"{a.name} and {b.name}", words
