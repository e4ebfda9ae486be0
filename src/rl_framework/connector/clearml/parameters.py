"""Hyperparameters as ClearML shows them, and back: texts that people edit."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Mapping
from typing import Any

from rl_framework.errors import ArgumentError

__all__ = ["merged", "shown"]

_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def shown(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Returns parameters as texts, nested ones under names with "/".

    Raises:
        ArgumentError: A key is no text, or two parameters get the same name.
    """
    return {name: _text(value) for name, (_, value) in _flat(parameters).items()}


def merged(parameters: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Returns parameters in which those that were edited are replaced.

    What was not edited is the very value that was given. An edited one takes the type that it had; where it had none
    that can be edited (None, a class, a list), it is read as JSON or as a Python literal, and else taken as text. Names
    that are new are added.

    Args:
        parameters: As they were connected.
        texts: As ClearML has them now.

    Raises:
        ArgumentError: As `shown`, or a text is no value of its parameter's type.
    """
    result = _copied(parameters)
    known = _flat(parameters)
    for name, text in texts.items():
        path, before = known.get(name, (tuple(name.split("/")), None))
        if name in known and text == _text(before):
            continue
        inner = result
        for key in path[:-1]:
            deeper = inner.get(key)
            inner[key] = deeper if isinstance(deeper, dict) else {}
            inner = inner[key]
        inner[path[-1]] = _value(name, text, before)
    return result


def _copied(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copied(value) if isinstance(value, Mapping) else copy.copy(value) for key, value in parameters.items()
    }


def _flat(parameters: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    flat: dict[str, tuple[tuple[str, ...], Any]] = {}
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise ArgumentError("parameters", key, "names of parameters must be texts")
        inner = (*path, key)
        is_nested = isinstance(value, Mapping) and len(value) > 0
        entries = _flat(value, inner) if is_nested else {"/".join(inner): (inner, value)}
        if twice := flat.keys() & entries.keys():
            raise ArgumentError("parameters", sorted(twice)[0], "two parameters get this name in ClearML")
        flat.update(entries)
    return flat


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple | Mapping):
        try:
            return json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return str(value)


def _value(name: str, text: str, before: Any) -> Any:
    word = text.strip()
    if isinstance(before, str):
        return text
    try:
        if isinstance(before, bool):
            return _TRUTHS[word.lower()]
        if isinstance(before, int | float):
            return _number(word, whole=isinstance(before, int))
    except (KeyError, ValueError, OverflowError):
        kind = "True or False" if isinstance(before, bool) else "a number"
        raise ArgumentError("parameters", text, f"ClearML has this for {name!r}, which must be {kind}") from None
    value = _literal(word)
    return tuple(value) if isinstance(before, tuple) and isinstance(value, list) else value


def _number(word: str, whole: bool) -> int | float:
    try:
        return int(word) if whole else float(word)
    except ValueError:
        number = float(word)
        return int(number) if number.is_integer() else number


def _literal(word: str) -> Any:
    if word in ("", "None"):
        return None
    if word in ("True", "False"):
        return word == "True"
    for read in (json.loads, ast.literal_eval):
        try:
            return read(word)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return word
