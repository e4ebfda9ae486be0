"""A machine that is reached by SSH, through paramiko."""

from __future__ import annotations

import base64
import hashlib
import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from rl_framework.errors import ArgumentError, require_extra
from rl_framework.secrecy import describe_error, remember_secret
from rl_framework.stores.address import Address
from rl_framework.stores.base import FileStore, MissingError, StoreError
from rl_framework.whole_file import TEMPORARY_PREFIX

__all__ = ["SFTPStore"]

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 60.0
_CHUNK = 256 << 10

_OPTIONS = {"password", "key_filename", "passphrase", "host_key", "known_hosts", "accept_unknown_host", "allow_agent"}


class SFTPStore(FileStore):
    """`sftp://user@host/path`; a path that begins with `~/` counts from the home folder.

    Keys come from the SSH agent and from `~/.ssh`; a password may be in the address. Options are `password`,
    `key_filename`, `passphrase`, `known_hosts` (a file besides `~/.ssh/known_hosts`), `host_key` (the fingerprint
    "SHA256:..." of a machine that is not among the known ones) and `accept_unknown_host=True`, which takes any machine
    for the right one.

    A file goes to a temporary name and is then renamed. If the connection is cut, the next attempt, also in another
    process, compares what has arrived with the file, and goes on from there.
    """

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        require_extra("storage", "sftp:// addresses", "paramiko")
        unknown = set(address.options) - _OPTIONS
        if unknown:
            raise ArgumentError("options", sorted(unknown), "are not known", f"Known: {', '.join(sorted(_OPTIONS))}.")
        remember_secret(address.options.get("password"), address.options.get("passphrase"))
        self._client: Any = None
        self._sftp: Any = None

    # The connection

    @property
    def _session(self) -> Any:
        if self._sftp is None:
            self._connect()
        return self._sftp

    def _connect(self) -> None:
        import paramiko

        options = dict(self.address.options)
        host_key, known_hosts = options.pop("host_key", None), options.pop("known_hosts", None)
        accepts_all = options.pop("accept_unknown_host", False) is True
        client = paramiko.SSHClient()
        client.load_system_host_keys()
        if known_hosts is not None:
            client.load_host_keys(str(known_hosts))
        client.set_missing_host_key_policy(_policy(host_key, accepts_all))
        password = options.pop("password", None) or self.address.password
        try:
            client.connect(
                self.address.host,
                self.address.port or 22,
                username=self.address.user,
                password=password,
                timeout=_ANSWER_SECONDS,
                banner_timeout=_ANSWER_SECONDS,
                auth_timeout=_ANSWER_SECONDS,
                look_for_keys=password is None and "key_filename" not in options,
                **options,
            )
            self._sftp = client.open_sftp()
            self._sftp.get_channel().settimeout(_ANSWER_SECONDS)
        except BaseException:
            client.close()
            raise
        self._client = client

    def close(self) -> None:
        """Ends the connection; the next call makes another one."""
        client, self._client, self._sftp = self._client, None, None
        if client is not None:
            client.close()

    def _path(self, path: str) -> str:
        return path.removeprefix("~/") if path.startswith("~/") else "." if path == "~" else f"/{path}"

    @contextmanager
    def _missing(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise MissingError(f"there is no {path} on {self.address.host}") from None

    # Files

    def _list(self, folder: str) -> dict[str, int]:
        try:
            found = self._session.listdir_attr(self._path(folder))
        except FileNotFoundError:
            return {}
        files = (entry for entry in found if not entry.filename.startswith(TEMPORARY_PREFIX))
        return {entry.filename: int(entry.st_size or 0) for entry in files if stat.S_ISREG(entry.st_mode or 0)}

    def _read(self, path: str, limit: int) -> bytes:
        with self._missing(path), self._session.open(self._path(path), "rb") as file:
            file.prefetch(min(limit, int(file.stat().st_size or 0)))
            return bytes(file.read(limit))

    def _write(self, path: str, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        temporary = self._temporary(path, digest)
        with self._session.open(temporary, "wb") as file:
            file.write(content)
        self._rename(temporary, self._path(path))

    def _upload(self, source: Path, path: str, sha256: str) -> None:
        session, temporary = self._session, self._temporary(path, sha256)
        size = source.stat().st_size
        with source.open("rb") as local:
            start = self._kept(local, temporary)
            if start:
                logger.info("an upload to %s goes on after %d of %d bytes", self.address, start, size)
            local.seek(start)
            with session.open(temporary, "r+b" if start else "wb") as file:
                file.seek(start)
                chunk = local.read(_CHUNK)
                while chunk:
                    following = local.read(_CHUNK)
                    # The last one waits for the answers to all of them, which may be refusals.
                    file.set_pipelined(bool(following))
                    file.write(chunk)
                    chunk = following
        if session.stat(temporary).st_size != size:
            session.remove(temporary)
            raise ConnectionError("what arrived is of another length")
        self._rename(temporary, self._path(path))

    def _kept(self, local: BinaryIO, temporary: str) -> int:
        """Returns how many bytes an earlier attempt has left there that are right: there may be holes in them."""
        start = 0
        try:
            with self._session.open(temporary, "rb") as there:
                there.prefetch(int(there.stat().st_size or 0))
                while (chunk := local.read(_CHUNK)) and there.read(len(chunk)) == chunk:
                    start += len(chunk)
        except FileNotFoundError:
            return 0
        return start

    def _download(self, path: str, destination: Path) -> None:
        with self._missing(path):
            self._session.get(self._path(path), str(destination))

    def _remove(self, path: str) -> None:
        with self._missing(path):
            self._session.remove(self._path(path))

    def _temporary(self, path: str, sha256: str) -> str:
        """Returns where the content grows, in the same folder, which is made if it is missing."""
        folder, _, name = self._path(path).rpartition("/")
        self._make(folder)
        # By name and content: another attempt finds it, and no other file does.
        mark = hashlib.sha256(f"{name} {sha256}".encode()).hexdigest()[:24]
        return f"{folder}/{TEMPORARY_PREFIX}{mark}" if folder else f"{TEMPORARY_PREFIX}{mark}"

    def _make(self, folder: str) -> None:
        if not folder or folder == "/":
            return
        if not self._is_there(folder):
            self._make(folder.rpartition("/")[0])
            try:
                self._session.mkdir(folder)
            except OSError as error:
                if not self._is_there(folder):  # else somebody made it meanwhile
                    raise error from None

    def _is_there(self, path: str) -> bool:
        try:
            self._session.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _rename(self, temporary: str, path: str) -> None:
        session = self._session
        try:
            session.posix_rename(temporary, path)
        except OSError as error:
            if error.errno is not None or "unsupported" not in str(error).lower():
                raise
            # A server without OpenSSH's extension replaces no file by renaming; readers may find none for a moment.
            with suppress(FileNotFoundError):
                session.remove(path)
            session.rename(temporary, path)

    # Failures

    def judge(self, error: Exception) -> StoreError:
        """Says what a failure means, and ends the connection, so that the next attempt makes another one."""
        import paramiko

        self.close()
        where = f"{self.address.host}"
        if isinstance(error, _UnknownHostError):
            return StoreError(f"{self.address}: {error}", 403)
        if isinstance(error, paramiko.BadHostKeyException):
            return StoreError(
                f"{self.address}: {where} shows another key ({fingerprint(error.key)}) than the one that is known: "
                "somebody may stand in between. Nothing was sent. If the machine was set up anew, remove its old key "
                "with `ssh-keygen -R`",
                403,
            )
        if isinstance(error, paramiko.AuthenticationException | paramiko.PasswordRequiredException):
            return StoreError(
                f"{self.address}: {where} does not let {self.address.user or 'you'} in: add the key to the SSH agent, "
                "or give options={'key_filename': ...} or options={'password': ...}",
                401,
            )
        if isinstance(error, PermissionError):
            return StoreError(f"{self.address}: {where} does not allow it ({describe_error(error)})", 403)
        if isinstance(error, EOFError | paramiko.SSHException | paramiko.ssh_exception.NoValidConnectionsError):
            return StoreError(f"{self.address}: {describe_error(error)}", transient=True)
        told = super().judge(error)
        if isinstance(error, OSError) and error.errno is None:  # paramiko's own words, or the server's
            told.transient |= any(word in str(error).lower() for word in ("closed", "connection lost", "no connection"))
        return told


class _UnknownHostError(Exception):
    """The machine is not among the known ones."""


def fingerprint(key: Any) -> str:
    """Returns the fingerprint of a key as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def _policy(host_key: str | None, accepts_all: bool) -> Any:
    import paramiko

    class Policy(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            shown = fingerprint(key)
            if host_key is not None and host_key == shown:
                return
            if host_key is None and accepts_all:
                logger.warning("%s is not a known host (%s); it is taken for the right one", hostname, shown)
                return
            raise _UnknownHostError(
                f"{hostname} is not a known host: its key is {key.get_name()} {shown}. Compare that with the "
                "machine's, then log in once with `ssh`, which remembers it, or give options={'host_key': 'SHA256:...'}"
            )

    return Policy()
