"""Stores of objects that appear whole when they are written, through fsspec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_framework.errors import require_extra
from rl_framework.retry import status_of
from rl_framework.secrecy import describe_error, remember_secret
from rl_framework.stores.address import Address
from rl_framework.stores.base import FileStore, MissingError, StoreError

__all__ = ["ObjectStore"]

_MODULES = {"memory": "fsspec", "gs": "gcsfs", "s3": "s3fs"}
_SECRET_OPTIONS = re.compile(r"key|secret|token|password", re.IGNORECASE)


class ObjectStore(FileStore):
    """`memory://` and `gs://`, as fsspec knows them.

    `memory://` is for tests: it lives in the process. `gs://` finds its credentials where gcsfs looks for them (the
    variable GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, the machine that it runs on).
    """

    where_keys_are = "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        require_extra("storage", f"{address.scheme}:// addresses", _MODULES[address.scheme])
        for name, value in address.options.items():
            if _SECRET_OPTIONS.search(name) and isinstance(value, str):
                remember_secret(value)
        self._made: Any = None

    def options(self) -> dict[str, Any]:
        """Returns what the client is made with."""
        return dict(self.address.options)

    @property
    def files(self) -> Any:
        """The client, an `fsspec.AbstractFileSystem`; made when it is first asked for."""
        if self._made is None:
            import fsspec

            # One for each store: connectors in several threads share no connection, and none outlives its settings.
            options = {"skip_instance_cache": True, "use_listings_cache": False, **self.options()}
            self._made = fsspec.filesystem(self.address.scheme, **options)
        return self._made

    def _full(self, path: str) -> str:
        return f"{self.address.host}/{path}" if self.address.host else f"/{path}"

    def _list(self, folder: str) -> dict[str, int]:
        self.files.invalidate_cache()
        try:
            found = self.files.ls(self._full(folder), detail=True)
        except FileNotFoundError as error:
            self._check_place(error)
            return {}
        files = (entry for entry in found if entry["type"] == "file" and not entry["name"].endswith("/"))
        return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in files}

    def _read(self, path: str, limit: int) -> bytes:
        with self._missing(path):
            return bytes(self.files.cat_file(self._full(path), start=0, end=limit))

    def _write(self, path: str, content: bytes) -> None:
        self.files.pipe_file(self._full(path), content)

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        if self.address.scheme == "memory":
            # In one step; its `put_file` shows the file while it grows.
            self.files.pipe_file(self._full(path), source.read_bytes())
        else:
            self.files.put_file(str(source), self._full(path))

    def _download(self, path: str, destination: Path) -> None:
        with self._missing(path):
            self.files.get_file(self._full(path), str(destination))

    def _remove(self, path: str) -> None:
        with self._missing(path):
            self.files.rm_file(self._full(path))

    def _check_place(self, error: Exception) -> None:
        """Raises if not only the file is missing, but the bucket: that is no empty folder."""
        if self.address.scheme == "gs":
            self.files.ls(self.address.host)

    @contextmanager
    def _missing(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            self._check_place(error)
            raise MissingError(f"there is no {path} in {self.address.scheme}://{self.address.host}") from None

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure of the client means."""
        status = status_of(error)
        # gcsfs tells of a refusal in words only.
        is_refused = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
        if is_refused or status in (401, 403):
            return StoreError(
                f"{self.address}: it may not be read or written with these keys ({describe_error(error)}): see "
                f"{self.where_keys_are}",
                status or 403,
            )
        if isinstance(error, FileNotFoundError):
            return StoreError(f"{self.address}: there is no such bucket ({describe_error(error)}): make it first", 404)
        return super().judge(error)
