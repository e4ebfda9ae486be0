"""Reading Minari's data sets.

Minari's own reader neither unpickles nor evaluates anything, but makes an environment of what the file says if the file
states no spaces, and with that imports a module by a name from the file. Here spaces are always read, and the
environment that a data set names is never made.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rl_framework.episode.checks import check_spaces
from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.minari.arrow import ArrowReader
from rl_framework.episode.formats.minari.hdf5 import Hdf5Reader
from rl_framework.episode.formats.minari.infos import StackedInfos
from rl_framework.episode.formats.minari.stored_space import decode_stored_space, without_tuples
from rl_framework.episode.storage import EpisodeStorage
from rl_framework.errors import ArgumentError, EpisodeDataError, require_extra, shorten

__all__ = ["METADATA_FILE", "MinariEpisodes", "datasets_folder", "read_minari"]

METADATA_FILE = "metadata.json"
_MAXIMUM_METADATA_BYTES = 1 << 28  # bounds of image spaces are written out in it
_NAME = re.compile(r"[-_\w]+(/[-_\w]+)*")
_READERS: dict[str, type[Hdf5Reader] | type[ArrowReader]] = {"hdf5": Hdf5Reader, "arrow": ArrowReader}


class MinariEpisodes(EpisodeStorage):
    """A local data set of Minari.

    Args:
        folder: Its folder with `metadata.json`.
        metadata: What is in that file.

    Raises:
        EpisodeDataError: The data is damaged, incomplete or empty; the message says where.
        MissingExtraError: The library for its storage is not installed.
    """

    format: ClassVar[str] = "minari"

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        self.source = str(folder)
        kind = metadata.get("data_format", "hdf5")
        if kind not in _READERS:
            raise EpisodeDataError(
                f"{folder}: its storage {shorten(kind)} is not read; {' and '.join(_READERS)} are. Open it with Minari "
                "and give its episodes to EpisodeSequence.from_episodes"
            )
        for name in ("observation_space", "action_space"):
            if name not in metadata:
                raise EpisodeDataError(
                    f"{folder / METADATA_FILE}: states no {name}, and the environment that it names is not made to "
                    "find out, because that would run what the file says"
                )
        stored = [
            decode_stored_space(metadata[name], f"{folder / METADATA_FILE}: {name}")
            for name in ("observation_space", "action_space")
        ]
        self._observations, self._actions = stored
        self.observation_space, self.action_space = without_tuples(stored[0]), stored[1]
        self.spaces_are_inferred = False
        check_spaces(self.observation_space, self.action_space)
        self._reader = _READERS[kind](folder, bool(metadata.get("jpeg_encoding", True)))
        self._survey(metadata.get("total_episodes"))

    def read(self, index: int) -> Episode:
        """Returns one episode."""
        with _Located(self._reader.path, index):
            reader, length = self._reader, int(self.lengths[index])
            has_infos = self._has_infos[index]
            return Episode(
                reader.observations(index, self._observations),
                reader.actions(index, self._actions),
                reader.signals(index)[0],
                bool(self.terminated[index]),
                bool(self.truncated[index]),
                StackedInfos(length, lambda: self._infos(index), self._where(index)) if has_infos else None,
            )

    def _infos(self, index: int) -> dict[str, Any]:
        with _Located(self._reader.path, index):
            return self._reader.infos(index) or {}

    def _where(self, index: int) -> str:
        return f"{self._reader.path}: episode {index}"

    def _survey(self, stated: Any) -> None:
        with _Located(self._reader.path):
            count = self._reader.count()
        if type(stated) is int and stated != count:
            raise EpisodeDataError(f"{self._reader.path}: holds {count} episodes, {METADATA_FILE} says {stated}")
        if not count:
            raise EpisodeDataError(f"{self._reader.path}: holds no episodes")
        lengths, ends, self._has_infos = [], [], []
        for index in range(count):
            with _Located(self._reader.path, index):
                rewards, *flags = self._reader.signals(index)
                length = len(rewards)
                if not length or any(signal.shape != (length,) for signal in (rewards, *flags)):
                    raise EpisodeDataError("rewards, terminations and truncations are empty, or differ in length")
                if np.any(flags[0][:-1]) or np.any(flags[1][:-1]):
                    raise EpisodeDataError(f"it ends before its last step: it is more than one, of {length} steps")
                lengths.append(length)
                ends.append((bool(flags[0][-1]), bool(flags[1][-1])))
                self._has_infos.append(self._reader.has_infos(index))
        self.lengths = np.array(lengths, np.int64)
        self.terminated, self.truncated = np.array(ends, np.bool_).T


class _Located:
    # Says in an error which file and episode it was about.
    def __init__(self, path: Path, index: int | None = None) -> None:
        self._where = f"{path}: episode {index}" if index is not None else str(path)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, EpisodeDataError):
            raise EpisodeDataError(f"{self._where}: {error}") from error
        if isinstance(error, OSError | KeyError | RuntimeError | TypeError | ValueError | OverflowError | MemoryError):
            raise EpisodeDataError(f"{self._where}: is damaged: {type(error).__name__}: {error}") from error


def read_minari(name_or_path: str | os.PathLike[str], download: bool = False) -> MinariEpisodes:
    """Opens a Minari data set. Episodes are read when they are asked for.

    Of a `Tuple` of observations a `Dict` with the keys "0", "1", ... is made. Images that Minari stored as JPEG are not
    what was recorded, but close to it.

    Args:
        name_or_path: A name such as `"cartpole/expert-v0"`, which is looked for where Minari keeps its data sets
            (`MINARI_DATASETS_PATH`, or `~/.minari/datasets`); or the folder of a data set.
        download: Whether to fetch a named data set from Minari's server if it is not there.

    Raises:
        ArgumentError: There is no such data set.
        EpisodeDataError: The data is damaged, incomplete or empty; the message says where.
        UnsupportedSpaceError: Episodes cannot hold its observations or actions.
        MissingExtraError: h5py, pyarrow or, for a download, Minari is not installed.
    """
    folder = _data_folder(Path(name_or_path))
    if folder is None and _NAME.fullmatch(str(name_or_path)):
        folder = _data_folder(datasets_folder() / str(name_or_path))
        if folder is None and download:
            require_extra("minari", "downloading a data set of Minari", "minari")
            import minari

            minari.download_dataset(str(name_or_path))
            folder = _data_folder(datasets_folder() / str(name_or_path))
    if folder is None:
        raise ArgumentError(
            "name_or_path",
            str(name_or_path),
            f"there is no such Minari data set, neither as a folder nor in {datasets_folder()}",
            f"Pass download=True to fetch it from Minari's server, or run: minari download {name_or_path}",
        )
    return MinariEpisodes(folder, _metadata(folder / METADATA_FILE))


def datasets_folder() -> Path:
    """Returns the folder in which Minari keeps its data sets."""
    stated = os.environ.get("MINARI_DATASETS_PATH")
    return Path(stated) if stated is not None else Path.home() / ".minari" / "datasets"


def _data_folder(path: Path) -> Path | None:
    for folder in (path / "data", path):
        if (folder / METADATA_FILE).is_file():
            return folder
    return None


def _metadata(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAXIMUM_METADATA_BYTES:
        raise EpisodeDataError(f"{path}: is too large to be what it should be")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise EpisodeDataError(f"{path}: is damaged: {error}") from error
    if not isinstance(data, dict):
        raise EpisodeDataError(f"{path}: is no JSON object")
    return data
