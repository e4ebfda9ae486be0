"""The Hugging Face Hub as a store: `hf://user/name/path`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.errors import ArgumentError
from rl_framework.hub import Hub, RemoteFile, check_repository_id, check_revision
from rl_framework.retry import status_of
from rl_framework.stores.address import Address
from rl_framework.stores.base import FileStore, MissingError, StoreError

__all__ = ["HubStore"]

_KINDS = {"datasets": "dataset", "spaces": "space"}
_OPTIONS = {"token", "endpoint", "private"}


class HubStore(FileStore):
    """`hf://user/name/path`, `hf://user/name@revision/path`, `hf://datasets/user/name/path`.

    What is published together is one commit. A repository that is missing is made, private with `private=True` in the
    options; `token` and `endpoint` are those of `rl_framework.hub.Hub`.
    """

    renames_in_sets = True

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        unknown = set(address.options) - _OPTIONS
        if unknown:
            raise ArgumentError("options", sorted(unknown), "are not known", f"Known: {', '.join(sorted(_OPTIONS))}.")
        steps = address.path.split("/")
        self._kind = _KINDS.get(steps[0], "model")
        steps = steps[1:] if steps[0] in (*_KINDS, "models") else steps
        name, _, revision = "/".join(steps[:2]).partition("@")
        self._repository = check_repository_id(name, "address")
        self._revision = check_revision(revision or None)
        self._root = address.path.split("/")[: len(address.path.split("/")) - len(steps) + 2]
        options = address.options
        self._hub = Hub("hf:// addresses", options.get("token"), options.get("endpoint"))
        self._private = options.get("private") is True
        self._commit: str | None = None
        self._there: dict[str, RemoteFile] = {}

    def _inner(self, path: str) -> str:
        """Returns a path in the repository."""
        return "/".join(path.split("/")[len(self._root) :])

    def _refresh(self) -> None:
        try:
            commit = self._hub.resolve(self._repository, self._kind, self._revision)
        except Exception as error:
            if type(error).__name__ in ("RepositoryNotFoundError", "RevisionNotFoundError") and status_of(error) == 404:
                self._commit, self._there = None, {}
                return
            raise
        if commit != self._commit:
            self._there = self._hub.files(self._repository, self._kind, commit)
            self._commit = commit

    def _list(self, folder: str) -> dict[str, int]:
        self._refresh()
        inner = self._inner(folder)
        prefix = f"{inner}/" if inner else ""
        names = {path.removeprefix(prefix): file for path, file in self._there.items() if path.startswith(prefix)}
        return {name: file.size for name, file in names.items() if "/" not in name}

    def _fetched(self, path: str) -> Path:
        # A commit does not change: it is looked for anew with each manifest, and what that names is read from there.
        inner = self._inner(path)
        if inner not in self._there or self._commit is None:
            raise MissingError(f"there is no {inner} in {self._repository}")
        return self._hub.fetch(self._repository, self._kind, self._commit, self._there[inner])

    def _read(self, path: str, limit: int) -> bytes:
        self._refresh()
        with self._fetched(path).open("rb") as file:
            return file.read(limit)

    def _download(self, path: str, destination: Path) -> None:
        shutil.copyfile(self._fetched(path), destination)

    def _write(self, path: str, content: bytes) -> None:
        self._publish({path: content}, [])

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        self._publish({path: source}, [])

    def _remove(self, path: str) -> None:
        self._publish({}, [path])

    def publish_together(self, additions: Mapping[str, bytes | Path], removals: list[str]) -> None:
        """Makes one commit."""
        self._judged(lambda: self._publish(additions, removals))

    def _publish(self, additions: Mapping[str, bytes | Path], removals: list[str]) -> None:
        self._hub.check_can_write(self._repository)
        self._hub.create_repository(self._repository, self._kind, self._private)
        if self._revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self._revision):
            self._hub.create_branch(self._repository, self._kind, self._revision)
        self._refresh()
        surplus = [inner for inner in map(self._inner, removals) if inner in self._there]
        with tempfile.TemporaryDirectory(prefix="rl_framework-hub-") as folder:
            files: dict[str, Path] = {}
            for number, (path, content) in enumerate(additions.items()):
                if isinstance(content, bytes):
                    files[self._inner(path)] = Path(folder) / str(number)
                    files[self._inner(path)].write_bytes(content)
                else:
                    files[self._inner(path)] = content
            names = [name.rpartition("/")[2] for name in (*files, *surplus)]
            message = f"Publish {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
            self._hub.commit(self._repository, self._kind, self._revision, message, files, surplus)

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure of the Hub means."""
        told: Any = getattr(getattr(error, "response", None), "headers", None)
        return StoreError(
            self._hub.explain(error, self._repository),
            status_of(error),
            transient=self._hub.is_transient(error),
            headers=dict(told) if told is not None else None,
        )
