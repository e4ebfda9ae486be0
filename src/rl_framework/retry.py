"""Trying a call to a service again: when, how long after, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TypeVar

from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.secrecy import describe_error

__all__ = ["RetryPolicy", "call_with_retries", "is_refused_altogether", "may_pass", "retry_after", "status_of"]

Result = TypeVar("Result")

# A generator of its own: to draw from Python's global one would change the training that goes on beside it.
_random = Random()

_TRANSIENT_STATUS = frozenset({408, 409, 412, 423, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_TRANSIENT_CLASSES = frozenset(
    {
        "httpx.TransportError",
        "httpx2.TransportError",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.ContentDecodingError",
        "requests.exceptions.RetryError",
        "requests.exceptions.Timeout",
        "urllib3.exceptions.HTTPError",
    }
)
"""By name, so that nothing of them has to be installed or imported. The modules' inner parts are left out."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon something is tried again: exponential back-off with jitter, or when the service says.

    Attributes:
        attempts: Calls at most; None: for ever.
        first_wait: Seconds before the second attempt.
        factor: By how much each further wait is longer.
        longest_wait: Seconds that a wait takes at most.
        jitter: The share of a wait that is drawn at random, from 0 to 1, so that many clients do not come back at once.
        longest_retry_after: Seconds for which the service's own `Retry-After` is honoured at most.
    """

    attempts: int | None = 6
    first_wait: float = 1.0
    factor: float = 2.0
    longest_wait: float = 60.0
    jitter: float = 0.5
    longest_retry_after: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ArgumentError("attempts", self.attempts, "must be at least 1, or None for no limit")
        if not 0 <= self.jitter <= 1:
            raise ArgumentError("jitter", self.jitter, "must lie between 0 and 1")
        for name in ("first_wait", "longest_wait", "longest_retry_after"):
            if not getattr(self, name) >= 0:
                raise ArgumentError(name, getattr(self, name), "must be seconds of at least 0")
        if not self.factor >= 1:
            raise ArgumentError("factor", self.factor, "must be at least 1")

    def wait_after(self, n_failures: int, error: BaseException | None = None) -> float:
        """Returns the seconds to wait before the next attempt.

        Args:
            n_failures: How many attempts in a row have failed, at least 1.
            error: The last failure, which may carry the service's `Retry-After`.
        """
        asked = None if error is None else retry_after(error)
        if asked is not None:
            # Later than asked, never sooner.
            return min(asked, self.longest_retry_after) * (1 + 0.1 * self.jitter * _random.random())
        # The exponent is bounded, for an outage may last for days.
        wait = min(self.longest_wait, self.first_wait * self.factor ** min(n_failures - 1, 64))
        return wait * (1 - self.jitter * _random.random())


def call_with_retries(
    call: Callable[[], Result],
    *,
    what: str,
    is_transient: Callable[[Exception], bool] | None = None,
    policy: RetryPolicy | None = None,
    wait: Callable[[float], object] = time.sleep,
    explain: Callable[[Exception], str] | None = None,
) -> Result:
    """Calls a service until it answers.

    Args:
        call: What to call.
        what: What it does, for the message: "the upload to user/repository".
        is_transient: Whether a failure may pass by itself; None: `may_pass`.
        policy: How often and how soon; None: the default policy.
        wait: Waits for some seconds.
        explain: Says what to do about a failure, without secrets; None: its type and message.

    Returns:
        What the call returned.

    Raises:
        ConnectorError: A failure that does not pass by itself, or one more than the policy has attempts for. The
            message holds no secret, and the client's exception, which may, is not chained.
    """
    policy = RetryPolicy() if policy is None else policy
    n_failures = 0
    while True:
        try:
            return call()
        except ConnectorError:
            raise
        except Exception as error:  # noqa: BLE001 (every failure is judged, and told below)
            n_failures += 1
            again = (is_transient or may_pass)(error) and (policy.attempts is None or n_failures < policy.attempts)
            seconds = policy.wait_after(n_failures, error) if again else 0.0
            reason = (explain or describe_error)(error)
        if not again:
            # Outside of the handler, so that not even __context__ leads to what the client put into its exception.
            raise ConnectorError(f"{what} failed{f' ({n_failures} attempts)' if n_failures > 1 else ''}: {reason}")
        wait(seconds)


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status that an exception of a client carries, or None."""
    response = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status_code"), (error, "code")):
        status = getattr(holder, name, None)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status < 600:
            return status
    return None


def is_refused_altogether(error: Exception) -> bool:
    """Tells whether a failure concerns everything that goes to a service: a wrong token, no such repository."""
    return status_of(error) in (401, 403, 404)


def may_pass(error: BaseException) -> bool:
    """Tells whether a failure may pass by itself: no connection, a timeout, too many requests, a busy server."""
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    for kind in type(error).__mro__:
        root, _, rest = kind.__module__.partition(".")
        names = {f"{root}.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"}
        if names & _TRANSIENT_CLASSES or (root in ("socket", "ssl") and not rest and issubclass(kind, OSError)):
            return True
    return False


def retry_after(error: BaseException) -> float | None:
    """Returns the seconds after which the service asks to be called again, or None if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    if not isinstance(headers, Mapping) and not hasattr(headers, "get"):
        return None
    value = headers.get("Retry-After") or headers.get("retry-after")  # type: ignore[union-attr]
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            then = parsedate_to_datetime(str(value))
        except ValueError:
            return None
        then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
        seconds = (then - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None
