"""Progress bars, in terminals and notebooks, that stay away where nobody looks."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["in_notebook", "progress_bar", "without_bar"]

_shown_otherwise: ContextVar[frozenset[str]] = ContextVar("_shown_otherwise", default=frozenset())


@contextmanager
def without_bar(description: str) -> Iterator[None]:
    """Keeps bars of this description away inside the block, for a program that shows the same in a way of its own."""
    token = _shown_otherwise.set(_shown_otherwise.get() | {description})
    try:
        yield
    finally:
        _shown_otherwise.reset(token)


def in_notebook() -> bool:
    """Tells whether this code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def progress_bar(
    total: int,
    description: str,
    unit: str = "it",
    *,
    enabled: bool = True,
    delay: float = 1.0,
    leave: bool = False,
    initial: int = 0,
) -> Any:
    """Returns a tqdm progress bar.

    Args:
        total: How many units the work has.
        description: What is going on, in a word or two.
        unit: What is counted.
        enabled: False gives a bar that shows nothing.
        delay: Seconds before it appears, so that quick work shows none.
        leave: Whether the finished bar stays on screen.
        initial: How many units are done already.

    Returns:
        A `tqdm` object; nothing is shown when standard error is neither a terminal nor a notebook.
    """
    with warnings.catch_warnings():
        # Without ipywidgets tqdm falls back to text and warns; the text is good enough.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    enabled = enabled and description not in _shown_otherwise.get()
    visible = enabled and (in_notebook() or (sys.stderr is not None and sys.stderr.isatty()))
    return tqdm(
        total=total, desc=description, unit=unit, disable=not visible, delay=delay, leave=leave, initial=initial
    )
