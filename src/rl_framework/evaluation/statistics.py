"""Statistics of returns and scores: robust averages, over episodes and over several runs on several tasks.

They follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(https://arxiv.org/abs/2108.13264), and equal those of that paper's library, rliable.

Scores of several tasks have the shape `(n_runs, n_tasks)`, or are a mapping from task to `(n_runs_of_this_task,)`.
They are averaged over tasks, so they must be on one scale: normalise them first, for example by a human's score.
Every task counts alike, however many runs it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.evaluation.scores import Scores, TaskScores, as_numbers, task_scores
from rl_framework.seeding import check_seed

__all__ = [
    "Statistic",
    "aggregate_iqm",
    "aggregate_mean",
    "aggregate_median",
    "aggregate_optimality_gap",
    "bootstrap_interval",
    "interquartile_mean",
    "optimality_gap",
    "probability_of_improvement",
]

Statistic = Literal["mean", "iqm"] | Callable[[npt.NDArray[np.float64]], float]
"""A name, or a function from a one-dimensional array to a number."""

_CUT = 0.25
# 2**20 resampled values are 8 MiB of indices and 8 MiB of values at a time, however many episodes there are.
_CHUNK_SIZE = 1 << 20


def interquartile_mean(values: npt.ArrayLike) -> float:
    """Returns the mean of the middle half of the values (IQM).

    It ignores outliers as the median does, with less variance. Below four values nothing is cut and it is the mean.

    Args:
        values: Numbers, of any shape; all of them count alike, as in rliable.

    Returns:
        The same as `scipy.stats.trim_mean(values, 0.25, axis=None)`: `int(0.25 * n)` values are left out at each end.

    Raises:
        ArgumentError: There is no value, or one is not finite.
    """
    return float(interquartile_means(as_numbers(values).reshape(1, -1))[0])


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Statistic = "mean",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns a confidence interval of a statistic, from the percentiles of its bootstrap distribution.

    With few values (below about 20) such an interval is known to be somewhat too narrow. The same arguments always
    give the same interval, and no global random state is touched.

    Args:
        values: Shape `(n,)`, independent of each other, such as one return per episode.
        statistic: "mean", "iqm" or a function from an array of shape `(n,)` to a number.
        level: Share of the bootstrap distribution between the two ends, between 0 and 1.
        n_resamples: How many times the values are drawn again, with replacement.
        seed: Of the draws.

    Returns:
        The lower and the upper end, in the unit of the statistic.

    Raises:
        ArgumentError: There is no value, one is not finite, they are not one-dimensional, the statistic is not known
            or not finite, `level` is not between 0 and 1, or `n_resamples` is below 1.
    """
    numbers = as_numbers(values)
    if numbers.ndim != 1:
        raise ArgumentError("values", numbers, "must be one-dimensional", "Give one number per independent episode.")
    n_resamples = check_bootstrap(level, n_resamples, seed)
    row_statistic = _row_statistic(statistic)

    generator = np.random.default_rng(seed)
    rows_at_a_time = max(1, _CHUNK_SIZE // numbers.size)
    distribution = np.empty(n_resamples)
    for start in range(0, n_resamples, rows_at_a_time):
        rows = min(rows_at_a_time, n_resamples - start)
        indices = generator.integers(numbers.size, size=(rows, numbers.size))
        distribution[start : start + rows] = row_statistic(numbers[indices])
    if not np.isfinite(distribution).all():
        raise ArgumentError("statistic", statistic, "is not finite for some of the resampled values")
    low, high = np.quantile(distribution, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def optimality_gap(scores: npt.ArrayLike, gamma: float = 1.0) -> float:
    """Returns how far the scores fall short of a target, on average; what exceeds the target does not count.

    Args:
        scores: Numbers, of any shape; all of them count alike.
        gamma: The target, in the unit of the scores. 1.0 is the usual one for scores normalised by a human's.

    Returns:
        `gamma` minus the mean of the scores cut off at `gamma`: 0 where all reach it; lower is better.

    Raises:
        ArgumentError: There is no score, or one or `gamma` is not finite.
    """
    target = _check_gamma(gamma)
    return target - float(np.minimum(as_numbers(scores, "scores"), target).mean())


def aggregate_mean(scores: Scores) -> float:
    """Returns the mean over tasks of each task's mean score.

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.

    Returns:
        The mean, in the unit of the scores.

    Raises:
        ArgumentError: There is no score, one is not finite, or the shape is another.
    """
    return float(_task_means(task_scores(scores)).mean())


def aggregate_median(scores: Scores) -> float:
    """Returns the median over tasks of each task's mean score.

    Nearly half of the tasks could score zero without changing it, and it needs many runs: prefer `aggregate_iqm`.

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.

    Returns:
        The median, in the unit of the scores.

    Raises:
        ArgumentError: There is no score, one is not finite, or the shape is another.
    """
    return float(np.median(_task_means(task_scores(scores))))


def aggregate_iqm(scores: Scores) -> float:
    """Returns the mean of the middle half of the scores of all runs on all tasks (IQM).

    Where tasks have different numbers of runs, a score weighs one part in the number of runs of its task, and
    `floor(n / 4) / n` of the weight is left out at each end, where `n` is the number of all scores. With equal numbers
    this is rliable's IQM exactly.

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.

    Returns:
        The interquartile mean, in the unit of the scores.

    Raises:
        ArgumentError: There is no score, one is not finite, or the shape is another.
    """
    parsed = task_scores(scores)
    return float(pooled_interquartile_means(parsed.values[None], parsed.counts[None])[0])


def aggregate_optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """Returns the mean over tasks of each task's `optimality_gap`.

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.
        gamma: The target, in the unit of the scores.

    Returns:
        The gap, in the unit of the scores; lower is better.

    Raises:
        ArgumentError: There is no score, one or `gamma` is not finite, or the shape is another.
    """
    target = _check_gamma(gamma)
    return target - float(np.mean([np.minimum(column, target).mean() for column in task_scores(scores).columns]))


def probability_of_improvement(scores_x: Scores, scores_y: Scores) -> float:
    """Returns how probable it is that a run of X scores higher than a run of Y, averaged over tasks.

    On each task it is the share of pairs of runs in which X is ahead, ties counting one half (the Mann-Whitney U
    statistic divided by the number of pairs). It says how often, not by how much.

    Args:
        scores_x: Shape `(n_runs_x, n_tasks)`, or a mapping from task to `(n_runs_of_this_task,)`.
        scores_y: As `scores_x`, with the same tasks; the numbers of runs may differ.

    Returns:
        From 0 (X is never ahead) to 1 (X is always ahead); 0.5: neither.

    Raises:
        ArgumentError: There is no score, one is not finite, the shape is another, or the tasks are not the same.
    """
    x = task_scores(scores_x, "scores_x")
    y = same_tasks(x, scores_y)
    return share_ahead(x, y)


def check_bootstrap(level: float, n_resamples: int, seed: int) -> int:
    """Checks what every bootstrap takes, and returns the number of resamples.

    Raises:
        ArgumentError: `level` is not between 0 and 1, `n_resamples` is no integer above 0, or there is no seed.
    """
    if not 0 < level < 1:
        raise ArgumentError("level", level, "must lie between 0 and 1", "0.95 gives a 95 % interval.")
    if isinstance(n_resamples, bool) or n_resamples < 1 or n_resamples != int(n_resamples):
        raise ArgumentError("n_resamples", n_resamples, "must be an integer of at least 1")
    if check_seed(seed) is None:
        raise ArgumentError("seed", seed, "an interval needs a seed", "Any integer will do; the default is 0.")
    return int(n_resamples)


def same_tasks(reference: TaskScores, scores: Scores, argument: str = "scores_y") -> TaskScores:
    """Returns scores, with their tasks in the order of others.

    Raises:
        ArgumentError: They are not scores, or the tasks differ.
    """
    if isinstance(scores, Mapping) and reference.tasks is not None and set(scores) == set(reference.tasks):
        scores = {task: scores[task] for task in reference.tasks}
    parsed = task_scores(scores, argument)
    if parsed.tasks != reference.tasks or parsed.n_tasks != reference.n_tasks:
        here, there = (list(one.tasks) if one.tasks else f"{one.n_tasks} without names" for one in (parsed, reference))
        raise ArgumentError(argument, scores, f"the tasks must be the same on both sides, and are {here} and {there}")
    return parsed


def share_ahead(x: TaskScores, y: TaskScores) -> float:
    """Returns the share of pairs of runs in which X is ahead, averaged over tasks; see `probability_of_improvement`."""
    shares = []
    for one, other in zip(x.columns, y.columns, strict=True):
        # By rank, because a table of all pairs would not fit for two times 100,000 episodes.
        ordered = np.sort(other)
        twice = np.searchsorted(ordered, one, side="left").sum() + np.searchsorted(ordered, one, side="right").sum()
        shares.append(twice / (2 * one.size * other.size))
    return float(np.mean(shares))


def interquartile_means(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the interquartile mean of each row of an array of shape `(rows, n)`."""
    size = rows.shape[1]
    cut = int(_CUT * size)
    # A partition is all that a trimmed mean needs, and cheaper than a sort.
    ordered = np.partition(rows, (cut, size - cut - 1), axis=1)
    return np.asarray(ordered[:, cut : size - cut].mean(axis=1), dtype=np.float64)


def pooled_interquartile_means(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Returns the interquartile mean of each of several sets of scores; see `aggregate_iqm`.

    Args:
        values: Shape `(sets, runs, n_tasks)`; NaN where a task has fewer runs.
        counts: Number of runs per task, shape `(sets, n_tasks)`.

    Returns:
        Shape `(sets,)`.
    """
    sets, runs, n_tasks = values.shape
    rows = values.reshape(sets, -1)
    if (counts == runs).all():
        return interquartile_means(rows)
    weights = np.repeat(1.0 / (counts * n_tasks)[:, None, :], runs, axis=1).reshape(sets, -1)
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    weights = np.where(np.isnan(ordered), 0.0, np.take_along_axis(weights, order, axis=1))
    kept = kept_weights(weights, counts.sum(axis=1))
    return np.asarray(np.nansum(kept * ordered, axis=1) / kept.sum(axis=1), dtype=np.float64)


def kept_weights(weights: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Returns what is left of the weights of ordered scores when a quarter is cut off at each end.

    Args:
        weights: Of the scores in ascending order, shape `(sets, n)`; each row adds up to 1.
        sizes: How many scores a row holds, shape `(sets,)`: `floor(size / 4) / size` is cut off at each end.

    Returns:
        Shape `(sets, n)`.
    """
    cut = ((_CUT * sizes).astype(np.int64) / sizes)[:, None]
    upper = np.cumsum(weights, axis=1)
    return np.clip(np.minimum(upper, 1 - cut) - np.maximum(upper - weights, cut), 0.0, None)


def _task_means(scores: TaskScores) -> npt.NDArray[np.float64]:
    return np.array([column.mean() for column in scores.columns])


def _check_gamma(gamma: float) -> float:
    if isinstance(gamma, bool) or not isinstance(gamma, int | float | np.number) or not np.isfinite(gamma):
        raise ArgumentError("gamma", gamma, "must be a finite number")
    return float(gamma)


def _row_statistic(statistic: Statistic) -> Callable[[npt.NDArray[np.float64]], Any]:
    """Returns a function from an array of shape `(rows, n)` to one of shape `(rows,)`."""
    if statistic == "mean":
        return lambda rows: rows.mean(axis=1)
    if statistic == "iqm":
        return interquartile_means
    if not callable(statistic):
        raise ArgumentError("statistic", statistic, 'must be "mean", "iqm" or a function from an array to a number')
    return lambda rows: [float(statistic(row)) for row in rows]
