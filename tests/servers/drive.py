"""A small Google Drive on this machine, for Google's own client library.

It keeps files and folders in memory: several of one name, searches by name, parent and kind in pages, uploads in one
request and in resumable sessions, downloads with ranges, a quota, users and service accounts whose access tokens
expire; and it fails as a test tells it to.

It was written from the client's side and from Google's documentation, so it proves that the client completes its
protocol with us, and how we take failures. It does not prove that the real Drive answers the same way: its rights of
single files and of shared drives, its limits on rates and on names, its delays until a search finds what was just
made, how long a session lives, and signatures of service accounts, which are not checked here.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs

import pytest
from tests.servers.hub import Answer, Fault, RefusedError, _Handler

FOLDER = "application/vnd.google-apps.folder"
TOKEN = "ya29." + "AccessTokenOfTheTests0123456789"
REFRESH_TOKEN = "1//" + "RefreshTokenOfTheTests0123456"
ROOT = "root"
MULTIPLE = 256 << 10


@dataclass
class Stored:
    """A file or a folder."""

    id: str
    name: str
    parents: list[str]
    kind: str
    number: int
    content: bytes = b""
    modified: int = 0
    is_shared: bool = False

    def described(self) -> dict[str, Any]:
        times = {"createdTime": _time(self.number), "modifiedTime": _time(self.modified)}
        told = {"id": self.id, "name": self.name, "mimeType": self.kind, "parents": self.parents, **times}
        if self.kind != FOLDER:
            told |= {"size": str(len(self.content)), "sha256Checksum": hashlib.sha256(self.content).hexdigest()}
        return told


@dataclass
class Session:
    """A resumable upload: what has arrived, and what becomes of it."""

    metadata: dict[str, Any]
    replaces: str | None
    content: bytes = b""
    is_over: bool = False


class LoopbackDrive:
    """The server; use it as a context manager.

    Attributes:
        url: Its address.
        stored: Files and folders by id, the oldest first.
        requests: "METHOD /path" of all requests, the oldest first.
        faults: What is still to go wrong.
        token: The access token that is given out, and accepted until `expire`.
        refresh_tokens: For which access tokens are given out.
        login: The file with the login of the user.
        role: "write", "read", or None: no token is accepted.
        quota: Bytes that all files may have together; None: any number.
        page_size: Entries of a page at most.
        cut_session_after: Bytes after which a resumable upload is cut once; None: never.
        received_bytes: Of resumable uploads.
        n_refreshed: Access tokens that were given out.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.sessions: dict[str, Session] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self.token, self.expired = TOKEN, set[str]()
        self.refresh_tokens = {REFRESH_TOKEN}
        self.role: str | None = "write"
        self.quota: int | None = None
        self.page_size = 2
        self.cut_session_after: int | None = None
        self.received_bytes = 0
        self.n_refreshed = 0
        self.login = Path("login.json")
        self._clock = 0
        handler = type("Handler", (_DriveHandler,), {"hub": self, "drive": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackDrive:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, where: str, **how: Any) -> Fault:
        """Makes the next requests that match go wrong."""
        fault = Fault(where, **how)
        self.faults.append(fault)
        return fault

    def accept(self, refresh_token: str) -> None:
        """Makes this the login of the user."""
        self.refresh_tokens = {refresh_token}
        login = {"type": "authorized_user", "client_id": "tests", "client_secret": "a-client-secret-of-the-tests"}
        self.login.write_text(json.dumps({**login, "refresh_token": refresh_token}))

    def expire(self) -> None:
        """Lets the access token expire; whoever refreshes it gets another one."""
        self.expired.add(self.token)
        self.token = f"{TOKEN}-{len(self.expired)}"

    def tick(self) -> int:
        self._clock += 1
        return self._clock

    def add(self, name: str, parent: str = ROOT, content: bytes | None = None, is_shared: bool = False) -> Stored:
        """Puts a file there, or a folder if it has no content."""
        number = self.tick()
        kind = FOLDER if content is None else "application/octet-stream"
        made = Stored(f"id{number:06d}", name, [parent], kind, number, content or b"", number, is_shared)
        self.stored[made.id] = made
        return made

    def path_of(self, stored: Stored) -> str:
        above = self.stored.get(stored.parents[0])
        return stored.name if above is None else f"{self.path_of(above)}/{stored.name}"

    @property
    def contents(self) -> dict[str, bytes]:
        """All files by path."""
        return {self.path_of(each): each.content for each in self.stored.values() if each.kind != FOLDER}

    def room_for(self, size: int) -> bool:
        return self.quota is None or sum(len(each.content) for each in self.stored.values()) + size <= self.quota


class _DriveHandler(_Handler):
    drive: LoopbackDrive

    def do_PATCH(self) -> None:
        self._handle()

    def _route(self, path: str, query: dict[str, Any], body: bytes) -> Answer:
        if path == "/token":
            return self._give_token({name: values[0] for name, values in parse_qs(body.decode()).items()})
        self._check_token()
        writes = self.command != "GET"
        if writes and self.drive.role != "write":
            raise _refused(403, "insufficientFilePermissions", "The user does not have sufficient permissions")
        if found := re.fullmatch(r"/session/(\w+)", path):
            return self._continue(found[1], body)
        if found := re.fullmatch(r"/upload/drive/v3/files(?:/(\w+))?", path):
            return self._upload(found[1], query, body)
        if path == "/drive/v3/files" and writes:
            return Answer(200, self._make(json.loads(body)).described())
        if path == "/drive/v3/files":
            return self._search(query)
        if found := re.fullmatch(r"/drive/v3/files/(\w+)", path):
            stored = self._stored(found[1])
            if self.command == "DELETE":
                del self.drive.stored[stored.id]
                return Answer(204, b"")
            return self._content(stored) if query.get("alt") == ["media"] else Answer(200, stored.described())
        raise _refused(404, "notFound", f"there is no {path} here")

    def _give_token(self, asked: dict[str, str]) -> Answer:
        drive = self.drive
        if asked["grant_type"] == "refresh_token" and asked["refresh_token"] not in drive.refresh_tokens:
            raise RefusedError(400, {"error": "invalid_grant", "error_description": "Token has been revoked."})
        drive.n_refreshed += 1
        return Answer(200, {"access_token": drive.token, "expires_in": 3600, "token_type": "Bearer"})

    def _check_token(self) -> None:
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.drive.role is None or sent != self.drive.token:
            # The real one repeats nothing of the token; a proxy in between may.
            raise _refused(401, "authError", f"Invalid Credentials: {sent}")

    def _stored(self, identity: str) -> Stored:
        if identity not in self.drive.stored:
            raise _refused(404, "notFound", f"File not found: {identity}.")
        return self.drive.stored[identity]

    def _search(self, query: dict[str, Any]) -> Answer:
        found = [each for each in self.drive.stored.values() if _fits(each, query["q"][0])]
        start = int(query.get("pageToken", ["0"])[0])
        page = found[start : start + self.drive.page_size]
        told: dict[str, Any] = {"files": [each.described() for each in page]}
        if start + len(page) < len(found):
            told["nextPageToken"] = str(start + len(page))
        return Answer(200, told)

    def _make(self, metadata: dict[str, Any], content: bytes | None = None) -> Stored:
        parent = metadata.get("parents", [ROOT])[0]
        if parent != ROOT:
            self._stored(parent)
        is_folder = metadata.get("mimeType") == FOLDER
        return self.drive.add(metadata["name"], parent, None if is_folder else content or b"")

    def _take(self, metadata: dict[str, Any], replaces: str | None, content: bytes) -> Answer:
        if replaces is None:
            return Answer(200, self._make(metadata, content).described())
        stored = self._stored(replaces)
        stored.content, stored.modified = content, self.drive.tick()
        return Answer(200, stored.described())

    def _check_room(self, size: int) -> None:
        if not self.drive.room_for(size):
            raise _refused(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")

    def _upload(self, replaces: str | None, query: dict[str, Any], body: bytes) -> Answer:
        if query["uploadType"] == ["resumable"]:
            self._check_room(int(self.headers["X-Upload-Content-Length"]))
            identity = f"session{len(self.drive.sessions)}"
            self.drive.sessions[identity] = Session(json.loads(body or b"{}"), replaces)
            return Answer(200, b"", {"Location": f"{self.drive.url}/session/{identity}"})
        boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])
        if query["uploadType"] == ["media"] or boundary is None:
            self._check_room(len(body))
            return self._take({}, replaces, body)
        parts = body.split(b"--" + boundary[1].encode())
        metadata, content = (part.split(b"\n\n", 1)[1].removesuffix(b"\n") for part in parts[1:3])
        self._check_room(len(content))
        return self._take(json.loads(metadata), replaces, content)

    def _continue(self, identity: str, body: bytes) -> Answer:
        session = self.drive.sessions.get(identity)
        if session is None or session.is_over:
            raise _refused(404, "notFound", "there is no such session")
        told = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", self.headers["Content-Range"])
        if told is None:
            raise _refused(400, "badRequest", "it does not say which bytes these are")
        total = int(told[3])
        if told[1] is not None:
            if int(told[1]) != len(session.content) or (int(told[2]) + 1 < total and len(body) % MULTIPLE):
                raise _refused(400, "badRequest", "it does not go on where it stopped, or not by 256 KiB")
            limit = self.drive.cut_session_after
            if limit is not None and len(session.content) + len(body) > limit:
                self.drive.cut_session_after = None
                kept = (limit - len(session.content)) // MULTIPLE * MULTIPLE
                session.content += body[:kept]
                self.drive.received_bytes += kept
                self.fault = Fault("", drop="after")
                return Answer(308)
            session.content += body
            self.drive.received_bytes += len(body)
        if len(session.content) == total:
            session.is_over = True
            return self._take(session.metadata, session.replaces, session.content)
        there = {"Range": f"bytes=0-{len(session.content) - 1}"} if session.content else {}
        return Answer(308, b"", there)

    def _content(self, stored: Stored) -> Answer:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return Answer(200, stored.content)
        first, last = int(asked[1]), min(int(asked[2] or 1 << 60), len(stored.content) - 1)
        if first >= len(stored.content):
            raise _refused(416, "requestedRangeNotSatisfiable", "there are no such bytes")
        told = {"Content-Range": f"bytes {first}-{last}/{len(stored.content)}"}
        return Answer(206, stored.content[first : last + 1], told)


def _refused(status: int, reason: str, message: str) -> RefusedError:
    refused = RefusedError(status, {"error": message})
    errors = [{"domain": "global", "reason": reason, "message": message}]
    refused.answer.body = {"error": {"code": status, "message": message, "errors": errors}}
    return refused


def _time(number: int) -> str:
    return f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z"


def _fits(stored: Stored, query: str) -> bool:
    """Answers the part of Drive's language of searches that is used here; anything else is a mistake of the client."""
    text = r"'((?:[^'\\]|\\.)*)'"
    for condition in re.split(r" and (?=(?:name|mimeType|trashed|sharedWithMe|'))", query):
        if found := re.fullmatch(rf"name = {text}", condition):
            fits = stored.name == re.sub(r"\\(.)", r"\1", found[1])
        elif found := re.fullmatch(rf"mimeType = {text}", condition):
            fits = stored.kind == found[1]
        elif found := re.fullmatch(rf"{text} in parents", condition):
            fits = found[1] in stored.parents
        elif condition == "sharedWithMe = true":
            fits = stored.is_shared
        else:
            assert condition == "trashed = false", f"{condition!r} is no condition"
            fits = True
        if not fits:
            return False
    return True


@contextmanager
def loopback_drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackDrive]:
    """Runs a Drive, and points the client of this process at it, with the login of a user."""
    import google.oauth2.credentials as logins

    with LoopbackDrive() as drive, TemporaryDirectory() as folder:
        drive.login = Path(folder) / "login.json"
        drive.accept(REFRESH_TOKEN)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(drive.login))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "tests")
        monkeypatch.setattr(logins, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{drive.url}/token")
        monkeypatch.setattr("rl_framework.stores.drive_access._ENDPOINT", drive.url)
        yield drive
