"""An SFTP server on this machine: paramiko's, over real files in a folder.

It proves that the client completes the protocol and what becomes of files when connections are cut. It does not prove
how OpenSSH's own server answers, which does the same by its documentation, nor anything about other servers; one
without OpenSSH's renaming can be had by `can_replace = False`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest

USER, PASSWORD = "tester", "a-password/of+the tests"


class LoopbackSFTP:
    """The server; use it as a context manager.

    Attributes:
        port: Where it listens.
        root: The folder that clients see as "/".
        key: Its host key.
        cut_after: Bytes of writing after which a piece is lost, and soon after every connection; None: never.
        cuts_slowly: Whether the connections stay until somebody hears of it.
        n_written: Bytes written so far.
        n_connections: How many were made.
        can_replace: Whether it knows OpenSSH's `posix-rename`.
        is_read_only: Whether it refuses to write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = paramiko.ECDSAKey.generate(bits=256)
        self.user_key = paramiko.ECDSAKey.generate(bits=256)
        self.cut_after: int | None = None
        self.cuts_slowly = False
        self.n_written = 0
        self.n_connections = 0
        self.can_replace = True
        self.is_read_only = False
        self._transports: list[paramiko.Transport] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._is_open = True

    def __enter__(self) -> LoopbackSFTP:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.cut()

    def _listen(self) -> None:
        while self._is_open:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.n_connections += 1
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self)
            self._transports.append(transport)
            try:
                transport.start_server(event=threading.Event(), server=_Login(self))
            except (paramiko.SSHException, EOFError):
                continue

    def cut(self) -> None:
        """Cuts all connections."""
        _close(self.take_connections())

    def take_connections(self) -> list[paramiko.Transport]:
        """Returns all connections, which are not its any more."""
        taken, self._transports = self._transports, []
        return taken


def _close(transports: list[paramiko.Transport]) -> None:
    for transport in transports:
        transport.close()


class _Login(paramiko.ServerInterface):
    def __init__(self, server: LoopbackSFTP) -> None:
        self._server = server

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if (username, password) == (USER, PASSWORD) else paramiko.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key == self._server.user_key else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def get_allowed_auths(self, username: str) -> str:
        return "password,publickey"


class _Handle(paramiko.SFTPHandle):
    server: LoopbackSFTP
    n_since_cut: int | None = None

    def write(self, offset: int, data: bytes) -> int:
        server = self.server
        if server.cut_after is not None and server.n_written + len(data) > server.cut_after:
            server.cut_after = None
            self.n_since_cut = 0
        if self.n_since_cut is not None:
            self.n_since_cut += 1
            if self.n_since_cut == 3 and not server.cuts_slowly:
                # Of connections that are made meanwhile it knows nothing.
                threading.Thread(target=_close, args=(server.take_connections(),), daemon=True).start()
            if self.n_since_cut != 2:  # what comes behind what was lost leaves a hole
                return int(paramiko.SFTP_CONNECTION_LOST)
        server.n_written += len(data)
        return int(super().write(offset, data))

    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, login: _Login, server: LoopbackSFTP) -> None:
        super().__init__(login)
        self._server = server

    def _real(self, path: str) -> Path:
        return self._server.root / self.canonicalize(path).lstrip("/")

    def _try(self, call: Any) -> Any:
        try:
            answer = call()
            answer = None if isinstance(answer, Path) else answer
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        return paramiko.SFTP_OK if answer is None else answer

    def list_folder(self, path: str) -> Any:
        real = self._real(path)
        return self._try(
            lambda: [paramiko.SFTPAttributes.from_stat(entry.stat(), entry.name) for entry in real.iterdir()]
        )

    def stat(self, path: str) -> Any:
        return self._try(lambda: paramiko.SFTPAttributes.from_stat(self._real(path).stat()))

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:
        if self._server.is_read_only and flags & (os.O_WRONLY | os.O_RDWR):
            return paramiko.SFTP_PERMISSION_DENIED

        def opened() -> _Handle:
            handle = _Handle(flags)
            handle.server = self._server
            mode = "rb" if not flags & (os.O_WRONLY | os.O_RDWR) else "r+b"
            handle.readfile = handle.writefile = os.fdopen(os.open(self._real(path), flags, 0o600), mode)
            return handle

        return self._try(opened)

    def remove(self, path: str) -> Any:
        return self._try(self._real(path).unlink)

    def rename(self, oldpath: str, newpath: str) -> Any:
        if self._real(newpath).exists():
            return paramiko.SFTP_FAILURE
        return self._try(lambda: self._real(oldpath).rename(self._real(newpath)))

    def posix_rename(self, oldpath: str, newpath: str) -> Any:
        if not self._server.can_replace:
            return paramiko.SFTP_OP_UNSUPPORTED
        return self._try(lambda: self._real(oldpath).replace(self._real(newpath)))

    def mkdir(self, path: str, attr: Any) -> Any:
        if self._server.is_read_only:
            return paramiko.SFTP_PERMISSION_DENIED
        return self._try(self._real(path).mkdir)


@contextmanager
def loopback_sftp(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[LoopbackSFTP]:
    """Runs a server that is a known host, in a home folder of its own, without an SSH agent."""
    (folder / "home" / ".ssh").mkdir(parents=True)
    (folder / "root").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with LoopbackSFTP(folder / "root") as server:
        known = f"[127.0.0.1]:{server.port} {server.key.get_name()} {server.key.get_base64()}\n"
        (folder / "home" / ".ssh" / "known_hosts").write_text(known)
        yield server
