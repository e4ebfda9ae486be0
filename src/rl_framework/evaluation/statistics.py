"""Statistics of episode returns: a robust average and an interval around it.

Both follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021
(https://arxiv.org/abs/2108.13264), and agree with that paper's library, rliable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.seeding import check_seed

__all__ = ["Statistic", "bootstrap_interval", "interquartile_mean"]

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
    return float(_interquartile_means(_as_numbers(values).reshape(1, -1))[0])


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
    numbers = _as_numbers(values)
    if numbers.ndim != 1:
        raise ArgumentError("values", numbers, "must be one-dimensional", "Give one number per independent episode.")
    if not 0 < level < 1:
        raise ArgumentError("level", level, "must lie between 0 and 1", "0.95 gives a 95 % interval.")
    if isinstance(n_resamples, bool) or n_resamples < 1 or n_resamples != int(n_resamples):
        raise ArgumentError("n_resamples", n_resamples, "must be an integer of at least 1")
    if check_seed(seed) is None:
        raise ArgumentError("seed", seed, "an interval needs a seed", "Any integer will do; the default is 0.")
    row_statistic = _row_statistic(statistic)

    n_resamples = int(n_resamples)
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


def _as_numbers(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError("values", values, "must be numbers") from error
    if numbers.size == 0:
        raise ArgumentError("values", values, "there must be at least one")
    if not np.isfinite(numbers).all():
        raise ArgumentError("values", values, "must be finite, without NaN and infinity")
    return numbers


def _interquartile_means(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    size = rows.shape[1]
    cut = int(_CUT * size)
    # A partition is all that a trimmed mean needs, and cheaper than a sort.
    ordered = np.partition(rows, (cut, size - cut - 1), axis=1)
    return np.asarray(ordered[:, cut : size - cut].mean(axis=1), dtype=np.float64)


def _row_statistic(statistic: Statistic) -> Callable[[npt.NDArray[np.float64]], Any]:
    """Returns a function from an array of shape `(rows, n)` to one of shape `(rows,)`."""
    if statistic == "mean":
        return lambda rows: rows.mean(axis=1)
    if statistic == "iqm":
        return _interquartile_means
    if not callable(statistic):
        raise ArgumentError("statistic", statistic, 'must be "mean", "iqm" or a function from an array to a number')
    return lambda rows: [float(statistic(row)) for row in rows]
