"""Loops in threads of their own, of which only one runs at a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rl_framework.agent.multi_agent.rendezvous import Loop, Want


def _loop(name: str, notes: list[Any], turns: int = 3, fails: bool = False) -> Loop:
    def run() -> None:
        try:
            for turn in range(turns):
                notes.append((name, turn, threading.current_thread().name))
                loop.ask(Want.CALL, lambda: notes.append((name, "told", threading.current_thread().name)))
                loop.ask(Want.ACT, turn)
            if fails:
                raise ValueError("it broke")
        finally:
            notes.append((name, "closed"))

    loop = Loop(name, run)
    return loop


def test_loops_alternate_and_calls_happen_in_the_main_thread() -> None:
    notes: list[Any] = []
    loops = [_loop("a", notes, 2), _loop("b", notes, 1)]
    for loop in loops:
        loop.start()
    while any(loop.want for loop in loops):
        for loop in loops:
            if loop.want is Want.ACT:
                notes.append(loop.given)
                loop.go_on()
    mine, a, b = threading.current_thread().name, "train a", "train b"
    assert notes == [
        ("a", 0, a), ("a", "told", mine), ("b", 0, b), ("b", "told", mine), 0, ("a", 1, a), ("a", "told", mine),
        0, ("b", "closed"), 1, ("a", "closed"),
    ]  # fmt: skip


def test_an_error_comes_out_where_the_loop_was_let_go_on() -> None:
    notes: list[Any] = []
    loop = _loop("a", notes, 1, fails=True)
    loop.start()
    with pytest.raises(ValueError, match="it broke"):
        loop.go_on()
    assert loop.want is None
    assert not loop._thread.is_alive()


def test_a_refusal_is_raised_in_the_loop() -> None:
    notes: list[Any] = []
    loop = _loop("a", notes)
    loop.start()
    with pytest.raises(KeyError, match="no"):
        loop.go_on(KeyError("no"))
    assert notes[-1] == ("a", "closed")


def test_an_abandoned_loop_cleans_up_and_ends() -> None:
    notes: list[Any] = []
    loop = _loop("a", notes)
    loop.start()
    loop.abandon()
    assert notes[-1] == ("a", "closed")
    assert not loop._thread.is_alive()
    _loop("never started", notes).abandon()
