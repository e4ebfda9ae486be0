"""Moto's S3 on this machine, which fails as a test tells it to.

Moto answers as Amazon documents it, from memory. It checks no signatures, knows no limits on rates, no rights and no
rules of buckets, and is always consistent; what stands in front of it here breaks connections and answers with errors
as a busy or distant service would. Keys that are wrong are refused by what stands in front, not by their signature.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.servers.hub import Fault

KEY = "AKIATESTSTESTSTESTS0"
SECRET = "not-a-real/secret+of-the-tests"
BUCKET = "bucket"


class LoopbackS3:
    """The server; use it as a context manager.

    Attributes:
        url: Its address.
        requests: "METHOD /path?query" of all requests, the oldest first.
        faults: What is still to go wrong.
        key: The access key that it accepts.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *arguments: Any, **more: Any) -> None:
                """Keeps the test's output quiet."""

        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.key = KEY
        self._lock = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LoopbackS3:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        from moto.s3.models import s3_backends

        self._server.shutdown()
        self._server.server_close()
        for backends in s3_backends.values():
            for backend in backends.values():
                backend.reset()

    def fail(self, where: str, **how: Any) -> Fault:
        """Makes the next requests that match go wrong."""
        fault = Fault(where, **how)
        self.faults.append(fault)
        return fault

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        with self._lock:
            self.requests.append(request)
            fault = next((each for each in self.faults if each.times > 0 and re.search(each.where, request)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None:
            fault.hold()
        if fault is not None and fault.drop == "before":
            raise _cut(environ)
        if fault is not None and fault.status is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refuse(start_response, fault.status, "SlowDown", fault.headers)
        if self.key not in environ.get("HTTP_AUTHORIZATION", ""):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _refuse(start_response, 403, "InvalidAccessKeyId", {})
        if fault is None or fault.drop is None:
            return self._moto(environ, start_response)
        body = b"".join(self._moto(environ, start_response if fault.drop == "half-way" else _ignored))
        if fault.drop == "half-way" and body:
            return _broken(environ, body[: len(body) // 2])
        raise _cut(environ)


def _ignored(*arguments: Any, **more: Any) -> None:
    """Sends no head of an answer."""


def _refuse(start_response: Callable[..., Any], status: int, code: str, headers: dict[str, str]) -> list[bytes]:
    body = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
    start_response(f"{status} no", [("Content-Type", "application/xml"), *headers.items()])
    return [body]


def _broken(environ: dict[str, Any], part: bytes) -> Iterator[bytes]:
    yield part
    raise _cut(environ)


def _cut(environ: dict[str, Any]) -> Exception:
    """Cuts a connection, and returns what werkzeug takes for that."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    return ConnectionAbortedError("as the test wants it")


@contextmanager
def loopback_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackS3]:
    """Runs an S3 with a bucket, and points the clients of this process and of those it starts at it."""
    with LoopbackS3() as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nowhere",
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        login = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
        urlopen(Request(f"{server.url}/{BUCKET}", b"", {"Authorization": login}, method="PUT")).close()
        server.requests.clear()
        yield server
