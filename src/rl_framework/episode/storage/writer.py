"""Episodes written to a folder, one after the other, and a folder that appears only when it is whole."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_framework.episode.episode import Episode
from rl_framework.episode.inferred_spaces import infer_action_space, infer_observation_space
from rl_framework.episode.observation_tree import leaves, tree_of_leaves
from rl_framework.episode.storage.columns import ColumnStorage, columns_of
from rl_framework.episode.storage.infos import encode_info
from rl_framework.episode.storage.intake import Intake
from rl_framework.episode.storage.manifest import (
    ACTIONS,
    FLAGS,
    INFO_OFFSETS,
    INFOS,
    LENGTHS,
    MANIFEST,
    REWARDS,
    Manifest,
    is_ours,
    observation_file,
)
from rl_framework.episode.storage.npy import FileRecord, NpyWriter, Recorder, map_array
from rl_framework.episode.storage.stored import HAS_INFOS, TERMINATED, TRUNCATED, StoredEpisodes, open_data_set
from rl_framework.errors import ArgumentError, EpisodeDataError, shorten
from rl_framework.whole_file import TEMPORARY_PREFIX, sync_directory, temporary_folder

__all__ = ["in_memory", "temporary_data_set", "write_data_set"]

_logger = logging.getLogger(__name__)

Space = gymnasium.Space[Any]


class EpisodeWriter:
    """Writes the files of a data set into a folder that is there and empty.

    Args:
        folder: The folder.
        observation_space: Space that the observations have to fit; None: guessed in the end.
        action_space: The same for actions.
        sync: Whether to wait until everything is on the disk.
    """

    def __init__(
        self, folder: Path, observation_space: Space | None, action_space: Space | None, *, sync: bool = True
    ) -> None:
        self._folder = folder
        self._sync = sync
        self._intake = Intake(observation_space, action_space)
        self._files: dict[str, Recorder] = {}
        self._observations: dict[tuple[str, ...], str] = {}
        self._lengths: list[int] = []
        self._flags: list[int] = []
        self._unknown: list[Any] = []

    def add(self, value: Any) -> None:
        """Writes an episode.

        Args:
            value: What `as_episode` takes.

        Raises:
            EpisodeDataError: It is damaged, or does not fit.
        """
        episode = self._intake.take(value)
        if not self._files:
            self._make_files(episode)
        for keys, leaf in leaves(episode.observations):
            self._rows(self._observations[keys], leaf)
        self._rows(ACTIONS, episode.actions)
        self._rows(REWARDS, episode.rewards)
        self._lengths.append(len(episode))
        infos = HAS_INFOS if episode.infos is not None else 0
        self._flags.append(TERMINATED * episode.terminated | TRUNCATED * episode.truncated | infos)
        self._add_infos(episode)

    def _make_files(self, first: Episode) -> None:
        for index, (keys, leaf) in enumerate(leaves(first.observations)):
            name = self._observations[keys] = observation_file(keys, index)
            self._array(name, leaf.dtype, leaf.shape[1:])
        self._array(ACTIONS, first.actions.dtype, first.actions.shape[1:])
        self._array(REWARDS, np.dtype(np.float64), ())
        self._array(INFO_OFFSETS, np.dtype(np.int64), ())
        self._rows(INFO_OFFSETS, np.zeros(1, np.int64))
        self._files[INFOS] = Recorder(self._folder / INFOS)

    def _array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._files[name] = NpyWriter(self._folder / name, dtype, shape)

    def _rows(self, name: str, rows: Any) -> None:
        file = self._files[name]
        assert isinstance(file, NpyWriter)
        file.append_rows(rows)

    def _add_infos(self, episode: Episode) -> None:
        file = self._files[INFOS]
        offsets = np.full(len(episode), file.size, np.int64)
        said = bool(self._unknown)
        for step, info in enumerate(episode.infos or ()):
            try:
                file.append(encode_info(info, self._unknown))
            except (TypeError, ValueError) as error:
                raise EpisodeDataError(
                    f"episode {len(self._lengths) - 1}: infos[{step}] is {shorten(info)}: {error}"
                ) from error
            offsets[step] = file.size
        self._rows(INFO_OFFSETS, offsets)
        if self._unknown and not said:
            value = self._unknown[0]
            _logger.warning(
                "Infos hold values that cannot be stored and are kept as text, such as the %s in episode %d: %s",
                type(value).__name__,
                len(self._lengths) - 1,
                shorten(value),
            )
        del self._unknown[1:]

    def finish(self, spaces_are_inferred: bool | None = None, information: Mapping[str, Any] | None = None) -> None:
        """Writes what is known only at the end, the manifest last.

        Args:
            spaces_are_inferred: Whether given spaces were guessed; None: whether one was not given.
            information: What to tell about the data set; JSON data.

        Raises:
            ArgumentError: No episode was written, or the information is no JSON data.
            UnsavableError: A space cannot be saved.
        """
        if not self._lengths:
            raise ArgumentError("episodes", [], "there is no episode")
        self._array(LENGTHS, np.dtype(np.int64), ())
        self._rows(LENGTHS, np.array(self._lengths, np.int64))
        self._array(FLAGS, np.dtype(np.uint8), ())
        self._rows(FLAGS, np.array(self._flags, np.uint8))
        if not any(flags & HAS_INFOS for flags in self._flags):
            for name in (INFOS, INFO_OFFSETS):
                self._files.pop(name).abandon()
                (self._folder / name).unlink()
        records = {name: file.finish(self._sync) for name, file in self._files.items()}
        observation_space, action_space = self._spaces(records)
        guessed = self._intake.observation_space is None or self._intake.action_space is None
        manifest = Manifest(
            len(self._lengths),
            sum(self._lengths),
            observation_space,
            action_space,
            guessed if spaces_are_inferred is None else spaces_are_inferred,
            self._observations,
            records,
            _json_object(information),
        )
        with (self._folder / MANIFEST).open("x", encoding="utf-8") as file:
            file.write(manifest.text())
            file.flush()
            if self._sync:
                os.fsync(file.fileno())

    def _spaces(self, records: Mapping[str, FileRecord]) -> tuple[Space, Space]:
        observation_space, action_space = self._intake.observation_space, self._intake.action_space
        if observation_space is None:
            arrays = {keys: map_array(self._folder / name, records[name]) for keys, name in self._observations.items()}
            observation_space = infer_observation_space(tree_of_leaves(arrays))
        if action_space is None:
            action_space = infer_action_space(map_array(self._folder / ACTIONS, records[ACTIONS]))
        return observation_space, action_space

    def abandon(self) -> None:
        """Closes the files as they are."""
        for file in self._files.values():
            file.abandon()


def _json_object(information: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(information or {}), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ArgumentError("information", information, f"has to be JSON data: {error}") from error


def write_data_set(
    episodes: Iterable[Any],
    path: str | os.PathLike[str],
    observation_space: Space | None = None,
    action_space: Space | None = None,
    *,
    spaces_are_inferred: bool | None = None,
    overwrite: bool = False,
    information: Mapping[str, Any] | None = None,
) -> None:
    """Writes episodes as they come to a data set that appears under its name when all of it is on the disk.

    Args:
        episodes: Episodes in any form that `as_episode` takes.
        path: Folder to make.
        observation_space: Space that the observations have to fit; None: guessed from them.
        action_space: The same for actions.
        spaces_are_inferred: Whether given spaces were guessed; None: whether one was not given.
        overwrite: Whether a data set that is there may be replaced.
        information: What to tell about the data set; JSON data.

    Raises:
        ArgumentError: There is something at the path that may not be replaced, or there is no episode.
        EpisodeDataError: An episode is damaged, or does not fit.
    """
    with _whole_folder(path, overwrite) as folder:
        writer = EpisodeWriter(folder, observation_space, action_space)
        try:
            for episode in episodes:
                writer.add(episode)
            writer.finish(spaces_are_inferred, information)
        finally:
            writer.abandon()


def temporary_data_set(
    generator: Iterable[Any],
    n_episodes: int,
    observation_space: Space | None = None,
    action_space: Space | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> StoredEpisodes:
    """Writes episodes as they come to a data set that goes when nothing refers to it; see `EpisodeSequence`."""
    if isinstance(n_episodes, bool) or not isinstance(n_episodes, int | np.integer) or n_episodes < 1:
        raise ArgumentError("n_episodes", n_episodes, "has to be a positive integer")
    source = iter(generator)
    folder = Path(tempfile.mkdtemp(prefix="rl_framework-episodes-", dir=directory))
    try:
        writer = EpisodeWriter(folder, observation_space, action_space, sync=False)
        try:
            for count in range(n_episodes):
                try:
                    episode = next(source)
                except StopIteration:
                    raise ArgumentError(
                        "n_episodes", n_episodes, f"the generator ended after {count} episodes", f"Pass {count}."
                    ) from None
                writer.add(episode)
            writer.finish()
        finally:
            writer.abandon()
        storage = open_data_set(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    storage.remove_when_unused()
    return storage


def in_memory(
    episodes: Iterable[Any], observation_space: Space | None = None, action_space: Space | None = None
) -> ColumnStorage:
    """Copies episodes into memory; see `EpisodeSequence.from_episodes`."""
    if not isinstance(episodes, Iterable):
        raise ArgumentError("episodes", episodes, "is no list of episodes", "Put a single one into a list: [episode].")
    intake = Intake(observation_space, action_space)
    parts = [intake.take(episode) for episode in episodes]
    if not parts:
        raise ArgumentError("episodes", [], "there is no episode")
    arrays, lengths, terminated, truncated, infos = columns_of(parts)
    return ColumnStorage(
        arrays,
        lengths,
        terminated,
        truncated,
        infer_observation_space(arrays.observations) if observation_space is None else observation_space,
        infer_action_space(arrays.actions) if action_space is None else action_space,
        spaces_are_inferred=observation_space is None or action_space is None,
        infos=infos,
    )


@contextmanager
def _whole_folder(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    destination = Path(os.path.realpath(path))
    _check_replaceable(destination, path, overwrite)
    with temporary_folder(path) as temporary:
        yield temporary
        sync_directory(temporary)
        _put(temporary, destination, path, overwrite)
    sync_directory(destination.parent)


def _check_replaceable(destination: Path, path: str | os.PathLike[str], overwrite: bool) -> None:
    if not os.path.lexists(destination):
        return
    names = [entry.name for entry in destination.iterdir()] if destination.is_dir() else None
    if names == []:
        return
    if names is None or MANIFEST not in names:
        raise ArgumentError("path", str(path), "there is something else than a data set", "Name a new folder.")
    foreign = [name for name in names if not is_ours(name)]
    if foreign:
        raise ArgumentError("path", str(path), f"holds other files too: {shorten(foreign)}", "Name a new folder.")
    if not overwrite:
        raise ArgumentError("path", str(path), "there is a data set already", "Pass overwrite=True to replace it.")


def _put(temporary: Path, destination: Path, path: str | os.PathLike[str], overwrite: bool) -> None:
    _check_replaceable(destination, path, overwrite)  # it took time to write
    if not destination.exists():
        temporary.rename(destination)
        return
    # A folder cannot be replaced in one step. Between these two the old one lies under a temporary name.
    old = destination.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    destination.rename(old)
    try:
        temporary.rename(destination)
    except BaseException:
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)
