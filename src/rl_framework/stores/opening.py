"""From an address to its store, and to verified copies of what is there."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.stores.address import Address, is_address, parse_address
from rl_framework.stores.base import FileStore
from rl_framework.stores.folder import FolderStore
from rl_framework.stores.manifest import MANIFEST, Manifest
from rl_framework.stores.publication import Attempt, Place, retrying

__all__ = [
    "BUNDLE_NAME",
    "copy_of_file",
    "copy_of_files",
    "is_published",
    "open_store",
    "opened_place",
    "temporary_copies",
]

BUNDLE_NAME = "agent.zip"
_POLICY = RetryPolicy()


def open_store(address: Address) -> FileStore:
    """Returns the store that an address is in; nothing is asked of it yet.

    Args:
        address: The address.

    Raises:
        MissingExtraError: Its client is not installed.
        ArgumentError: The address, or an option, cannot be used there.
    """
    if address.scheme == "file":
        return FolderStore(address)
    if address.scheme == "gdrive":
        from rl_framework.stores.drive import DriveStore

        return DriveStore(address)
    if address.scheme == "hf":
        from rl_framework.stores.hub_store import HubStore

        return HubStore(address)
    if address.scheme == "sftp":
        from rl_framework.stores.sftp import SFTPStore

        return SFTPStore(address)
    if address.scheme == "s3":
        from rl_framework.stores.s3 import S3Store

        return S3Store(address)
    from rl_framework.stores.objects import ObjectStore

    return ObjectStore(address)


def is_published(path: Any) -> bool:
    """Tells whether something is an address, or a folder of this machine that was published to, or a file in one."""
    if is_address(path):
        return True
    if not isinstance(path, str | Path):
        return False
    # What a published file is called is not always how it lies there.
    here = Path(path)
    return (here / MANIFEST).is_file() or (bool(here.suffix) and (here.parent / MANIFEST).is_file())


@contextmanager
def temporary_copies() -> Iterator[Path]:
    """Gives a folder for copies, which is gone when the block ends, or when the process ends if one is still open."""
    folder = Path(tempfile.mkdtemp(prefix="rl_framework-copy-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # Windows removes no open file
            atexit.register(shutil.rmtree, folder, ignore_errors=True)


@contextmanager
def _opened(address: Any, argument: str, options: Mapping[str, Any] | None) -> Iterator[tuple[Address, FileStore]]:
    parsed = parse_address(address, argument, options)
    store = open_store(parsed)
    try:
        yield parsed, store
    finally:
        store.close()


def copy_of_file(
    address: Any,
    directory: Path,
    *,
    argument: str = "path",
    options: Mapping[str, Any] | None = None,
    retry: RetryPolicy | None = None,
) -> Path:
    """Copies a file to this machine: the one that an address names, or the agent that is published in that folder.

    Args:
        address: Such as "s3://bucket/run" or "s3://bucket/run/checkpoints/checkpoint_000000000064.zip".
        directory: Where the copy goes; it is there.
        argument: Name of the argument, for errors.
        options: For the client of the service.
        retry: How often and how soon a failed call is tried again.

    Returns:
        The copy. Its checksum was compared, if it was published with one.

    Raises:
        ConnectorError: It is not there, or could not be fetched; `DamagedError`: it is not what was published.
        MissingExtraError: The client of the service is not installed.
    """
    with _opened(address, argument, options) as (parsed, store):
        attempt = retrying(f"reading {parsed}", retry or _POLICY)
        name = parsed.name
        if Path(name).suffix:
            return _single(Place(store, parsed.parent.path), name, directory, attempt)
        place = Place(store, parsed.path)
        names = [each for each in place.names(attempt) if each.endswith(".zip") and "/" not in each]
        if BUNDLE_NAME not in names and len(names) != 1:
            raise ConnectorError(
                f"{parsed} holds no agent that can be told from the others: it has no {BUNDLE_NAME}, but "
                f"{', '.join(names) or 'no .zip file at all'}. Name the file in the address"
            )
        return _single(place, BUNDLE_NAME if BUNDLE_NAME in names else names[0], directory, attempt)


def _single(place: Place, name: str, directory: Path, attempt: Attempt) -> Path:
    manifest: Manifest | None = attempt(place.manifest)
    if manifest is not None and name not in manifest.files:
        taken = {entry.location for entry in manifest.files.values()}
        if name not in taken and name in attempt(lambda: place.store.files_in(place.folder)):
            # Somebody else put it beside what was published.
            attempt(lambda: place.store.download(place.path(name), directory / name))
            return directory / name
    return place.fetch([name], directory, attempt)[name]


def copy_of_files(
    address: Any,
    directory: Path,
    *,
    argument: str = "path",
    options: Mapping[str, Any] | None = None,
    retry: RetryPolicy | None = None,
) -> Path:
    """Copies all files of a folder, or the one file that an address names, to this machine.

    Args:
        address: As for `copy_of_file`.
        directory: Where the copies go; it is there.
        argument: As for `copy_of_file`.
        options: As for `copy_of_file`.
        retry: As for `copy_of_file`.

    Returns:
        The folder with the copies, or the copy.

    Raises:
        ConnectorError: As for `copy_of_file`.
    """
    with _opened(address, argument, options) as (parsed, store):
        attempt = retrying(f"reading {parsed}", retry or _POLICY)
        copies = Place(store, parsed.path).fetch(None, directory, attempt)
        if copies:
            return directory
        if not parsed.name:
            raise ConnectorError(f"{parsed} holds nothing")
        return _single(Place(store, parsed.parent.path), parsed.name, directory, attempt)


@contextmanager
def opened_place(
    address: Any, argument: str = "path", options: Mapping[str, Any] | None = None, retry: RetryPolicy | None = None
) -> Iterator[tuple[Place, Attempt]]:
    """Opens the folder of an address, with what makes calls to it until they are answered."""
    with _opened(address, argument, options) as (parsed, store):
        yield Place(store, parsed.path), retrying(f"reading {parsed}", retry or _POLICY)
