"""Delivering what earlier processes left."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from rl_framework.connector.delivery import Deliver, Item
from rl_framework.connector.spool import Spool, SpoolInUseError
from rl_framework.connector.spool_folder import spools_in
from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy, call_with_retries, is_refused_altogether, may_pass

__all__ = ["count_left", "sync"]

logger = logging.getLogger(__name__)


def sync(
    spool: str | os.PathLike[str],
    deliver: Deliver,
    *,
    what: str = "the delivery of what was left",
    is_transient: Callable[[Exception], bool] | None = None,
    explain: Callable[[Exception], str] | None = None,
    policy: RetryPolicy | None = None,
    wait: Callable[[float], object] = time.sleep,
    destination: Mapping[str, Any] | None = None,
) -> int:
    """Delivers what earlier processes left in a spool and in those below it, oldest first, each item once.

    Args:
        spool: The folder, or one above.
        deliver: As for `Delivery`.
        what: For messages.
        is_transient: As for `Delivery`.
        explain: As for `Delivery`.
        policy: How often and how soon each item is tried; None: the default policy.
        wait: Waits for some seconds.
        destination: Only spools for this destination are taken; None: all of them.

    Returns:
        How many items were delivered.

    Raises:
        ConnectorError: Something could not be delivered, or a spool is damaged. If the service refuses single items,
            those behind them are delivered first. What was not delivered stays.
    """
    n_delivered, refused = 0, []
    for directory in spools_in(spool):
        try:
            queue = Spool(directory)
        except SpoolInUseError as error:
            logger.warning("%s", error)
            continue
        try:
            if destination is not None and queue.destination != dict(destination):
                continue
            queue.reconsider()
            while (item := queue.next()) is not None:
                queue.begin(item)
                attempt = _Attempt(deliver, item)
                try:
                    call_with_retries(
                        attempt,
                        what=f"{what} ({queue.n_left} items are kept in {directory})",
                        is_transient=is_transient,
                        explain=explain,
                        policy=policy,
                        wait=wait,
                    )
                except ConnectorError as error:
                    failure = attempt.failure
                    if failure is None or (is_transient or may_pass)(failure) or is_refused_altogether(failure):
                        raise
                    queue.refuse(item, str(error))
                    refused.append(str(error))
                else:
                    queue.delivered(item)
                    n_delivered += 1
        finally:
            queue.close()
    if refused:
        raise ConnectorError(f"{len(refused)} items were refused, and {n_delivered} delivered: {refused[0]}")
    return n_delivered


def count_left(spool: str | os.PathLike[str], destination: Mapping[str, Any]) -> int:
    """Returns how many items earlier processes have left for a destination in a spool and in those below it."""
    n_left = 0
    for directory in spools_in(spool):
        try:
            queue = Spool(directory)
        except (ConnectorError, OSError):  # in use, or damaged, which `sync` tells
            continue
        try:
            n_left += queue.n_left if queue.destination == dict(destination) else 0
        finally:
            queue.close()
    return n_left


class _Attempt:
    # Delivers an item and remembers the last failure, which the error that a user sees does not hold.
    def __init__(self, deliver: Deliver, item: Item) -> None:
        self._deliver, self._item = deliver, item
        self.failure: Exception | None = None

    def __call__(self) -> None:
        try:
            self._deliver(self._item)
        except Exception as error:
            self.failure = error
            raise
