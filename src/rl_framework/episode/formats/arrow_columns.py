"""Columns of Arrow files as NumPy views, safe on files of strangers.

pyarrow finds the record batches; what is in them is looked at with NumPy only. NumPy checks every bound, where Arrow's
own functions trust the offsets that a file claims and may read, or crash, outside of it. Files stay memory-mapped.
Three things that Arrow allows and these data sets do not use are refused before pyarrow acts on them: extension types
(reading a schema runs code that some library registered, in old versions of pyarrow `pickle`), dictionaries, and
compression (a small file could fill the memory).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.storage.npy import FileRecord, map_file
from rl_framework.errors import EpisodeDataError

__all__ = ["Column", "NumberColumn", "TextColumn", "read_record_batches"]

_FILE_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_MAXIMUM_NESTING = 32
_PIECE = 1 << 20

Column = Union["NumberColumn", "TextColumn", "dict[str, Column]"]

Level = NDArray[Any] | int
"""One level of lists: the offsets of the lists in what is below, or the length that all of them have."""


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """Numbers, in lists of any depth, of one record batch.

    Attributes:
        where: File and name of the column, for errors.
        length: Rows.
        levels: From the outermost list to the innermost.
        values: The numbers of all rows, flat; of bools, bytes that hold eight each.
        dtype: Type of the numbers.
    """

    where: str
    length: int
    levels: tuple[Level, ...]
    values: NDArray[Any]
    dtype: np.dtype[Any]

    def sizes(self) -> NDArray[np.int64]:
        """Returns the length of the outermost list of each row.

        Raises:
            EpisodeDataError: The column has no lists, or they are damaged.
        """
        if not self.levels:
            raise EpisodeDataError(f"{self.where} holds single values where lists should be")
        level = self.levels[0]
        if isinstance(level, int):
            return np.full(self.length, level, np.int64)
        return _sizes(_offsets(self.where, level, 0, self.length))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Returns what is in the outermost lists of consecutive rows, behind one another.

        Args:
            start: First row.
            stop: Row after the last one.

        Returns:
            Shape `(sum of sizes, *shape)`; without lists `(stop - start,)`. A view, unless the numbers are bools.

        Raises:
            EpisodeDataError: The lists differ in length below the outermost level, or are damaged.
        """
        shape: list[int] = []
        first_axis = stop - start
        for depth, level in enumerate(self.levels):
            count = stop - start
            if isinstance(level, int):
                start, stop, width = start * level, stop * level, level
            else:
                first, start, stop = start, *_ends(self.where, level, start, stop)
                width = (stop - start) // count if count else 0
                if depth and not _are_of(width, level, first, count):
                    raise EpisodeDataError(f"{self.where} is ragged: its rows have different lengths")
            if depth:
                shape.append(width)
            else:
                first_axis = stop - start
        return self._flat(start, stop).reshape(first_axis, *shape)

    def _flat(self, start: int, stop: int) -> NDArray[Any]:
        if self.dtype == np.bool_:
            packed = self.values[start >> 3 : (stop + 7) >> 3]
            flat = np.unpackbits(packed, bitorder="little").view(np.bool_)[start & 7 :][: stop - start]
        else:
            flat = self.values[start:stop]
        if len(flat) != stop - start:
            raise EpisodeDataError(f"{self.where} is damaged: it ends before its lists do")
        return flat


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Lists of texts, one a row, of one record batch.

    Attributes:
        where: File and name of the column, for errors.
        length: Rows.
        lists: Where the list of each row begins in `texts`; one more than rows.
        texts: Where each text begins in `characters`; one more than texts.
        characters: UTF-8.
    """

    where: str
    length: int
    lists: NDArray[Any]
    texts: NDArray[Any]
    characters: NDArray[np.uint8]

    def sizes(self) -> NDArray[np.int64]:
        """Returns how many texts each row has."""
        return _sizes(_offsets(self.where, self.lists, 0, self.length))

    def span(self, row: int) -> tuple[int, int]:
        """Returns the numbers of a row's first text and of the one after its last, for `text`."""
        offsets = _offsets(self.where, self.lists, row, row + 1)
        return int(offsets[0]), int(offsets[1])

    def text(self, index: int) -> bytes:
        """Returns one text, as bytes that may not be valid UTF-8."""
        start, stop = _offsets(self.where, self.texts, index, index + 1).tolist()
        content = self.characters[start:stop].tobytes()
        if len(content) != stop - start:
            raise EpisodeDataError(f"{self.where} is damaged: it ends before its texts do")
        return content

    def are_all(self, content: bytes, start: int, stop: int) -> bool:
        """Tells whether consecutive texts are all this one."""
        first, last = _ends(self.where, self.texts, start, stop)
        if last - first != len(content) * (stop - start):
            return False
        widths_are_equal = _are_of(len(content), self.texts, start, stop - start)
        return widths_are_equal and self.characters[first:last].tobytes() == content * (stop - start)


def _offsets(where: str, level: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    _ends(where, level, start, stop)
    offsets = level[start : stop + 1]
    if np.any(offsets[1:] < offsets[:-1]):
        raise EpisodeDataError(f"{where} is damaged: its lists have impossible bounds")
    return offsets


def _sizes(offsets: NDArray[Any]) -> NDArray[np.int64]:
    return offsets[1:].astype(np.int64) - offsets[:-1]


def _ends(where: str, level: NDArray[Any], start: int, stop: int) -> tuple[int, int]:
    if not 0 <= start <= stop < len(level):
        raise EpisodeDataError(f"{where} is damaged: its lists have impossible bounds")
    first, last = int(level[start]), int(level[stop])
    if not 0 <= first <= last:
        raise EpisodeDataError(f"{where} is damaged: its lists have impossible bounds")
    return first, last


def _are_of(width: int, level: NDArray[Any], start: int, count: int) -> bool:
    # In pieces: images have more offsets than pixels.
    for begin in range(start, start + count, _PIECE):
        end = min(begin + _PIECE, start + count)
        offsets = level[begin : end + 1]
        if np.any(offsets[1:] - offsets[:-1] != width):
            return False
    return int(level[start + count]) - int(level[start]) == width * count


def read_record_batches(path: Path) -> list[dict[str, Column]]:
    """Reads the columns of an Arrow file, in the streaming or in the file format.

    Args:
        path: The file. It stays mapped as long as a column is used, copy-on-write: torch takes the arrays as they
            are, and what is written to them reaches no file.

    Returns:
        The columns by name, of each record batch. A struct is a dict of columns; a column of single texts or byte
        strings is one of lists with one text.

    Raises:
        EpisodeDataError: The file is damaged, cut short, or holds something else than numbers and texts in lists.
    """
    try:
        content = np.frombuffer(map_file(path, FileRecord(path.stat().st_size, "")), np.uint8)
        return [
            {
                name: _Reader(f"{path}: column {name!r}", content).column(batch.column(index))
                for index, name in enumerate(batch.schema.names)
            }
            for batch in _batches(path, content)
        ]
    except EpisodeDataError:
        raise
    except Exception as error:  # pyarrow meets damage with exceptions of many kinds
        raise EpisodeDataError(f"{path}: is no Arrow file, or damaged: {error}") from error


def _batches(path: Path, content: NDArray[np.uint8]) -> Iterator[Any]:
    import pyarrow as pa

    # The file format is the stream, after eight bytes and before an index.
    in_file_format = content[: len(_FILE_MAGIC)].tobytes() == _FILE_MAGIC
    end = _FILE_MAGIC if in_file_format else _END_OF_STREAM
    if len(content) < len(end) or content[-len(end) :].tobytes() != end:
        raise EpisodeDataError(f"{path}: is no Arrow file, or was cut short")
    source = pa.BufferReader(pa.py_buffer(content[8 if in_file_format else 0 :]))
    schema = None
    for message in pa.ipc.MessageReader.open_stream(source):
        head = message.metadata.to_pybytes()
        if message.type == "schema" and schema is None:
            if b"ARROW:extension:name" in head:
                raise EpisodeDataError(f"{path}: has Arrow extension types, which are not read from files")
            schema = pa.ipc.read_schema(message)
            if len(set(schema.names)) != len(schema.names):
                raise EpisodeDataError(f"{path}: has a column twice")
        elif message.type == "record batch" and schema is not None:
            if _is_compressed(head):
                raise EpisodeDataError(f"{path}: is compressed; write it again without compression")
            yield pa.ipc.read_record_batch(message, schema)
        else:
            raise EpisodeDataError(f"{path}: holds an Arrow {message.type} that does not belong there")
    if schema is None:
        raise EpisodeDataError(f"{path}: has no schema")


def _is_compressed(head: bytes) -> bool:
    # A flatbuffer: tables refer to their list of field offsets. Message.header is field 2, RecordBatch.compression 3.
    try:
        (root,) = struct.unpack_from("<I", head)
        place = _field(head, root, 2)
        if place is None:
            return False
        return _field(head, place + struct.unpack_from("<I", head, place)[0], 3) is not None
    except struct.error as error:
        raise EpisodeDataError("a record batch has a damaged head") from error


def _field(head: bytes, table: int, number: int) -> int | None:
    fields = table - struct.unpack_from("<i", head, table)[0]
    place = 4 + 2 * number
    if fields < 0 or place >= struct.unpack_from("<H", head, fields)[0]:
        return None
    offset = struct.unpack_from("<H", head, fields + place)[0]
    return table + offset if offset else None


class _Reader:
    # Takes the arrays of one column apart, as views of the mapped file.
    def __init__(self, where: str, content: NDArray[np.uint8]) -> None:
        self._where = where
        self._content = content

    def column(self, array: Any, depth: int = 0) -> Column:
        """Takes a column, or a part of a struct, apart."""
        from pyarrow import types

        # Lists of the length 0 take no room, and there could be any number of them.
        if len(array) > 8 * len(self._content):
            raise EpisodeDataError(f"{self._where} is damaged: it says that it has {len(array)} rows")
        if types.is_struct(array.type):
            self._check_nothing_is_missing(array)
            if depth > _MAXIMUM_NESTING:
                raise EpisodeDataError(f"{self._where} is nested more than {_MAXIMUM_NESTING} deep")
            names = [array.type.field(index).name for index in range(array.type.num_fields)]
            if len(set(names)) != len(names):
                raise EpisodeDataError(f"{self._where} has a field twice")
            return {
                name: _Reader(f"{self._where}[{name!r}]", self._content).column(array.field(index), depth + 1)
                for index, name in enumerate(names)
            }
        length = len(array)
        levels: list[Level] = []
        while True:
            kind = array.type
            if types.is_list(kind) or types.is_large_list(kind):
                dtype = np.int32 if types.is_list(kind) else np.int64
                levels.append(self._offsets(array, dtype))
            elif types.is_fixed_size_list(kind):
                self._check_nothing_is_missing(array)
                levels.append(kind.list_size)
            else:
                break
            if len(levels) > _MAXIMUM_NESTING:
                raise EpisodeDataError(f"{self._where} is nested more than {_MAXIMUM_NESTING} deep")
            array = array.values
        if types.is_string(kind) or types.is_binary(kind):
            return self._texts(length, levels, array, np.int32)
        if types.is_large_string(kind) or types.is_large_binary(kind):
            return self._texts(length, levels, array, np.int64)
        if not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
            raise EpisodeDataError(f"{self._where} holds {str(kind)[:80]}, not numbers or texts")
        self._check_nothing_is_missing(array)
        buffer = array.buffers()[1]
        if types.is_boolean(kind):
            bits = self._view(buffer, np.uint8, (len(array) + 7) // 8)
            return NumberColumn(self._where, length, tuple(levels), bits, np.dtype(np.bool_))
        # Not kind.to_pandas_dtype(): some releases of pyarrow import all of pandas for it.
        letter = "f" if types.is_floating(kind) else "i" if types.is_signed_integer(kind) else "u"
        numbers: np.dtype[Any] = np.dtype(f"{letter}{kind.bit_width // 8}")
        return NumberColumn(self._where, length, tuple(levels), self._view(buffer, numbers, len(array)), numbers)

    def _texts(self, length: int, levels: list[Level], array: Any, dtype: Any) -> TextColumn:
        texts = self._offsets(array, dtype)
        lists = levels[0] if levels else np.arange(len(texts))
        if len(levels) > 1 or isinstance(lists, int):
            raise EpisodeDataError(f"{self._where} holds texts, but not in one list a row")
        buffer = array.buffers()[2]
        return TextColumn(
            self._where, length, lists, texts, self._view(buffer, np.uint8, 0 if buffer is None else buffer.size)
        )

    def _offsets(self, array: Any, dtype: Any) -> NDArray[Any]:
        self._check_nothing_is_missing(array)
        buffer = array.buffers()[1]
        if len(array) == 0 and (buffer is None or buffer.size == 0):
            return np.zeros(1, dtype)  # the offsets of nothing may be left out
        return self._view(buffer, dtype, len(array) + 1)

    def _check_nothing_is_missing(self, array: Any) -> None:
        buffers = array.buffers()
        if not buffers or buffers[0] is None:
            return
        bits = self._view(buffers[0], np.uint8, (len(array) + 7) // 8)
        if (
            np.any(bits[:-1] != 0xFF)
            or not np.unpackbits(bits[-1:], bitorder="little")[: (len(array) - 1) % 8 + 1].all()
        ):
            raise EpisodeDataError(f"{self._where} has missing values (null)")

    def _view(self, buffer: Any, dtype: Any, count: int) -> NDArray[Any]:
        size = count * np.dtype(dtype).itemsize
        start = 0 if buffer is None else buffer.address - self._content.ctypes.data
        if size == 0:
            return np.zeros(0, dtype)
        if buffer is None or not 0 < size <= buffer.size or not 0 <= start <= len(self._content) - size:
            raise EpisodeDataError(f"{self._where} is damaged: it is shorter than it says")
        return self._content[start : start + size].view(dtype)
