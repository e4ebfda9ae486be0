"""Which actions an agent takes while it trains, as metrics and histograms.

For discrete actions there is `rollout/action_share_<action>`, the share of steps in which it was taken (up to 32
actions), and the histogram `rollout/action`. For continuous ones, and where an action has several parts, there are
`rollout/action_mean_<part>`, `rollout/action_std_<part>` and the histogram `rollout/action_<part>` (up to 16 parts).
Other spaces have none.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["ActionDistribution"]

_MOST_ACTIONS = 32
_MOST_PARTS = 16
_INTERVAL = 2_000
"""Timesteps to a report: enough for a distribution, and so few reports that they cost nothing."""


class ActionDistribution:
    """Gathers actions, and reports them whenever another `interval` timesteps are full.

    Args:
        action_space: Of one action.
        timestep: Where training begins or goes on.
        interval: Timesteps to a report.
        gathered: What `gathered` was when the training that goes on was saved.

    Raises:
        ValueError: What was gathered are no actions of this space.
    """

    def __init__(
        self,
        action_space: gymnasium.Space[Any],
        timestep: int = 0,
        interval: int = _INTERVAL,
        gathered: NDArray[Any] | None = None,
    ) -> None:
        self._space = action_space
        self._known = isinstance(action_space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
        self._interval = interval
        # A grid that does not move when a training is resumed.
        self._periods = timestep // interval
        self._gathered: list[NDArray[Any]] = []
        if gathered is not None:
            if not self._known or gathered.shape[1:] != action_space.shape or gathered.dtype.kind not in "biuf":
                raise ValueError(f"an array {gathered.dtype}{gathered.shape} holds no actions of {action_space}")
            if isinstance(action_space, spaces.Discrete) and not all(map(action_space.contains, np.unique(gathered))):
                raise ValueError(f"it holds actions that are not in {action_space}")
            self._gathered.append(gathered)

    @property
    def gathered(self) -> NDArray[Any] | None:
        """The actions since the last report, leading axis: steps and slots; None: there are none."""
        return np.concatenate(self._gathered) if self._gathered else None

    def add(self, actions: Any) -> None:
        """Takes the actions of one step, leading axis: slots; the array must not be changed afterwards."""
        if self._known:
            self._gathered.append(actions)

    def report(self, timestep: int) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
        """Returns metrics and histograms, and begins anew; both are empty while it is too early."""
        if timestep // self._interval <= self._periods or not self._gathered:
            return {}, {}
        self._periods = timestep // self._interval
        actions = np.concatenate([np.asarray(part) for part in self._gathered])
        self._gathered = []
        if not len(actions):
            return {}, {}
        if isinstance(self._space, spaces.Discrete):
            return self._discrete(self._space, actions.reshape(-1))
        parts = actions.reshape(len(actions), -1)[:, :_MOST_PARTS]
        metrics: dict[str, float] = {}
        means, deviations = parts.mean(axis=0, dtype=np.float64), parts.std(axis=0, dtype=np.float64)
        for part, (mean, deviation) in enumerate(zip(means.tolist(), deviations.tolist(), strict=True)):
            metrics[f"rollout/action_mean_{part}"] = mean
            metrics[f"rollout/action_std_{part}"] = deviation
        return metrics, {f"rollout/action_{part}": parts[:, part] for part in range(parts.shape[1])}

    @staticmethod
    def _discrete(
        space: spaces.Discrete[Any], actions: NDArray[Any]
    ) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
        metrics: dict[str, float] = {}
        count, first = int(space.n), int(space.start)
        if count <= _MOST_ACTIONS:
            shares = np.bincount(actions - first, minlength=count) / len(actions)
            metrics = {f"rollout/action_share_{first + index}": share for index, share in enumerate(shares.tolist())}
        return metrics, {"rollout/action": actions}
