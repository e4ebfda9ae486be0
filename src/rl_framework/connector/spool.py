"""A queue on disk: what has to go to a service, in order, and what of it has gone.

A spool is a folder: `spool.json` (whose it is), `items.jsonl` (one item a line), `outcomes.jsonl` (what became of
them), and `files/` (links to or copies of the items' files). Plain JSON, no pickle, no secrets.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rl_framework.connector.spool_folder import HEAD, append_line, keep_file, locked, plain_value, whole_lines
from rl_framework.errors import ConnectorError
from rl_framework.secrecy import redactor
from rl_framework.whole_file import sync_directory, written_whole

__all__ = ["Item", "Spool", "SpoolInUseError"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_ITEMS, _OUTCOMES = "items.jsonl", "outcomes.jsonl"


class SpoolInUseError(ConnectorError):
    """Another process, or another connector of this one, is using a spool."""


@dataclass(frozen=True)
class Item:
    """One thing to deliver.

    Attributes:
        sequence: Its number, from 0, in the order in which the items were put.
        kind: What it is, in the words of whoever put it.
        data: JSON-able data.
        file: A file that belongs to it, or None.
        attempts: How often it may have reached the service already, because an attempt began and nothing is known of
            its end.
    """

    sequence: int
    kind: str
    data: dict[str, Any]
    file: Path | None = None
    attempts: int = 0


class _Unwritten(NamedTuple):
    # An item that is only in memory, with its data as JSON.
    sequence: int
    kind: str
    text: str
    file: Path | None


class Spool:
    """A queue of items in a folder. It is not safe for threads: `Delivery` holds a lock around it.

    What is appended is handed to the system at once, so that killing the process loses nothing, and is on the disk
    after `flush`. If the disk is full, items stay in memory and are written when there is room again.

    Args:
        directory: The folder; made when the first item comes. One that exists is continued.
        name: Whom the items are for, in words.
        destination: Whom they are for, as JSON-able data without secrets, so that a later process can tell.

    Raises:
        ConnectorError: Another process is using the folder, or what is in it cannot be read.
    """

    def __init__(self, directory: Path, name: str = "", destination: Mapping[str, Any] | None = None) -> None:
        self.directory = Path(directory).absolute()
        self.name = name
        self.destination = dict(destination or {})
        self.identity = secrets.token_hex(8)
        self._redact = redactor()
        self._lock_file: BinaryIO | None = None
        self._items: BinaryIO | None = None
        self._outcomes: BinaryIO | None = None
        self._reader: BinaryIO | None = None
        self._ahead: Item | None = None
        self._unwritten: deque[_Unwritten] = deque()
        self._disk_failed = False
        self._missing: set[int] = set()
        self._refused: dict[int, str] = {}
        self._begun: dict[int, int] = {}
        self._reset()
        if (self.directory / HEAD).exists():
            with suppress(FileNotFoundError):  # somebody else has delivered everything meanwhile
                self._open()

    def _reset(self) -> None:
        self._is_stale = False  # closed with something in it, which others may have delivered since
        self._next_sequence = 0
        self._n_open = 0
        self._watermark = 0  # all below it have arrived, but for those in _missing
        for known in (self._missing, self._refused, self._begun):
            known.clear()

    # Filling it

    def append(self, kind: str, data: Mapping[str, Any], file: Path | None = None) -> None:
        """Adds an item; the file is linked or copied, so that the original may go away.

        Raises:
            TypeError, ValueError: The data cannot be written as JSON.
            FileNotFoundError: There is no such file.
        """
        source = None if file is None else Path(file).absolute()
        if source is not None and not source.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        text = self._redact(json.dumps(data, default=plain_value))  # fails before anything is changed
        if not self.reopen():
            self.directory = self.directory.with_name(f"{self.directory.name}-{secrets.token_hex(3)}")
            self._reset()
        self._begin_writing()
        self._unwritten.append(_Unwritten(self._next_sequence, kind, text, source))
        self._next_sequence += 1
        self._n_open += 1
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Writes what is only in memory, as far as the disk takes it."""
        if not self._unwritten:
            return
        self._begin_writing()
        if self._items is None:
            return
        with self._enduring_full_disks():
            while self._unwritten:
                item = self._unwritten[0]
                line = f'{{"sequence": {item.sequence}, "kind": {json.dumps(item.kind)}, "data": {item.text}'
                if item.file is not None:
                    name = f"{item.sequence:06d}-{item.file.name}"
                    keep_file(item.file, self.directory / "files" / name)
                    line += f', "file": {json.dumps(name)}'
                append_line(self._items, f"{line}}}\n".encode())
                self._unwritten.popleft()

    def _begin_writing(self) -> None:
        if self._items is None:
            with self._enduring_full_disks():
                self._open() if (self.directory / HEAD).exists() else self._create()

    def flush(self) -> None:
        """Brings everything to the disk."""
        self._redact = redactor()
        self._write_waiting()
        with self._enduring_full_disks():
            for file in (self._items, self._outcomes):
                if file is not None:
                    os.fsync(file.fileno())

    @contextmanager
    def _enduring_full_disks(self) -> Iterator[None]:
        """Reports a disk that takes nothing once, and lets the caller go on."""
        try:
            yield
        except OSError as error:
            if not self._disk_failed:
                logger.error(
                    "%s cannot be written: %s. What is for %s is kept in memory, and writing is tried again",
                    self.directory,
                    error,
                    self.name,
                )
            self._disk_failed = True
        else:
            self._disk_failed = False

    # Emptying it

    def next(self) -> Item | None:
        """Returns the first item that is neither delivered nor refused, or None."""
        if not self.reopen():
            return None
        self._write_waiting()
        while True:
            item = self._ahead or self._read()
            if item is None:
                break
            self._ahead = item
            if self._is_waiting(item):
                return replace(item, attempts=self._begun.get(item.sequence, 0))
            self._ahead = None
        for unwritten in self._unwritten:
            item = Item(unwritten.sequence, unwritten.kind, json.loads(unwritten.text), unwritten.file)
            if self._is_waiting(item):
                return replace(item, attempts=self._begun.get(item.sequence, 0))
        return None

    def _is_waiting(self, item: Item) -> bool:
        return not self._has_arrived(item) and item.sequence not in self._refused

    def _has_arrived(self, item: Item) -> bool:
        return item.sequence < self._watermark and item.sequence not in self._missing

    def begin(self, item: Item) -> None:
        """Takes note that an attempt begins, of whose end nothing may be known if the process is killed."""
        self._begun[item.sequence] = item.attempts + 1
        self._note({"sequence": item.sequence, "outcome": "begun"})

    def delivered(self, item: Item) -> None:
        """Takes note that an item has arrived, and drops its file."""
        self._pass(item.sequence, arrived=True)
        self._n_open -= 1
        self._note({"sequence": item.sequence, "outcome": "delivered"})
        if item.file is not None and item.file.parent.parent == self.directory:
            with suppress(OSError):
                item.file.unlink()

    def refuse(self, item: Item, reason: str) -> None:
        """Takes note that the service will not have an item, which stays here."""
        self._pass(item.sequence, arrived=False)
        self._refused[item.sequence] = reason
        self._note({"sequence": item.sequence, "outcome": "refused", "reason": reason})

    def _pass(self, sequence: int, arrived: bool) -> None:
        self._missing.update(range(self._watermark, sequence))
        self._watermark = max(self._watermark, sequence + 1)
        (self._missing.discard if arrived else self._missing.add)(sequence)
        if arrived:
            self._refused.pop(sequence, None)
            self._begun.pop(sequence, None)

    def reconsider(self) -> None:
        """Puts the refused items back into the queue, at their places."""
        self.reopen()
        if self._refused:
            self._refused.clear()
            self._note({"outcome": "reconsidered"})
            self._rewind()

    @property
    def n_unwritten(self) -> int:
        """Items that are only in memory, because the disk takes nothing."""
        return len(self._unwritten)

    @property
    def n_left(self) -> int:
        """Items that have not arrived, refused ones included."""
        return 0 if self._is_stale and not (self.directory / HEAD).exists() else self._n_open

    @property
    def n_waiting(self) -> int:
        """Items that have not arrived and are not refused."""
        return self._n_open - len(self._refused)

    @property
    def is_in_use(self) -> bool:
        """Whether it is held, on the disk or in memory, so that nobody else can deliver what is in it."""
        return self._items is not None or bool(self._unwritten)

    def reopen(self) -> bool:
        """Reads again what is there after `close`, and returns whether nobody else is using it."""
        if not self._is_stale:
            return True
        if not (self.directory / HEAD).exists():
            self._reset()
            return True
        try:
            self._open()
        except FileNotFoundError:  # somebody else has delivered everything meanwhile
            self._reset()
            return True
        except ConnectorError as error:
            logger.warning("%s", error)
            return False
        self._is_stale = False
        return True

    def close(self) -> None:
        """Closes the files; a spool with nothing left in it is removed."""
        self._write_waiting()
        had_files = self._items is not None
        for file in (self._items, self._outcomes, self._reader):
            if file is not None:
                file.close()
        self._items = self._outcomes = self._reader = self._ahead = None
        if had_files and self._n_open == 0:
            shutil.rmtree(self.directory / "files", ignore_errors=True)
            for name in (_ITEMS, _OUTCOMES, HEAD):
                (self.directory / name).unlink(missing_ok=True)
        if self._lock_file is not None:
            if self._n_open == 0:
                Path(self._lock_file.name).unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None
        if had_files and self._n_open == 0:
            with suppress(OSError):  # something else is in it
                self.directory.rmdir()
            self._reset()
            self.identity = secrets.token_hex(8)
        elif had_files and not self._unwritten:
            self._is_stale = True

    def let_go(self) -> None:
        """Closes the files without touching anything in the folder, which the parent of this process may be using."""
        for file in (self._items, self._outcomes, self._reader, self._lock_file):
            if file is not None:
                file.close()
        self._items = self._outcomes = self._reader = self._lock_file = self._ahead = None

    # The folder

    def _create(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        head = {
            "format": _FORMAT,
            "name": self.name,
            "destination": self.destination,
            "identity": self.identity,
        }
        with written_whole(self.directory / HEAD) as temporary:
            temporary.write_text(self._redact(json.dumps(head, indent=2)) + "\n", encoding="utf-8")
        self._outcomes = (self.directory / _OUTCOMES).open("ab", buffering=0)
        self._items = (self.directory / _ITEMS).open("ab+", buffering=0)
        self._rewind()
        sync_directory(self.directory)

    def _open(self) -> None:
        try:
            self._read_all()
        except BaseException:
            self.let_go()
            raise

    def _read_all(self) -> None:
        self._take_lock()
        self._watermark = 0
        for known in (self._missing, self._refused, self._begun):
            known.clear()
        try:
            head = json.loads((self.directory / HEAD).read_text(encoding="utf-8"))
            if head["format"] != _FORMAT:
                raise ValueError(f"its format is {head['format']!r} and this version reads {_FORMAT}")
            self.name, self.identity = self.name or str(head["name"]), str(head["identity"])
            self.destination = self.destination or dict(head["destination"])
            self._outcomes = (self.directory / _OUTCOMES).open("ab+", buffering=0)
            self._items = (self.directory / _ITEMS).open("ab+", buffering=0)
            items = [self._parse(line) for line in whole_lines(self._items)]
            for line in whole_lines(self._outcomes):
                self._take_outcome(json.loads(line))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ConnectorError(f"the spool {self.directory} is damaged: {error}") from error
        self._next_sequence = max([self._next_sequence, *(item.sequence + 1 for item in items)])
        self._n_open = sum(not self._has_arrived(item) for item in items) + len(self._unwritten)
        self._rewind()

    def _take_lock(self) -> None:
        if self._lock_file is None:
            self._lock_file = locked(self.directory / "lock")
        if self._lock_file is None:
            raise SpoolInUseError(
                f"the spool {self.directory} is in use: it is left to the connector or process that uses it"
            )

    def _rewind(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._ahead = None
        self._reader = (self.directory / _ITEMS).open("rb") if self._items is not None else None

    def _read(self) -> Item | None:
        line = b"" if self._reader is None else self._reader.readline()
        return self._parse(line) if line else None

    def _parse(self, line: bytes) -> Item:
        entry = json.loads(line)
        sequence, kind, data, file = entry["sequence"], entry["kind"], entry["data"], entry.get("file")
        if not isinstance(sequence, int) or not isinstance(kind, str) or not isinstance(data, dict):
            raise ValueError("an item has no sequence, kind, or data")
        if file is not None and (not isinstance(file, str) or Path(file).name != file or file in ("", "..")):
            raise ValueError(f"{file!r} is no name of a file in it")
        return Item(sequence, kind, data, None if file is None else self.directory / "files" / file)

    def _take_outcome(self, entry: dict[str, Any]) -> None:
        outcome = entry["outcome"]
        if outcome == "reconsidered":
            self._refused.clear()
            return
        sequence = int(entry["sequence"])
        if outcome == "begun":
            self._begun[sequence] = self._begun.get(sequence, 0) + 1
        elif outcome == "delivered":
            self._pass(sequence, arrived=True)
        elif outcome == "refused":
            self._pass(sequence, arrived=False)
            self._refused[sequence] = str(entry.get("reason"))
        else:
            raise ValueError(f"the outcome {outcome!r} is not known")

    def _note(self, entry: dict[str, Any]) -> None:
        if self._outcomes is None:
            return  # not even the first item could be written
        with self._enduring_full_disks():
            append_line(self._outcomes, self._redact(json.dumps(entry)).encode() + b"\n")
