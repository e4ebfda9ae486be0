"""Handing things to a service from a thread of its own, so that training neither waits for it nor loses anything."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.spool import Item, Spool
from rl_framework.retry import RetryPolicy, is_refused_altogether, may_pass, retry_after
from rl_framework.secrecy import describe_error

__all__ = ["Deliver", "Delivery", "Item"]

logger = logging.getLogger(__name__)

_PATIENCE_AT_EXIT = 5.0
"""Seconds for which the interpreter's exit waits for what has not been delivered."""

_PATIENCE_WITH_CALL = 1.0
"""Seconds for which a thread is waited for that is in the middle of a call to the service."""

Deliver = Callable[[Item], object]


class Delivery:
    """Hands items to a service in order, from a thread of its own, and never loses one.

    An item that fails in a way that may pass by itself is tried again, with back-off, and those behind it wait. One
    that the service refuses stays in the spool, is reported once, and those behind it go on; but if the service refuses
    everything (a wrong token), delivery stops, and everything stays in the spool.

    Args:
        name: Whom it goes to, for messages: "the Hub repository user/name".
        deliver: Delivers one item, or raises. It may be called again with an item that has arrived without our
            hearing of it (`Item.attempts` is above 0 then): that must be harmless.
        spool: Folder to keep items in until they have arrived; made when the first one comes, removed when all have.
        is_transient: Whether a failure may pass by itself; None: `rl_framework.retry.may_pass`.
        is_hopeless: Whether a failure concerns every item; None: `rl_framework.retry.is_refused_altogether`.
        explain: Says what to do about a failure, without secrets; None: its type and message.
        retry: How soon it is tried again; its `attempts` do not count here, where nothing is given up.
        destination: Whom the items are for, as JSON-able data without secrets, by which a later process can tell.
        remedy: What to call to deliver what is left.
        wait: Waits for some seconds, or less; None: until there is reason to hurry.

    Raises:
        ConnectorError: Another process is using the spool, or what is in it cannot be read.
    """

    def __init__(
        self,
        name: str,
        deliver: Deliver,
        spool: str | os.PathLike[str],
        *,
        is_transient: Callable[[Exception], bool] | None = None,
        is_hopeless: Callable[[Exception], bool] | None = None,
        explain: Callable[[Exception], str] | None = None,
        retry: RetryPolicy | None = None,
        destination: Mapping[str, Any] | None = None,
        remedy: str = "connector.sync()",
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.name = name
        self._deliver = deliver
        self._is_transient = is_transient or may_pass
        self._is_hopeless = is_hopeless or is_refused_altogether
        self._explain = explain or describe_error
        self._retry = retry or RetryPolicy(attempts=None)
        self._remedy = remedy
        self._wait = wait
        self._spool = Spool(Path(spool), name, destination)
        self._begin_anew()
        _deliveries.add(self)

    def _begin_anew(self) -> None:
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._is_calling = False
        self._halted: str | None = None
        self._n_drains = 0
        self._n_reported = 0
        self._n_failures = 0
        self._has_warned = False
        self._reported: set[str] = set()

    @property
    def spool(self) -> Path:
        """The folder."""
        return self._spool.directory

    @property
    def is_in_use(self) -> bool:
        """Whether the spool is held, so that nobody else can deliver what is in it."""
        with self._condition:
            return self._spool.is_in_use

    @property
    def n_left(self) -> int:
        """Items that have not arrived."""
        with self._condition:
            return self._spool.n_left

    def put(self, kind: str, data: Mapping[str, Any], file: str | os.PathLike[str] | None = None) -> None:
        """Takes an item. It waits for no network, and raises nothing because the service or the disk fails.

        Args:
            kind: What it is, for `deliver`.
            data: JSON-able data (NumPy's numbers and arrays become numbers and lists); known secrets in it are hidden.
            file: A file that belongs to it. It is linked or copied, so that it may be removed, and replaced as a whole.

        Raises:
            TypeError: The data cannot be written as JSON.
            FileNotFoundError: There is no such file.
        """
        with self._condition:
            self._spool.append(kind, data, None if file is None else Path(file))
            self._closed = False
            if self._thread is None and self._halted is None:
                self._start()
            self._condition.notify_all()

    def flush(self) -> None:
        """Brings everything that was put so far to the disk, whatever happens to the process or the machine."""
        with self._condition:
            self._spool.flush()

    def drain(self, timeout: float | None = None) -> int:
        """Waits until everything has arrived, as far as the service takes it.

        Args:
            timeout: Seconds; None: no limit.

        Returns:
            How many items are left; they stay in the spool.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            self._spool.flush()
            self._closed = False
            if not self._spool.reopen():
                return self._spool.n_left
            if self._spool.n_waiting and self._thread is None and self._halted is None:
                self._start()
            self._n_drains += 1
            self._condition.notify_all()
            while self._spool.n_waiting and self._halted is None and self._thread is not None:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._condition.wait(left)
            return self._spool.n_left

    def resume(self) -> None:
        """Tries again what was refused, such as after a token was corrected."""
        with self._condition:
            self._halted = None
            self._reported.clear()
            self._spool.reconsider()
            self._condition.notify_all()

    def report(self) -> None:
        """Says in one line what is left and how to deliver it; nothing if everything has arrived."""
        with self._condition:
            n_left, n_unwritten = self._spool.n_left, self._spool.n_unwritten
            known = self._n_reported == n_left
            self._n_reported = n_left
        if n_unwritten:
            logger.error("%d items for %s are only in memory: %s takes nothing", n_unwritten, self.name, self.spool)
        if n_left and not known:
            logger.warning(
                "%d items have not reached %s%s. They are kept in %s: deliver them with %s",
                n_left,
                self.name,
                "" if self._halted is None else f" ({self._halted})",
                self.spool,
                self._remedy,
            )

    def close(self, timeout: float | None = 10.0) -> int:
        """Drains, lets go of the spool, and returns how many items are left. What is put later begins anew."""
        self.drain(timeout)
        self.release()
        return self.n_left

    def release(self) -> bool:
        """Ends the thread and lets go of the spool, so that others can deliver what is left.

        Returns:
            Whether that was possible: not if the service still keeps the thread waiting. Nothing is lost then; what the
            thread delivers counts, and the spool is free when the process ends or this is called again.
        """
        end = time.monotonic() + _PATIENCE_WITH_CALL
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            # Between its calls the thread notices, however slow this machine is; unless somebody puts something.
            while self._thread is not None and self._closed:
                left = end - time.monotonic() if self._is_calling else None
                if left is not None and left <= 0:
                    break
                self._condition.wait(left)
            if self._thread is None:
                self._spool.close()
            return self._thread is None

    # The thread

    def _start(self) -> None:
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"delivery to {self.name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending; the item is in the spool
            self._thread = None

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise to)
            reason = describe_error(error)
            logger.error("the delivery to %s failed: %s. What is for it is kept in %s", self.name, reason, self.spool)
            with self._condition:
                self._halted = f"the delivery itself failed: {reason}"
        finally:
            with self._condition:
                self._leave()

    def _work(self) -> None:
        condition = self._condition
        while True:
            with condition:
                item = self._spool.next()
                while item is None and not self._closed:
                    condition.notify_all()
                    condition.wait()
                    item = self._spool.next()
                if item is None or self._closed:
                    self._leave()  # under the same lock, so that what is put next starts another thread
                    return
                self._spool.begin(item)
                self._is_calling = True
                n_drains = self._n_drains
            try:
                self._deliver(item)
            except Exception as error:  # noqa: BLE001 (every failure is judged, and told)
                self._is_calling = False
                if not self._failed(item, error, n_drains):
                    return
            else:
                self._is_calling = False
                with condition:
                    self._spool.delivered(item)
                    self._arrived()
                    condition.notify_all()

    def _leave(self) -> None:
        if self._thread is threading.current_thread():
            self._thread, self._is_calling = None, False
            if self._closed and not self._spool.n_left:  # `release` did not wait for this
                self._spool.close()
        self._condition.notify_all()

    def _arrived(self) -> None:
        if self._n_failures:
            logger.info("%s is reached again", self.name)
        self._n_failures = 0

    def _failed(self, item: Item, error: Exception, n_drains: int) -> bool:
        """Decides what becomes of an item that failed, and returns whether to go on."""
        reason = self._explain(error)
        if self._is_transient(error):
            self._n_failures += 1
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "%s cannot be reached: %s. Training goes on; what is for it is kept in %s and tried again",
                    self.name,
                    reason,
                    self.spool,
                )
            self._pause(
                self._retry.wait_after(self._n_failures, error), None if retry_after(error) is not None else n_drains
            )
            return True
        # While the interpreter ends, clients cannot even start their threads: that says nothing about the item.
        goes_on = not (self._is_hopeless(error) or sys.is_finalizing() or _is_exiting)
        # Before whoever drains goes on, and perhaps ends the process.
        if reason not in self._reported:
            self._reported.add(reason)
            logger.error("%s refused %r: %s. It is kept in %s", self.name, item.kind, reason, self.spool)
        with self._condition:
            if goes_on:
                self._spool.refuse(item, reason)
                self._condition.notify_all()
            else:
                self._halted = reason
                self._leave()
        return goes_on

    def _pause(self, seconds: float, n_drains: int | None) -> None:
        if self._wait is not None:
            self._wait(seconds)
            return
        end = time.monotonic() + seconds
        with self._condition:
            # Whoever drains wants to know now whether the service is back; but one attempt is enough, and a service
            # that said when to come back is not asked before.
            while not self._closed and (left := end - time.monotonic()) > 0:
                if n_drains is not None and self._n_drains != n_drains:
                    return
                self._condition.wait(left)

    # Processes

    def _after_fork_in_child(self) -> None:
        """Begins a spool of its own: the parent goes on with the other one."""
        parent = self._spool
        parent.let_go()
        self._begin_anew()
        directory = parent.directory / f"forked-{os.getpid()}"
        self._spool = Spool(directory, parent.name, parent.destination)


_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()
_is_exiting = False


@atexit.register
def _drain_at_exit() -> None:
    global _is_exiting
    _is_exiting = True
    end = time.monotonic() + _PATIENCE_AT_EXIT
    for delivery in list(_deliveries):
        if delivery.is_in_use:
            delivery.close(max(0.0, end - time.monotonic()))
        delivery.report()


_fork_lock = threading.RLock()
_held_for_fork: list[Delivery] = []


def _before_fork() -> None:
    # A thread in the middle of something would leave the child a queue that is half changed, and locked for ever.
    _fork_lock.acquire()
    _held_for_fork[:] = list(_deliveries)
    for delivery in _held_for_fork:
        delivery._condition.acquire()


def _after_fork_in_parent() -> None:
    for delivery in _held_for_fork:
        delivery._condition.release()
    _held_for_fork.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.RLock()
    _held_for_fork.clear()
    for delivery in list(_deliveries):
        delivery._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
