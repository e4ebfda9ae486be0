"""Zip files read without trust and written without surprises.

Nothing here extracts to disk, and no size that a header declares is allocated before it was compared with the length
of the file.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "HashingSink",
    "RefusedError",
    "Section",
    "Sink",
    "check_entries",
    "check_name",
    "chunks_of",
    "open_section",
    "read_entry",
    "write_entry",
]

MAXIMUM_ENTRIES = 10_000
# A bundle is written without compression. One that somebody compressed again may expand this many times in all, with
# some room for small files of text.
MAXIMUM_EXPANSION = 20
EXPANSION_ROOM = 1 << 20

_CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_NAME_LENGTH = 200
_ENCRYPTED = 0x1 | 0x40
_LOCAL_HEADER = struct.Struct("<4s22xHH")
# Files are alike when their content is: the earliest moment that a zip file can name.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


class RefusedError(Exception):
    """Why a file is not opened. Those who know the path turn it into a `BundleError`."""


class Sink(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Takes all of the bytes and returns their number."""
        ...


class HashingSink:
    """Counts and hashes what is written, and forgets it.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview, /) -> int:
        """Takes all of the bytes and returns their number."""
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """Hash of all bytes so far, in lower-case hexadecimal digits."""
        return self._hash.hexdigest()


class Section(io.RawIOBase):
    """A stretch of a file as a read-only file of its own.

    Args:
        file: The file; its position is moved by every read.
        start: First byte.
        size: Number of bytes.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:  # noqa: D102
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("seek before the start of the section")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:  # noqa: D102
        target = memoryview(buffer).cast("B")
        wanted = max(0, min(len(target), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(wanted)
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


def check_name(name: str) -> None:
    """Refuses a member name that is anything but a plain relative path.

    Raises:
        RefusedError: It is absolute, climbs with `..`, or holds a drive letter, a backslash, NUL or the like.
    """
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        raise RefusedError(
            f"the member name {name[:_NAME_LENGTH]!r} is not allowed: it has to be a relative path of letters, digits, "
            f"'_', '-' and '.' that starts no part with a dot and has at most {_NAME_LENGTH} characters"
        )


def check_entries(archive: zipfile.ZipFile, length: int, *, plain_names: bool, compressed: bool) -> None:
    """Checks everything that the directory of a zip file says.

    Args:
        archive: The zip file.
        length: Its length in bytes.
        plain_names: Whether names have to satisfy `check_name`.
        compressed: Whether deflated entries are accepted next to stored ones.

    Raises:
        RefusedError: An entry is no ordinary file, occurs twice, is encrypted, or all of them expand too much.
    """
    entries = archive.infolist()
    if len(entries) > MAXIMUM_ENTRIES:
        raise RefusedError(f"it has {len(entries)} members; at most {MAXIMUM_ENTRIES} are read")
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry, plain_names=plain_names, compressed=compressed)
        # On some disks `A` and `a` are one file; a bundle means the same everywhere.
        key = entry.filename.casefold() if plain_names else entry.filename
        if key in seen:
            raise RefusedError(f"the member {entry.filename!r} occurs twice")
        seen.add(key)
    total = sum(entry.file_size for entry in entries)
    limit = MAXIMUM_EXPANSION * length + EXPANSION_ROOM if compressed else length
    if total > limit:
        raise RefusedError(f"its members declare {total} bytes in a file of {length}: a decompression bomb")


def _check_entry(entry: zipfile.ZipInfo, *, plain_names: bool, compressed: bool) -> None:
    # zipfile cuts a name at NUL and keeps what the file says in `orig_filename`.
    name = entry.orig_filename
    if plain_names:
        check_name(name)
    elif name != entry.filename:
        raise RefusedError(f"the member name {name!r} is not allowed")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if entry.is_dir() or kind not in (0, stat.S_IFREG):
        raise RefusedError(f"the member {name!r} is a link, a directory or a device, not an ordinary file")
    if entry.flag_bits & _ENCRYPTED:
        raise RefusedError(f"the member {name!r} is encrypted")
    allowed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if compressed else (zipfile.ZIP_STORED,)
    if entry.compress_type not in allowed:
        raise RefusedError(f"the member {name!r} is compressed with method {entry.compress_type}, which is not allowed")
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise RefusedError(f"the member {name!r} declares two different sizes")


def chunks_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields the content of an entry in pieces, never more in all than it declares.

    Raises:
        RefusedError: It holds less or more than it declares.
    """
    size = 0
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > entry.file_size:
                raise RefusedError(
                    f"the member {entry.filename!r} holds more than the {entry.file_size} bytes it declares"
                )
            yield chunk
    if size != entry.file_size:
        raise RefusedError(f"the member {entry.filename!r} holds {size} bytes, but declares {entry.file_size}")


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Returns the content of an entry whose size has been checked."""
    return b"".join(chunks_of(archive, entry))


def open_section(file: BinaryIO, length: int, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    """Opens an entry so that seeking in it is cheap, without holding it in memory where it is not compressed.

    Args:
        file: The file that holds the archive.
        length: Its length in bytes.
        archive: The archive.
        entry: One of its entries, checked.

    Raises:
        RefusedError: The entry points outside the file.
    """
    if entry.compress_type != zipfile.ZIP_STORED:
        return io.BytesIO(read_entry(archive, entry))
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size:
        raise RefusedError(f"the member {entry.filename!r} points outside the file")
    magic, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if magic != b"PK\x03\x04" or start + entry.file_size > length:
        raise RefusedError(f"the member {entry.filename!r} points outside the file")
    return io.BufferedReader(Section(file, start, entry.file_size))


def write_entry(archive: zipfile.ZipFile, name: str, size: int, write: Callable[[Sink], None]) -> None:
    """Adds an uncompressed entry that is the same for the same content.

    Args:
        archive: Zip file open for writing.
        name: Name of the entry.
        size: Its size in bytes; sizes above 2 GiB need to be known beforehand.
        write: Writes the content to what it is given.
    """
    entry = zipfile.ZipInfo(name, date_time=_TIMESTAMP)
    entry.compress_type = zipfile.ZIP_STORED
    entry.create_system = 3  # Unix, whatever the machine
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = size
    with archive.open(entry, "w") as stream:
        write(stream)
