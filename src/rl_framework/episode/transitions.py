"""The transitions of many episodes in one row, for training that draws them in any order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.storage import Batch, EpisodeStorage, TransitionArrays
from rl_framework.episode.storage.interface import gather_episodes_of_several, gather_of_several
from rl_framework.errors import ArgumentError

__all__ = ["Transitions"]


def column(
    storages: Sequence[EpisodeStorage], which: NDArray[np.int64], episodes: NDArray[np.int64], name: str
) -> NDArray[Any]:
    """Returns one of the arrays that storages have about their episodes, for episodes of several storages.

    Args:
        storages: Where the episodes lie.
        which: Shape `(E,)`: the storage of each episode.
        episodes: Shape `(E,)`: its index there.
        name: `"lengths"`, `"returns"`, `"terminated"` or `"truncated"`.
    """
    columns: list[NDArray[Any]] = [getattr(storage, name) for storage in storages]
    values = columns[0][episodes] if len(columns) == 1 else np.zeros(len(episodes), columns[0].dtype)
    if len(columns) > 1:
        for number, whole in enumerate(columns):
            mine = which == number
            values[mine] = whole[episodes[mine]]
    return values


class Transitions:
    """A flat view of episodes: transition 0 is the first step of the first episode, and so on.

    Nothing is read before it is asked for, and what is returned is no larger than what was asked for.

    Args:
        storages: Where the episodes lie.
        which: Shape `(E,)`: the storage of each episode.
        episodes: Shape `(E,)`: its index there.
    """

    def __init__(
        self, storages: Sequence[EpisodeStorage], which: NDArray[np.int64], episodes: NDArray[np.int64]
    ) -> None:
        self._storages = tuple(storages)
        self._which = which
        self._episodes = episodes
        self._lengths = column(self._storages, which, episodes, "lengths")
        self._ends = np.cumsum(self._lengths)
        self._starts = self._ends - self._lengths

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def gather(self, indices: NDArray[np.int64]) -> Batch:
        """Reads transitions.

        Args:
            indices: Shape `(B,)`, integers from 0 to `len(self) - 1`, in any order; some may occur more than once.

        Returns:
            The transitions in this order, as arrays of their own.

        Raises:
            ArgumentError: An index is out of range, or there is none.
        """
        places, steps = self._locate(indices)
        return gather_of_several(self._storages, self._which[places], self._episodes[places], steps)

    def all(self) -> Batch:
        """Reads all transitions, in order, into memory.

        Raises:
            ArgumentError: There is none.
        """
        if len(self) == 0:
            raise ArgumentError("episodes", [], "hold no transitions")
        return gather_episodes_of_several(self._storages, self._which, self._episodes)

    def arrays(self) -> TransitionArrays | None:
        """Returns the arrays that hold all episodes of the storage, if there is one storage and it has such arrays.

        They hold also the episodes that this view leaves out: `rows` tells where a transition lies. Files are mapped
        copy-on-write, so `torch.from_numpy(transitions.arrays().actions)` reads nothing and gives no warning. Do not
        write to them.
        """
        return self._storages[0].arrays() if len(self._storages) == 1 else None

    def rows(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tells where transitions lie in `arrays()`.

        Args:
            indices: As in `gather`.

        Returns:
            The row of each in `actions` and `rewards`, and in `observations`; its next observation is one row after.

        Raises:
            ArgumentError: An index is out of range, or there is none.
        """
        if len(self._storages) != 1:
            raise ArgumentError("episodes", self._storages, "lie in several storages", "Use gather(...).")
        places, steps = self._locate(indices)
        episodes = self._episodes[places]
        rows = self._starts_in_storage[episodes] + steps
        return rows, rows + episodes

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or not indices.size:
            raise ArgumentError("indices", indices, "has to be an array of integers with one axis that is not empty")
        if indices.min() < 0 or indices.max() >= len(self):
            raise ArgumentError("indices", indices, f"there are {len(self)} transitions, counted from 0")
        indices = indices.astype(np.int64, copy=False)
        places = np.searchsorted(self._ends, indices, side="right")
        return places, indices - self._starts[places]

    @cached_property
    def _starts_in_storage(self) -> NDArray[np.int64]:
        lengths = self._storages[0].lengths
        return np.cumsum(lengths) - lengths
