"""A small ClearML server on loopback, for the real `clearml` SDK and for our connector.

It is API server, web server and file server at once, in memory. What matters for delivering was written after the
published source of ClearML's server (version 2.3, December 2025):

- an event of the same task, iteration, metric, variant and key takes the place of the one before;
- parameters, configuration, artifacts and models of a task can be changed while it is "created", or with `force` while
  it is queued or running, and never after it has ended; events can be added at any time;
- the file server takes forms whose field names are the files' places;
- names of tasks have three characters or more; a wrong key is a 401 with subcode 22.

The rest was written from the client's side. It does not prove that a real ClearML answers the same way: there are no
permissions, no workspaces, no quotas, no limits on sizes, no search index that lags behind, no agents, no proxies, and
no other version of the API. Answers hold what the clients read, and not all that the real ones hold.

Faults are planted as on the loopback Hub, with `fail`; endpoints are "POST /v2.13/tasks.create" there.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.servers.clearml_api import Api, Contents, RefusalError, answer
from tests.servers.hub import Fault

ACCESS_KEY, SECRET_KEY = "PLANTEDACCESSKEY0123", "planted-secret-key-0123456789abcdef"


class ClearMLServer:
    """The server; use it in a `with` block."""

    def __init__(self) -> None:
        self.contents = Contents()
        self.lock = threading.RLock()
        self.keys = (ACCESS_KEY, SECRET_KEY)
        self.is_read_only = False
        self.faults: list[Fault] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.clearml = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> ClearMLServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    def configuration(self) -> str:
        """Returns the text of a `clearml.conf` for this server."""
        return json.dumps(
            {
                "api": {
                    "api_server": self.url,
                    "web_server": self.url,
                    "files_server": self.url,
                    "credentials": {"access_key": self.keys[0], "secret_key": self.keys[1]},
                },
                "sdk": {"development": {"worker": {"report_period_sec": 1, "log_stdout": False}}},
            }
        )

    def variables(self) -> dict[str, str]:
        """Returns environment variables that name this server."""
        return {
            "CLEARML_API_HOST": self.url,
            "CLEARML_WEB_HOST": self.url,
            "CLEARML_FILES_HOST": self.url,
            "CLEARML_API_ACCESS_KEY": self.keys[0],
            "CLEARML_API_SECRET_KEY": self.keys[1],
        }

    def fail(self, where: str, **how: Any) -> Fault:
        """Makes the next requests that match go wrong."""
        fault = Fault(where, **how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def next_fault(self, request: str) -> Fault | None:
        """Returns the fault that a request meets, and uses it up by one."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.where, request):
                    fault.times -= 1
                    return fault
        return None

    # What tests read

    def task(self) -> dict[str, Any]:
        """Returns the only task."""
        (task,) = self.contents.tasks.values()
        return task

    def scalars(self, task_id: str) -> dict[str, list[tuple[int, float]]]:
        """Returns a task's scalars by name: iterations and values."""
        series: dict[str, list[tuple[int, float]]] = {}
        for event in self.contents.events.values():
            if event["task"] == task_id and event["type"] == "training_stats_scalar":
                metric, variant = event["metric"], event["variant"]
                name = metric if variant == metric else f"{metric}/{variant}"
                series.setdefault(name, []).append((event["iter"], event["value"]))
        return {name: sorted(points) for name, points in series.items()}

    def events_of(self, task_id: str, kind: str) -> list[dict[str, Any]]:
        """Returns a task's events of a kind, such as "plot"."""
        return [event for event in self.contents.events.values() if (event["task"], event["type"]) == (task_id, kind)]

    def file_at(self, address: str) -> bytes:
        """Returns the file at an address."""
        return self.contents.files[unquote(urlsplit(address).path)]

    # What an agent or a person at the web page does

    def clone(self, task_id: str, **changes: str) -> str:
        """Clones a task and changes hyperparameters of the section "General"."""
        copy = json.loads(json.dumps(self.contents.tasks[task_id]))
        copy |= {"id": uuid.uuid4().hex, "status": "created", "comment": "", "execution": {"artifacts": []}}
        for name, value in changes.items():
            entry = {"section": "General", "name": name}
            copy["hyperparams"]["General"].setdefault(name, entry)["value"] = value
        self.contents.tasks[copy["id"]] = copy
        return str(copy["id"])


@contextmanager
def loopback_clearml(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[ClearMLServer]:
    """Runs a server that this process's clients talk to."""
    with ClearMLServer() as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        # Neither the settings nor the cache of whoever runs the tests.
        monkeypatch.setenv("CLEARML_CONFIG_FILE", str(folder / "no-clearml.conf"))
        monkeypatch.setenv("HOME", str(folder))
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    fault: Fault | None = None

    @property
    def clearml(self) -> ClearMLServer:
        return self.server.clearml  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        is_call = re.fullmatch(r"/(?:v[\d.]+/)?([a-z_]+\.[a-z_.]+)", path)
        endpoint = is_call[1] if is_call else f"{self.command} {path}"
        fault = self.fault = self.clearml.next_fault(f"{self.command} {path}")
        if fault is not None:
            fault.hold()
        if fault is not None and fault.drop == "before":
            self._cut()
        elif fault is not None and fault.status is not None:
            self._send(fault.status, answer(endpoint, {}, fault.status, 0, fault.message), fault.headers)
        else:
            with self.clearml.lock:
                self.clearml.contents.calls[endpoint] += 1
                status, content = self._call(endpoint, body) if is_call else self._file(path, body)
            self._send(status, content)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle  # noqa: N815

    def _call(self, endpoint: str, body: bytes) -> tuple[int, bytes]:
        try:
            self._check_keys(is_login=endpoint == "auth.login")
            if "json-lines" in (self.headers.get("Content-Type") or ""):
                data: dict[str, Any] = {"lines": [json.loads(line) for line in body.splitlines() if line.strip()]}
            else:
                data = json.loads(body or b"{}")
            if self.clearml.is_read_only and not re.search(r"\.(login|get_\w+)$", endpoint):
                raise RefusalError(403, 21, "forbidden (modification not allowed)")
            return 200, answer(endpoint, Api(self.clearml.contents).call(endpoint, data))
        except RefusalError as refusal:
            return refusal.status, answer(endpoint, {}, refusal.status, refusal.subcode, str(refusal))

    def _check_keys(self, is_login: bool) -> None:
        scheme, _, value = (self.headers.get("Authorization") or "").partition(" ")
        if scheme == "Basic" and is_login:
            if tuple(base64.b64decode(value).decode().split(":", 1)) != self.clearml.keys:
                raise RefusalError(401, 22, "Unauthorized (invalid credentials)")
        elif scheme != "Bearer":
            raise RefusalError(401, 20, "Unauthorized (missing credentials)")

    def _file(self, path: str, body: bytes) -> tuple[int, bytes]:
        files, content_type = self.clearml.contents.files, self.headers.get("Content-Type") or ""
        if self.command == "POST" and "multipart" in content_type:
            form = BytesParser(policy=policy.HTTP).parsebytes(
                b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
            )
            for part in form.iter_parts():  # type: ignore[attr-defined]
                name = str(part.get_param("name", header="content-disposition"))
                files["/" + name.lstrip("/")] = part.get_payload(decode=True)
            return 200, b"[]"
        if path in files:
            return 200, files[path]
        return (200 if path == "/" else 404), b""

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        drop = None if self.fault is None else self.fault.drop
        if drop == "after":
            self._cut()
            return
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if drop == "half-way" else content)
        if drop == "half-way":
            self._cut()

    def _cut(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        if self.fault is not None and self.fault.drop != "half-way":
            # What has been sent half-way must arrive; otherwise the connection is reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
