"""How many threads torch uses while an agent trains."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["choose_threads", "threads_before"]

logger = logging.getLogger(__name__)

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_MOST = 1024
_SMALL = 256 * 256
"""Entries of the largest weight matrix from which more than one thread was measured to pay off."""


@contextmanager
def choose_threads(
    modules: Iterable[torch.nn.Module], device: torch.device, record: dict[str, Any], earlier: int | None = None
) -> Iterator[None]:
    """Trains small networks on the CPU with one thread, and puts the setting back afterwards.

    Several threads only wait for each other there: PPO was measured to be 16 times slower with two threads when the
    machine was shared. A setting by the user is left alone: one of the variables OMP_NUM_THREADS and
    MKL_NUM_THREADS, or a call of `torch.set_num_threads` with another number than torch's own default.

    Args:
        modules: The networks.
        device: Where they run.
        record: Receives `record["choices"]["torch_threads"]`, with the number and the reason.
        earlier: How many the training had before it was interrupted, which is not chosen again: sums come out otherwise
            with another number.
    """
    before = torch.get_num_threads()
    largest = max((p.numel() for module in modules for p in module.parameters() if p.ndim >= 2), default=0)
    chosen = before
    if device.type != "cpu":
        reason = f"the networks run on {device}"
    elif any(os.environ.get(variable) for variable in _VARIABLES):
        reason = f"{' or '.join(variable for variable in _VARIABLES if os.environ.get(variable))} is set"
    elif before not in _default_thread_counts():
        reason = "torch.set_num_threads was called before"
    elif earlier is not None:
        chosen, reason = earlier, "as before the training was interrupted"
    elif largest >= _SMALL:
        reason = "the networks are large enough for torch's default"
    else:
        chosen, reason = 1, "small networks on the CPU are fastest with one thread"
    record.setdefault("choices", {})["torch_threads"] = {"value": chosen, "reason": reason}
    logger.info("torch threads: %d (%s)", chosen, reason)
    if chosen != before:
        torch.set_num_threads(chosen)
    try:
        yield
    finally:
        # A callback may have changed it on purpose.
        if chosen != before and torch.get_num_threads() == chosen:
            torch.set_num_threads(before)


def threads_before(record: Mapping[str, Any]) -> int | None:
    """Returns how many threads the training had whose record this is, or None if it does not say."""
    choice = record.get("choices", {}).get("torch_threads", {})
    count = choice.get("value") if isinstance(choice, dict) else None
    is_count = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= _MOST
    return count if is_count else None


def _default_thread_counts() -> set[int]:
    """Returns what torch may have chosen by itself: all processors, or one thread for each of two that share a core."""
    processors = {os.cpu_count() or 1}
    if hasattr(os, "sched_getaffinity"):
        processors.add(len(os.sched_getaffinity(0)))
    return processors | {max(1, count // 2) for count in processors}
