"""What an evaluation found: the return and the length of every episode, and what can be said about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.evaluation.statistics import Statistic, bootstrap_interval, interquartile_mean
from rl_framework.html_table import html_table
from rl_framework.seeding import check_seed

__all__ = ["EvaluationResult"]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Returns and lengths of the episodes of one evaluation, in the order in which the episodes count.

    It unpacks into two numbers: `mean, std = agent.evaluate(...)`.

    Attributes:
        returns: Undiscounted sum of rewards per episode, float64 of shape `(n_episodes,)`, read-only.
        lengths: Steps per episode, int64 of shape `(n_episodes,)`, read-only.
        seed: Seed of the evaluation; None: it was not seeded.
        deterministic: Whether the agent took its most likely action instead of sampling one.
        environment: Name of the environment, where known.

    Raises:
        ArgumentError: There is no episode, the arrays differ in length or are not one-dimensional, a return is not
            finite, or a length is no positive integer.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    seed: int | None = None
    deterministic: bool = False
    environment: str | None = None

    def __post_init__(self) -> None:
        returns = _as_array("returns", self.returns)
        lengths = _as_array("lengths", self.lengths)
        if returns.size == 0:
            raise ArgumentError("returns", self.returns, "an evaluation holds at least one episode")
        if returns.shape != lengths.shape:
            raise ArgumentError("lengths", self.lengths, f"there are {lengths.size} lengths for {returns.size} returns")
        if not np.isfinite(returns).all():
            raise ArgumentError("returns", self.returns, "must be finite, without NaN and infinity")
        if not (np.isfinite(lengths).all() and (lengths >= 1).all() and (lengths == np.floor(lengths)).all()):
            raise ArgumentError("lengths", self.lengths, "must be integers of at least 1 (steps)")
        whole_lengths = lengths.astype(np.int64)
        returns.flags.writeable = False
        whole_lengths.flags.writeable = False
        object.__setattr__(self, "returns", returns)
        object.__setattr__(self, "lengths", whole_lengths)
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "deterministic", bool(self.deterministic))

    def __iter__(self) -> Iterator[float]:
        """Yields the mean and the standard deviation, as SB3's `evaluate_policy` returns them."""
        yield self.mean
        yield self.std

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EvaluationResult):
            return NotImplemented
        return (
            np.array_equal(self.returns, other.returns)
            and np.array_equal(self.lengths, other.lengths)
            and self.seed == other.seed
            and self.deterministic == other.deterministic
            and self.environment == other.environment
        )

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Population standard deviation of the returns (divided by n, as SB3 does)."""
        return float(self.returns.std())

    @property
    def iqm(self) -> float:
        """Interquartile mean of the returns; see `interquartile_mean`."""
        return interquartile_mean(self.returns)

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return int(self.returns.size)

    def confidence_interval(
        self, level: float = 0.95, statistic: Statistic = "mean", n_resamples: int = 2000, seed: int = 0
    ) -> tuple[float, float]:
        """Returns the lower and upper end of a bootstrap interval over the episodes; see `bootstrap_interval`.

        It says how certain this agent's average is. It says nothing about another training run with another seed.
        """
        return bootstrap_interval(self.returns, statistic, level, n_resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain Python values that JSON can hold; `from_dict` gives back an equal result."""
        return {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "seed": self.seed,
            "deterministic": self.deterministic,
            "environment": self.environment,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationResult:
        """Builds a result from what `to_dict` gave; keys that it does not know are ignored.

        Raises:
            ArgumentError: Returns or lengths are missing, or a value is not valid.
        """
        for key in ("returns", "lengths"):
            if key not in values:
                raise ArgumentError("values", dict(values), f"there is no {key!r}")
        deterministic = values.get("deterministic", False)
        if not isinstance(deterministic, bool):
            raise ArgumentError("deterministic", deterministic, "must be true or false")
        environment = values.get("environment")
        if not isinstance(environment, str | None):
            raise ArgumentError("environment", environment, "must be a text or null")
        return cls(values["returns"], values["lengths"], values.get("seed"), deterministic, environment)

    def table(self) -> str:
        """Returns a plain-text table of the result, for a terminal, without a final line break."""
        rows = self._rows()
        label_width = max(len(label) for label, _ in rows)
        value_width = max(len(value) for _, value in rows)
        title = self.environment or "evaluation"
        lines = [f"{label:<{label_width}}  {value:>{value_width}}" for label, value in rows]
        return "\n".join([title, "-" * max(len(title), len(lines[0])), *lines])

    def __str__(self) -> str:
        low, high = self.confidence_interval()
        place = f"{self.environment}: " if self.environment else ""
        return (
            f"{place}return {_number(self.mean)} ± {_number(self.std)}, IQM {_number(self.iqm)}, "
            f"95 % interval of the mean {_number(low)} to {_number(high)} ({self._episodes()})"
        )

    def _repr_html_(self) -> str:
        """Represents the result in a notebook."""
        return html_table(self.environment or "evaluation", self._rows())

    def _episodes(self) -> str:
        return "1 episode" if self.n_episodes == 1 else f"{self.n_episodes} episodes"

    def _rows(self) -> list[tuple[str, str]]:
        low, high = self.confidence_interval()
        return [
            ("mean return", _number(self.mean)),
            ("standard deviation", _number(self.std)),
            ("IQM", _number(self.iqm)),
            ("95 % interval of the mean", f"{_number(low)} to {_number(high)}"),
            ("minimum", _number(float(self.returns.min()))),
            ("maximum", _number(float(self.returns.max()))),
            ("episodes", str(self.n_episodes)),
            ("mean length (steps)", _number(float(self.lengths.mean()))),
            ("actions", "deterministic" if self.deterministic else "sampled"),
            ("seed", "none" if self.seed is None else str(self.seed)),
        ]


def _as_array(argument: str, values: Any) -> npt.NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(argument, values, "must be numbers") from error
    if array.ndim != 1:
        raise ArgumentError(argument, values, f"must be one-dimensional, and has the shape {array.shape}")
    return array


def _number(value: float) -> str:
    """Two decimals, unless they would hide a small number or spell out a huge one."""
    return f"{value:.2f}" if value == 0 or 0.1 <= abs(value) < 1e7 else f"{value:.4g}"
