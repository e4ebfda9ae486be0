"""Configurations of d3rlpy as data: what a user writes, what a file holds, and the objects that the library takes.

An object inside a configuration (an encoder, a Q function, an optimizer, a scaler) is written as `{"type": name, ...}`
with its fields, or as the name alone; d3rlpy's own form `{"type": name, "params": {...}}` is taken too. Names are those
that d3rlpy has registered, and those that the user registered with it.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from enum import Enum
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError, UnknownNameError, UnsavableError

__all__ = ["build_configuration", "fields_of", "to_data"]


def fields_of(configuration_class: type[Any]) -> set[str]:
    """Returns the names of the fields of a configuration."""
    return {field.name for field in dataclasses.fields(configuration_class)}


def to_data(value: Any, argument: str) -> Any:
    """Turns d3rlpy's objects in a parameter into data; everything else stays.

    Raises:
        UnsavableError: An object is of a class that d3rlpy does not know by name.
    """
    from d3rlpy.serializable_config import DynamicConfig

    if isinstance(value, DynamicConfig):
        known = next((kinds for base, kinds in _kinds().items() if isinstance(value, base)), {})
        name = type(value).get_type()
        if known.get(name) is not type(value):
            raise UnsavableError(
                argument,
                value,
                f"{type(value).__name__} has no name in d3rlpy, so that an agent with it could not be saved",
                "Register it first, with d3rlpy's register_encoder_factory or its like.",
            )
        parts = {name: getattr(value, name) for name in sorted(fields_of(type(value)))}
        return {"type": name, **{key: to_data(part, f"{argument}[{key!r}]") for key, part in parts.items()}}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: to_data(part, f"{argument}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_data(part, f"{argument}[{index}]") for index, part in enumerate(value))
    return value


def build_configuration(configuration_class: type[Any], data: dict[str, Any], argument: str) -> Any:
    """Makes a configuration, or an object inside one, of data.

    Args:
        configuration_class: Its class.
        data: Its fields; those left out have the library's defaults.
        argument: What to call it in an error.

    Raises:
        UnknownNameError: There is no such field, or no such type.
        ArgumentError: A value is of the wrong kind.
    """
    known = fields_of(configuration_class)
    for name in data:
        if name not in known:
            raise UnknownNameError(argument, name, known, f"See the documentation of {configuration_class.__name__}.")
    hints = typing.get_type_hints(configuration_class)
    values = {name: _value(value, hints[name], f"{argument}[{name!r}]") for name, value in data.items()}
    try:
        return configuration_class(**values)
    except (AssertionError, TypeError, ValueError) as error:
        raise ArgumentError(argument, data, f"{configuration_class.__name__} does not take it: {error}") from error


def _kinds() -> dict[type[Any], dict[str, type[Any]]]:
    """Returns the classes that may stand for each base class, by registered name."""
    from d3rlpy.serializable_config import CONFIG_STORAGE

    return {base: metadata.config_list for base, metadata in CONFIG_STORAGE.items()}


def _value(value: Any, hint: Any, argument: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None:
        if type(None) in options:
            return None
        raise ArgumentError(argument, value, "cannot be None")
    (wanted, *_) = [option for option in options if option is not type(None)]
    if wanted in _kinds():
        return _object(value, _kinds()[wanted], argument)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _member(value, wanted, argument)
    origin = typing.get_origin(wanted)
    if origin is np.ndarray:
        return _array(value, argument)
    if origin is not None and issubclass(origin, typing.Sequence):
        return _sequence(value, origin, typing.get_args(wanted), argument)
    return _plain(value, wanted, argument)


def _object(value: Any, known: dict[str, type[Any]], argument: str) -> Any:
    data = {"type": value} if isinstance(value, str) else value
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise ArgumentError(argument, value, 'must be a name, or a dictionary with "type" and fields')
    name, fields = data["type"], {key: part for key, part in data.items() if key != "type"}
    if set(fields) == {"params"} and isinstance(fields["params"], dict):
        fields = fields["params"]
    if name not in known:
        raise UnknownNameError(argument, name, known)
    return build_configuration(known[name], fields, argument)


def _member(value: Any, wanted: type[Enum], argument: str) -> Enum:
    try:
        return wanted(value)
    except ValueError:
        raise UnknownNameError(argument, value, [str(member.value) for member in wanted]) from None


def _array(value: Any, argument: str) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ArgumentError(argument, value, "must be finite numbers")
    return array


def _sequence(value: Any, origin: type[Any], parts: tuple[Any, ...], argument: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ArgumentError(argument, value, "must be a list")
    fixed = origin is tuple and ... not in parts
    if fixed and len(value) != len(parts):
        raise ArgumentError(argument, value, f"must have {len(parts)} entries")
    hints = parts if fixed else [parts[0]] * len(value)
    items = [
        _value(item, hint, f"{argument}[{index}]") for index, (item, hint) in enumerate(zip(value, hints, strict=True))
    ]
    return tuple(items) if origin is tuple else items


def _plain(value: Any, wanted: Any, argument: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if wanted is float and type(value) is int:
        return float(value) if abs(value) < 1 << 53 else value
    if wanted in (bool, int, float, str) and type(value) is not wanted:
        raise ArgumentError(argument, value, f"must be of type {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ArgumentError(argument, value, "must be finite")
    return value
