"""Texts of strangers, made fit for a page: no secrets, nothing that cannot be seen, and not too long."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from rl_framework.agent.record import HIDDEN, redacted
from rl_framework.secrecy import redactor

__all__ = ["Rows", "clean", "rows_of", "shortened"]

Rows = dict[str, str]

_LONGEST_VALUE = 500
_MOST_ROWS = 400
_DEEPEST = 12
# Control characters, what turns the direction of writing around, and halves of characters, which no encoding holds.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def clean(text: str) -> str:
    """Returns a text with a sign in place of every character that would not be seen, or would mislead."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, most: int) -> str:
    """Returns a text of at most so many characters: beginning and end of a longer one."""
    text = clean(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[-half:]}"


def rows_of(data: Mapping[str, Any]) -> Rows:
    """Returns nested data as rows: dotted keys, and values as texts with secrets hidden.

    Args:
        data: As JSON or YAML have it.

    Returns:
        At most 400 rows; what is nested more than 12 deep is left out.
    """
    hide = redactor()
    rows: Rows = {}
    for key, value in _leaves("", data, 0):
        if len(rows) >= _MOST_ROWS:
            rows["…"] = "more is left out"
            break
        leaf = key.rpartition(".")[2]
        rows[shortened(key, 120)] = HIDDEN if value and _names_secret(leaf) else shortened(hide(value), _LONGEST_VALUE)
    return rows


@lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    return redacted([f"--{key}", "x"])[-1] == HIDDEN


def _leaves(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        yield prefix, "…"
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), inner, depth + 1)
    elif _is_list(value) and any(isinstance(inner, Mapping) or _is_list(inner) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(f"{prefix}[{index}]", inner, depth + 1)
    elif _is_list(value) and value:
        yield prefix, ", ".join(_as_text(inner) for inner in value[:_LONGEST_VALUE])
    else:
        yield prefix, _as_text(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


_WORDS: Mapping[Any, str] = {True: "true", False: "false", None: "null"}


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    return str(value)
