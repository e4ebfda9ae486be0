"""Observations and actions in the form that d3rlpy takes, and back."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.errors import EpisodeDataError, UnsupportedSpaceError

__all__ = ["ActionForm", "ObservationForm"]


class ObservationForm:
    """Turns observations into arrays of float32: images with the channels first, everything else flat.

    Discrete observations become one-hot vectors, and the parts of a dictionary are put behind one another, in the
    order of its space.

    Args:
        space: Space of one observation.

    Raises:
        UnsupportedSpaceError: d3rlpy has nothing for such observations.

    Attributes:
        shape: Shape of one observation in the library's form.
        holds_pixels: Whether observations are images of bytes.
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self._space = space
        self.holds_pixels = _is_image(space) and space.dtype == np.uint8
        if _is_image(space):
            self._channels_first = _channels_first_shape(space.shape or ())
            self.shape: tuple[int, ...] = self._channels_first
        else:
            self.shape = (_flat_size(space),)

    def __call__(self, observations: Any) -> NDArray[np.float32]:
        """Converts a batch.

        Args:
            observations: Shape `(B, *space.shape)`, or a dict of such arrays; images may have their channels first.

        Returns:
            Shape `(B, *self.shape)`.
        """
        if len(self.shape) == 1:
            return _flat(observations, self._space)
        images = np.asarray(observations)
        if images.shape[1:] != self._channels_first:
            images = images.transpose(0, 3, 1, 2)
        # Convolutions give other last bits for other layouts in memory.
        return np.ascontiguousarray(images, dtype=np.float32)


class ActionForm:
    """Turns actions into arrays of float32 with two axes, and the library's answers into actions of the space.

    Args:
        space: Space of one action.

    Raises:
        UnsupportedSpaceError: d3rlpy has nothing for such actions.

    Attributes:
        size: Numbers in an action, or actions in a discrete space.
        is_discrete: Whether the space is discrete.
    """

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.is_discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
        elif isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f":
            self.size = math.prod(space.shape)
        else:
            raise UnsupportedSpaceError("action_space", space, "d3rlpy takes Discrete and floating Box actions only")
        self._space: Any = space

    def __call__(self, actions: Any) -> NDArray[np.float32]:
        """Converts a batch of actions to shape `(B, size)`, or `(B, 1)` for discrete ones, counted from 0.

        Raises:
            EpisodeDataError: A discrete action is not in the space.
        """
        array = np.asarray(actions)
        if self.is_discrete:
            counted = array.astype(np.int64).reshape(-1, 1) - int(self._space.start)
            if counted.min() < 0 or counted.max() >= self.size:
                raise EpisodeDataError(f"the episodes hold an action that is not in {self._space}")
            return counted.astype(np.float32)
        return array.reshape(len(array), -1).astype(np.float32)

    def from_library(self, actions: Any) -> NDArray[Any]:
        """Converts a batch of the library's actions to actions of the space, within its bounds."""
        array = np.asarray(actions)
        if self.is_discrete:
            return (array.reshape(-1).astype(np.int64) + int(self._space.start)).astype(self._space.dtype)
        shaped = array.reshape(len(array), *self._space.shape).astype(self._space.dtype)
        return np.clip(shaped, self._space.low, self._space.high)

    def scaler(self) -> dict[str, Any] | None:
        """Returns the action scaler that is needed when the user names none, as data.

        The library's continuous policies answer with numbers from -1 to 1, which the bounds of the space are made of
        by it. Without bounds, those of the data are taken.
        """
        if self.is_discrete:
            return None
        low, high = self._space.low.reshape(-1), self._space.high.reshape(-1)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return {"type": "min_max"}
        if (low == -1).all() and (high == 1).all():
            return None
        return {"type": "min_max", "minimum": low.astype(np.float64), "maximum": high.astype(np.float64)}


def _is_image(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def _channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    # Of the three the number of channels is the smallest, as Stable-Baselines3 takes it too.
    return shape if shape[0] == min(shape) else (shape[2], shape[0], shape[1])


def _flat_size(space: gymnasium.Space[Any]) -> int:
    if isinstance(space, spaces.Dict) and space.spaces and not any(map(_is_image, space.spaces.values())):
        return sum(_flat_size(part) for part in space.spaces.values())
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return math.prod(space.shape or (1,))
    raise UnsupportedSpaceError(
        "observation_space",
        space,
        "d3rlpy takes vectors and images only",
        "Box, Discrete, MultiDiscrete, MultiBinary, and dictionaries of these without images are made vectors.",
    )


def _flat(observations: Any, space: gymnasium.Space[Any]) -> NDArray[np.float32]:
    if isinstance(space, spaces.Dict):
        parts = [_flat(observations[key], part) for key, part in space.spaces.items()]
        return np.concatenate(parts, axis=1)
    array = np.asarray(observations)
    if isinstance(space, spaces.Discrete):
        return _one_hot(array.reshape(-1, 1) - int(space.start), np.array([space.n]))
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot((array - space.start).reshape(len(array), -1), space.nvec.reshape(-1))
    return array.reshape(len(array), -1).astype(np.float32)


def _one_hot(numbers: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.float32]:
    """Puts a one for each number of a row; shape `(B, C)` and counts `(C,)` give `(B, counts.sum())`."""
    hot = np.zeros((len(numbers), int(counts.sum())), np.float32)
    places = numbers.astype(np.int64) + (np.cumsum(counts) - counts)
    np.put_along_axis(hot, places, 1.0, axis=1)
    return hot
