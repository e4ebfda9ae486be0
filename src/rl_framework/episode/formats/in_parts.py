"""Episodes that lie in several runs of arrays, such as the shards of a data set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.checks import check_spaces, space_leaves
from rl_framework.episode.episode import Episode
from rl_framework.episode.inferred_spaces import infer_action_space, infer_observation_space, joined_space
from rl_framework.episode.observation_tree import leaf_name, leaves
from rl_framework.episode.storage import Batch, ColumnStorage, EpisodeStorage, TransitionArrays
from rl_framework.episode.storage.interface import gather_episodes_of_several, gather_of_several
from rl_framework.errors import EpisodeDataError

__all__ = ["StorageInParts", "spaces_of"]


class StorageInParts(EpisodeStorage):
    """One data set of several `ColumnStorage`, in their order; the base of formats that are divided this way.

    Args:
        parts: At least one; all with the spaces of the first, and with arrays of the same types.
    """

    def __init__(self, parts: Sequence[ColumnStorage]) -> None:
        first = parts[0]
        self.source = first.source
        self.observation_space = first.observation_space
        self.action_space = first.action_space
        self.spaces_are_inferred = first.spaces_are_inferred
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._bounds = self._starts.tolist()
        self.lengths = np.concatenate([part.lengths for part in parts])
        self.terminated = np.concatenate([part.terminated for part in parts])
        self.truncated = np.concatenate([part.truncated for part in parts])

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Shape `(E,)`: undiscounted returns; NaN where rewards are not known."""
        return np.concatenate([part.returns for part in self._parts])

    def arrays(self) -> TransitionArrays | None:
        """Returns all episodes behind one another, which they are only if there is one part."""
        return self._parts[0].arrays() if len(self._parts) == 1 else None

    def read(self, index: int) -> Episode:
        """Returns one episode, as read-only views."""
        part = bisect_right(self._bounds, index) - 1
        return self._parts[part].read(index - self._bounds[part])

    def gather(self, episodes: NDArray[np.int64], steps: NDArray[np.int64]) -> Batch:
        """Reads single transitions; see `EpisodeStorage.gather`."""
        if len(self._parts) == 1:
            return self._parts[0].gather(episodes, steps)
        owners = self._owners(episodes)
        return gather_of_several(self._parts, owners, episodes - self._starts[owners], steps)

    def gather_episodes(self, episodes: NDArray[np.int64]) -> Batch:
        """Reads all transitions of some episodes, in order."""
        owners = self._owners(episodes)
        return gather_episodes_of_several(self._parts, owners, episodes - self._starts[owners])

    def _owners(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the part of each episode."""
        return np.searchsorted(self._starts, episodes, side="right") - 1


def spaces_of(
    source: str,
    arrays: Sequence[TransitionArrays],
    observation_space: gymnasium.Space[Any] | None,
    action_space: gymnasium.Space[Any] | None,
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Returns the spaces of data that does not say its own: the given ones where they fit, guesses for the others.

    Args:
        source: What the data is called in errors.
        arrays: The parts of the data, at least one.
        observation_space: What the caller knows, or None.
        action_space: The same for actions.

    Raises:
        EpisodeDataError: The parts differ, or do not fit a given space.
        UnsupportedSpaceError: Episodes cannot hold what is of a given space.
    """
    for number, part in enumerate(arrays):
        if _forms(part) != _forms(arrays[0]):
            raise EpisodeDataError(f"{source}: part {number} has {_forms(part)}, the one before {_forms(arrays[0])}")
    if observation_space is None:
        observation_space = infer_observation_space(arrays[0].observations)
        for part in arrays[1:]:
            guess = infer_observation_space(part.observations)
            observation_space = joined_space("observation_space", observation_space, True, guess, True)
    if action_space is None:
        action_space = infer_action_space(arrays[0].actions)
        for part in arrays[1:]:
            action_space = joined_space("action_space", action_space, True, infer_action_space(part.actions), True)
    check_spaces(observation_space, action_space)
    wanted = {leaf_name(path): space.shape for path, space in space_leaves(observation_space)}
    wanted["actions"] = action_space.shape
    found = {name: shape for name, (shape, _) in _forms(arrays[0]).items()}
    if found != wanted:
        raise EpisodeDataError(f"{source}: it holds arrays of the shapes {found}, but the given spaces say {wanted}")
    return observation_space, action_space


def _forms(arrays: TransitionArrays) -> dict[str, tuple[tuple[int, ...], str]]:
    forms = {leaf_name(path): (leaf.shape[1:], str(leaf.dtype)) for path, leaf in leaves(arrays.observations)}
    return {**forms, "actions": (arrays.actions.shape[1:], str(arrays.actions.dtype))}
