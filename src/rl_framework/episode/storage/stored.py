"""Data sets in the framework's own format: a folder with a manifest and memory-mapped arrays."""

from __future__ import annotations

import hashlib
import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.checks import check_array, check_spaces, space_leaves
from rl_framework.episode.inferred_spaces import joined_space
from rl_framework.episode.observation_tree import leaf_name, leaves, tree_of_leaves
from rl_framework.episode.storage.columns import ColumnStorage, Infos
from rl_framework.episode.storage.infos import StoredInfos
from rl_framework.episode.storage.interface import TransitionArrays
from rl_framework.episode.storage.manifest import (
    ACTIONS,
    FLAGS,
    FORMAT,
    INFO_OFFSETS,
    INFOS,
    LENGTHS,
    MANIFEST,
    REWARDS,
    read_manifest,
)
from rl_framework.episode.storage.npy import map_array, map_file
from rl_framework.errors import ArgumentError, EpisodeDataError, SpaceMismatchError

__all__ = ["HAS_INFOS", "TERMINATED", "TRUNCATED", "StoredEpisodes", "is_data_set", "open_data_set"]

TERMINATED, TRUNCATED, HAS_INFOS = 1, 2, 4
"""Bits of the flags of an episode."""

_CHUNK = 1 << 24

Space = gymnasium.Space[Any]


def is_data_set(path: Path) -> bool:
    """Tells whether there is a folder with a manifest, damaged or not."""
    return (path / MANIFEST).exists()


def open_data_set(
    path: Path, observation_space: Space | None = None, action_space: Space | None = None
) -> StoredEpisodes:
    """Opens a data set; sizes, types, shapes and counts are checked, and the data is not read.

    Args:
        path: Its folder.
        observation_space: Takes the place of a space that was guessed when it was written; has to equal one that was
            stated.
        action_space: The same.

    Raises:
        EpisodeDataError: It is damaged, or does not fit a given space.
        SpaceMismatchError: A given space is not the stated one.
        ArgumentError: There is no data set at this path.
    """
    if not is_data_set(path):
        raise ArgumentError("path", str(path), f"is no data set: there is no {MANIFEST} in it")
    storage = StoredEpisodes(path)
    if observation_space is not None or action_space is not None:
        storage.state_spaces(observation_space, action_space)
    return storage


class StoredEpisodes(ColumnStorage):
    """Episodes in the framework's own format; see docs/episode-format.md.

    It can be sent to another process, which opens the files again; they have to stay where they are.

    Attributes:
        path: Absolute path of the folder.
        information: What whoever wrote it told about it.

    Args:
        path: The folder.

    Raises:
        EpisodeDataError: It is damaged, hostile or of a later version.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()
        manifest, content = read_manifest(self.path)
        self._manifest = manifest
        self._fingerprint = hashlib.sha256(content).hexdigest()
        self._stated: tuple[Space | None, Space | None] = (None, None)
        self.information: Mapping[str, Any] = manifest.information
        files = manifest.files
        lengths = self._map(LENGTHS)
        self._check_lengths(lengths)
        flags = self._map(FLAGS)
        if flags.max() > (TERMINATED | TRUNCATED | HAS_INFOS):
            episode = int(flags.argmax())
            raise EpisodeDataError(f"{self.path / FLAGS}: episode {episode} has the unknown flags {flags[episode]}")
        self._has_infos = (flags & HAS_INFOS) != 0
        self._text: Any = None
        if INFOS in files:
            self._text = map_file(self.path / INFOS, files[INFOS])
            self._offsets = self._map(INFO_OFFSETS)
        elif self._has_infos.any():
            raise EpisodeDataError(f"{self.path / FLAGS}: an episode has infos, but there is no {INFOS}")
        observations = {keys: self._map(name) for keys, name in manifest.observations.items()}
        super().__init__(
            TransitionArrays(tree_of_leaves(observations), self._map(ACTIONS), self._map(REWARDS)),
            lengths,
            (flags & TERMINATED) != 0,
            (flags & TRUNCATED) != 0,
            manifest.observation_space,
            manifest.action_space,
            spaces_are_inferred=manifest.spaces_are_inferred,
            source=str(path),
        )

    def _map(self, name: str) -> NDArray[Any]:
        return map_array(self.path / name, self._manifest.files[name])

    def _check_lengths(self, lengths: NDArray[np.int64]) -> None:
        where, transitions = self.path / LENGTHS, self._manifest.transitions
        bad = (lengths < 1) | (lengths > transitions)
        if bad.any():
            episode = int(bad.argmax())
            raise EpisodeDataError(f"{where}: episode {episode} has the length {lengths[episode]}")
        # None is larger than the sum should be, so that this many of them would be needed for it to overflow.
        total = int(lengths.sum()) if len(lengths) < (1 << 62) // transitions else sum(lengths.tolist())
        if total != transitions:
            raise EpisodeDataError(f"{where}: {total} transitions in {len(lengths)} episodes, not {transitions}")

    def _infos_of(self, index: int, start: int, end: int) -> Infos | None:
        if self._text is None or not self._has_infos[index]:
            return None
        return StoredInfos(self._text, self._offsets[start : end + 1], f"{self.path / INFOS}: episode {index}")

    def state_spaces(self, observation_space: Space | None, action_space: Space | None) -> None:
        """Puts spaces in the place of guessed ones, or compares them with stated ones.

        Raises:
            EpisodeDataError: The data does not fit.
            SpaceMismatchError: The data set states another space.
        """
        check_spaces(observation_space or self.observation_space, action_space or self.action_space)
        for name, given in (("observation_space", observation_space), ("action_space", action_space)):
            own = getattr(self, name)
            if given is None or given == own:
                continue
            if not self._manifest.spaces_are_inferred:
                raise SpaceMismatchError(name, given, f"{self.source} states {own}")
            joined_space(name, own, True, given, False)
            setattr(self, name, given)
        if observation_space is not None:
            self._check_observations()
        if action_space is not None:
            check_array(self._views.actions, self.action_space, str(self.path / ACTIONS), in_bounds=True)
        self.spaces_are_inferred &= observation_space is None or action_space is None
        self._stated = (observation_space, action_space)

    def _check_observations(self) -> None:
        arrays = dict(leaves(self._views.observations))
        for keys, part in space_leaves(self.observation_space):
            in_bounds = not isinstance(part, gymnasium.spaces.Box)
            check_array(arrays[keys], part, f"{self.source}: {leaf_name(keys)}", in_bounds=in_bounds)

    def verify(self) -> None:
        """Compares all files with their checksums and all numbers with the spaces, and decodes all infos.

        Raises:
            EpisodeDataError: Something is damaged; the message names the file, or the episode and row.
        """
        for name, record in self._manifest.files.items():
            path = self.path / name
            content = memoryview(map_file(path, record))
            start = 0 if record.dtype is None else 10 + int.from_bytes(content[8:10], "little")
            digest = hashlib.sha256()
            for position in range(start, len(content), _CHUNK):
                digest.update(content[position : position + _CHUNK])
            if digest.hexdigest() != record.sha256:
                raise EpisodeDataError(f"{path} is damaged: its content does not have the checksum of {MANIFEST}")
        if self._text is not None:
            self._check_offsets()
        super().verify()
        for index in np.flatnonzero(self._has_infos).tolist():
            for _ in self.read(index).infos or ():
                pass

    def _check_offsets(self) -> None:
        wrong = np.flatnonzero(np.diff(self._offsets) < 0)
        if self._offsets[0] != 0 or self._offsets[-1] != len(self._text) or len(wrong):
            row = int(wrong[0]) if len(wrong) else 0 if self._offsets[0] else len(self._offsets) - 1
            raise EpisodeDataError(f"{self.path / INFO_OFFSETS}: row {row} does not lie in {INFOS}")

    def remove_when_unused(self) -> None:
        """Removes the folder when this object goes, at the latest when this process ends."""
        self._finalizer = weakref.finalize(self, _remove, str(self.path), os.getpid())

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path), self._fingerprint, *self._stated)


def _remove(folder: str, process: int) -> None:
    # A forked process has a copy of the object, and is not the one to decide.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _reopen(path: str, fingerprint: str, observation_space: Space | None, action_space: Space | None) -> StoredEpisodes:
    storage = open_data_set(Path(path), observation_space, action_space)
    if storage._fingerprint != fingerprint:
        raise EpisodeDataError(f"{path} was replaced by another data set since it was opened")
    return storage
