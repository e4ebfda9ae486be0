"""YAML as plain data, with the place of every value, read so that no file can do harm.

What is read is YAML 1.2's core schema, plus underscores in numbers: `3e-4` is a number, `no` and `on` are texts, and
a date is a text. There are no tags (`!!python/object` and the like), no merge keys, no key twice, and an end to size
and depth, also of what aliases stand for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rl_framework.errors import ConfigurationError, ConfigurationProblem

__all__ = ["Document", "Key", "Place", "dotted", "from_data", "implicit_resolvers", "parse", "read_file"]

Key = tuple[str | int, ...]

_LARGEST_FILE = 256 * 1024
_MOST_NODES = 10_000
_DEEPEST = 32

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (rf"[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        rf"[-+]?(?:\.{_DIGITS}|{_DIGITS}(?:\.(?:{_DIGITS})?)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


@dataclass(frozen=True)
class Place:
    """Where a value was written.

    Attributes:
        file: The file, or the override; None: in Python.
        line: Its line, from 1; None: of what is one line.
    """

    file: str | None = None
    line: int | None = None


@dataclass
class Document:
    """Data, and where each part of it was written.

    Attributes:
        data: Texts, numbers, bools, None, lists, and dictionaries with texts as keys.
        places: Of each value, by the keys and indices that lead to it.
    """

    data: Any
    places: dict[Key, Place] = field(default_factory=dict)

    def problem(self, message: str, key: Key = ()) -> ConfigurationProblem:
        """Describes what is wrong with the value of a key, or with what should be there."""
        place = next((self.places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.places), Place())
        return ConfigurationProblem(message, dotted(key), place.file, place.line)


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does; its constructors are not used."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # as the base class has it


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), _first)


def implicit_resolvers() -> dict[Any, Any]:
    """Returns which plain scalars are no texts, in PyYAML's form."""
    return dict(_Loader.yaml_implicit_resolvers)


def dotted(key: Key) -> str:
    """Writes a key as overrides are written: "connectors[0].type"."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_file(path: str | Path) -> Document:
    """Reads a file.

    Raises:
        ConfigurationError: It cannot be read, or something in it is refused.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise _refusal(f"cannot be read: {error.strerror or error}", Place(str(path))) from error
    except UnicodeDecodeError as error:
        raise _refusal("is no text in UTF-8", Place(str(path))) from error
    if len(content) > _LARGEST_FILE:
        raise _refusal(f"is larger than {_LARGEST_FILE // 1024} KiB, which no configuration is", Place(str(path)))
    return parse(text, str(path))


def parse(text: str, name: str, is_one_line: bool = False) -> Document:
    """Reads YAML.

    Args:
        text: One document.
        name: Of the file, for errors.
        is_one_line: Whether lines need not be told, as in an override.

    Raises:
        ConfigurationError: It is no YAML, or something in it is refused.
    """
    try:
        _check_size(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None or is_one_line else mark.line + 1
        says = ", ".join(part for part in (error.context, error.problem) if part)
        raise _refusal(f"is no YAML: {says}", Place(name, line)) from error
    except yaml.YAMLError as error:
        raise _refusal(f"is no YAML: {' '.join(str(error).split())}", Place(name)) from error
    reading = _Reading(name, is_one_line)
    data = {} if root is None else reading.value(root, ())
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return Document(data, reading.places)


def from_data(data: Any) -> Document:
    """Takes data that was given in Python, and checks that it is data.

    Raises:
        ConfigurationError: It holds objects; a configuration names them instead.
    """
    problems: list[ConfigurationProblem] = []
    document = Document(_as_data(data, (), problems))
    if problems:
        raise ConfigurationError(problems)
    return document


def _refusal(message: str, place: Place) -> ConfigurationError:
    return ConfigurationError([ConfigurationProblem(message, "", place.file, place.line)])


def _check_size(text: str, name: str) -> None:
    """Looks at the parser's events, which come one by one, before anything calls itself for every level."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        place = Place(name, None if event.start_mark is None else event.start_mark.line + 1)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _refusal(f"is nested more than {_DEEPEST} levels deep", place)
        if count > 2 * _MOST_NODES:
            raise _refusal(f"has more than {_MOST_NODES} values", place)


class _Reading:
    """Makes data of YAML nodes; collects what is refused."""

    def __init__(self, name: str, is_one_line: bool) -> None:
        self.problems: list[ConfigurationProblem] = []
        self.places: dict[Key, Place] = {}
        self._name, self._is_one_line = name, is_one_line
        self._count = 0

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.places[key] = self._place(node)
        self._count += 1  # what an alias stands for counts each time
        if self._count > _MOST_NODES or len(key) > _DEEPEST:
            if not self.problems or self._count == _MOST_NODES + 1:
                self._refuse(f"stands for more than {_MOST_NODES} values or {_DEEPEST} levels", node, key[:1])
            return None
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(entry, (*key, index)) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in (*_SCALARS, "str"):
            return self._scalar(node, kind, key)
        self._refuse(f"the tag {node.tag!r} is refused: a configuration holds data and no objects", node, key)
        return None

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            name = name_node.value
            if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != f"{_TAG}str":
                shown = name if isinstance(name, str) else "a key that is no text"
                self._refuse(f"{shown!r} is no text, as keys have to be: put it into quotes", name_node, key)
            elif name == "<<":
                self._refuse("merge keys (<<) are not read: use base:", name_node, key)
            elif name in data:
                first = self.places[(*key, name)].line
                before = "" if first is None or self._is_one_line else f": first on line {first}"
                self._refuse(f"the key is there twice{before}", name_node, (*key, name))
            else:
                data[name] = self.value(value_node, (*key, name))
                # The line of the key, also where its value begins on a line below.
                self.places[(*key, name)] = self._place(name_node)
        return data

    def _scalar(self, node: yaml.ScalarNode, kind: str, key: Key) -> Any:
        text = node.value
        if kind == "str":
            return text
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            number = float(re.sub(r"\.(inf|nan)$", r"\1", text, flags=re.IGNORECASE))
        except (ValueError, KeyError):
            self._refuse(f"{text[:40]!r} cannot be read as {kind}", node, key)
            return None
        if math.isinf(number) and "inf" not in text.lower():
            self._refuse(f"{text[:40]} is too large a number", node, key)
        return number

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._name, None if self._is_one_line else node.start_mark.line + 1)

    def _refuse(self, message: str, node: yaml.Node, key: Key) -> None:
        place = self._place(node)
        self.problems.append(ConfigurationProblem(message, dotted(key), place.file, place.line))


def _as_data(value: Any, key: Key, problems: list[ConfigurationProblem]) -> Any:
    if len(key) > _DEEPEST:
        problems.append(ConfigurationProblem(f"is nested more than {_DEEPEST} levels deep", dotted(key[:1])))
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_as_data(entry, (*key, index), problems) for index, entry in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _as_data(entry, (*key, name), problems) for name, entry in value.items()}
    what = "a mapping whose keys are no texts" if isinstance(value, Mapping) else f"a {type(value).__name__}"
    problems.append(ConfigurationProblem(f"{what} is no data: register the object and write its name", dotted(key)))
    return None
