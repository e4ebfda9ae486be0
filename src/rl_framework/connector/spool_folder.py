"""What a spool needs of the disk: whole lines, files that stay, and one user at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from rl_framework.whole_file import written_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HEAD", "append_line", "keep_file", "locked", "plain_value", "spools_in", "whole_lines"]

HEAD = "spool.json"
"""The file by which a spool is known."""


def locked(path: Path) -> BinaryIO | None:
    """Returns a file that nobody else has locked, or None. The system unlocks it when the process ends, however.

    Raises:
        FileNotFoundError: The folder is gone, or whoever had locked it has just removed it.
    """
    file = path.open("ab")
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError as error:
            file.close()
            if isinstance(error, FileNotFoundError):
                raise
            return None
        if not is_there:  # it was removed, and somebody else has made another one
            file.close()
            return None
    return file


def keep_file(source: Path, kept: Path) -> None:
    """Links or copies a file.

    A link is instant and takes no room. What is linked must be replaced as a whole, never rewritten in place, as
    everything that this package writes is.
    """
    kept.parent.mkdir(exist_ok=True)
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(source)
    except OSError:
        with written_whole(kept) as temporary:
            shutil.copyfile(source, temporary)


def spools_in(directory: str | os.PathLike[str]) -> list[Path]:
    """Returns the spools in a folder and below it, by name."""
    return sorted(path.parent for path in Path(directory).rglob(HEAD))


def append_line(file: BinaryIO, line: bytes) -> None:
    """Writes a line at the end, or nothing of it."""
    position = file.seek(0, os.SEEK_END)
    try:
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            file.truncate(position)  # half a line
        raise


def whole_lines(file: BinaryIO) -> list[bytes]:
    """Returns the lines of a file and takes off a last one that was cut when the process was killed."""
    file.seek(0)
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        file.truncate(len(whole))
    file.seek(0, os.SEEK_END)
    return whole.splitlines()


def plain_value(value: Any) -> Any:
    """Turns what JSON does not know into what it knows; for `json.dumps`."""
    for convert in ("tolist", "item"):  # NumPy and torch
        method: Callable[[], Any] | None = getattr(value, convert, None)
        if method is not None:
            return method()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is no JSON-able data")
