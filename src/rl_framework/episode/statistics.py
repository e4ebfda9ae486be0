"""What a set of episodes is like, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpisodeStatistics"]


@dataclass(frozen=True)
class EpisodeStatistics:
    """Summary of episodes.

    Numbers about returns are over the episodes whose rewards are known, and NaN if there is none; so are those about
    lengths if there is no episode.

    Attributes:
        episodes: How many.
        transitions: Steps in all of them.
        return_mean: Mean undiscounted return.
        return_std: Its population standard deviation.
        return_min: Least return.
        return_quartiles: Returns below which a quarter, half and three quarters of the episodes lie.
        return_max: Greatest return.
        unknown_returns: Episodes whose rewards are not known.
        length_mean: Mean length in steps.
        length_min: Least length.
        length_max: Greatest length.
        terminated: Share of episodes that ended in a terminal state, from 0 to 1.
        truncated: Share of episodes that were cut by a limit and did not end in a terminal state.
    """

    episodes: int
    transitions: int
    return_mean: float
    return_std: float
    return_min: float
    return_quartiles: tuple[float, float, float]
    return_max: float
    unknown_returns: int
    length_mean: float
    length_min: float
    length_max: float
    terminated: float
    truncated: float

    @classmethod
    def of(
        cls,
        lengths: NDArray[np.int64],
        returns: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
    ) -> EpisodeStatistics:
        """Summarises episodes.

        Args:
            lengths: Shape `(E,)`, in steps.
            returns: Shape `(E,)`, NaN where they are not known.
            terminated: Shape `(E,)`.
            truncated: Shape `(E,)`.
        """
        known = returns[~np.isnan(returns)]
        some = known if len(known) else np.array([np.nan])
        quartiles = np.quantile(some, [0.25, 0.5, 0.75]).tolist()
        steps = lengths if len(lengths) else np.array([np.nan])
        count = len(lengths)
        return cls(
            episodes=count,
            transitions=int(lengths.sum()),
            return_mean=float(some.mean()),
            return_std=float(some.std()),
            return_min=float(some.min()),
            return_quartiles=(quartiles[0], quartiles[1], quartiles[2]),
            return_max=float(some.max()),
            unknown_returns=count - len(known),
            length_mean=float(steps.mean()),
            length_min=float(steps.min()),
            length_max=float(steps.max()),
            terminated=float(terminated.mean()) if count else np.nan,
            truncated=float((truncated & ~terminated).mean()) if count else np.nan,
        )

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def rows(self) -> list[tuple[str, str]]:
        """Returns names and values as a person reads them."""
        if self.unknown_returns == self.episodes:
            returns = [("return", "not known")]
        else:
            low, median, high = self.return_quartiles
            returns = [
                ("return", f"{self.return_mean:.6g} ± {self.return_std:.3g}"),
                ("return, least to greatest", f"{self.return_min:.6g} to {self.return_max:.6g}"),
                ("return, quartiles", f"{low:.6g}, {median:.6g}, {high:.6g}"),
            ]
            if self.unknown_returns:
                returns.append(("episodes without rewards", f"{self.unknown_returns:,}"))
        rows = [("episodes", f"{self.episodes:,}"), ("transitions", f"{self.transitions:,}"), *returns]
        if self.episodes:
            rows += [
                ("length", f"{self.length_mean:.6g} ({self.length_min:g} to {self.length_max:g})"),
                ("terminated", f"{self.terminated:.1%}"),
                ("truncated", f"{self.truncated:.1%}"),
            ]
        return rows
