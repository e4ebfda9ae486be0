"""Training loops that own their environments, side by side in one world.

Each loop runs in a thread of its own, and only one thread runs at a time: a loop goes on until it needs the world (or
has something to tell) and then waits for the main thread, which lets the others go on one after the other, in the same
order every time, until all of them wait; only then the world moves. So nothing depends on the scheduler, the global
random generators are drawn from in a fixed order, and everything but the loops themselves (the world, callbacks,
connectors, signals) happens in the main thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from enum import Enum
from typing import Any

__all__ = ["Loop", "Want"]


class Want(Enum):
    """What a loop waits for."""

    RESET = "the beginning of the worlds' episodes"
    ACT = "a step of the worlds"
    STEPPED = "all others, after a step"
    BOUNDARY = "all others, when nothing of its own is half done"
    CALL = "a call in the main thread"


class _Abandoned(BaseException):
    """Ends a loop whose training ends with an exception elsewhere; nothing that handles errors must stop it."""


class Loop:
    """A training loop in a thread, as the main thread sees it.

    Args:
        name: Name of the thread.
        run: The loop; calls `ask` in between.

    Attributes:
        want: What it waits for; None: it has ended.
        given: What came with that, such as the actions to take.
    """

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self.want: Want | None = None
        self.given: Any = None
        self._run = run
        self._error: BaseException | None = None  # of the loop, for the main thread
        self._refusal: BaseException | None = None  # of the main thread, for the loop
        self._abandoned = False
        self._to_loop, self._to_main = threading.Semaphore(0), threading.Semaphore(0)
        # A second Ctrl-C leaves a loop behind, which must not keep the process alive.
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._whole,), name=f"train {name}", daemon=True)

    # In the main thread

    def start(self) -> None:
        """Runs the loop until it wants something or ends.

        Raises:
            BaseException: What the loop raised.
        """
        self._thread.start()
        self._wait()

    def go_on(self, refusal: BaseException | None = None) -> None:
        """Lets the loop go on until it wants something else or ends.

        Args:
            refusal: Raised in the loop, instead of giving it what it wanted.

        Raises:
            BaseException: What the loop raised.
        """
        self._refusal = refusal
        self._to_loop.release()
        self._wait()

    def abandon(self) -> None:
        """Ends the loop, if it has not ended, at the next moment at which it wants something, and waits for that."""
        self._abandoned = True
        self._to_loop.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _wait(self) -> None:
        self._to_main.acquire()
        while self.want is Want.CALL:
            self.given()
            self._to_loop.release()
            self._to_main.acquire()
        if self.want is None:
            self._thread.join()  # it has said its last word, and may be about to end for a while yet
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    # In the loop's own thread

    def ask(self, want: Want, given: Any = None) -> None:
        """Waits until the main thread lets the loop go on.

        Args:
            want: What for.
            given: What the main thread needs for that.
        """
        if self._abandoned:
            raise _Abandoned
        self.want, self.given = want, given
        self._to_main.release()
        self._to_loop.acquire()
        if self._abandoned:
            raise _Abandoned
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _whole(self) -> None:
        try:
            self._run()
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - it goes on in the main thread
            self._error = error
        self.want = self.given = None
        self._to_main.release()
