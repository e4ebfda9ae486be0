"""Observations of several parts as one row, for those of imitation's networks that take one array.

The library's discriminators and reward networks know no dict, and its buffers hold none. The agent that learns inside
goes on seeing its dict; only what judges it sees rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs

__all__ = ["ObservationRows", "as_one_array", "rows_of"]


class ObservationRows:
    """Turns a dict of arrays into rows of float32 and back: the parts flat and behind one another.

    The parts are in the order of the space, each as Stable-Baselines3 shows it to its networks: images divided by 255,
    discrete numbers as one-hot vectors.

    Args:
        observation_space: Space of one observation, without a dict in it.

    Attributes:
        space: Space of one row.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        self._parts = dict(observation_space.spaces)
        self._widths = [int(get_flattened_obs_dim(part)) for part in self._parts.values()]
        self.space = spaces.Box(-np.inf, np.inf, (sum(self._widths),), np.float32)

    def __call__(self, observations: Mapping[str, Any]) -> NDArray[np.float32]:
        """Returns rows.

        Args:
            observations: By key, shape `(B, *part.shape)`.

        Returns:
            Shape `(B, *self.space.shape)`.
        """
        rows = []
        for (key, part), width in zip(self._parts.items(), self._widths, strict=True):
            seen = preprocess_obs(torch.as_tensor(np.asarray(observations[key])), part)
            assert isinstance(seen, torch.Tensor)  # the part is no dict
            rows.append(seen.reshape(-1, width))
        return torch.cat(rows, dim=1).numpy()

    def one(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """Returns the row of a single observation."""
        row: NDArray[np.float32] = self({key: np.asarray(observation[key])[None] for key in self._parts})[0]
        return row

    def parts_of(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns the observations that rows were made of, on the same device; numbers are rounded to float32."""
        columns = torch.split(rows, self._widths, dim=1)
        return {key: _part_of(column, part) for (key, part), column in zip(self._parts.items(), columns, strict=True)}


def _part_of(column: torch.Tensor, space: gymnasium.Space[Any]) -> torch.Tensor:
    if isinstance(space, spaces.Discrete):
        return column.argmax(dim=1)
    if isinstance(space, spaces.MultiDiscrete):
        return torch.stack([hot.argmax(dim=1) for hot in torch.split(column, space.nvec.tolist(), dim=1)], dim=1)
    shaped = column.reshape(-1, *(space.shape or ()))
    return (shaped * 255.0).round().to(torch.uint8) if is_image_space(space) else shaped


def rows_of(observation_space: gymnasium.Space[Any]) -> ObservationRows | None:
    """Returns what makes rows of the observations of a space, or None where they are one array already."""
    return ObservationRows(observation_space) if isinstance(observation_space, spaces.Dict) else None


def as_one_array(observations: Any, rows: ObservationRows | None) -> Any:
    """Returns a batch of observations as those networks take them."""
    return np.asarray(observations) if rows is None else rows(observations)
