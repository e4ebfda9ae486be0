"""A lazy sequence of recorded episodes, in any library's format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.episode import Episode
from rl_framework.episode.exchange import Exchange
from rl_framework.episode.inferred_spaces import joined_space
from rl_framework.episode.statistics import EpisodeStatistics
from rl_framework.episode.storage import (
    EpisodeStorage,
    in_memory,
    is_data_set,
    open_data_set,
    temporary_data_set,
    write_data_set,
)
from rl_framework.episode.transitions import Transitions, column
from rl_framework.errors import ArgumentError, shorten
from rl_framework.html_table import html_table
from rl_framework.stores import is_published, refuse_address

__all__ = ["EpisodeSequence"]

Space = gymnasium.Space[Any]


class EpisodeSequence(Exchange):
    """Recorded episodes, read when they are asked for.

    A sequence is a list of places in storages, never the data: slices, splits, filters and sums of sequences cost a few
    bytes an episode. It cannot be changed.

        sequence = EpisodeSequence.from_dataset("expert")
        train, validation = sequence.split(validation_fraction=0.2, seed=0)
        best = sequence.filter(minimum_return=475)
        batch = best.transitions().gather(indices)

    Make one with `from_dataset`, `from_episodes`, `from_episode_generator`, `from_minari`, `from_hub`,
    `from_unity_demo`, `collect` or `play`.

    Attributes:
        observation_space: Space of one observation.
        action_space: Space of one action.
        spaces_are_inferred: Whether the data did not say its spaces and they were guessed; see
            `rl_framework.episode.infer_spaces`.
    """

    def __init__(
        self,
        storages: Sequence[EpisodeStorage],
        which: NDArray[np.int64],
        episodes: NDArray[np.int64],
        observation_space: Space,
        action_space: Space,
        spaces_are_inferred: bool,
    ) -> None:
        self._storages = tuple(storages)
        self._which = which
        self._episodes = episodes
        self.observation_space = observation_space
        self.action_space = action_space
        self.spaces_are_inferred = spaces_are_inferred

    # Where sequences come from

    @classmethod
    def from_storage(cls, storage: EpisodeStorage) -> EpisodeSequence:
        """Returns all episodes of a storage."""
        count = len(storage)
        spaces = storage.observation_space, storage.action_space, storage.spaces_are_inferred
        return cls((storage,), np.zeros(count, np.int64), np.arange(count), *spaces)

    @classmethod
    def from_episodes(
        cls, episodes: Iterable[Any], observation_space: Space | None = None, action_space: Space | None = None
    ) -> EpisodeSequence:
        """Holds a copy of episodes in memory; `from_episode_generator` holds them on disk.

        Args:
            episodes: `Episode`s, lists of steps `(observation, action, next_observation, reward, terminated,
                truncated, info)`, or trajectories of the imitation library.
            observation_space: Space that the observations have to fit; None: guessed from them.
            action_space: Space that the actions have to fit; None: guessed from them.

        Raises:
            EpisodeDataError: An episode is damaged, does not fit the spaces or the others, or holds NaN or infinity
                (but rewards may be all NaN where they are not known).
            ArgumentError: There is no episode, or they are in no list.
        """
        if isinstance(episodes, EpisodeSequence):
            observation_space, action_space = _stated(episodes, observation_space, action_space)
        return cls.from_storage(in_memory(episodes, observation_space, action_space))

    @classmethod
    def from_episode_generator(
        cls,
        generator: Iterable[Any],
        n_episodes: int,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> EpisodeSequence:
        """Writes episodes to a temporary data set as they come, and holds one of them in memory at a time.

        The data set is removed when nothing refers to it any more, at the latest when the process ends.

        Args:
            generator: Yields episodes in any form that `from_episodes` takes.
            n_episodes: How many to take; no more are asked for.
            observation_space: Space that the observations have to fit; None: guessed from them.
            action_space: Space that the actions have to fit; None: guessed from them.
            directory: Folder for the temporary data set; None: the system's folder for temporary files.

        Raises:
            EpisodeDataError: As `from_episodes`.
            ArgumentError: The generator ended before `n_episodes`.
        """
        return cls.from_storage(temporary_data_set(generator, n_episodes, observation_space, action_space, directory))

    @classmethod
    def from_dataset(
        cls,
        path: str | os.PathLike[str],
        trust: bool = False,
        observation_space: Space | None = None,
        action_space: Space | None = None,
    ) -> EpisodeSequence:
        """Opens a data set on disk: what `save` wrote, or `imitation.data.serialize.save`.

        Args:
            path: Its folder or file, or an address (see `rl_framework.stores`), of which a verified copy is made that
                goes when nothing refers to it any more.
            trust: Whether pickled parts of a data set of the imitation library may be loaded. They run the code of
                whoever made them.
            observation_space: Space of the observations, where the data does not say it (the imitation library's does
                not); None: guessed.
            action_space: The same for actions.

        Raises:
            EpisodeDataError: The data is damaged, cut short, empty or hostile; the message says where.
            ArgumentError: There is nothing at this path.
            SpaceMismatchError: A given space is not the one that the data set states.
            ConnectorError: It could not be fetched from the address.
        """
        open_here = partial(_storage_at, trust=trust, observation_space=observation_space, action_space=action_space)
        if is_published(path):
            from rl_framework.episode.formats.elsewhere import read_from_address

            return cls.from_storage(read_from_address(path, open_here))
        return cls.from_storage(open_here(Path(path)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EpisodeSequence:
        """Opens a data set that `save` wrote; as `from_dataset`, which opens those of the imitation library too."""
        refuse_address(path, "path", "Open it with from_dataset(address).")
        return cls.from_storage(open_data_set(Path(path)))

    @classmethod
    def collect(
        cls, agent_or_policy: Any, environment: Any, n_episodes: int, seed: int | None = None, **options: Any
    ) -> EpisodeSequence:
        """Lets an agent act and records whole episodes.

        The arguments, and what it raises, are those of `rl_framework.episode.collect.collect_episodes`.
        """
        from rl_framework.episode.collect import collect_episodes

        return collect_episodes(agent_or_policy, environment, n_episodes, seed, **options)

    @classmethod
    def play(cls, environment: Any, **options: Any) -> EpisodeSequence:
        """Lets a person at the keyboard act and records the episodes.

        The arguments, and what it raises, are those of `rl_framework.episode.play.play_episodes`.
        """
        from rl_framework.episode.play import play_episodes

        return play_episodes(environment, **options)

    # As a sequence

    def __len__(self) -> int:
        return len(self._episodes)

    @overload
    def __getitem__(self, index: int) -> Episode: ...

    @overload
    def __getitem__(self, index: slice) -> EpisodeSequence: ...

    def __getitem__(self, index: int | slice) -> Episode | EpisodeSequence:
        """Reads an episode, or returns a shorter sequence without reading."""
        if isinstance(index, slice):
            return self._view(np.arange(len(self))[index])
        return self._storages[int(self._which[index])].read(int(self._episodes[index]))

    def __add__(self, other: EpisodeSequence) -> EpisodeSequence:
        """Returns the episodes of both.

        Spaces that were guessed give way to those that were stated, and guessed counts grow to the larger one.

        Raises:
            SpaceMismatchError: Their spaces differ; the message says how.
        """
        if not isinstance(other, EpisodeSequence):
            return NotImplemented
        inferred, others = self.spaces_are_inferred, other.spaces_are_inferred
        # By identity, in order: parts of one storage that are put together again lie in one storage.
        storages = {id(storage): storage for storage in (*self._storages, *other._storages)}
        places = [list(storages).index(id(storage)) for storage in other._storages]
        return EpisodeSequence(
            list(storages.values()),
            np.concatenate([self._which, np.array(places, np.int64)[other._which]]),
            np.concatenate([self._episodes, other._episodes]),
            joined_space("observation_space", self.observation_space, inferred, other.observation_space, others),
            joined_space("action_space", self.action_space, inferred, other.action_space, others),
            inferred and others,
        )

    def _view(self, places: NDArray[np.int64]) -> EpisodeSequence:
        which, storages = self._which[places], self._storages
        if len(storages) > 1:
            used, which = np.unique(which, return_inverse=True)
            storages = tuple(storages[number] for number in used) or storages[:1]
        spaces = self.observation_space, self.action_space, self.spaces_are_inferred
        return EpisodeSequence(storages, which, self._episodes[places], *spaces)

    def split(self, validation_fraction: float = 0.2, seed: int = 0) -> tuple[EpisodeSequence, EpisodeSequence]:
        """Divides the episodes at random; both parts keep their order.

        Args:
            validation_fraction: Share of the second part, between 0 and 1. Each part gets at least one episode.
            seed: Which division; the same number of episodes is always divided in the same way.

        Returns:
            The episodes for training and those for validation.

        Raises:
            ArgumentError: The fraction is out of range, or there are fewer than two episodes.
        """
        if not 0 < validation_fraction < 1:
            raise ArgumentError("validation_fraction", validation_fraction, "has to lie between 0 and 1")
        if len(self) < 2:
            raise ArgumentError("episodes", len(self), "are too few for two parts", "Pass at least two.")
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(round(len(self) * validation_fraction), 1), len(self) - 1)
        return self._view(np.sort(order[count:])), self._view(np.sort(order[:count]))

    def shuffled(self, seed: int = 0) -> EpisodeSequence:
        """Returns the same episodes in a random order that the seed decides."""
        return self._view(np.random.default_rng(seed).permutation(len(self)))

    def filter(
        self,
        minimum_return: float | None = None,
        maximum_return: float | None = None,
        predicate: Callable[[Episode], bool] | None = None,
    ) -> EpisodeSequence:
        """Keeps the episodes that fulfil every condition, possibly none.

        Args:
            minimum_return: Least undiscounted return.
            maximum_return: Greatest undiscounted return.
            predicate: Is asked for each episode that is left, which reads it.

        Raises:
            ArgumentError: A return is asked for, and the rewards of an episode are not known.
        """
        keep = np.ones(len(self), np.bool_)
        for name, limit in (("minimum_return", minimum_return), ("maximum_return", maximum_return)):
            if limit is None:
                continue
            unknown = int(np.isnan(self.returns).sum())
            if unknown:
                raise ArgumentError(name, limit, f"the rewards of {unknown} of {len(self)} episodes are not known")
            keep &= self.returns >= limit if name == "minimum_return" else self.returns <= limit
        places = np.flatnonzero(keep)
        if predicate is not None:
            places = np.array([place for place in places.tolist() if predicate(self[place])], np.int64)
        return self._view(places)

    # What is in it

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Shape `(E,)`: actions in each episode."""
        return self._column("lengths")

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Shape `(E,)`: undiscounted returns; NaN where rewards are not known."""
        return self._column("returns")

    @property
    def n_transitions(self) -> int:
        """Actions in all episodes."""
        return int(self.lengths.sum())

    def transitions(self) -> Transitions:
        """Returns the transitions of all episodes in one row, without reading them."""
        return Transitions(self._storages, self._which, self._episodes)

    def statistics(self) -> EpisodeStatistics:
        """Summarises the episodes; reads their rewards."""
        return EpisodeStatistics.of(self.lengths, self.returns, self._column("terminated"), self._column("truncated"))

    def verify(self) -> None:
        """Reads all data that the sequence lies in, and checks what opening it does not.

        Checksums, where the format has them; that observations, actions and rewards are finite and fit the spaces.

        Raises:
            EpisodeDataError: Something is wrong; the message says where.
        """
        for storage in self._storages:
            storage.verify()

    def _column(self, name: str) -> NDArray[Any]:
        return column(self._storages, self._which, self._episodes, name)

    def __repr__(self) -> str:
        guessed = ", spaces guessed" if self.spaces_are_inferred else ""
        return (
            f"EpisodeSequence({len(self)} episodes, {self.n_transitions} transitions, {self.observation_space}, "
            f"{self.action_space}{guessed})"
        )

    def _repr_html_(self) -> str:
        """Shows the statistics as a table in a notebook."""
        guessed = " (guessed)" if self.spaces_are_inferred else ""
        sources = list(dict.fromkeys(storage.source for storage in self._storages))
        more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
        rows = [
            *self.statistics().rows(),
            ("observations", f"{shorten(self.observation_space)}{guessed}"),
            ("actions", f"{shorten(self.action_space)}{guessed}"),
            ("from", ", ".join(sources[:3]) + more),
        ]
        return html_table("EpisodeSequence", rows)

    # Where sequences go

    def save(
        self,
        path: str | os.PathLike[str],
        overwrite: bool = False,
        information: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes a data set in the framework's own format (docs/episode-format.md), for `load` and `from_dataset`.

        It appears under its name when all of it is on the disk. One episode is in memory at a time.

        Args:
            path: Folder to make.
            overwrite: Whether a data set that is there may be replaced. Nothing else is ever replaced.
            information: What to tell about the data set, such as how it was made; JSON data.

        Returns:
            The path.

        Raises:
            ArgumentError: There is something at the path already, or the sequence is empty, or it is an address.
        """
        refuse_address(path, "path", "Publish it there: StorageConnector(address).push_episodes(sequence).")
        write_data_set(
            self,
            path,
            self.observation_space,
            self.action_space,
            spaces_are_inferred=self.spaces_are_inferred,
            overwrite=overwrite,
            information=information,
        )
        return Path(path)


def _storage_at(
    location: Path, trust: bool, observation_space: Space | None, action_space: Space | None
) -> EpisodeStorage:
    if is_data_set(location):
        return open_data_set(location, observation_space, action_space)
    if not location.exists():
        raise ArgumentError("path", str(location), "there is no such data set")
    from rl_framework.episode.formats.imitation import read_imitation_dataset

    return read_imitation_dataset(location, trust, observation_space, action_space)


def _stated(
    sequence: EpisodeSequence, observation_space: Space | None, action_space: Space | None
) -> tuple[Space | None, Space | None]:
    if sequence.spaces_are_inferred:
        return observation_space, action_space
    return observation_space or sequence.observation_space, action_space or sequence.action_space
