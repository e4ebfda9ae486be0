"""Episodes as d3rlpy takes them (version 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.converted import ConvertedEpisodes
from rl_framework.episode.observation_tree import map_leaves
from rl_framework.errors import UnsupportedSpaceError, require_extra

if TYPE_CHECKING:
    import d3rlpy

    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["check_d3rlpy_spaces", "d3rlpy_actions", "d3rlpy_observations", "gymnasium_actions", "to_d3rlpy_episodes"]


def to_d3rlpy_episodes(sequence: EpisodeSequence) -> Sequence[d3rlpy.dataset.Episode]:
    """Returns each episode as d3rlpy's `Episode`, made when it is asked for.

    d3rlpy has no last observation: an episode of T steps has T observations. After a terminal state it assumes zeros,
    which no algorithm uses; of an episode that did not terminate it drops the last step, because it does not know where
    that led. What was truncated is, to it, what did not terminate. Rewards that are not known stay NaN: they are no
    obstacle to its behaviour cloning, and to nothing else.

    Give its `ReplayBuffer` the kind and number of actions yourself: it guesses them from numbers.

    Args:
        sequence: The episodes.

    Raises:
        MissingExtraError: d3rlpy is not installed.
        UnsupportedSpaceError: d3rlpy knows no such observations or actions.
    """
    require_extra("offline", "episodes in the form of d3rlpy", "d3rlpy")
    observation_space, action_space = sequence.observation_space, sequence.action_space
    check_d3rlpy_spaces(observation_space, action_space)

    def convert(episode: Episode) -> d3rlpy.dataset.Episode:
        from d3rlpy.dataset import Episode as OfflineEpisode

        return OfflineEpisode(
            observations=d3rlpy_observations(
                map_leaves(lambda leaf: leaf[:-1], episode.observations), observation_space
            ),
            actions=d3rlpy_actions(episode.actions, action_space),
            rewards=episode.rewards.astype(np.float32).reshape(-1, 1),
            terminated=episode.terminated,
        )

    return ConvertedEpisodes(sequence, convert)


def check_d3rlpy_spaces(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
    """Checks that d3rlpy can learn from observations and actions of these spaces.

    Raises:
        UnsupportedSpaceError: It cannot; the message says what it can.
    """
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    for part in parts:
        if isinstance(part, spaces.Dict):
            raise UnsupportedSpaceError("observation_space", observation_space, "d3rlpy knows no dict within a dict")
    if not isinstance(action_space, spaces.Box | spaces.Discrete):
        raise UnsupportedSpaceError("action_space", action_space, "d3rlpy knows Box and Discrete actions")


def d3rlpy_observations(observations: Any, space: gymnasium.Space[Any]) -> NDArray[Any] | list[NDArray[Any]]:
    """Brings a batch of observations into the form in which d3rlpy learns from them and is asked for actions.

    Images (uint8, three axes) get their channels first and stay uint8; everything else becomes float32 with one axis:
    discrete observations one-hot, other shapes flat. A dict becomes a list, in the order of the space; d3rlpy calls
    that a tuple observation, for which a network of one's own is needed.

    Args:
        observations: Shape `(B, *shape)`, or a dict of such arrays.
        space: Space of one observation.

    Returns:
        Shape `(B, features)` or `(B, channels, height, width)`, or a list of such arrays.
    """
    if isinstance(space, spaces.Dict):
        return [_flat_observations(observations[key], part) for key, part in space.spaces.items()]
    return _flat_observations(observations, space)


def d3rlpy_actions(actions: NDArray[Any], space: gymnasium.Space[Any]) -> NDArray[Any]:
    """Brings a batch of actions into the form that d3rlpy learns from.

    Args:
        actions: Shape `(B, *shape)`.
        space: A `Box` or `Discrete`.

    Returns:
        Of a `Box` float32 of the shape `(B, size)`; of `Discrete` int64 of the shape `(B, 1)`, counted from 0.
    """
    if isinstance(space, spaces.Discrete):
        return (np.asarray(actions, np.int64) - int(space.start)).reshape(-1, 1)
    return np.asarray(actions, np.float32).reshape(len(actions), -1)


def gymnasium_actions(actions: NDArray[Any], space: gymnasium.Space[Any]) -> NDArray[Any]:
    """Brings a batch of d3rlpy's actions into the form that environments take; the way back from `d3rlpy_actions`.

    Args:
        actions: Shape `(B, size)`, or `(B,)` or `(B, 1)` of `Discrete`.
        space: A `Box` or `Discrete`.

    Returns:
        Shape `(B, *shape)`.
    """
    if isinstance(space, spaces.Discrete):
        return (np.asarray(actions).reshape(-1) + int(space.start)).astype(space.dtype)
    return np.asarray(actions).reshape(len(actions), *(space.shape or ())).astype(space.dtype)


def _flat_observations(array: NDArray[Any], space: Any) -> NDArray[Any]:
    if isinstance(space, spaces.Discrete):
        return _one_hot(array.reshape(-1, 1) - int(space.start), [int(space.n)])
    if isinstance(space, spaces.MultiDiscrete):
        counts = np.ravel(space.nvec).tolist()
        return _one_hot(array.reshape(len(array), -1) - np.ravel(space.start), counts)
    if len(space.shape) == 3 and space.dtype == np.uint8:
        return array if _channels_are_first(space.shape) else np.moveaxis(array, -1, 1)
    return np.asarray(array, np.float32).reshape(len(array), math.prod(space.shape))


def _channels_are_first(shape: tuple[int, ...]) -> bool:
    # There are fewer of them than rows and columns.
    return shape[0] < shape[2] or (shape[0] == shape[2] and shape[0] < shape[1])


def _one_hot(choices: NDArray[Any], counts: list[int]) -> NDArray[Any]:
    hot = np.zeros((len(choices), sum(counts)), np.float32)
    starts = np.cumsum([0, *counts[:-1]])
    np.put_along_axis(hot, (choices + starts).astype(np.int64), 1.0, axis=1)
    return hot
