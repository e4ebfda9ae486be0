"""A small Hugging Face Hub on this machine, for the real `huggingface_hub` client.

It keeps repositories in memory: commits with regular and large files, branches, listings, downloads with ranges, tokens
with roles, private repositories; and it fails as a test tells it to.

It was written from the client's side, so it proves that the client completes its protocol with us, and how we take
failures. It does not prove that the real Hub answers the same way: its limits on rates and sizes, its storage behind
redirects, its transfers by "xet" (switched off here), its caches, its own checks of files, and the whole of its
validation of model cards, of which `_mistakes_in_card` knows the rules that are documented.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

WRITE_TOKEN = "hf_" + "WriteTokenOfTheTests0123456789"
READ_TOKEN = "hf_" + "ReadTokenOfTheTests01234567890"
USER = "tester"
LARGE_ENDINGS = (".mp4", ".npy", ".npz", ".arrow", ".parquet", ".pkl", ".pth", ".zip")

_LONGEST_WAIT = 300.0
"""Seconds, so that a test that has failed leaves no thread for ever."""

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
BATCH = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/([^/]+)(?:/([^/]*)(?:/(.*))?)?)?")


@dataclass(frozen=True)
class Stored:
    """A file in a commit."""

    content: bytes
    is_large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_hash(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def listed(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.git_hash}
        if self.is_large:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass
class Repository:
    """Commits and branches."""

    name: str
    private: bool = False
    commits: dict[str, dict[str, Stored]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Stored], message: str) -> str:
        sha = hashlib.sha1(f"{self.name} {len(self.commits)} {message}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        return {path: stored.content for path, stored in self.commits[self.branches["main"]].items()}


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        where: A pattern for "METHOD /path".
        times: How often.
        status: Answer with this status.
        headers: And these headers.
        message: And this text.
        drop: Cut the connection: "before" anything is done, "after" all is done and nothing was answered, or
            "half-way" through the answer.
        until: Do not answer before this is set.
        met: Set when it has happened to a request.
    """

    where: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "as the test wants it"
    drop: str | None = None
    until: threading.Event | None = None
    met: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        """Takes note of a request that meets it, and keeps that waiting as long as it says."""
        self.met.set()
        if self.until is not None:
            self.until.wait(_LONGEST_WAIT)


@dataclass
class Answer:
    """What is sent back; a body of bytes goes as it is, anything else as JSON."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Ends the handling of a request with an answer that it is refused."""

    def __init__(
        self, status: int, body: dict[str, str], code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        told = {} if code is None else {"X-Error-Code": code, "X-Error-Message": body["error"]}
        self.answer = Answer(status, body, told | (headers or {}))


class LoopbackHub:
    """The server; use it as a context manager.

    Attributes:
        url: Its address.
        repositories: By (kind, name).
        tokens: Roles by token.
        requests: "METHOD /path" of all requests, the oldest first.
        faults: What is still to go wrong.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.uploaded: dict[str, bytes] = {}
        self.tokens = {WRITE_TOKEN: "write", READ_TOKEN: "read"}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackHub:
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

    def add(self, name: str, files: dict[str, bytes], kind: str = "model", private: bool = False) -> Repository:
        """Puts a repository there, as if somebody else had uploaded it."""
        repository = self.repositories[kind, name] = Repository(name, private)
        repository.commit("main", {path: self.stored(path, content) for path, content in files.items()}, "first")
        return repository

    def stored(self, path: str, content: bytes) -> Stored:
        return Stored(content, path.endswith(LARGE_ENDINGS))

    def commits(self, name: str) -> list[str]:
        """Returns the messages of a repository's commits, the initial one left out."""
        return self.repositories["model", name].messages[1:]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    fault: Fault | None = None

    def log_message(self, *arguments: Any) -> None:
        """Keeps the test's output quiet."""

    def _handle(self) -> None:
        body = self._read_body()
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
            self.fault = self._next_fault(f"{self.command} {path}")
        fault = self.fault
        if fault is not None:
            fault.hold()
        if fault is not None and fault.drop == "before":
            self._cut()
            return
        if fault is not None and fault.status is not None:
            self._send(Answer(fault.status, {"error": fault.message}, fault.headers))
            return
        try:
            with self.hub.lock:
                answer = self._route(path, query, body)
        except RefusedError as error:
            answer = error.answer
        self._send(answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle  # noqa: N815 (the standard library wants them so)

    def _next_fault(self, request: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.times > 0 and re.search(fault.where, request):
                fault.times -= 1
                return fault
        return None

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer) -> None:
        is_json = not isinstance(answer.body, bytes)
        content = json.dumps({} if answer.body is None else answer.body).encode() if is_json else answer.body
        if self.fault is not None and self.fault.drop == "after":
            self._cut()
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json" if is_json else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault is not None and self.fault.drop == "half-way":
            self.wfile.write(content[: len(content) // 2])
            self._cut()
            return
        self.wfile.write(content)

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        if self.fault is not None and self.fault.drop != "half-way":
            # What has been sent half-way must arrive; otherwise the connection is reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)

    # What the Hub does

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
        hub = self.hub
        if path == "/api/whoami-v2":
            self._check_role("read", None)
            return Answer(200, {"type": "user", "id": "1", "name": USER, "orgs": [], "auth": {"type": "access_token"}})
        if path == "/api/validate-yaml":
            return Answer(200, {"errors": _mistakes_in_card(json.loads(body)["content"]), "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/_large/([0-9a-f]{64})", path):
            if hashlib.sha256(body).hexdigest() != found[1]:
                raise RefusedError(400, {"error": "another checksum"})
            hub.uploaded[found[1]] = body
            return Answer(200)
        if found := BATCH.fullmatch(path):
            self._repository(KINDS[found[1] or "models"], found[2], "write")
            uploads = [self._upload_of(asked) for asked in json.loads(body)["objects"]]
            return Answer(200, {"transfer": "basic", "objects": uploads})
        if found := RESOLVE.fullmatch(path):
            return self._resolve(self._repository(KINDS[found[1] or "models"], found[2], "read"), found[3], found[4])
        if found := API.fullmatch(path):
            writes = found[3] in ("preupload", "commit", "branch")
            repository = self._repository(KINDS[found[1]], found[2], "write" if writes else "read")
            return self._api(repository, found[3], unquote(found[4] or "main"), found[5] or "", query, body)
        raise RefusedError(404, {"error": f"there is no {path} here"})

    def _role(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.tokens:
            # The real one repeats nothing of the token; a proxy in between may.
            raise RefusedError(401, {"error": f"Invalid credentials in Authorization header: {token}"})
        return self.hub.tokens[token]

    def _check_role(self, needed: str, repository: Repository | None) -> None:
        role = self._role()
        if role is None and (needed == "write" or repository is None or repository.private):
            raise RefusedError(401, {"error": "Repository not found"}, "RepoNotFound")
        if needed == "write" and role != "write":
            raise RefusedError(403, {"error": "you need the role write"})

    def _repository(self, kind: str, name: str, needed: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._role()
            raise RefusedError(404, {"error": "Repository not found"}, "RepoNotFound")
        self._check_role(needed, repository)
        return repository

    def _create(self, asked: dict[str, Any]) -> Answer:
        self._check_role("write", None)
        kind, name = asked.get("type") or "model", f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"
        if (kind, name) in self.hub.repositories:
            raise RefusedError(409, {"error": "You already created this repo", "url": url})
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repository = self.hub.repositories[kind, name] = Repository(name, private)
        repository.commit("main", {".gitattributes": Stored(b"", False)}, "initial commit")
        return Answer(200, {"url": url, "name": name, "id": "1"})

    def _upload_of(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in self.hub.uploaded:
            answer["actions"] = {"upload": {"href": f"{self.hub.url}/_large/{asked['oid']}", "header": {}}}
        return answer

    def _resolve(self, repository: Repository, revision: str, path: str) -> Answer:
        sha = repository.resolve(revision)
        if sha is None:
            raise RefusedError(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        stored = repository.commits[sha].get(path)
        if stored is None:
            raise RefusedError(404, {"error": "Entry not found"}, "EntryNotFound", {"X-Repo-Commit": sha})
        etag = f'"{stored.sha256 if stored.is_large else stored.git_hash}"'
        headers = {"X-Repo-Commit": sha, "ETag": etag, "Accept-Ranges": "bytes"}
        content = stored.content
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return Answer(206, content[first : last + 1], headers)
        return Answer(200, content, headers)

    def _api(
        self, repository: Repository, verb: str | None, revision: str, path: str, query: dict[str, Any], body: bytes
    ) -> Answer:
        if verb == "branch":
            if revision in repository.branches:
                raise RefusedError(409, {"error": "Reference already exists"})
            repository.branches[revision] = repository.branches["main"]
            return Answer(200)
        sha = repository.resolve(revision)
        if sha is None:
            raise RefusedError(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        files = repository.commits[sha]
        if verb in (None, "revision"):
            siblings = [{"rfilename": name} for name in sorted(files)]
            date = "2026-01-01T00:00:00.000Z"
            about = {"id": repository.name, "modelId": repository.name, "sha": sha, "lastModified": date}
            return Answer(200, {**about, "private": repository.private, "tags": [], "siblings": siblings})
        if verb == "tree":
            prefix = f"{path.strip('/')}/" if path else ""
            return Answer(200, [stored.listed(name) for name, stored in files.items() if name.startswith(prefix)])
        if verb == "preupload":
            answers = []
            for asked in json.loads(body)["files"]:
                known, is_large = files.get(asked["path"]), asked["path"].endswith(LARGE_ENDINGS)
                oid = None if known is None else known.sha256 if known.is_large else known.git_hash
                mode = "lfs" if is_large else "regular"
                answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            return Answer(200, {"files": answers})
        if verb == "commit":
            return self._commit(repository, revision, dict(files), [json.loads(line) for line in body.splitlines()])
        raise RefusedError(404, {"error": f"there is no {verb} here"})

    def _commit(
        self, repository: Repository, revision: str, files: dict[str, Stored], operations: list[dict[str, Any]]
    ) -> Answer:
        message = ""
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = Stored(base64.b64decode(value["content"]), False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.uploaded:
                    raise RefusedError(400, {"error": "a large file is missing"})
                files[value["path"]] = Stored(self.hub.uploaded[value["oid"]], True)
            elif key == "deletedFile":
                del files[value["path"]]
            else:
                raise RefusedError(400, {"error": f"{key} is not known"})
        sha = repository.commit(revision, files, message)
        return Answer(200, {"commitOid": sha, "commitUrl": f"{self.hub.url}/{repository.name}/commit/{sha}"})


def _mistakes_in_card(text: str) -> list[dict[str, str]]:
    """Checks a card's metadata by the rules that the Hub documents."""
    found = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    if found is None:
        return [{"message": "there is no metadata block"}]
    metadata = yaml.safe_load(found[1])
    mistakes = []
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 100 for tag in tags):
        mistakes.append("tags must be a list of texts")
    for name in ("library_name", "pipeline_tag", "license"):
        if name in metadata and not re.fullmatch(r"[a-z0-9._-]+", str(metadata[name])):
            mistakes.append(f"{name} is not valid")
    for model in metadata.get("model-index", []):
        if not isinstance(model.get("name"), str) or not isinstance(model.get("results"), list):
            mistakes.append("model-index needs a name and results")
            continue
        for result in model["results"]:
            for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
                if not all(isinstance(result.get(part, {}).get(key), str) for key in keys):
                    mistakes.append(f"a result needs {part} with {keys}")
            for metric in result.get("metrics") or [{}]:
                if not isinstance(metric.get("type"), str) or "value" not in metric:
                    mistakes.append("a metric needs type and value")
    return [{"message": mistake} for mistake in mistakes]


@contextmanager
def loopback_hub(monkeypatch: pytest.MonkeyPatch, cache: Any) -> Iterator[LoopbackHub]:
    """Runs a Hub, and points the client of this process and of those it starts at it.

    The client reads its settings when it is imported, which may have happened; so they are also set in its module.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import _http
    from huggingface_hub.utils._http import close_session

    with LoopbackHub() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITE_TOKEN, "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(cache)}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_TOKEN_PATH": str(cache / "token"),
        }.items():
            monkeypatch.setattr(constants, name, value)
        # The client's own waits between its own attempts.
        monkeypatch.setattr(_http, "time", type("Time", (), {"sleep": lambda seconds: None, "time": lambda: 0.0}))
        close_session()
        yield hub
        close_session()
