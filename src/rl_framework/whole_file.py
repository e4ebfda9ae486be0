"""Files and folders that appear under their name only when all of them is there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rl_framework.errors import ArgumentError

__all__ = ["TEMPORARY_PREFIX", "sync_directory", "temporary_folder", "written_whole"]

TEMPORARY_PREFIX = ".rl_framework-"
"""How the names of files and folders that are being written begin."""


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path to write to, which takes the place of `path` when the block ends without an error.

    Missing folders are made. After an error the temporary file is gone and `path` is as it was.

    Args:
        path: Where the file should be in the end.

    Yields:
        An absolute path in the same folder and with the same ending.

    Raises:
        ArgumentError: The path is a directory, or an address such as "s3://bucket/file".
    """
    _refuse_address(path)
    # As with `open`, a link stays and the file that it points to is replaced.
    destination = Path(os.path.realpath(path))
    if destination.is_dir():
        raise ArgumentError("path", str(path), "is a directory", "Name a file in it.")
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{destination.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(destination)
    except BaseException as error:
        _say_where(error, path)
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(destination.parent)


@contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes an empty folder beside `path`, to be filled and then renamed to it within the block.

    Missing folders above are made. After an error it is gone, with what is in it.

    Args:
        path: What it is going to be called in the end. Of a link, the place that it points to counts.

    Yields:
        Its path.

    Raises:
        ArgumentError: The path is an address.
    """
    _refuse_address(path)
    folder = Path(os.path.realpath(path)).with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    try:
        yield folder
    except BaseException as error:
        _say_where(error, path)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_address(path: str | os.PathLike[str]) -> None:
    from rl_framework.stores.address import refuse_address  # which itself writes files

    refuse_address(path, "path", "Write to a folder here, and StorageConnector(ADDRESS).put(path) publishes it.")


def _say_where(error: BaseException, path: str | os.PathLike[str]) -> None:
    # A full disk is reported without it.
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def sync_directory(directory: Path) -> None:
    """Brings the names in a folder to the disk, where the system can."""
    # The new name survives a power cut only once the directory is on the disk. Windows cannot open one, and some
    # network file systems refuse; the file itself is whole in any case.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
