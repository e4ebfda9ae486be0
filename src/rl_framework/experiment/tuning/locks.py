"""Locks that the system takes back when a process ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["Lock", "locked"]

_PAUSE_SECONDS = 0.005


class Lock:
    """A file that one process has locked.

    Locks of POSIX records and not of files (`flock`), which environments in forked processes would inherit: a trial of
    a process that was killed would look as if it went on for as long as they live.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """Returns the lock, or None if another process has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        try:
            if sys.platform == "win32":
                import msvcrt

                os.lseek(file.fileno(), 0, os.SEEK_SET)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return cls(file)

    @classmethod
    def wait(cls, path: Path) -> Lock:
        """Returns the lock as soon as no other process has it."""
        while (lock := cls.take(path)) is None:
            time.sleep(_PAUSE_SECONDS)
        return lock

    def release(self) -> None:
        """Gives it back."""
        self._file.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock that nobody keeps for long."""
    lock = Lock.wait(path)
    try:
        yield
    finally:
        lock.release()
