from __future__ import annotations

import socket
import ssl
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import RetryPolicy, call_with_retries, may_pass, retry_after, status_of


class AnsweredError(Exception):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"answered {status}")
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = type("Response", (), {"status_code": status, "headers": headers})()


class Flaky:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.n_calls = 0

    def __call__(self) -> str:
        self.n_calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


def _clients_errors() -> list[Exception]:
    httpx2 = pytest.importorskip("httpx2")
    requests = pytest.importorskip("requests")
    request = httpx2.Request("GET", "http://x")
    return [
        httpx2.ConnectError("x", request=request),
        httpx2.ReadTimeout("x", request=request),
        httpx2.RemoteProtocolError("x", request=request),
        requests.ConnectionError("x"),
        requests.Timeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        socket.gaierror("x"),
        ssl.SSLEOFError("x"),
        ConnectionResetError("x"),
        TimeoutError("x"),
    ]


def test_what_may_pass() -> None:
    assert [error for error in _clients_errors() if not may_pass(error)] == []
    for status, expected in ((429, True), (500, True), (503, True), (408, True), (400, False), (401, False)):
        assert may_pass(AnsweredError(status)) is expected
    for error in (ValueError("x"), KeyError("x"), FileNotFoundError("x"), OSError(28, "full"), RuntimeError("x")):
        assert not may_pass(error)
    assert status_of(AnsweredError(418)) == 418
    assert status_of(ValueError()) is None


def test_the_service_says_when() -> None:
    assert retry_after(AnsweredError(429, Retry_After="7")) == 7.0
    assert retry_after(AnsweredError(429)) is None
    assert retry_after(ValueError()) is None
    assert retry_after(AnsweredError(429, Retry_After="soon")) is None
    assert retry_after(AnsweredError(429, Retry_After="nan")) is None
    started = datetime.now(UTC)
    later = format_datetime(started + timedelta(seconds=100), usegmt=True)  # whole seconds
    asked = retry_after(AnsweredError(503, Retry_After=later))
    assert asked is not None
    assert 99 - (datetime.now(UTC) - started).total_seconds() <= asked <= 100
    assert retry_after(AnsweredError(503, Retry_After="Mon, 01 Jan 2001 00:00:00 GMT")) == 0.0


def test_waits_grow_to_a_bound_with_jitter() -> None:
    policy = RetryPolicy(first_wait=1.0, factor=2.0, longest_wait=10.0, jitter=0.5)
    for n_failures, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 10.0), (10_000, 10.0)):
        waits = {policy.wait_after(n_failures) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
    asked = policy.wait_after(1, AnsweredError(429, Retry_After="30"))
    assert 30.0 <= asked <= 31.5


def test_calls_are_made_again_until_they_succeed() -> None:
    waits: list[float] = []
    flaky = Flaky(ConnectionError(), AnsweredError(429, Retry_After="5"))
    policy = RetryPolicy(jitter=0.0)
    assert call_with_retries(flaky, what="the upload", policy=policy, wait=waits.append) == "answer"
    assert waits == [1.0, 5.0]


def test_in_the_end_it_says_what_failed() -> None:
    flaky = Flaky(*[ConnectionError("gone")] * 9)
    with pytest.raises(ConnectorError, match=r"the upload failed \(3 attempts\): ConnectionError: gone"):
        call_with_retries(flaky, what="the upload", policy=RetryPolicy(attempts=3), wait=lambda seconds: None)
    assert flaky.n_calls == 3


@pytest.mark.parametrize("error", [AnsweredError(403), ValueError("no"), ConnectorError("ours")])
def test_what_does_not_pass_is_not_tried_again(error: Exception) -> None:
    flaky = Flaky(error)
    with pytest.raises(ConnectorError):
        call_with_retries(flaky, what="the upload", wait=lambda seconds: pytest.fail("waited"))
    assert flaky.n_calls == 1


def test_the_clients_exception_is_not_chained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "plainly a secret")
    flaky = Flaky(ValueError("sent plainly a secret"))
    with pytest.raises(ConnectorError) as caught:
        call_with_retries(flaky, what="the upload")
    assert caught.value.__context__ is None
    assert "plainly a secret" not in "".join(traceback.format_exception(caught.value))
    assert "sent ***" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"attempts": 0}, {"first_wait": -1.0}, {"jitter": 2.0}, {"factor": 0.5}, {"longest_wait": float("nan")}],
    ids=lambda options: next(iter(options)),
)
def test_mistakes_are_found_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(options))):
        RetryPolicy(**options)
