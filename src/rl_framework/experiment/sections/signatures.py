"""From a constructor's signature to a section of the configuration, so that nothing is said twice."""

from __future__ import annotations

import builtins
import inspect
import os
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from rl_framework.experiment.sections.section import Section, Whole

__all__ = [
    "NOT_DATA",
    "OneMessage",
    "Parameter",
    "as_arguments",
    "data_type",
    "descriptions",
    "is_scalar",
    "members_of",
    "parameters_of",
    "section_of",
]

NOT_DATA: Any = object()
"""Stands for a type of which no value can be written in a file."""

_PLAIN = {bool: bool, str: str, int: Whole, float: float, type(None): type(None)}


@dataclass(frozen=True)
class Parameter:
    """A parameter that can be given in a file.

    Attributes:
        name: Its key in the file.
        annotation: What its value in the file has to be; for pydantic.
        default: What it is if it is not given; MISSING: it has to be given.
        description: What the docstring says of it.
        leads_to: Where in the constructor's arguments the value goes: the argument's name, and, for a field of a
            dataclass that is given there, the field's.
    """

    name: str
    annotation: Any
    default: Any
    description: str
    leads_to: tuple[str, ...]


def parameters_of(
    target: Callable[..., Any],
    *,
    renamed: Mapping[str, str] | None = None,
    opened: Collection[str] = (),
    without: Collection[str] = (),
    optional: Collection[str] = (),
    convert: Callable[[Any], Any] | None = None,
) -> list[Parameter]:
    """Returns the parameters of a class or function that can be given in a file.

    Args:
        target: The class or the function.
        renamed: Keys in the file that are not the parameters' own names.
        opened: Parameters that take a dataclass whose fields lie in the file beside the other parameters.
        without: Names that are left out.
        optional: Parameters that need not be given, though they have no default.
        convert: Called with each annotation first; what it returns, unless None, is used.
    """
    signature = _signature(target)
    hints, texts = _hints(target), descriptions(target)
    found: list[Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in without or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        hint = hints.get(name, Any)
        if name in opened and (inner := _dataclass_in(hint)) is not None:
            found += [
                Parameter(part.name, part.annotation, part.default, part.description, (name, part.name))
                for part in parameters_of(inner, convert=convert)
            ]
            continue
        annotation = data_type(hint, convert)
        if annotation is not NOT_DATA:
            default = MISSING if parameter.default is parameter.empty else parameter.default
            default = None if default is MISSING and name in optional else default
            key = (renamed or {}).get(name, name)
            found.append(Parameter(key, annotation, default, texts.get(name, ""), (name,)))
    return found


def section_of(name: str, parameters: Iterable[Parameter], base: type[Section] = Section, **more: Any) -> type[Section]:
    """Makes a section with a key for each parameter."""
    definitions: dict[str, Any] = {}
    for parameter in parameters:
        is_needed = parameter.default is MISSING
        default = ... if is_needed else parameter.default if _is_data(parameter.default) else None
        definitions[parameter.name] = (
            parameter.annotation,
            Field(default, description=parameter.description or None),
        )
    return create_model(name, __base__=base, **{**definitions, **more})


def as_arguments(
    target: Callable[..., Any], parameters: Iterable[Parameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the arguments to call a class or function with.

    Args:
        target: The class or the function.
        parameters: What `parameters_of` returned for it.
        given: What the file says, by key.
    """
    arguments: dict[str, Any] = {}
    opened: dict[str, dict[str, Any]] = {}
    hints = _hints(target)
    for parameter in parameters:
        if parameter.name not in given:
            continue
        value, (name, *inner) = given[parameter.name], parameter.leads_to
        if inner:
            opened.setdefault(name, {})[inner[0]] = value
            continue
        held = _dataclass_in(hints.get(name))
        arguments[name] = held(**value.given()) if held is not None and isinstance(value, Section) else value
    for name, values in opened.items():
        inner_class = _dataclass_in(hints[name])
        assert inner_class is not None  # `parameters_of` opened it
        arguments[name] = inner_class(**values)
    return arguments


def data_type(annotation: Any, convert: Callable[[Any], Any] | None = None) -> Any:
    """Returns the type of what stands in a file for a value of a type, or NOT_DATA."""
    special = None if convert is None else convert(annotation)
    if special is not None:
        return special
    if annotation in (Any, object, inspect.Parameter.empty):
        return Any
    if annotation in (None, type(None)):
        return None
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return data_type(arguments[0], convert)
    if origin is Literal:
        return annotation
    if origin in (Union, types.UnionType):
        return _union([data_type(member, convert) for member in arguments])
    kind = origin or annotation
    if not isinstance(kind, type):
        return NOT_DATA
    if is_dataclass(kind):
        return section_of(kind.__name__, parameters_of(kind, convert=convert))
    if issubclass(kind, os.PathLike | PurePath):
        return str
    if issubclass(kind, Mapping):
        inner = data_type(arguments[1], convert) if len(arguments) == 2 else Any
        return NOT_DATA if inner is NOT_DATA else dict[str, inner]  # type: ignore[valid-type]
    if issubclass(kind, list | tuple | set | frozenset) or kind in (Sequence, Iterable, Collection):
        members = [data_type(member, convert) for member in arguments if member is not Ellipsis] or [Any]
        inner = _union(members)
        return NOT_DATA if inner is NOT_DATA else list[inner]  # type: ignore[valid-type]
    return NOT_DATA


def _union(members: list[Any]) -> Any:
    usable = list(dict.fromkeys(member for member in members if member is not NOT_DATA))
    if not [member for member in usable if member is not None]:
        return NOT_DATA
    if Any in usable:
        return Any
    if len(usable) == 1:
        return usable[0]
    return Annotated[Union[tuple(usable)], OneMessage()]  # noqa: UP007


class OneMessage:
    """Makes one message of what each member of a union would say."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        inner = schema
        while inner.get("type") == "nullable":
            inner = inner["schema"]
        if inner.get("type") == "union":
            names = [_word(choice[0] if isinstance(choice, tuple) else choice) for choice in inner["choices"]]
            if schema.get("type") == "nullable":
                names.append("null")
            inner["custom_error_type"] = "configuration"
            inner["custom_error_message"] = f"must be {', '.join(names[:-1])} or {names[-1]}"
        return schema


def _word(schema: Any) -> str:
    while "schema" in schema and schema["type"] not in ("list", "dict", "model", "definition-ref"):
        schema = schema["schema"]
    words = {
        "int": "an integer",
        "float": "a number",
        "str": "a text",
        "bool": "true or false",
        "list": "a list",
        "none": "null",
    }
    if schema["type"] == "literal":
        return " or ".join(map(repr, schema["expected"]))
    return words.get(schema["type"], "a mapping")


def _is_data(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def members_of(hint: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def is_scalar(hint: Any) -> bool:
    """Tells whether a type is that of a number, a text, a bool or None."""
    return isinstance(hint, type) and hint in _PLAIN


def _dataclass_in(hint: Any) -> type[Any] | None:
    return next((member for member in members_of(hint) if isinstance(member, type) and is_dataclass(member)), None)


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    if is_dataclass(target):
        return inspect.signature(target)
    constructor = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    signature = inspect.signature(constructor)
    if isinstance(target, type):
        return signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature


class _NotImported:
    """Stands for what is only imported for type checkers."""


class _Names(dict[str, Any]):
    """Finds what annotations name; what is not there is no data."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _NotImported)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    owner: Any = target if is_dataclass(target) or not isinstance(target, type) else target.__init__  # type: ignore[misc]
    function: Any = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    names = _Names(getattr(inspect.unwrap(function), "__globals__", {}))
    if is_dataclass(target):
        names = _Names(vars(inspect.getmodule(target)))
        return {field.name: _evaluated(field.type, names) for field in fields(target)}
    return {name: _evaluated(hint, names) for name, hint in getattr(owner, "__annotations__", {}).items()}


def _evaluated(hint: Any, names: _Names) -> Any:
    """Returns the type behind an annotation, which may be its text."""
    holder = types.SimpleNamespace(__annotations__={"it": hint})
    try:
        return get_type_hints(holder, localns=names)["it"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return _NotImported


_ENTRY = re.compile(r"^ {4}(\w+)(?: \([^)]*\))?: (.*)$|^:param (\w+): (.*)$")


def descriptions(target: Callable[..., Any]) -> dict[str, str]:
    """Returns what a docstring, in Google's style or Sphinx's, says of each argument and attribute."""
    found: dict[str, str] = {}
    current, inside = "", False
    for line in inspect.cleandoc(target.__doc__ or "").splitlines():
        entry = _ENTRY.match(line)
        if entry is not None and (inside or entry[3]):
            current, text = (entry[3], entry[4]) if entry[3] else (entry[1], entry[2])
            found.setdefault(current, text)
        elif line in ("Args:", "Attributes:"):
            inside = True
        elif line.strip() and not line.startswith(" "):
            inside, current = False, ""
        elif current and line.strip():
            found[current] = f"{found[current]} {line.strip()}"
    return found
