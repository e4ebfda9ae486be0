"""What a verb says: results on standard output, everything else on standard error."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any

from rich.console import Console, RenderableType

from rl_framework.secrecy import RedactingFilter

__all__ = ["STDERR", "note", "only_stderr", "show", "told_on_stderr"]

_COLOURS = re.compile("\x1b\\[[0-9;]*m")
"""What gymnasium's warnings have around them, whether or not a terminal reads them."""

_WIDE = 160
"""Columns of a table that goes into a file or to another program."""

STDERR = Console(stderr=True, highlight=False)
"""For notes and progress, which share a terminal."""


def show(*shown: RenderableType) -> None:
    """Writes results to standard output; texts as they are, without a line break of ours."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    for each in shown:
        _print(console, each)


def note(text: str) -> None:
    """Writes a line for people to standard error."""
    _print(STDERR, text)


def _print(console: Console, shown: RenderableType) -> None:
    is_text = isinstance(shown, str)
    console.print(shown, markup=False, highlight=False, soft_wrap=is_text, no_wrap=is_text or None)


class _Notes(logging.Handler):
    """Writes log messages between the progress, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        note(f"{level}{record.getMessage()}")


@contextmanager
def told_on_stderr() -> Iterator[None]:
    """Shows what this package logs, and warnings of anybody, as notes of one line."""
    logger, handler = logging.getLogger("rl_framework"), _Notes()
    handler.addFilter(RedactingFilter())
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note_of_warning
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _note_of_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    text = " ".join(_COLOURS.sub("", str(message)).split())
    note(f"warning: {text.removeprefix('WARN: ')}")


@contextmanager
def only_stderr() -> Iterator[None]:
    """Sends everything that is written to standard output, also by libraries and by other programs, to the other."""
    with ExitStack() as stack:
        sys.stdout.flush()
        with suppress(OSError, ValueError):  # a stream that is no file
            if sys.stdout.fileno() == 1:
                kept = os.dup(1)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, 1)
                os.dup2(2, 1)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield
