"""`.npy` files: written row by row, and mapped into memory without trusting their headers."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rl_framework.errors import EpisodeDataError

__all__ = ["FileRecord", "NpyWriter", "Recorder", "map_array", "map_file"]

_MAGIC = b"\x93NUMPY\x01\x00"
# Room for the number of rows, which is known only at the end. A multiple of 64, so that rows are aligned.
_HEADER_SIZE = 256
_BUFFER = 1 << 18
_DTYPE = re.compile(r"[<|](b1|i[1248]|u[1248]|f[248])")
_MAXIMUM_DIMENSIONS = 32
# numpy reads this header with `ast.literal_eval`; these files never have another form.
_HEADER = re.compile(rb"\{'descr': '([<|][biuf][0-9])', 'fortran_order': False, 'shape': \(([0-9, ]{0,1000})\), \} *\n")
# Without it, Linux refuses to map a file that is larger than memory and swap, if it may be written to privately.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says about a file.

    Attributes:
        size: Bytes in the file.
        sha256: Of what follows the header of an array, or of the whole file if it is none; 64 hexadecimal digits.
        dtype: Type of the array's numbers, little-endian; None for a file that is no array.
        shape: Shape of the array.
    """

    size: int
    sha256: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()

    def data(self) -> dict[str, Any]:
        """Returns the record as JSON data."""
        array = {} if self.dtype is None else {"dtype": self.dtype, "shape": list(self.shape)}
        return {**array, "size": self.size, "sha256": self.sha256}


class Recorder:
    """A file that counts and hashes what is appended to it.

    Args:
        path: A file to make.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file: BinaryIO = path.open("xb", buffering=_BUFFER)
        self._hash = hashlib.sha256()

    def append(self, data: Any) -> None:
        """Writes bytes."""
        self._file.write(data)
        self._hash.update(data)
        self.size += memoryview(data).nbytes

    def finish(self, sync: bool) -> FileRecord:
        """Closes the file, on the disk if `sync`, and returns what the manifest says about it."""
        self._close(sync)
        return FileRecord(self.size, self._hash.hexdigest())

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    def _close(self, sync: bool) -> None:
        with self._file:
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())


class NpyWriter(Recorder):
    """A `.npy` file to which rows are appended.

    Args:
        path: A file to make.
        dtype: Type of its numbers.
        shape: Shape of one row.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        super().__init__(path)
        self._dtype = dtype.newbyteorder("<")
        self._shape = shape
        self._rows = 0
        self._file.write(bytes(_HEADER_SIZE))

    def append_rows(self, rows: NDArray[Any]) -> None:
        """Writes rows of the type and shape of this file."""
        rows = np.ascontiguousarray(rows, self._dtype)
        self._rows += len(rows)
        if rows.size:
            self.append(rows.reshape(-1).view(np.uint8).data)

    def finish(self, sync: bool) -> FileRecord:
        """Writes the header, closes the file and returns what the manifest says about it."""
        shape = (self._rows, *self._shape)
        self._file.seek(0)
        self._file.write(_header(self._dtype.str, shape))
        self._close(sync)
        return FileRecord(_HEADER_SIZE + self.size, self._hash.hexdigest(), self._dtype.str, shape)


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = _HEADER_SIZE - len(_MAGIC) - 2
    return _MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def map_file(path: Path, record: FileRecord) -> mmap.mmap | bytes:
    """Maps a file into memory; nothing of it is read.

    Args:
        path: The file.
        record: What it should be.

    Returns:
        Its bytes: a private mapping, of which changes reach no file, or nothing for an empty file.

    Raises:
        EpisodeDataError: It is missing, no ordinary file, or of another size.
    """
    try:
        # A pipe would wait for a writer, so it is not opened to find out.
        if not stat.S_ISREG(path.stat().st_mode):
            raise EpisodeDataError(f"{path} is no ordinary file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != record.size:
                problem = "cut short" if size < record.size else "too long"
                raise EpisodeDataError(f"{path} is {problem}: it has {size} bytes, not {record.size}")
            if size == 0:
                return b""
            if sys.platform == "win32":
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            return mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE | _NO_RESERVE, protection)
    except OSError as error:
        raise EpisodeDataError(f"{path} cannot be read: {error.strerror or error}") from error


def map_array(path: Path, record: FileRecord) -> NDArray[Any]:
    """Maps an array into memory, copy-on-write; nothing but its header is read.

    Args:
        path: The file.
        record: What it should be, with `dtype` and `shape`.

    Raises:
        EpisodeDataError: It is missing or damaged, or its size, type or shape are others.
    """
    content = map_file(path, record)
    start = len(_MAGIC) + 2
    length = int.from_bytes(content[len(_MAGIC) : start], "little")
    match = _HEADER.fullmatch(content[start : start + length])
    if content[: len(_MAGIC)] != _MAGIC or match is None or (start + length) % 16:
        raise EpisodeDataError(f"{path} does not begin with the header of an array of numbers")
    shape = tuple(int(size) for size in match[2].decode().split(",") if size.strip())
    if match[1].decode() != record.dtype or shape != record.shape:
        raise EpisodeDataError(
            f"{path} holds an array of {match[1].decode()} {shape}, not of {record.dtype} {record.shape}"
        )
    dtype = np.dtype(record.dtype)
    # In Python's integers, before anything is made of that size.
    expected = start + length + math.prod(shape) * dtype.itemsize
    if expected != record.size:
        raise EpisodeDataError(f"{path} has {record.size} bytes; an array of {record.dtype} {shape} has {expected}")
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, buffer=content, offset=start + length)


def is_storable(dtype: object, shape: object) -> bool:
    """Tells whether a file may hold an array of this type and shape, as a manifest states them."""
    return (
        isinstance(dtype, str)
        and _DTYPE.fullmatch(dtype) is not None
        and isinstance(shape, list)
        and 1 <= len(shape) <= _MAXIMUM_DIMENSIONS
        and all(type(size) is int and 0 <= size < 1 << 58 for size in shape)
    )
