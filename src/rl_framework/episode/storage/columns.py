"""Episodes behind one another in arrays, whether in memory or mapped from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.episode import Episode, sum_of_rewards
from rl_framework.episode.observation_tree import concatenated, map_leaves
from rl_framework.episode.storage.interface import Batch, EpisodeStorage, TransitionArrays

__all__ = ["ColumnStorage"]

# Mean length of episodes from which on copying them one by one is faster than indexing.
_LONG = 200

Infos = Sequence[Mapping[str, Any]]


class ColumnStorage(EpisodeStorage):
    """Episodes whose arrays lie behind one another; the base of formats that can offer such arrays.

    Args:
        arrays: The arrays of all episodes; see `TransitionArrays`. They may be memory maps.
        lengths: Shape `(E,)`: actions in each episode; at least 1, and `N` in all.
        terminated: Shape `(E,)`.
        truncated: Shape `(E,)`.
        observation_space: Space of one observation.
        action_space: Space of one action.
        spaces_are_inferred: Whether the spaces were guessed from the data.
        source: Where the episodes are from.
        infos: One entry an episode: None, or one mapping a step; None: no episode has infos.
    """

    format = "memory"

    def __init__(
        self,
        arrays: TransitionArrays,
        lengths: NDArray[np.int64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        *,
        spaces_are_inferred: bool = False,
        source: str = "memory",
        infos: Sequence[Infos | None] | None = None,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.spaces_are_inferred = spaces_are_inferred
        self.source = source
        self.lengths = _frozen(np.asarray(lengths, np.int64))
        self.terminated = _frozen(np.asarray(terminated, np.bool_))
        self.truncated = _frozen(np.asarray(truncated, np.bool_))
        self._infos = infos
        ends = np.cumsum(self.lengths)
        self._starts = ends - self.lengths
        # Plain numbers and views: to read an episode takes a few microseconds.
        self._bounds = [0, *ends.tolist()]
        self._arrays = arrays
        self._views = TransitionArrays(
            map_leaves(_frozen, arrays.observations), _frozen(arrays.actions), _frozen(arrays.rewards)
        )

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Shape `(E,)`: undiscounted returns; NaN where rewards are not known."""
        return _frozen(sum_of_rewards(self._views.rewards, self._starts))

    def arrays(self) -> TransitionArrays:
        """Returns all episodes behind one another, without reading them.

        Files are mapped copy-on-write: `torch.from_numpy` takes the arrays as they are, and what is written to them
        reaches no file. It does change what this storage returns later, so write to a copy.
        """
        return self._arrays

    def read(self, index: int) -> Episode:
        """Returns one episode, as read-only views of the arrays."""
        start, end = self._bounds[index], self._bounds[index + 1]
        views = self._views
        row, last = start + index, end + index + 1
        observations = views.observations
        return Episode(
            observations[row:last]
            if type(observations) is np.ndarray
            else map_leaves(lambda leaf: leaf[row:last], observations),
            views.actions[start:end],
            views.rewards[start:end],
            bool(self.terminated[index]),
            bool(self.truncated[index]),
            self._infos_of(index, start, end),
        )

    def gather(self, episodes: NDArray[np.int64], steps: NDArray[np.int64]) -> Batch:
        """Reads single transitions; see `EpisodeStorage.gather`."""
        last = steps == self.lengths[episodes] - 1
        return self._take(self._starts[episodes] + steps, episodes, last)

    def gather_episodes(self, episodes: NDArray[np.int64]) -> Batch:
        """Reads all transitions of some episodes; see `EpisodeStorage.gather_episodes`."""
        lengths = self.lengths[episodes]
        ends = np.cumsum(lengths)
        if ends[-1] >= _LONG * len(episodes):
            return self._copy(episodes, ends)
        last = np.zeros(ends[-1], np.bool_)
        last[ends - 1] = True
        transitions = np.arange(ends[-1]) + np.repeat(self._starts[episodes] - (ends - lengths), lengths)
        return self._take(transitions, np.repeat(episodes, lengths), last)

    def _copy(self, episodes: NDArray[np.int64], ends: NDArray[np.int64]) -> Batch:
        """Copies whole episodes; needs no array of indices, which would be as large as small observations."""
        count = int(ends[-1])
        # For each episode: where it begins in what is returned, in the transitions, and in the observations.
        lengths, starts = self.lengths[episodes], self._starts[episodes]
        places = np.stack([ends - lengths, starts, starts + episodes, lengths], axis=1).tolist()

        def copied(leaf: NDArray[Any], column: int, offset: int) -> NDArray[Any]:
            result = np.empty((count, *leaf.shape[1:]), leaf.dtype)
            for place in places:
                row, length = place[column] + offset, place[3]
                result[place[0] : place[0] + length] = leaf[row : row + length]
            return result

        views = self._views
        terminated, truncated = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        terminated[ends - 1], truncated[ends - 1] = self.terminated[episodes], self.truncated[episodes]
        return Batch(
            observations=map_leaves(lambda leaf: copied(leaf, 2, 0), views.observations),
            actions=copied(views.actions, 1, 0),
            next_observations=map_leaves(lambda leaf: copied(leaf, 2, 1), views.observations),
            rewards=copied(views.rewards, 1, 0),
            terminated=terminated,
            truncated=truncated,
        )

    def _take(self, transitions: NDArray[np.int64], episodes: NDArray[np.int64], last: NDArray[np.bool_]) -> Batch:
        rows = transitions + episodes
        following = rows + 1
        views = self._views
        return Batch(
            observations=map_leaves(lambda leaf: leaf.take(rows, axis=0), views.observations),
            actions=views.actions.take(transitions, axis=0),
            next_observations=map_leaves(lambda leaf: leaf.take(following, axis=0), views.observations),
            rewards=views.rewards.take(transitions),
            terminated=last & self.terminated[episodes],
            truncated=last & self.truncated[episodes],
        )

    def _infos_of(self, index: int, start: int, end: int) -> Infos | None:
        return None if self._infos is None else self._infos[index]


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    # A plain array over the same memory: indexing a subclass such as `np.memmap` is slower.
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def columns_of(
    episodes: Iterable[Episode],
) -> tuple[TransitionArrays, NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], list[Infos | None] | None]:
    """Copies episodes of one shape behind one another.

    Returns:
        The arrays, lengths, terminated, truncated and infos that `ColumnStorage` takes.
    """
    parts = list(episodes)
    arrays = TransitionArrays(
        observations=concatenated([part.observations for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]).astype(np.float64, copy=False),
    )
    infos = [part.infos for part in parts]
    return (
        arrays,
        np.array([len(part) for part in parts], np.int64),
        np.array([part.terminated for part in parts], np.bool_),
        np.array([part.truncated for part in parts], np.bool_),
        None if all(part is None for part in infos) else infos,
    )
