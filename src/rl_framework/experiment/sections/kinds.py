"""Sections whose `type` is a registered name: agents, connectors, wrappers. Their keys are their constructor's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, core_schema

from rl_framework import registry
from rl_framework.errors import ArgumentError, RLFrameworkError, UnknownNameError, shorten
from rl_framework.experiment.reading.documents import Key
from rl_framework.experiment.sections.section import Section, as_data, complaint
from rl_framework.experiment.sections.signatures import Parameter, as_arguments, parameters_of, section_of

__all__ = ["ROLE_MARK", "Kind", "KindOf", "Role", "key_in", "refusal_of", "without_argument"]

ROLE_MARK = "x-role"
"""Where a JSON Schema is to list the types of a role."""


class Kind(Section):
    """A section whose `type` names what it configures."""

    role: ClassVar[Role]
    target: ClassVar[Any]
    parameters_taken: ClassVar[list[Parameter]]

    type: str

    def given(self) -> dict[str, Any]:
        """Returns what was given besides the type."""
        return {name: value for name, value in super().given().items() if name != "type"}

    def to_data(self) -> dict[str, Any]:
        """Returns the type and what was given; the rest is for the class to choose, also in later versions."""
        return {"type": self.type, **as_data(self.given())}

    def arguments(self, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the arguments to construct it with.

        Args:
            changed: Values to use instead of those in the section, by key.
        """
        return as_arguments(type(self).target, type(self).parameters_taken, {**self.given(), **(changed or {})})

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Asks the class itself, as far as that can be done without effects."""
        return type(self).role.check(self)


@dataclass(eq=False)
class Role:
    """What a section is for.

    Attributes:
        name: Such as "agent".
        known: Where its types are registered.
        options: Passed to `parameters_of`.
        check: Returns what is wrong with a section whose keys and types are right.
        default: Returns the type of a section that does not say it, or None.
        has_short_form: Whether a text stands for a section with that type and nothing else.
    """

    name: str
    known: registry.Registry
    options: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Any], Iterable[InitErrorDetails]] = lambda section: ()
    default: Callable[[Mapping[str, Any]], str | None] = lambda data: None
    has_short_form: bool = False
    _made: dict[str, type[Kind]] = field(default_factory=dict, repr=False)

    def section(self, name: str) -> type[Kind]:
        """Returns the section for a type.

        Raises:
            UnknownNameError: There is no such type; the nearest names are suggested.
            RLFrameworkError: It cannot be imported.
        """
        target = self.known.get(name, "type")
        # What another package offers is written with the package's name, so that the file tells what it needs.
        key = self.known.name_of(target) or name.lower()
        if key not in self._made or self._made[key].target is not target:
            self._made[key] = self._section_for(key, target)
        return self._made[key]

    def _section_for(self, key: str, target: Any) -> type[Kind]:
        parameters = parameters_of(target, **self.options)
        section = section_of(f"{self.name}_{key}", parameters, Kind, type=(Literal[key], key))
        assert issubclass(section, Kind)  # the base that was asked for
        section.__doc__ = (target.__doc__ or "").strip().partition("\n\n")[0]
        section.role, section.target, section.parameters_taken = self, target, parameters
        return section


class KindOf:
    """Marks a field that takes a section of a role."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Chooses the section by its type when there is one."""
        return core_schema.with_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda kind: kind.to_data())
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Marks the place; the types of a role may hold sections of the same role."""
        return {ROLE_MARK: self.role.name}

    def _validate(self, data: Any, info: ValidationInfo) -> Kind:
        if isinstance(data, Kind) and data.role is self.role:
            return data
        if isinstance(data, str) and self.role.has_short_form:
            data = {"type": data}
        if not isinstance(data, Mapping):
            raise _wrong(f"must be a mapping with the type of the {self.role.name}, and is {shorten(data)}")
        name = data.get("type")
        try:
            name = self.role.default(data) if name is None else name
            if not isinstance(name, str):
                known = ", ".join(self.role.known)
                raise _wrong(f"is needed: one of {known}", ("type",))
            section = self.role.section(name)
        except RLFrameworkError as error:
            raise _wrong(without_argument(error), ("algorithm",) if data.get("type") is None else ("type",)) from error
        return section.model_validate({**data, "type": section.model_fields["type"].default}, context=info.context)


def _wrong(message: str, key: Key = ()) -> ValidationError:
    return ValidationError.from_exception_data("section", [complaint(message, key)])


def without_argument(error: RLFrameworkError) -> str:
    """Returns the message of an error without the name of the argument, which the key tells already."""
    text = str(error)
    if isinstance(error, UnknownNameError) and error.suggestions:
        text = text.partition(" Known: ")[0]  # there may be a hundred of them
    return text.removeprefix(f"{error.argument}=") if isinstance(error, ArgumentError) else text


def refusal_of(section: Kind, make: Callable[[], Any]) -> list[InitErrorDetails]:
    """Returns what a class says against the arguments of its section, if anything.

    Args:
        section: The section.
        make: Makes an object, or checks as much as can be checked without effects.
    """
    try:
        make()
    except RLFrameworkError as error:
        return [complaint(without_argument(error), key_in(section, error))]
    except (TypeError, ValueError) as error:  # classes of other packages may raise these
        return [complaint(f"{type(section).target.__name__} refuses it: {error}")]
    return []


_BRACKETS = re.compile(r"\[(?:(\d+)|'([^']*)'|\"([^\"]*)\")\]")


def key_in(section: Kind, error: RLFrameworkError) -> Key:
    """Returns the key of a section that an error is about, as far as it tells: `algorithm_parameters['n_steps']`."""
    if not isinstance(error, ArgumentError):
        return ()
    root, bracket, _ = error.argument.partition("[")
    name = next(
        (p.name for p in type(section).parameters_taken if root in (p.leads_to[0], p.leads_to[-1], p.name)), None
    )
    if name is None:
        return ()
    inner = [int(m[1]) if m[1] else m[2] or m[3] for m in _BRACKETS.finditer(error.argument)] if bracket else []
    value = section.given().get(name)
    if not inner and isinstance(error, UnknownNameError) and isinstance(value, dict) and error.value in value:
        inner = [str(error.value)]
    return (name, *inner)
