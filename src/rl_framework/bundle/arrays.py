"""NumPy arrays by name in an npz file, without pickle and without trusting a header."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import numpy as np

from rl_framework.bundle.archive import RefusedError, Sink, check_entries, write_entry
from rl_framework.errors import ArgumentError

__all__ = ["check_arrays", "checked_arrays", "read_arrays", "write_arrays"]

_ARRAY_KINDS = "biufc"
_MAXIMUM_DIMENSIONS = 64
_MAXIMUM_ITEMS = 1 << 58
# numpy reads this header with `ast.literal_eval`, which a crafted one can bring down; ours never has another form.
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|][biufc][0-9]{1,2})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,1000})\), \} *\n"
)
_NPY_LENGTHS = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
_NPY_HEADER_SIZE = 10_000
_CHUNK = 1 << 20


def checked_arrays(value: Any, argument: str) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the arrays as they will be stored.

    Args:
        value: A dict of arrays of numbers.
        argument: What to call it in an error.

    Raises:
        ArgumentError: It is something else.
    """
    if not isinstance(value, Mapping):
        raise ArgumentError(argument, value, "has to be a dict of arrays")
    arrays = {}
    for key, array in value.items():
        where = f"{argument}[{key!r}]"
        if not isinstance(key, str) or not key or "\x00" in key or "\\" in key:
            raise ArgumentError(argument, key, "a key has to be a string that is not empty, without NUL or backslash")
        if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
            raise ArgumentError(where, array, "has to be a NumPy array")
        if array.dtype.kind not in _ARRAY_KINDS:
            raise ArgumentError(
                where, array, f"an array of {array.dtype} cannot be stored, only one of numbers", "Put text into JSON."
            )
        # Not `ascontiguousarray`, which gives an array without dimensions one.
        arrays[key] = np.asarray(array, order="C")
    return arrays


def write_arrays(sink: Sink, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Writes an uncompressed npz file that is the same for the same arrays."""
    # `np.savez` writes the time of day and needs a file that can seek.
    with zipfile.ZipFile(_WriteOnly(sink), "w") as archive:  # type: ignore[call-overload]
        for key, array in arrays.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
            _write_array(archive, f"{key}.npy", header.getvalue(), array)


def _write_array(archive: zipfile.ZipFile, name: str, header: bytes, array: np.ndarray[Any, Any]) -> None:
    def write(sink: Sink) -> None:
        sink.write(header)
        sink.write(array.reshape(-1).view(np.uint8).data)

    write_entry(archive, name, len(header) + array.nbytes, write)


class _WriteOnly:
    # Hides that some sinks can seek, so that a zip file is written the same way, byte for byte, to all of them.
    def __init__(self, sink: Sink) -> None:
        self.write = sink.write

    def flush(self) -> None:
        pass


def check_arrays(stream: BinaryIO, size: int) -> None:
    """Checks an npz file and the header of every array in it.

    Raises:
        RefusedError: It is no uncompressed npz file, or an array has another size than its header says, or holds
            anything but numbers.
    """
    with zipfile.ZipFile(stream) as archive:
        for entry in _array_entries(archive, size):
            with archive.open(entry) as data:
                _read_npy_header(data, entry)


def read_arrays(stream: BinaryIO, size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Decodes an npz file.

    Raises:
        RefusedError: As `check_arrays`, or the file ends early.
    """
    arrays = {}
    with zipfile.ZipFile(stream) as archive:
        for entry in _array_entries(archive, size):
            with archive.open(entry) as opened:
                data = cast(zipfile.ZipExtFile, opened)
                dtype, fortran_order, shape = _read_npy_header(data, entry)
                array = np.empty(shape[::-1] if fortran_order else shape, dtype)
                target = array.reshape(-1).view(np.uint8).data
                filled = 0
                # In pieces, because zipfile makes a copy of each.
                while filled < len(target) and (count := data.readinto(target[filled : filled + _CHUNK])):
                    filled += count
                # The one further read makes zipfile compare its checksum.
                if filled < len(target) or data.read(1):
                    raise RefusedError(f"the array {entry.filename[:100]!r} has another size than its header says")
                arrays[entry.filename.removesuffix(".npy")] = array.transpose() if fortran_order else array
    return arrays


def _array_entries(archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    check_entries(archive, size, plain_names=False, compressed=False)
    for entry in archive.infolist():
        if not entry.filename.endswith(".npy"):
            raise RefusedError(f"it holds {entry.filename[:100]!r}, which is no array")
    return archive.infolist()


def _read_npy_header(data: Any, entry: zipfile.ZipInfo) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    name = entry.filename[:100]
    length_size = _NPY_LENGTHS.get(data.read(8))
    if length_size is None:
        raise RefusedError(f"{name!r} is no array")
    length = int.from_bytes(data.read(length_size), "little")
    match = _NPY_HEADER.fullmatch(data.read(min(length, _NPY_HEADER_SIZE)).decode("latin1"))
    if match is None:
        raise RefusedError(f"the array {name!r} has a malformed header, or holds something other than numbers")
    try:
        dtype = np.dtype(match[1])
    except TypeError as error:
        raise RefusedError(f"the array {name!r} has the type {match[1]!r}, which is not known here") from error
    shape = tuple(int(part) for part in match[3].split(",") if part.strip())
    if len(shape) > _MAXIMUM_DIMENSIONS or math.prod(max(part, 1) for part in shape) > _MAXIMUM_ITEMS:
        raise RefusedError(f"the array {name!r} has a shape that is too large")
    if 8 + length_size + length + dtype.itemsize * math.prod(shape) != entry.file_size:
        raise RefusedError(f"the array {name!r} has another size than its header says")
    return dtype, match[2] == "True", shape
