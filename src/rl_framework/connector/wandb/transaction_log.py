"""What W&B's client has written down on this machine: the file `run-<id>.wandb` of a run.

It is a log in LevelDB's format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of seven
bytes: blocks of 32 KiB, in which every record, or part of one, has a checksum, a length and a kind. A record is a
protobuf message whose definition W&B's package has.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["is_complete", "read_later", "read_records", "read_rows", "row_of"]

logger = logging.getLogger(__name__)

_HEADER = b":W&B"
_HEADER_LENGTH = 7
_BLOCK = 32 * 1024
_PART = struct.Struct("<IHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


def read_records(path: Path) -> Iterator[Any]:
    """Yields W&B's records, as far as they are whole.

    Args:
        path: A file `run-<id>.wandb`, which may still be written to.
    """
    content = path.read_bytes()
    if content.startswith(_HEADER):
        yield from _records(content, _HEADER_LENGTH)
    else:
        logger.warning("%s is no log of W&B's, or of a version that is not known", path)


def is_complete(path: Path) -> bool:
    """Tells whether the last thing in a log is that the run has ended."""
    last = max(0, path.stat().st_size - _BLOCK)
    return any(record.WhichOneof("record_type") == "exit" for record in read_later(path, last))


def read_later(path: Path, position: int) -> Iterator[Any]:
    """Yields the records behind a position, and perhaps some that lie a little before it."""
    with path.open("rb") as file:
        # Blocks begin at multiples of their length in the file.
        start = position // _BLOCK * _BLOCK
        file.seek(start)
        content = file.read()
    yield from _records(content, 0 if start else _HEADER_LENGTH)


def _records(content: bytes, position: int) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    parts: list[bytes] | None = None
    while position + _PART.size <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _PART.size:  # too short for a part: filled with zeros
            position += left
            continue
        _, length, kind = _PART.unpack_from(content, position)
        position += _PART.size
        if kind == 0 or position + length > len(content):
            return
        if kind in (_WHOLE, _FIRST):
            parts = []
        if parts is not None:  # else its beginning is in an earlier block
            parts.append(content[position : position + length])
        position += length
        if kind in (_WHOLE, _LAST) and parts is not None:
            record = Record()
            try:
                record.ParseFromString(b"".join(parts))
            except DecodeError:
                return
            parts = None
            yield record


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields what was logged, a dictionary for each call of `log`; W&B's own columns begin with "_".

    Histograms, videos and other media are dictionaries.
    """
    for record in read_records(path):
        if record.WhichOneof("record_type") == "history":
            yield row_of(record)


def row_of(record: Any) -> dict[str, Any]:
    """Returns what one call of `log` has logged; nothing, if the record is of something else."""
    row: dict[str, Any] = {}
    for item in record.history.item:
        names = list(item.nested_key) or [item.key]
        place = row
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = json.loads(item.value_json)
    return row
