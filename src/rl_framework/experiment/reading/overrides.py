"""Overrides such as `training.total_timesteps=5000` and `connectors[0].type=tensorboard`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rl_framework.errors import ConfigurationError, ConfigurationProblem, shorten
from rl_framework.experiment.reading.documents import Document, Key, Place, dotted, parse
from rl_framework.secrecy import redact

__all__ = ["Override", "apply_overrides", "parse_key", "read_overrides"]

_OVERRIDE = "override"
"""Stands in the place of a file."""

_PART = re.compile(r"(?:^|\.)(?P<name>[^.\[\]=\s]+)|\[(?P<index>\d{1,4})\]")


@dataclass(frozen=True)
class Override:
    """One override.

    Attributes:
        text: As it was written.
        key: Where to.
        value: What, and where its parts are written.
    """

    text: str
    key: Key
    value: Document


def parse_key(text: str) -> Key | None:
    """Reads a dotted key; None if it is none."""
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            return None
        parts.append(match["name"] if match["index"] is None else int(match["index"]))
        position = match.end()
    return tuple(parts) if parts and isinstance(parts[0], str) else None


def read_overrides(overrides: Iterable[str]) -> list[Override]:
    """Reads overrides.

    Args:
        overrides: Each a dotted key, "=", and a value in YAML.

    Raises:
        ConfigurationError: One is none, or its value is no YAML.
    """
    if isinstance(overrides, str):
        overrides = (overrides,)
    read, problems = [], []
    for text in overrides:
        written, equals, value = str(text).partition("=")
        key = parse_key(written.strip())
        if not equals or key is None:
            message = f"{redact(shorten(text))} is none: write a.b=value or a.b[0]=value"
            problems.append(ConfigurationProblem(message, file=_OVERRIDE))
            continue
        try:
            document = parse(value, _OVERRIDE, is_one_line=True)
        except ConfigurationError as error:
            below = dotted(key)
            problems += [replace(problem, key=f"{below}.{problem.key}".strip(".")) for problem in error.problems]
            continue
        if not value.strip():
            document.data = None
        places = {(*key, *below): place for below, place in document.places.items()}
        read.append(Override(str(text), key, Document(document.data, {**places, key: Place(_OVERRIDE)})))
    if problems:
        raise ConfigurationError(problems)
    return read


def apply_overrides(document: Document, overrides: Iterable[Override]) -> Document:
    """Returns a document with values put in place of what is there; missing mappings are made.

    Args:
        document: Stays as it is.
        overrides: In their order.

    Raises:
        ConfigurationError: A key leads through something that has no parts, or past the end of a list.
    """
    problems = []
    for override in overrides:
        problem = ""
        data, problem = _put(document.data, override.key, 0, override.value.data)
        if problem:
            problems.append(override.value.problem(problem, override.key))
            continue
        n = len(override.key)
        kept = {key: place for key, place in document.places.items() if key[:n] != override.key}
        above = [override.key[:length] for length in range(1, n)]
        made = {key: override.value.places[override.key] for key in above if not _is_there(document.data, key)}
        document = Document(data, kept | made | override.value.places)
    if problems:
        raise ConfigurationError(problems)
    return document


def _is_there(data: Any, key: Key) -> bool:
    for part in key:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    return data is not None


def _put(data: Any, key: Key, depth: int, value: Any) -> tuple[Any, str]:
    """Returns a copy of data with a value at a key, and what is wrong with that, if anything is."""
    if depth == len(key):
        return value, ""
    part, here = key[depth], dotted(key[:depth])
    if isinstance(part, int):
        entries = [] if data is None else data
        if not isinstance(entries, list):
            return data, f"{here} is no list, so that there is no [{part}]"
        if part > len(entries):
            return data, f"{here} has {len(entries)} entries, so that [{len(entries)}] would be the next one"
        entry, problem = _put(entries[part] if part < len(entries) else None, key, depth + 1, value)
        return [*entries[:part], entry, *entries[part + 1 :]], problem
    mapping = {} if data is None else data
    if not isinstance(mapping, dict):
        return data, f"{here} is {type(mapping).__name__} and no mapping, so that it has no {part!r}"
    entry, problem = _put(mapping.get(part), key, depth + 1, value)
    return {**mapping, part: entry}, problem
