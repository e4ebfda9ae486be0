"""Publishing files so that nobody ever sees half of them, and reading what was published.

Files go there first, each under a path that no reader follows yet. Then the manifest is replaced, in one step; then
what it no longer names is removed. Whoever reads follows the manifest, compares checksums, and begins anew when the
manifest was replaced meanwhile. One process at a time writes to a folder; any number read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy, call_with_retries
from rl_framework.secrecy import describe_error, redact
from rl_framework.stores.base import DamagedError, FileStore, MissingError, StoreError
from rl_framework.stores.manifest import MANIFEST, MAXIMUM_SIZE, Entry, Manifest, ManifestError, check_name, digest_of

__all__ = ["Attempt", "Change", "Place", "explain", "is_transient", "retrying"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Attempt = Callable[[Callable[[], Any]], Any]
Change = Callable[[Manifest], Manifest]

_ROUNDS = 4
"""How often reading begins anew because something was published meanwhile."""


def _once(call: Callable[[], Result]) -> Result:
    return call()


def retrying(what: str, policy: RetryPolicy | None = None) -> Attempt:
    """Returns what calls a store until it answers, and raises a `ConnectorError` if it does not."""
    return partial(call_with_retries, what=what, is_transient=is_transient, policy=policy, explain=explain)


def is_transient(error: Exception) -> bool:
    """Tells whether a failure of a store may pass by itself."""
    return isinstance(error, StoreError) and error.transient


def explain(error: Exception) -> str:
    """Returns what a store said of its failure, which names no exception of ours."""
    return redact(str(error)) if isinstance(error, StoreError) else describe_error(error)


class Place:
    """A folder in a store, with what is published there.

    Args:
        store: The store.
        folder: Path of the folder in it.
    """

    def __init__(self, store: FileStore, folder: str) -> None:
        self.store = store
        self.folder = folder

    def __str__(self) -> str:
        return str(replace(self.store.address, path=self.folder))

    def below(self, name: str) -> Place:
        """Returns a folder in this one."""
        return Place(self.store, (replace(self.store.address, path=self.folder) / name).path)

    def path(self, location: str) -> str:
        """Returns a path in the store."""
        return (replace(self.store.address, path=self.folder) / location).path

    def manifest(self) -> Manifest | None:
        """Reads the manifest; None: there is none.

        Raises:
            StoreError: It could not be read.
            DamagedError: It is damaged or hostile.
        """
        try:
            content = self.store.read(self.path(MANIFEST), MAXIMUM_SIZE + 1)
        except MissingError:
            return None
        try:
            return Manifest.parse(content)
        except ManifestError as error:
            raise DamagedError(
                f"{self.path(MANIFEST)} of {self} cannot be followed: {error}. Nothing of it was used; if it is yours, "
                "remove it, and publish again"
            ) from None

    # Writing

    def publish(
        self,
        files: Mapping[str, Path],
        *,
        removals: Iterable[str] = (),
        change: Change | None = None,
        attempt: Attempt = _once,
    ) -> Manifest:
        """Adds, replaces and removes files, of which readers see all or nothing.

        Args:
            files: Files of this machine, by the names that they get.
            removals: Names that go.
            change: What else happens to the manifest, before the files are added.
            attempt: Makes each call to the store; it may make it several times.

        Returns:
            The manifest.

        Raises:
            StoreError, ConnectorError: It failed; readers see what was there before.
            ArgumentError: A name leads elsewhere.
        """
        for name in files:
            check_name(name)
        before: Manifest | None = attempt(self.manifest)
        after = Manifest() if before is None else before
        after = after if change is None else change(after)
        entries = {name: entry for name, entry in after.files.items() if name not in set(removals)}
        old = {} if before is None else {entry.location: entry for entry in before.files.values()}
        uploads: dict[str, tuple[Path, str]] = {}
        for name, source in files.items():
            size, sha256 = digest_of(source)
            there = entries.get(name)
            if there is not None and (there.size, there.sha256) == (size, sha256):
                continue  # it has arrived already
            taken = {entry.location for other, entry in entries.items() if other != name}
            taken |= set() if self.store.renames_in_sets else set(old)
            entry = Entry(_free_location(name, sha256, taken), size, sha256)
            entries[name] = entry
            uploads[entry.location] = source, sha256
        after = replace(after, files=entries)
        if after != (Manifest() if before is None else before):
            surplus = sorted(set(old) - {entry.location for entry in entries.values()})
            self._replace(uploads, after, surplus, attempt)
        return after

    def _replace(
        self, uploads: Mapping[str, tuple[Path, str]], after: Manifest, surplus: list[str], attempt: Attempt
    ) -> None:
        store = self.store
        paths = [self.path(location) for location in surplus]
        if store.renames_in_sets:
            additions: dict[str, bytes | Path] = {self.path(location): pair[0] for location, pair in uploads.items()}
            additions[self.path(MANIFEST)] = after.content()
            attempt(lambda: store.publish_together(additions, paths))
            return
        for location, (source, sha256) in uploads.items():
            attempt(partial(store.upload, source, self.path(location), sha256))
        attempt(lambda: store.write(self.path(MANIFEST), after.content()))
        for path in paths:
            try:
                attempt(partial(store.remove, path))
            except (StoreError, ConnectorError) as error:
                # Everything is published; what is left over only takes room.
                logger.warning("%s of %s is no longer needed, and could not be removed: %s", path, self, error)

    # Reading

    def names(self, attempt: Attempt = _once) -> list[str]:
        """Returns what is published here, sorted; without a manifest, the files right in the folder."""
        manifest: Manifest | None = attempt(self.manifest)
        return sorted(attempt(lambda: self.store.files_in(self.folder)) if manifest is None else manifest.files)

    def fetch(self, names: Iterable[str] | None, directory: Path, attempt: Attempt = _once) -> dict[str, Path]:
        """Copies files to this machine, all from the same publication.

        Args:
            names: Which; None: all.
            directory: Folder for them, which is there.
            attempt: Makes each call to the store; it may make it several times.

        Returns:
            The copies, by name.

        Raises:
            MissingError: One is not there.
            DamagedError: One is not what was published.
            StoreError, ConnectorError: It could not be fetched.
        """
        wanted = None if names is None else list(names)
        manifest: Manifest | None = attempt(self.manifest)
        for _ in range(_ROUNDS):
            try:
                return self._fetch(manifest, wanted, directory, attempt)
            except (DamagedError, MissingError):
                again: Manifest | None = attempt(self.manifest)
                if again == manifest:
                    raise
                manifest = again
        raise DamagedError(f"{self} is replaced faster than it can be read: try again later")

    def _fetch(
        self, manifest: Manifest | None, wanted: list[str] | None, directory: Path, attempt: Attempt
    ) -> dict[str, Path]:
        if manifest is None:
            there: dict[str, int] = attempt(lambda: self.store.files_in(self.folder))
            entries = {name: Entry(name, size, "") for name, size in there.items()}
        else:
            entries = dict(manifest.files)
        copies = {}
        for name in entries if wanted is None else wanted:
            if name not in entries:
                raise MissingError(f"{self} has no {name}, but {', '.join(sorted(entries)[:8]) or 'nothing'}")
            copies[name] = directory / check_name(name)
            copies[name].parent.mkdir(parents=True, exist_ok=True)
            self._fetch_one(name, entries[name], copies[name], attempt)
        return copies

    def _fetch_one(self, name: str, entry: Entry, copy: Path, attempt: Attempt) -> None:
        for _ in range(2):
            attempt(lambda: self.store.download(self.path(entry.location), copy))
            size, sha256 = digest_of(copy)
            # What somebody else put there has no checksum but its own.
            if size == entry.size and entry.sha256 in ("", sha256):
                return
            logger.warning("%s of %s is damaged, there or on the way", name, self)
        copy.unlink(missing_ok=True)
        raise DamagedError(
            f"{name} of {self} has not the checksum that was published with it: it was changed, or damaged on the "
            "way. Nothing of it was used"
        )


def _free_location(name: str, sha256: str, taken: set[str]) -> str:
    # A reader may just be following the manifest to what has this name now.
    if name not in taken:
        return name
    path = PurePosixPath(name)
    for length in range(8, 65, 8):
        location = str(path.with_name(f"{path.stem}.{sha256[:length]}{path.suffix}"))
        if location not in taken:
            return location
    raise ConnectorError(f"there is no free name for {name}")  # the same content twice, under the same name
