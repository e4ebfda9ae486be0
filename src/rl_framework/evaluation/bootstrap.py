"""Stratified bootstrap: intervals for scores of several runs on several tasks.

Runs are drawn again within each task, as in Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (https://arxiv.org/abs/2108.13264); with the same indices the numbers are those
of that paper's library, rliable.

Such intervals are too narrow with few runs: with 3 runs of each of two algorithms on one task, the 95 % interval of
a difference of means leaves out the truth in 18 to 35 % of the cases instead of 5 %, with 5 runs in 13 to 26 %.
`compare` uses other intervals, and tells how often they err.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.evaluation.scores import Scores, TaskScores, as_numbers, task_scores
from rl_framework.evaluation.statistics import (
    check_bootstrap,
    pooled_interquartile_means,
    same_tasks,
    share_ahead,
)
from rl_framework.seeding import derive_seed

__all__ = [
    "AggregateStatistic",
    "Estimate",
    "PerformanceProfile",
    "StratifiedIndices",
    "performance_profile",
    "probability_of_improvement_interval",
    "stratified_bootstrap",
    "stratified_indices",
]

AggregateStatistic = (
    Literal["mean", "median", "iqm", "optimality_gap"] | Callable[[npt.NDArray[np.float64]], npt.ArrayLike]
)
"""A name, or a function from scores of shape `(n_runs, n_tasks)` to a number or to an array of shape `(k,)`."""

_Resampled = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]
_BatchStatistic = Callable[[_Resampled, _Counts], npt.NDArray[np.float64]]
"""From scores `(resamples, runs, n_tasks)`, padded with NaN, and counts `(resamples, n_tasks)` to `(resamples, k)`."""

# 2**20 numbers are 8 MiB, however many runs and tasks there are.
_CHUNK_SIZE = 1 << 20


class Estimate(NamedTuple):
    """A statistic with its interval: numbers, or arrays of shape `(k,)` where the statistic gives arrays.

    Attributes:
        value: The statistic of the scores themselves.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: Any
    low: Any
    high: Any


class PerformanceProfile(NamedTuple):
    """Which share of the scores lies above each threshold.

    Attributes:
        thresholds: In the unit of the scores, float64 of shape `(k,)`.
        values: Shares from 0 to 1, float64 of shape `(k,)`.
        low: Lower ends of the intervals, one by one for each threshold, shape `(k,)`.
        high: Upper ends, shape `(k,)`.
    """

    thresholds: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


class StratifiedIndices(NamedTuple):
    """Which scores each resample consists of: row `i`, column `t` holds `scores[runs[r, i, t], tasks[r, t]]`.

    Attributes:
        runs: int64 of shape `(n_resamples, n_runs, n_tasks)`. Where tasks have different numbers of runs, `n_runs` is
            the largest, and what stands below the number of runs of a column's task is not used.
        tasks: int64 of shape `(n_resamples, n_tasks)`; None: every column keeps its own task.
    """

    runs: npt.NDArray[np.int64]
    tasks: npt.NDArray[np.int64] | None = None


def stratified_indices(
    n_runs: int | npt.ArrayLike, n_tasks: int, n_resamples: int = 2000, seed: int = 0, resample_tasks: bool = False
) -> StratifiedIndices:
    """Draws the indices that `stratified_bootstrap` uses with the same seed.

    Args:
        n_runs: Number of runs, or one number for each task.
        n_tasks: Number of tasks.
        n_resamples: How many times the scores are drawn again.
        seed: Of the draws.
        resample_tasks: Whether tasks are drawn again as well.

    Returns:
        The indices.

    Raises:
        ArgumentError: A number is below 1, or there is no seed.
    """
    n_resamples = check_bootstrap(0.5, n_resamples, seed)
    for argument, numbers in (("n_tasks", n_tasks), ("n_runs", n_runs)):
        if np.asarray(numbers).dtype.kind not in "iu" or np.size(numbers) == 0 or np.min(numbers) < 1:
            raise ArgumentError(argument, numbers, "must be an integer of at least 1")
    if np.shape(n_runs) not in ((), (n_tasks,)):
        raise ArgumentError("n_runs", n_runs, f"must be one number, or one for each of the {n_tasks} tasks")
    counts = np.broadcast_to(np.asarray(n_runs, dtype=np.int64), (n_tasks,))
    chunks = list(_draw(counts, n_resamples, seed, resample_tasks))
    tasks = [chunk.tasks for chunk in chunks if chunk.tasks is not None]
    return StratifiedIndices(np.concatenate([chunk.runs for chunk in chunks]), np.concatenate(tasks) if tasks else None)


def stratified_bootstrap(
    scores: Scores,
    statistic: AggregateStatistic = "iqm",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    resample_tasks: bool = False,
    indices: StratifiedIndices | None = None,
) -> Estimate:
    """Returns a statistic of several runs on several tasks, with an interval from its bootstrap distribution.

    The interval answers: what might come out with other runs (seeds) on these tasks? With `resample_tasks` it answers:
    what might come out with other runs on other tasks of the same kind?

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.
        statistic: "mean", "median", "iqm", "optimality_gap" (see the functions `aggregate_...`), or a function from
            scores of shape `(n_runs, n_tasks)` to a number or an array of shape `(k,)`.
        level: Share of the bootstrap distribution between the two ends (percentiles), between 0 and 1.
        n_resamples: How many times the scores are drawn again; not used with `indices`.
        seed: Of the draws; not used with `indices`.
        resample_tasks: Whether tasks are drawn again as well; not used with `indices`.
        indices: Draws to use, from `stratified_indices` or elsewhere.

    Returns:
        The statistic and both ends, in its unit.

    Raises:
        ArgumentError: The scores are not usable (see `aggregate_iqm`), the statistic is not known, not finite or
            not able to take different numbers of runs, an index is out of range, or a number is not valid.
    """
    parsed = task_scores(scores)
    batch = _batch_statistic(statistic, parsed)
    n_resamples = check_bootstrap(level, n_resamples, seed)
    value = batch(parsed.values[None], parsed.counts[None])[0]
    draws = _draw(parsed.counts, n_resamples, seed, resample_tasks) if indices is None else _given(indices, parsed)
    distribution = np.concatenate([batch(*_resample(parsed, chunk)) for chunk in draws])
    if not (np.isfinite(value).all() and np.isfinite(distribution).all()):
        raise ArgumentError("statistic", statistic, "is not finite for some of the resampled scores")
    return _estimate(value, distribution, level)


def performance_profile(
    scores: Scores,
    thresholds: npt.ArrayLike,
    kind: Literal["run_score", "average_score"] = "run_score",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    resample_tasks: bool = False,
    indices: StratifiedIndices | None = None,
) -> PerformanceProfile:
    """Returns which share of the scores lies above each threshold, with intervals.

    Of two profiles, one that lies above the other everywhere belongs to the better algorithm (stochastic dominance).

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.
        thresholds: In the unit of the scores, shape `(k,)`.
        kind: "run_score": the share of runs above the threshold, averaged over tasks; "average_score": the share of
            tasks whose mean score is above it.
        level: As for `stratified_bootstrap`, for every threshold by itself.
        n_resamples: As for `stratified_bootstrap`.
        seed: As for `stratified_bootstrap`.
        resample_tasks: As for `stratified_bootstrap`.
        indices: As for `stratified_bootstrap`.

    Returns:
        The profile.

    Raises:
        ArgumentError: The scores or thresholds are not usable, the kind is not known, or a number is not valid.
    """
    levels = as_numbers(thresholds, "thresholds")
    if levels.ndim != 1:
        raise ArgumentError("thresholds", thresholds, "must be one-dimensional")
    if kind not in ("run_score", "average_score"):
        raise UnknownNameError("kind", str(kind), ("run_score", "average_score"))

    def profile(resampled: _Resampled, counts: _Counts) -> npt.NDArray[np.float64]:
        if kind == "average_score":
            means = _task_means(resampled, counts)
            return np.stack([(means > threshold).mean(axis=1) for threshold in levels], axis=1)
        # NaN is above no threshold.
        shares = [((resampled > threshold).sum(axis=1) / counts).mean(axis=1) for threshold in levels]
        return np.stack(shares, axis=1)

    parsed = task_scores(scores)
    n_resamples = check_bootstrap(level, n_resamples, seed)
    draws = _draw(parsed.counts, n_resamples, seed, resample_tasks) if indices is None else _given(indices, parsed)
    distribution = np.concatenate([profile(*_resample(parsed, chunk)) for chunk in draws])
    estimate = _estimate(profile(parsed.values[None], parsed.counts[None])[0], distribution, level)
    return PerformanceProfile(levels, *estimate)


def probability_of_improvement_interval(
    scores_x: Scores,
    scores_y: Scores,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    indices: tuple[StratifiedIndices, StratifiedIndices] | None = None,
) -> Estimate:
    """Returns the probability of improvement with a bootstrap interval; both sides are drawn independently.

    With few runs, and above all where one side is nearly always ahead, this interval is far too narrow (with complete
    separation it has no width). `compare` gives one that is not.

    Args:
        scores_x: Shape `(n_runs_x, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.
        scores_y: As `scores_x`, with the same tasks; the numbers of runs may differ.
        level: Share of the bootstrap distribution between the two ends, between 0 and 1.
        n_resamples: How many times the scores are drawn again; not used with `indices`.
        seed: Of the draws; not used with `indices`.
        indices: Draws to use, for X and for Y, as many of one as of the other.

    Returns:
        The probability (see `probability_of_improvement`) and both ends.

    Raises:
        ArgumentError: The scores are not usable, the tasks differ, an index is out of range, or a number is not valid.
    """
    x = task_scores(scores_x, "scores_x")
    y = same_tasks(x, scores_y)
    n_resamples = check_bootstrap(level, n_resamples, seed)
    if indices is None:
        drawn_x, drawn_y = (
            stratified_indices(side.counts, side.n_tasks, n_resamples, derive_seed(seed, name)).runs
            for side, name in ((x, "x"), (y, "y"))
        )
    else:
        drawn_x, drawn_y = (_checked(one, side).runs for one, side in zip(indices, (x, y), strict=True))
        if len(drawn_x) != len(drawn_y) or any(one.tasks is not None for one in indices):
            raise ArgumentError("indices", indices, "must be as many for X as for Y, and keep the tasks")
    distribution = np.zeros(len(drawn_x))
    for task, (one, other) in enumerate(zip(x.columns, y.columns, strict=True)):
        ahead = (one[:, None] > other) + 0.5 * (one[:, None] == other)
        step = max(1, _CHUNK_SIZE // ahead.size)
        for start in range(0, len(distribution), step):
            rows = drawn_x[start : start + step, : one.size, task, None]
            columns = drawn_y[start : start + step, None, : other.size, task]
            distribution[start : start + step] += ahead[rows, columns].mean(axis=(1, 2)) / x.n_tasks
    low, high = np.quantile(distribution, _ends(level))
    return Estimate(share_ahead(x, y), float(low), float(high))


def _draw(counts: _Counts, n_resamples: int, seed: int, resample_tasks: bool) -> Iterator[StratifiedIndices]:
    """Yields the resamples in parts that fit into memory; how they are parted changes no number."""
    # Two streams, so that the parts may draw from each in turn.
    for_runs, for_tasks = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    runs, n_tasks = int(counts.max()), counts.size
    step = max(1, _CHUNK_SIZE // (runs * n_tasks))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        tasks = for_tasks.integers(n_tasks, size=(size, n_tasks)) if resample_tasks else None
        highs = np.broadcast_to(counts, (size, n_tasks)) if tasks is None else counts[tasks]
        yield StratifiedIndices(for_runs.integers(highs[:, None, :], size=(size, runs, n_tasks)), tasks)


def _given(indices: StratifiedIndices, scores: TaskScores) -> Iterator[StratifiedIndices]:
    runs, tasks = _checked(indices, scores)
    step = max(1, _CHUNK_SIZE // scores.values.size)
    for start in range(0, len(runs), step):
        part = slice(start, start + step)
        yield StratifiedIndices(runs[part], None if tasks is None else tasks[part])


def _checked(indices: StratifiedIndices, scores: TaskScores) -> StratifiedIndices:
    runs = np.asarray(indices.runs)
    tasks = None if indices.tasks is None else np.asarray(indices.tasks)
    shape = (len(runs), *scores.values.shape)
    if runs.dtype.kind not in "iu" or runs.shape != shape or not len(runs):
        raise ArgumentError("indices", runs.shape, f"runs must be integers of the shape {('n_resamples', *shape[1:])}")
    if tasks is not None:
        if tasks.dtype.kind not in "iu" or tasks.shape != (shape[0], shape[2]):
            raise ArgumentError("indices", tasks.shape, f"tasks must be integers of the shape {(shape[0], shape[2])}")
        if tasks.min() < 0 or tasks.max() >= scores.n_tasks:
            raise ArgumentError("indices", tasks, f"tasks must lie between 0 and {scores.n_tasks - 1}")
    counts = scores.counts if tasks is None else scores.counts[tasks][:, None, :]
    used = np.arange(shape[1])[:, None] < counts
    if (((runs < 0) | (runs >= counts)) & used).any():
        raise ArgumentError("indices", runs, "runs must lie between 0 and the number of runs of the task minus 1")
    return StratifiedIndices(runs.astype(np.int64), None if tasks is None else tasks.astype(np.int64))


def _resample(scores: TaskScores, indices: StratifiedIndices) -> tuple[_Resampled, _Counts]:
    size, runs, n_tasks = indices.runs.shape
    tasks = np.broadcast_to(np.arange(n_tasks), (size, n_tasks)) if indices.tasks is None else indices.tasks
    counts = scores.counts[tasks]
    if scores.even:
        return scores.values[indices.runs, tasks[:, None, :]], counts
    used = np.arange(runs)[:, None] < counts[:, None, :]
    values = scores.values[np.where(used, indices.runs, 0), tasks[:, None, :]]
    return np.where(used, values, np.nan), counts


def _batch_statistic(statistic: AggregateStatistic, scores: TaskScores) -> _BatchStatistic:
    if callable(statistic):
        if not scores.even:
            raise ArgumentError(
                "statistic",
                statistic,
                "a function takes scores of shape (n_runs, n_tasks), but the tasks have different numbers of runs",
                f"Give as many for each task, or one of {', '.join(_NAMED)}.",
            )
        # The values are computed for each resample by itself, as a function of the user's can only do.
        return lambda resampled, counts: np.array([_as_row(statistic, one) for one in resampled])
    if statistic not in _NAMED:
        raise UnknownNameError("statistic", str(statistic), _NAMED)
    return _NAMED[statistic]


def _as_row(function: Callable[[npt.NDArray[np.float64]], npt.ArrayLike], scores: Any) -> npt.NDArray[np.float64]:
    result = np.asarray(function(scores), dtype=np.float64)
    if result.ndim > 1:
        raise ArgumentError("statistic", function, f"must give a number or one dimension, not the shape {result.shape}")
    return result


def _task_means(resampled: _Resampled, counts: _Counts) -> npt.NDArray[np.float64]:
    """Returns the mean score of each task, shape `(resamples, n_tasks)`."""
    if (counts == resampled.shape[1]).all():
        return np.asarray(resampled.mean(axis=1), dtype=np.float64)
    return np.asarray(np.nansum(resampled, axis=1) / counts, dtype=np.float64)


_NAMED: dict[str, _BatchStatistic] = {
    "mean": lambda resampled, counts: _task_means(resampled, counts).mean(axis=1),
    "median": lambda resampled, counts: np.median(_task_means(resampled, counts), axis=1),
    "iqm": pooled_interquartile_means,
    "optimality_gap": lambda resampled, counts: 1.0 - _task_means(np.minimum(resampled, 1.0), counts).mean(axis=1),
}


def _ends(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]


def _estimate(value: Any, distribution: npt.NDArray[np.float64], level: float) -> Estimate:
    low, high = np.quantile(distribution, _ends(level), axis=0)
    if np.ndim(value) == 0:
        return Estimate(float(value), float(low), float(high))
    return Estimate(value, low, high)
