"""What every place for files can do, and how its failures are told."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rl_framework.errors import ConnectorError
from rl_framework.retry import may_pass, status_of
from rl_framework.secrecy import describe_error
from rl_framework.stores.address import Address

__all__ = ["DamagedError", "FileStore", "MissingError", "StoreError"]

Result = TypeVar("Result")


class StoreError(Exception):
    """A call to a store failed. The message says what to do, without secrets; the client's exception is not chained.

    Attributes:
        status_code: As of HTTP: 401, 403 and 404 concern everything that goes there; None: not known.
        transient: Whether it may pass by itself.
        headers: Of the answer; `rl_framework.retry` reads `Retry-After` from them.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        *,
        transient: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.transient = transient
        self.headers = dict(headers or {})


class MissingError(StoreError, ConnectorError):
    """There is no such file, which trying again does not change."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 404)


class DamagedError(ConnectorError):
    """What was fetched is not what was published. Nothing of it was used."""


class FileStore(ABC):
    """Files elsewhere, under paths with "/". Every method may be called again after a failure.

    A subclass implements the methods with an underscore, which raise what its client raises, `MissingError` for a file
    that is not there, and `judge`.

    Attributes:
        address: Where it is; paths are below its host, not below its path.
    """

    renames_in_sets = False
    """Whether several files and their manifest can be replaced in one step."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.address)!r})"

    # What a subclass implements

    @abstractmethod
    def _list(self, folder: str) -> dict[str, int]: ...

    @abstractmethod
    def _read(self, path: str, limit: int) -> bytes: ...

    @abstractmethod
    def _write(self, path: str, content: bytes) -> None: ...

    @abstractmethod
    def _upload(self, source: Path, path: str, sha256: str) -> None: ...

    @abstractmethod
    def _download(self, path: str, destination: Path) -> None: ...

    @abstractmethod
    def _remove(self, path: str) -> None: ...

    def judge(self, error: Exception) -> StoreError:
        """Says what a client's exception means; the default knows those of the system and of HTTP."""
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return StoreError(f"{self.address}: {describe_error(error)}: make room, and try again")
        status, headers = status_of(error), getattr(getattr(error, "response", None), "headers", None)
        return StoreError(
            f"{self.address}: {describe_error(error)}",
            status,
            transient=may_pass(error),
            headers=headers if isinstance(headers, Mapping) else None,
        )

    def close(self) -> None:  # noqa: B027 (most have none)
        """Ends the connection, if there is one."""

    # What everybody uses

    def files_in(self, folder: str) -> dict[str, int]:
        """Returns the files right in a folder: name and bytes; nothing if it is not there.

        Raises:
            StoreError: It could not be asked for.
        """
        return self._judged(lambda: self._list(folder))

    def read(self, path: str, limit: int) -> bytes:
        """Returns the content of a small file.

        Args:
            path: The file.
            limit: Bytes that are read at most; a longer file is cut there.

        Raises:
            MissingError: It is not there.
            StoreError: It could not be read.
        """
        return self._judged(lambda: self._read(path, limit))

    def write(self, path: str, content: bytes) -> None:
        """Writes or replaces a small file in one step: readers see the old content or the new.

        Raises:
            StoreError: It could not be written.
        """
        self._judged(lambda: self._write(path, content))

    def upload(self, source: Path, path: str, sha256: str) -> None:
        """Copies a file there; it appears when all of it is there. A second call goes on where the first one stopped.

        Args:
            source: The file.
            path: Where to; a file of that name is replaced.
            sha256: Checksum of the file, which tells one upload from another.

        Raises:
            StoreError: It could not be copied.
        """
        self._judged(lambda: self._upload(source, path, sha256))

    def download(self, path: str, destination: Path) -> None:
        """Copies a file from there.

        Raises:
            MissingError: It is not there.
            StoreError: It could not be copied.
        """
        self._judged(lambda: self._download(path, destination))

    def remove(self, path: str) -> None:
        """Removes a file, if it is there.

        Raises:
            StoreError: It could not be removed.
        """
        with suppress(MissingError):
            self._judged(lambda: self._remove(path))

    def publish_together(self, additions: Mapping[str, bytes | Path], removals: list[str]) -> None:
        """Replaces files in one step, where `renames_in_sets`.

        Raises:
            StoreError: It failed; nothing has changed then.
        """
        raise NotImplementedError

    def _judged(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except (StoreError, ConnectorError):
            raise
        except Exception as error:  # noqa: BLE001 (every failure is judged, and told below)
            told = self.judge(error)
        # Outside of the handler, so that not even __context__ leads to what the client put into its exception.
        raise told
