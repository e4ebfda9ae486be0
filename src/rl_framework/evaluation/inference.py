"""What few runs allow to conclude: intervals that hold what they promise with three to ten runs.

The percentile bootstrap does not: see `bootstrap`. The methods here are Welch's interval for means (recommended for
reinforcement learning by Colas, Sigaud and Oudeyer, "A Hitchhiker's Guide to Statistical Comparisons of Reinforcement
Learning Algorithms", 2019, https://arxiv.org/abs/1904.06979), its form for trimmed means (Yuen, "The two-sample trimmed
t for unequal population variances", Biometrika 61, 1974), and Newcombe's interval for the Mann-Whitney statistic
("Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics in Medicine
25, 2006, method 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from rl_framework.evaluation.scores import TaskScores
from rl_framework.evaluation.statistics import kept_weights, pooled_interquartile_means

__all__ = ["MeanStatistic", "Side", "difference_interval", "improvement_interval", "runs_until_decided", "t_quantile"]

MeanStatistic = Literal["mean", "iqm"]

MOST_RUNS = 1000
"""Above this, a number of runs is no advice any more."""

_POWER = 0.8
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sides of a comparison.

    Attributes:
        estimate: Mean or interquartile mean of its scores.
        variances: What each task adds to the variance of the estimate, shape `(n_tasks,)`; NaN with one run.
        freedoms: Degrees of freedom of each of them, shape `(n_tasks,)`.
        counts: Runs per task, shape `(n_tasks,)`.
    """

    estimate: float
    variances: npt.NDArray[np.float64]
    freedoms: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, scores: TaskScores, statistic: MeanStatistic) -> Side:
        """Estimates a side from its scores."""
        columns = scores.columns
        factor = 1.0
        kept = scores.counts
        if statistic == "mean":
            estimate = float(np.mean([column.mean() for column in columns]))
        else:
            estimate = float(pooled_interquartile_means(scores.values[None], scores.counts[None])[0])
            columns, kept, factor = _winsorised(scores)
        variances = [_variance(column) / column.size for column in columns]
        return cls(
            estimate, factor * np.array(variances) / scores.n_tasks**2, np.maximum(kept - 1.0, 1.0), scores.counts
        )


def difference_interval(a: Side, b: Side, level: float) -> tuple[float, float] | None:
    """Returns the t interval of the difference A minus B, with Satterthwaite's degrees of freedom.

    Args:
        a: One side.
        b: The other side.
        level: Coverage, between 0 and 1.

    Returns:
        Both ends; None: somewhere there is a single run, so that the spread of runs is not known.
    """
    variances = np.concatenate([a.variances, b.variances])
    if np.isnan(variances).any():
        return None
    difference = a.estimate - b.estimate
    half = t_quantile((1 + level) / 2, _freedom(variances, np.concatenate([a.freedoms, b.freedoms])))
    half *= math.sqrt(variances.sum())
    return difference - half, difference + half


def improvement_interval(
    probability: float, counts_a: npt.NDArray[np.int64], counts_b: npt.NDArray[np.int64], level: float
) -> tuple[float, float]:
    """Returns Newcombe's interval (his method 5) of a probability of improvement; beside it, only counts matter.

    With several tasks the variances of the tasks are averaged as if the probability were the same on each; where it is
    not, the interval is wider than it had to be.

    Args:
        probability: The estimate, from 0 to 1.
        counts_a: Runs of A per task, shape `(n_tasks,)`.
        counts_b: Runs of B per task, shape `(n_tasks,)`.
        level: Coverage, between 0 and 1.

    Returns:
        Both ends, from 0 to 1.
    """
    pairs = counts_a * counts_b * counts_a.size**2
    alone = float((1 / pairs).sum())
    beside = float((((counts_a + counts_b) / 2 - 1) / pairs).sum())
    z = NormalDist().inv_cdf((1 + level) / 2)

    def upper_end(estimate: float) -> float:
        low, high = estimate, 1.0
        for _ in range(50):
            p = (low + high) / 2
            variance = p * (1 - p) * (alone + beside * ((1 - p) / (2 - p) + p / (1 + p)))
            half = z * math.sqrt(variance)
            low, high = (p, high) if p - estimate < half else (low, p)
        return high

    # The same search from both sides, so that exchanging A and B mirrors the interval.
    return 1.0 - upper_end(1.0 - probability), upper_end(probability)


def runs_until_decided(a: Side, b: Side, margin: float | None, level: float, fewest: int) -> int | None:
    """Returns about how many runs on each side would decide, if difference and spread are what they look like now.

    It is the smallest equal number with which, in four of five repetitions, the interval of the difference would
    exclude zero or (with a margin) the interval at `1 - 2 * (1 - level)` would lie within the margin. Standard errors
    shrink with the square root of the number of runs; the quantiles of Student's t follow.

    Args:
        a: One side.
        b: The other side.
        margin: Differences up to this count as none; None: no margin.
        level: Coverage of the interval.
        fewest: The smallest number to think of.

    Returns:
        The number; None: more than `MOST_RUNS`, or the spread is not known.
    """
    sides = (a, b)
    unit_variances = np.concatenate([side.variances * side.counts for side in sides])
    shares = np.concatenate([(side.freedoms + 1) / side.counts for side in sides])
    if np.isnan(unit_variances).any():
        return None
    distance = abs(a.estimate - b.estimate)

    def decided(runs: int) -> bool:
        freedom = _freedom(unit_variances, np.maximum(shares * runs - 1, 1.0))
        error = math.sqrt(unit_variances.sum() / runs)
        if (t_quantile((1 + level) / 2, freedom) + t_quantile(_POWER, freedom)) * error < distance:
            return True
        # Near zero both ends of the interval have to keep within the margin, hence half of what may go wrong for each.
        both = t_quantile(level, freedom) + t_quantile((1 + _POWER) / 2, freedom)
        return margin is not None and both * error < margin - distance

    if fewest > MOST_RUNS or not decided(MOST_RUNS):
        return None
    low, high = fewest - 1, MOST_RUNS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def t_quantile(probability: float, freedom: float) -> float:
    """Returns a quantile of Student's t distribution, also for degrees of freedom that are no whole number.

    SciPy has it too; it is written out here because it would be the only reason to require SciPy.

    Args:
        probability: Between 0 and 1.
        freedom: Degrees of freedom, at least 1.

    Returns:
        The quantile, within 1e-5 of itself up to a probability of 0.9995.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    if freedom > 1e6:
        return NormalDist().inv_cdf(probability)
    # With t = sqrt(freedom) * tan(angle), the density becomes cos(angle) ** (freedom - 1), which is smooth.
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    angle = 0.0
    # The area grows ever more slowly with the angle, so Newton's method comes from below and never goes too far.
    for _ in range(100):
        area = scale * angle / 2 * float(_WEIGHTS @ np.cos(angle / 2 * (_NODES + 1)) ** (freedom - 1))
        step = (probability - 0.5 - area) / (scale * math.cos(angle) ** (freedom - 1))
        angle += step
        if abs(step) <= 1e-13 * angle:
            break
    return math.sqrt(freedom) * math.tan(angle)


def _winsorised(scores: TaskScores) -> tuple[list[npt.NDArray[np.float64]], npt.NDArray[np.int64], float]:
    """Returns winsorised scores, how many are kept per task, and the factor from their variance to that of the IQM.

    For one task this is Yuen's. For several it is the influence function of the trimmed mean of all scores together.
    """
    size = int(scores.counts.sum())
    flat = np.concatenate(scores.columns)
    tasks = np.repeat(np.arange(scores.n_tasks), scores.counts)
    order = np.argsort(flat, kind="stable")
    weights = (1.0 / (scores.counts * scores.n_tasks))[tasks[order]]
    kept = order[kept_weights(weights[None], np.array([size]))[0] > 1e-12]
    low, high = flat[kept[0]], flat[kept[-1]]
    left = size - 2 * (size // 4)
    factor = size * (size - 1) / (left * (left - 1)) if size > 1 else 1.0
    return (
        [np.clip(column, low, high) for column in scores.columns],
        np.bincount(tasks[kept], minlength=scores.n_tasks),
        factor,
    )


def _variance(values: npt.NDArray[np.float64]) -> float:
    if values.size < 2:
        return math.nan
    # Exactly zero where all are equal, which rounding in the mean would spoil.
    return float(values.var(ddof=1)) if values.min() < values.max() else 0.0


def _freedom(variances: npt.NDArray[np.float64], freedoms: npt.NDArray[np.float64]) -> float:
    largest = variances.max()
    if largest == 0:
        return float(freedoms.sum())
    shares = variances / largest
    return float(shares.sum() ** 2 / (shares**2 / freedoms).sum())
