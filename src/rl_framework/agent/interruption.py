"""Ctrl-C and SIGTERM while training writes checkpoints: noted at once, answered at the next boundary."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from rl_framework.progress import in_notebook
from rl_framework.training import Callback, PeriodicCheckpoint, Training

__all__ = ["Interruption"]

logger = logging.getLogger(__name__)

_USUAL_EXIT_CODE = 128
"""A shell reports the end by signal n as 128 + n."""


class Interruption(Callback):
    """Answers SIGINT and SIGTERM with a checkpoint, and only then with what they would have done anyway.

    A signal is noted when it arrives. At the next boundary a checkpoint is written (if it cannot be, that is logged),
    and then the signal takes its course: Python's own handler of Ctrl-C raises `KeyboardInterrupt`; a handler of the
    user's is called, and training goes on if it returns; a SIGTERM without a handler raises `SystemExit`, so that
    everything is closed, and ends the process by that very signal when the block is left. A second SIGINT takes its
    course at once, without a checkpoint; further SIGTERMs are the same wish once more.

    Signals that are ignored, or handled outside Python, are left alone, and so is everything in a thread other than
    the main one, where Python does not let handlers be set. Handlers are set at the first boundary: an agent that
    never reports one would never answer.

    Args:
        checkpoint: What writes the checkpoints.
    """

    def __init__(self, checkpoint: PeriodicCheckpoint | None) -> None:
        self._checkpoint = checkpoint
        self._previous: dict[int, Any] | None = None
        self._noted: int | None = None
        self._fatal: int | None = None
        self._announced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()
        # One that came after the last boundary, or while something else failed, must not be swallowed.
        signum = self._noted if self._fatal is None else self._fatal
        self._noted = self._fatal = None
        if signum is None or isinstance(error, KeyboardInterrupt):
            return
        if signum == signal.SIGINT and (isinstance(error, Exception) or in_notebook()):
            return  # training is over anyway, and the error tells more
        if isinstance(error, Exception):
            logger.error("training failed while it was to end", exc_info=error)
        signal.raise_signal(signum)

    def on_step(self, training: Training) -> None:
        """Says that a signal was noted; the handler itself must not, since it may interrupt another log message."""
        if self._noted is not None and not self._announced:
            self._announced = True
            name = signal.Signals(self._noted).name
            logger.warning("%s: a checkpoint will be written before training ends (Ctrl-C: end at once)", name)

    def on_boundary(self, training: Training) -> None:
        """Sets the handlers at the first boundary; saves and leaves at one after a signal."""
        if self._checkpoint is None:
            return
        if self._previous is None:
            self._set()
        if self._noted is None:
            return
        if self._checkpoint.saved_at != training.timestep:
            self._checkpoint.save(training)
        signum, self._noted = self._noted, None
        self._answer(signum, None)

    def _set(self) -> None:
        self._previous = {}
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (signal.SIGINT, signal.SIGTERM):
            # None: set by other than Python, which could not be put back.
            if signal.getsignal(signum) not in (None, signal.SIG_IGN):
                self._previous[signum] = signal.signal(signum, self._note)

    def _restore(self) -> None:
        for signum, handler in (self._previous or {}).items():
            # A callback may have set another one meanwhile, which is not ours to remove.
            if signal.getsignal(signum) == self._note:
                signal.signal(signum, handler)
        self._previous = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self._noted is not None:
            self._noted = None
            self._answer(signum, frame)
            return
        if self._noted is None:
            self._noted = signum
            self._announced = False

    def _answer(self, signum: int, frame: FrameType | None) -> None:
        handler: Callable[[int, FrameType | None], Any] | Any = (self._previous or {}).get(signum, signal.SIG_DFL)
        if callable(handler):
            handler(signum, frame)
            return
        self._fatal = signum
        raise SystemExit(_USUAL_EXIT_CODE + signum)
