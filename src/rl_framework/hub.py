"""The Hugging Face Hub: repositories, commits and verified downloads, through its own client.

`huggingface_hub` is imported where it is used. Failures are told in words that say what to do, without the token.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rl_framework.errors import ArgumentError, ConnectorError, require_extra
from rl_framework.retry import RetryPolicy, call_with_retries, may_pass, status_of
from rl_framework.secrecy import describe_error, remember_secret

__all__ = ["Hub", "RemoteFile", "check_repository_id", "check_revision"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPOSITORY_ID = re.compile(rf"{_PART}/{_PART}")
_CHUNK = 1 << 20
_ANSWER_SECONDS = 60.0
"""For an answer, or for one piece of a large file to pass."""


def check_repository_id(repository_id: Any, argument: str = "repository_id") -> str:
    """Checks the name of a repository, before the network is asked.

    Raises:
        ArgumentError: It is none.
    """
    is_valid = isinstance(repository_id, str) and _REPOSITORY_ID.fullmatch(repository_id) is not None
    if not is_valid or "--" in repository_id or ".." in repository_id or repository_id.endswith(".git"):
        raise ArgumentError(
            argument,
            repository_id,
            "is no name of a repository on the Hub",
            'Write "user/name" or "organisation/name", of letters, digits, "-", "_" and ".".',
        )
    return repository_id


def check_revision(revision: Any) -> str | None:
    """Checks the name of a branch, a tag or a commit, before the network is asked.

    Raises:
        ArgumentError: It is none.
    """
    if revision is None:
        return None
    if not isinstance(revision, str) or not re.fullmatch(r"[\w][\w./-]{0,254}", revision) or ".." in revision:
        raise ArgumentError("revision", revision, "is no branch, tag or commit", 'Such as "main", "v1", or None.')
    return revision


@dataclass(frozen=True)
class RemoteFile:
    """A file on the Hub.

    Attributes:
        path: Its path in the repository.
        size: In bytes.
        sha256: Of its content, for large files; None: the Hub tells only `git_hash`.
        git_hash: SHA-1 as git makes it, of the content of a small file.
    """

    path: str
    size: int
    sha256: str | None
    git_hash: str | None

    def fits(self, path: Path) -> bool:
        """Tells whether a file on this machine has the size and the checksum that the Hub told."""
        size = path.stat().st_size
        if size != self.size:
            return False
        if self.sha256 is not None:
            return _digest(path, hashlib.sha256()) == self.sha256
        if self.git_hash is not None:
            return _digest(path, hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)) == self.git_hash
        return False


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())


class Hub:
    """Talks to the Hub.

    Args:
        needed_for: What the user asked for, for the message if the client is not installed.
        token: Access token; None: the variable HF_TOKEN, or what `hf auth login` has stored.
        endpoint: Address; None: the variable HF_ENDPOINT, or the public Hub.
        retry: How often and how soon a failed call is tried again.

    Raises:
        MissingExtraError: The client is not installed.
    """

    def __init__(
        self,
        needed_for: str,
        token: str | None = None,
        endpoint: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        require_extra("huggingface", needed_for, "huggingface_hub")
        remember_secret(token)
        self._token = token
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self.retry = retry or RetryPolicy()

    def __repr__(self) -> str:
        return f"Hub({self.endpoint!r})"

    @property
    def token(self) -> str | None:
        """The access token, or None."""
        if self._token is None:
            from huggingface_hub import get_token

            token = get_token()
            remember_secret(token)
            return token
        return self._token

    @property
    def api(self) -> Any:
        """The client, a `huggingface_hub.HfApi`."""
        from huggingface_hub import HfApi, get_session

        hooks = get_session().event_hooks["request"]
        if _limit_waiting not in hooks:
            hooks.append(_limit_waiting)
        # The token is given at each call, because a later HF_TOKEN counts; False keeps the client from looking further.
        return HfApi(endpoint=self.endpoint, token=self.token or False, library_name="rl_framework")

    def check_can_write(self, repository_id: str) -> None:
        """Checks that there is a token, without asking the network.

        Raises:
            ConnectorError: There is none.
        """
        if not self.token:
            raise ConnectorError(f"to write to {repository_id} a token is needed: {_HOW_TO_GET_A_TOKEN}")

    def calling(self, call: Callable[[], Result], what: str, repository_id: str) -> Result:
        """Makes a call with retries.

        Raises:
            ConnectorError: It failed; the message says what to do.
        """
        return call_with_retries(
            call,
            what=what,
            is_transient=self.is_transient,
            policy=self.retry,
            explain=lambda error: self.explain(error, repository_id),
        )

    @staticmethod
    def is_transient(error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            return False
        if isinstance(
            error, LocalEntryNotFoundError
        ):  # the client's word for "no connection, and nothing in the cache"
            return error.__cause__ is None or (isinstance(error.__cause__, Exception) and may_pass(error.__cause__))
        return may_pass(error)

    def explain(self, error: Exception, repository_id: str) -> str:
        """Says what to do about a failure, without secrets."""
        status, kind = status_of(error), type(error).__name__
        if status == 401:
            if self.token:
                return f"{repository_id}: the Hub does not accept the token (401): {_HOW_TO_GET_A_TOKEN}"
            return f"{repository_id} is not there, or is private (401, and there is no token): {_HOW_TO_GET_A_TOKEN}"
        if status == 403:
            return f"the token may not do this with {repository_id} (403): {_HOW_TO_GET_A_TOKEN}"
        if kind == "RevisionNotFoundError":
            return f"{repository_id} has no such revision (404): name a branch, a tag or a commit that it has"
        if kind in ("EntryNotFoundError", "RemoteEntryNotFoundError"):
            return f"{repository_id} has no such file (404)"
        if status == 404:
            return f"{repository_id} is not there, or is private and the token may not see it (404)"
        if status == 429:
            return f"{repository_id}: the Hub has had too many requests (429): {describe_error(error)}"
        return describe_error(error)

    # Single calls, which raise what the client raises

    def create_repository(self, repository_id: str, kind: str, private: bool) -> None:
        """Makes a repository if it is missing; one that exists stays as public or private as it is."""
        self.api.create_repo(repository_id, repo_type=kind, private=private, exist_ok=True)

    def create_branch(self, repository_id: str, kind: str, branch: str) -> None:
        """Makes a branch if it is missing."""
        self.api.create_branch(repository_id, repo_type=kind, branch=branch, exist_ok=True)

    def commit(
        self,
        repository_id: str,
        kind: str,
        revision: str | None,
        message: str,
        additions: Mapping[str, Path],
        deletions: Iterable[str] = (),
    ) -> str:
        """Adds and removes files in one commit; nothing happens if all of that is so already.

        Returns:
            Where the commit can be looked at.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

        operations = [
            *(CommitOperationAdd(name, str(path)) for name, path in additions.items()),
            *(CommitOperationDelete(name, is_folder=False) for name in deletions),
        ]
        was_silent = are_progress_bars_disabled()
        disable_progress_bars()
        try:
            done = self.api.create_commit(
                repository_id, operations, commit_message=message, repo_type=kind, revision=revision
            )
        finally:
            if not was_silent:
                enable_progress_bars()
        return str(done.commit_url)

    def resolve(self, repository_id: str, kind: str, revision: str | None) -> str:
        """Returns the commit that a revision stands for."""
        return str(self.api.repo_info(repository_id, repo_type=kind, revision=revision).sha)

    def files(self, repository_id: str, kind: str, revision: str | None) -> dict[str, RemoteFile]:
        """Returns the files of a revision, by path."""
        found = {}
        for entry in self.api.list_repo_tree(repository_id, repo_type=kind, revision=revision, recursive=True):
            if not hasattr(entry, "size"):
                continue  # a folder
            large = entry.lfs
            found[entry.path] = RemoteFile(
                entry.path,
                int(entry.size if large is None else large.size),
                None if large is None else str(large.sha256),
                None if large is not None else str(entry.blob_id),
            )
        return found

    def fetch(self, repository_id: str, kind: str, commit: str, file: RemoteFile) -> Path:
        """Downloads a file, or takes it from the client's cache, and compares its checksum with the Hub's.

        Raises:
            ConnectorError: The checksum is another, also after a second download.
        """
        for again in (False, True):
            path = Path(
                self.api.hf_hub_download(
                    repository_id, file.path, repo_type=kind, revision=commit, force_download=again
                )
            )
            if file.fits(path):
                return path
            logger.warning("%s of %s is damaged in the cache or on the way", file.path, repository_id)
        raise ConnectorError(
            f"{file.path} of {repository_id} has not the checksum that the Hub tells: it was changed or damaged on the "
            "way. Nothing of it was used"
        )


def _limit_waiting(request: Any) -> None:
    # The client waits for ever for what it uploads and lists, and asks for that at some calls, whatever its own limit.
    limits = request.extensions.get("timeout", {})
    for waiting in ("connect", "read", "write"):
        if limits.get(waiting) is None:
            limits[waiting] = _ANSWER_SECONDS
    request.extensions["timeout"] = limits


_HOW_TO_GET_A_TOKEN = (
    "set HF_TOKEN, or pass token=..., to a token with the role 'write', or a fine-grained one with 'Write access to "
    "contents/settings' of the repository (for reading, the role 'read'): https://huggingface.co/settings/tokens"
)
