"""Kernel densities of what an expert did, as a reward: a batch at a time, and as arrays in a file.

The numbers are those of `imitation.algorithms.density.DensityAlgorithm`, which is called once for each environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces.utils import flatten, flatten_space
from numpy.typing import NDArray

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["DENSITY_TYPES", "DensityModel", "density_type_name"]

DENSITY_TYPES = ("state_density", "state_action_density", "state_state_density")
KERNELS = ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine")

_Rows = dict[int | None, NDArray[Any]]


def density_type_name(value: Any) -> str:
    """Returns the name of a density type.

    Args:
        value: The name, or the member of the library's `DensityType`.

    Raises:
        UnknownNameError: There is no such type.
    """
    name = value.name if type(value).__name__ == "DensityType" else value
    if not isinstance(name, str) or name.lower() not in DENSITY_TYPES:
        raise UnknownNameError("algorithm_parameters['density_type']", str(name), DENSITY_TYPES)
    return name.lower()


class DensityModel:
    """The logarithm of estimated densities of demonstrated transitions.

    Args:
        rows: Flattened transitions of the demonstrations: under None for one density, or under the number of the step
            for one density each; as the library's `transitions`.
        spaces: Observation space and action space.
        density_type: What of a transition counts, one of `DENSITY_TYPES`.
        kernel: See `sklearn.neighbors.KernelDensity`.
        bandwidth: Of the kernel.
        standardise: Whether every component is scaled to mean 0 and deviation 1 over the demonstrations.
    """

    def __init__(
        self,
        rows: _Rows,
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]],
        density_type: str,
        kernel: str,
        bandwidth: float,
        standardise: bool,
    ) -> None:
        from sklearn.neighbors import KernelDensity
        from sklearn.preprocessing import StandardScaler

        self._rows = rows
        self._observation_space, self._action_space = spaces
        self._density_type = density_type
        self._scaler = StandardScaler(with_mean=standardise, with_std=standardise)
        self._scaler.fit(np.concatenate(list(rows.values()), axis=0))
        self._densities = {
            time: KernelDensity(kernel=kernel, bandwidth=bandwidth).fit(self._scaler.transform(part))
            for time, part in rows.items()
        }

    def __call__(
        self,
        observations: Any,
        actions: NDArray[Any],
        next_observations: Any,
        ended: NDArray[np.bool_],
        times: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Returns one reward a transition; see `RewardFunction`.

        Raises:
            ArgumentError: There is one density for each step, and an episode is longer than those of the expert.
        """
        count = len(actions)
        rows = np.stack(
            [self._flattened(_row(observations, i), actions[i], _row(next_observations, i)) for i in range(count)]
        )
        scaled = self._scaler.transform(rows)
        if None in self._densities:
            return np.asarray(self._densities[None].score_samples(scaled), dtype=np.float32)
        rewards = np.empty(count, dtype=np.float32)
        for time in np.unique(times):
            if int(time) not in self._densities:
                raise ArgumentError(
                    "algorithm_parameters['is_stationary']",
                    False,
                    f"an episode is longer than those of the expert, which have {len(self._densities)} steps at most",
                    "Pass True, or use an environment whose episodes all have one length.",
                )
            mine = times == time
            rewards[mine] = self._densities[int(time)].score_samples(scaled[mine])
        return rewards

    def _flattened(self, observation: Any, action: Any, next_observation: Any) -> NDArray[Any]:
        parts = [flatten(self._observation_space, observation)]
        if self._density_type == "state_action_density":
            parts.append(flatten(self._action_space, action))
        elif self._density_type == "state_state_density":
            parts.append(flatten(self._observation_space, next_observation))
        return np.concatenate([np.asarray(part) for part in parts])

    # As arrays

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the demonstrations of which the same densities can be made."""
        times = [np.full(len(part), -1 if time is None else time) for time, part in self._rows.items()]
        return {"rows": np.concatenate(list(self._rows.values())), "times": np.concatenate(times).astype(np.int64)}

    @staticmethod
    def rows_from_arrays(
        arrays: Mapping[str, NDArray[Any]],
        spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]],
        density_type: str,
    ) -> _Rows:
        """Returns the argument `rows` of what `to_arrays` returned.

        Raises:
            ValueError: The arrays do not fit.
        """
        rows, times = arrays["rows"], arrays["times"]
        width = _width(spaces[0])
        width += {"state_action_density": _width(spaces[1]), "state_state_density": width}.get(density_type, 0)
        if rows.ndim != 2 or rows.dtype.kind not in "fiu" or rows.shape[1] != width or not np.isfinite(rows).all():
            raise ValueError(f"demonstrations have the shape {rows.shape} and the type {rows.dtype}")
        if times.shape != rows.shape[:1] or times.dtype != np.int64 or not len(times) or times.min() < -1:
            raise ValueError(f"times have the shape {times.shape} and the type {times.dtype}")
        found = list(dict.fromkeys(times.tolist()))
        if -1 in found and len(found) > 1:
            raise ValueError("demonstrations are with and without time")
        return {None if time < 0 else time: rows[times == time] for time in found}


def _width(space: gymnasium.Space[Any]) -> int:
    return int(np.prod(flatten_space(space).shape or ()))


def _row(values: Any, index: int) -> Any:
    if isinstance(values, Mapping):
        return {key: _row(part, index) for key, part in values.items()}
    return values[index]
