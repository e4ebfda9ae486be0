"""Trajectories as `imitation.data.serialize.save` writes them since version 0.4: a folder of the `datasets` library."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.formats.arrow_columns import Column, NumberColumn, TextColumn, read_record_batches
from rl_framework.episode.formats.imitation.infos import LazyInfos, decode_info
from rl_framework.episode.formats.in_parts import StorageInParts, spaces_of
from rl_framework.episode.storage import ColumnStorage, TransitionArrays
from rl_framework.episode.storage.manifest import MANIFEST
from rl_framework.errors import EpisodeDataError, require_extra, shorten

__all__ = ["STATE_FILE", "TRUNCATED", "ArrowTrajectories", "read_folder"]

STATE_FILE = "state.json"
TRUNCATED = "TimeLimit.truncated"
"""Key of the last info of an episode that a limit of time ended, which `terminal` alone does not tell."""

_SPLITS_FILE = "dataset_dict.json"
_MAXIMUM_STATE_BYTES = 1 << 24
_NUMBERS = {"obs": True, "acts": True, "terminal": True, "rews": False}  # and whether a data set needs it
_Columns = dict[str, Column]


class ArrowTrajectories(StorageInParts):
    """Trajectories in memory-mapped Arrow files."""

    format = "imitation.arrow"


def read_folder(
    folder: Path,
    observation_space: gymnasium.Space[Any] | None = None,
    action_space: gymnasium.Space[Any] | None = None,
) -> ArrowTrajectories:
    """Opens a folder that `imitation.data.serialize.save` wrote. Nothing is copied: its files stay memory-mapped.

    Args:
        folder: The folder, with a `state.json` and Arrow files.
        observation_space: Space of one observation; None: guessed, because the format does not hold it.
        action_space: The same for actions.

    Raises:
        EpisodeDataError: The folder is damaged, incomplete, empty, or holds something else; the message says where.
        MissingExtraError: pyarrow is not installed.
    """
    require_extra("imitation", "reading data sets of the imitation library", "pyarrow")
    parts: list[_Part] = []
    episode = 0
    for path in _arrow_files(folder):
        for columns in read_record_batches(path):
            part = _Part(path, columns, episode)
            if part.count:
                parts.append(part)
            episode += part.count
    if not parts:
        raise EpisodeDataError(f"{folder}: holds no episodes")
    arrays = [part.arrays() for part in parts]
    spaces = spaces_of(str(folder), arrays, observation_space, action_space)
    inferred = observation_space is None or action_space is None
    return ArrowTrajectories(
        [
            ColumnStorage(
                values,
                part.lengths,
                *part.ends(),
                *spaces,
                spaces_are_inferred=inferred,
                source=str(folder),
                infos=part.infos(),
            )
            for part, values in zip(parts, arrays, strict=True)
        ],
    )


def _arrow_files(folder: Path) -> list[Path]:
    state_file = folder / STATE_FILE
    if not state_file.is_file():
        if (folder / _SPLITS_FILE).is_file():
            splits = sorted(path.parent.name for path in folder.glob(f"*/{STATE_FILE}"))
            raise EpisodeDataError(f"{folder}: is a data set in several splits: name the folder of one ({splits})")
        raise EpisodeDataError(
            f"{folder}: is no data set: it has neither {MANIFEST}, as EpisodeSequence.save writes it, nor "
            f"{STATE_FILE}, as the imitation library does. Data sets of Minari are opened by from_minari"
        )
    if state_file.stat().st_size > _MAXIMUM_STATE_BYTES:
        raise EpisodeDataError(f"{state_file}: is too large to be what it should be")
    try:
        state = json.loads(state_file.read_bytes())
        names = [entry["filename"] for entry in state["_data_files"]]
        selection = state.get("_indices_data_files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EpisodeDataError(f"{state_file}: is damaged: {type(error).__name__}: {error}") from error
    if selection:
        raise EpisodeDataError(f"{state_file}: selects rows with a table of indices; save it again with `datasets` 2")
    files = []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or "\x00" in name:
            raise EpisodeDataError(f"{state_file}: names {shorten(name)}, which is no file in its own folder")
        if not (folder / name).is_file():
            raise EpisodeDataError(f"{folder / name}: is missing; {STATE_FILE} names it")
        files.append(folder / name)
    return files


class _Part:
    # The episodes of one record batch.
    def __init__(self, path: Path, columns: _Columns, first_episode: int) -> None:
        self._path = path
        self._first = first_episode
        self._numbers = {
            name: self._number_column(columns, name) for name, needed in _NUMBERS.items() if needed or name in columns
        }
        infos = columns.get("infos")
        if infos is not None and not isinstance(infos, TextColumn):
            raise EpisodeDataError(f"{path}: column 'infos' holds numbers, not texts")
        self._texts = infos
        self.count = self._numbers["acts"].length
        self.lengths = self._numbers["acts"].sizes()
        self._check_lengths()

    def arrays(self) -> TransitionArrays:
        """Returns what all episodes of the part hold."""
        values = {name: column.rows(0, self.count) for name, column in self._numbers.items() if column.levels}
        rewards = values.get("rews")
        if rewards is None:
            rewards = np.full(len(values["acts"]), np.nan, np.float32)
        elif rewards.ndim != 1:
            raise EpisodeDataError(f"{self._path}: column 'rews' holds lists of lists, not one number a step")
        elif rewards.dtype.kind != "f":
            rewards = rewards.astype(np.float64)
        return TransitionArrays(values["obs"], values["acts"], rewards)

    def ends(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Returns which episodes terminated and which were truncated."""
        ended = self._numbers["terminal"].rows(0, self.count).astype(np.bool_)
        cut = np.zeros(self.count, np.bool_)
        if self._texts is not None:
            for row in np.flatnonzero(ended).tolist():
                text = self._texts.text(self._texts.span(row)[1] - 1)
                # Most infos are empty, and a search is faster than decoding.
                cut[row] = TRUNCATED.encode() in text and decode_info(text).get(TRUNCATED) is True
        return ended & ~cut, cut

    def infos(self) -> Sequence[Sequence[Mapping[str, Any]] | None] | None:
        """Returns the infos of each episode."""
        return None if self._texts is None else _InfosOfEpisodes(self._texts)

    def _number_column(self, columns: _Columns, name: str) -> NumberColumn:
        column = columns.get(name)
        if column is None:
            raise EpisodeDataError(f"{self._path}: has no column {name!r}; it has {', '.join(columns)}")
        if not isinstance(column, NumberColumn) or bool(column.levels) == (name == "terminal"):
            raise EpisodeDataError(f"{self._path}: column {name!r} does not hold what imitation writes there")
        return column

    def _check_lengths(self) -> None:
        expected = {"obs": self.lengths + 1, "rews": self.lengths, "infos": self.lengths}
        for name, sizes in expected.items():
            column = self._texts if name == "infos" else self._numbers.get(name)
            if column is None:
                continue
            wrong = np.flatnonzero(column.sizes() != sizes)
            if len(wrong):
                row = int(wrong[0])
                raise EpisodeDataError(
                    f"{self._path}: episode {self._first + row} has {self.lengths[row]} actions and "
                    f"{column.sizes()[row]} {name}, not {sizes[row]}"
                )
        if self.count and not self.lengths.all():
            raise EpisodeDataError(f"{self._path}: episode {self._first + int(np.argmin(self.lengths))} has no steps")


class _InfosOfEpisodes(Sequence["Sequence[Mapping[str, Any]] | None"]):
    # None for an episode without infos, for which imitation writes an empty one a step.
    def __init__(self, texts: TextColumn) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return self._texts.length

    @overload
    def __getitem__(self, index: int) -> LazyInfos | None: ...

    @overload
    def __getitem__(self, index: slice) -> list[LazyInfos | None]: ...

    def __getitem__(self, index: int | slice) -> LazyInfos | list[LazyInfos | None] | None:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        texts = self._texts
        start, stop = texts.span(range(len(self))[index])
        if texts.are_all(b"{}", start, stop):
            return None
        return LazyInfos(stop - start, lambda step: texts.text(start + step))

    def __iter__(self) -> Iterator[LazyInfos | None]:
        return (self[index] for index in range(len(self)))
