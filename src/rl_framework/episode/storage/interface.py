"""What holds episodes: the interface that every format implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.checks import check_episode
from rl_framework.episode.episode import Episode
from rl_framework.episode.observation_tree import ObservationTree, concatenated, map_leaves

__all__ = ["Batch", "EpisodeStorage", "TransitionArrays"]


@dataclass(slots=True)
class Batch:
    """Transitions, as arrays of their own that may be changed.

    Attributes:
        observations: Shape `(B, *shape)`, or a dict of such arrays.
        actions: Shape `(B, *shape)`.
        next_observations: As `observations`: what each action led to, also at the end of an episode.
        rewards: Shape `(B,)`, floating; NaN where they are not known.
        terminated: Shape `(B,)`, bool: the transition led to a terminal state.
        truncated: Shape `(B,)`, bool: the episode was cut after it.
    """

    observations: ObservationTree
    actions: NDArray[Any]
    next_observations: ObservationTree
    rewards: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True, slots=True)
class TransitionArrays:
    """All `E` episodes of a storage with `N` transitions behind one another, often memory-mapped.

    Transition `i` of the storage, in episode `e`, has its observation in row `i + e` and its next one in `i + e + 1`,
    because every episode has one observation more than actions.

    Attributes:
        observations: Shape `(N + E, *shape)`, or a dict of such arrays.
        actions: Shape `(N, *shape)`.
        rewards: Shape `(N,)`, floating.
    """

    observations: ObservationTree
    actions: NDArray[Any]
    rewards: NDArray[Any]


class EpisodeStorage(ABC):
    """A fixed number of episodes that are read one at a time.

    A format implements `read`, and sets the attributes. If it has its episodes behind one another in arrays,
    `ColumnStorage` does the rest. Whoever reads from a storage trusts nothing that came from a file but what `read`
    and the attributes return.

    Attributes:
        format: Tag of the format, such as `"rl_framework.episodes"`.
        source: Where the episodes are from, for errors and for showing: a path, a name, `"memory"`.
        observation_space: Space of one observation.
        action_space: Space of one action.
        spaces_are_inferred: Whether the data did not say its spaces and they were guessed from it.
        lengths: Shape `(E,)`: actions in each episode, at least 1.
        terminated: Shape `(E,)`: whether each episode ended in a terminal state.
        truncated: Shape `(E,)`: whether each episode was cut by a limit.
    """

    format: ClassVar[str]
    source: str
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    spaces_are_inferred: bool
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]

    @abstractmethod
    def read(self, index: int) -> Episode:
        """Returns one episode.

        Args:
            index: From 0 to `len(self) - 1`.

        Raises:
            EpisodeDataError: The data of this episode is damaged; the message says which and where.
        """

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Shape `(E,)`: undiscounted returns; NaN where rewards are not known."""
        return np.array([self.read(index).episode_return for index in range(len(self))], np.float64)

    def arrays(self) -> TransitionArrays | None:
        """Returns all episodes behind one another without reading them, or None if they do not lie this way."""
        return None

    def gather(self, episodes: NDArray[np.int64], steps: NDArray[np.int64]) -> Batch:
        """Reads single transitions.

        Args:
            episodes: Shape `(B,)`: an episode for each transition.
            steps: Shape `(B,)`: the step in it, from 0.

        Returns:
            The transitions in this order. This default reads each episode that occurs, whole and once.
        """
        order = np.argsort(episodes, kind="stable")
        names, starts = np.unique(episodes[order], return_index=True)
        parts = []
        for name, places in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
            parts.append(transitions_of(self.read(name), steps[places]))
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return take(concatenate(parts), back)

    def gather_episodes(self, episodes: NDArray[np.int64]) -> Batch:
        """Reads all transitions of some episodes, in order.

        Args:
            episodes: Shape `(K,)`, at least one.
        """
        parts = []
        for index in episodes.tolist():
            episode = self.read(index)
            parts.append(transitions_of(episode, np.arange(len(episode))))
        return concatenate(parts)

    def verify(self) -> None:
        """Reads everything and checks what opening does not.

        Raises:
            EpisodeDataError: Something is damaged, does not fit the spaces, or is NaN or infinite.
        """
        for index in range(len(self)):
            check_episode(
                self.read(index), self.observation_space, self.action_space, f"{self.source}: episode {index}"
            )


def transitions_of(episode: Episode, steps: NDArray[np.int64]) -> Batch:
    """Takes transitions out of one episode."""
    last = steps == len(episode) - 1
    return Batch(
        observations=map_leaves(lambda leaf: leaf[steps], episode.observations),
        actions=episode.actions[steps],
        next_observations=map_leaves(lambda leaf: leaf[steps + 1], episode.observations),
        rewards=episode.rewards[steps],
        terminated=last & episode.terminated,
        truncated=last & episode.truncated,
    )


def gather_of_several(
    storages: Sequence[EpisodeStorage], which: NDArray[np.int64], episodes: NDArray[np.int64], steps: NDArray[np.int64]
) -> Batch:
    """Reads single transitions that lie in several storages.

    Args:
        storages: Where they lie.
        which: Shape `(B,)`: the storage of each transition.
        episodes: Shape `(B,)`: its episode there.
        steps: Shape `(B,)`: the step in it, from 0.
    """
    if len(storages) == 1 or not len(which):
        return storages[0].gather(episodes, steps)
    parts, places = [], []
    for number in np.unique(which).tolist():
        mine = np.flatnonzero(which == number)
        parts.append(storages[number].gather(episodes[mine], steps[mine]))
        places.append(mine)
    back = np.empty(len(which), np.int64)
    back[np.concatenate(places)] = np.arange(len(which))
    return take(concatenate(parts), back)


def gather_episodes_of_several(
    storages: Sequence[EpisodeStorage], which: NDArray[np.int64], episodes: NDArray[np.int64]
) -> Batch:
    """Reads all transitions of episodes that lie in several storages, in order.

    Args:
        storages: Where they lie.
        which: Shape `(K,)`, at least one: the storage of each episode.
        episodes: Shape `(K,)`: its index there.
    """
    runs = np.flatnonzero(np.diff(which)) + 1
    groups = zip(np.split(which, runs), np.split(episodes, runs), strict=True)
    return concatenate([storages[own[0]].gather_episodes(mine) for own, mine in groups])


def take(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """Returns rows of a batch in another order."""
    return Batch(
        observations=map_leaves(lambda leaf: leaf[rows], batch.observations),
        actions=batch.actions[rows],
        next_observations=map_leaves(lambda leaf: leaf[rows], batch.next_observations),
        rewards=batch.rewards[rows],
        terminated=batch.terminated[rows],
        truncated=batch.truncated[rows],
    )


def concatenate(parts: list[Batch]) -> Batch:
    """Puts batches behind one another."""
    if len(parts) == 1:
        return parts[0]
    return Batch(
        observations=concatenated([part.observations for part in parts]),
        actions=np.concatenate([part.actions for part in parts]),
        next_observations=concatenated([part.next_observations for part in parts]),
        rewards=np.concatenate([part.rewards for part in parts]),
        terminated=np.concatenate([part.terminated for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
    )
