"""MLflow's own tracking server on this machine: its application in this process, behind what lets requests fail.

The requests are handled by MLflow's code, with a database and a folder for files; so this proves that its client and
its server agree with us about what is asked. In front of it stands a check of tokens, as a proxy would have it. It does
not prove how several workers, other databases, other stores for files, or MLflow's own users and rights behave. The
program `mlflow server` itself runs in `mlflow_program`.
"""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from tests.servers.hub import Fault

TOKEN = "plain-token-of-the-tests-0123456789"


class LoopbackMLflow:
    """The server, which is one for all tests of a process: each uses an experiment of its own.

    Attributes:
        url: Its address.
        folder: With `mlflow.db` and `artifacts`.
        requests: "METHOD /path" of all requests, the oldest first.
        faults: What is still to go wrong.
        tokens: Roles, "read" or "write", by token.
        settings: Environment variables that it looks at when it answers. MLflow looks at them too where it has no
            server, so that they are set for its tests only.
    """

    def __init__(self, folder: Path) -> None:
        from mlflow.server import app, handlers
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *arguments: Any) -> None:  # noqa: A002
                """Keeps the test's output quiet."""

        self.folder = folder
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.tokens = {TOKEN: "write"}
        self._lock = threading.Lock()
        settings = {
            "BACKEND_STORE_URI_ENV_VAR": f"sqlite:///{folder / 'mlflow.db'}",
            "ARTIFACT_ROOT_ENV_VAR": "mlflow-artifacts:/",
            "ARTIFACTS_DESTINATION_ENV_VAR": (folder / "artifacts").as_uri(),
            "SERVE_ARTIFACTS_ENV_VAR": "true",
        }
        from mlflow.server import constants

        self.settings = {getattr(constants, name): value for name, value in settings.items()}
        with _forgotten_settings(self.settings):
            handlers._get_tracking_store()  # makes the database
            handlers._get_model_registry_store()
        self._app = app
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, where: str, **how: Any) -> Fault:
        """Makes the next requests that match go wrong."""
        fault = Fault(where, **how)
        self.faults.append(fault)
        return fault

    def files(self) -> dict[str, bytes]:
        """Returns everything that it has stored."""
        found = {}
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # the journal of the database, which comes and goes
                if path.is_file():
                    found[str(path)] = path.read_bytes()
        return found

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        with self._lock:
            self.requests.append(request)
            fault = next((known for known in self.faults if known.times and re.search(known.where, request)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None:
            fault.hold()
        if fault is not None and fault.drop == "before":
            return _cut(environ)
        refusal = self._refusal(environ, fault)
        if refusal is not None:
            status, message, headers = refusal
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} Refused", [("Content-Length", str(len(message))), *headers.items()])
            return [message]
        if fault is None or fault.drop is None:
            return self._app(environ, start_response)
        told: list[Any] = []
        body = b"".join(self._app(environ, lambda *arguments: told.extend(arguments)))
        if fault.drop == "after":
            return _cut(environ)
        lines = [f"HTTP/1.1 {told[0]}", f"Content-Length: {len(body) + 2}", "", body[: len(body) // 2].decode("latin1")]
        environ["werkzeug.socket"].sendall("\r\n".join(lines).encode("latin1"))
        return _cut(environ)

    def _refusal(self, environ: dict[str, Any], fault: Fault | None) -> tuple[int, bytes, dict[str, str]] | None:
        if fault is not None and fault.status is not None:
            return fault.status, fault.message.encode(), fault.headers
        role = self.tokens.get(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))
        if role is None:
            return 401, b"who are you?", {}
        if role == "read" and environ["REQUEST_METHOD"] != "GET":
            return 403, b"you may not write", {}
        return None


@contextmanager
def _forgotten_settings(settings: dict[str, str]) -> Iterator[None]:
    """Sets environment variables, and undoes that, and what MLflow's server sets for the whole process when it begins.

    Otherwise a test that comes later would find its store in the server's database.
    """
    from mlflow.tracking._model_registry import utils as registry
    from mlflow.tracking._tracking_service import utils as tracking

    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(name, "")  # so that it is known, and undone
            patch.delenv(name)
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(tracking, "_tracking_uri", tracking._tracking_uri)
        patch.setattr(registry, "_registry_uri", registry._registry_uri)
        yield


def _cut(environ: dict[str, Any]) -> list[bytes]:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("as the test wants it")


@cache
def _server() -> LoopbackMLflow:
    return LoopbackMLflow(_folder())


def _folder() -> Path:
    folder = Path(mkdtemp(prefix="rl_framework-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def loopback_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackMLflow]:
    """Gives the server with nothing that goes wrong, and makes its token the one that is used."""
    server = _server()
    server.faults.clear()
    server.tokens = {TOKEN: "write"}
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name, value in {**server.settings, "MLFLOW_TRACKING_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.faults.clear()


@cache
def empty_database() -> Path:
    """Returns a database to copy: a new one takes MLflow seconds, so that it is made once."""
    from mlflow import MlflowClient

    path = _folder() / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def free_port() -> int:
    """Returns a port that nobody listens to: one of those that the system gives to nobody who does not ask for it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextmanager
def mlflow_program(folder: Path, port: int, verb: str = "server") -> Iterator[str]:
    """Runs `mlflow server` or `mlflow ui` on the store in a folder, and gives its address when it answers."""
    arguments = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--host", "127.0.0.1", "--port", str(port)]
    if verb == "server":
        arguments += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_"))}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", verb, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_it_answers(url, process)
        yield url
    finally:
        # It and its workers are a group of their own.
        os.killpg(process.pid, 9)
        process.wait()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"the program did not answer; its exit status is {process.poll()}")
