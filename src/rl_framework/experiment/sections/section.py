"""Sections of a configuration: no key that is not known, no value out of range, and every mistake told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from rl_framework.errors import ConfigurationProblem, shorten
from rl_framework.experiment.reading.documents import Document, Key
from rl_framework.experiment.reading.variables import is_secret
from rl_framework.secrecy import redact

__all__ = [
    "Count",
    "Section",
    "Whole",
    "as_data",
    "as_whole",
    "complaint",
    "complaints",
    "problems_of",
    "unknown_key",
    "whole",
]


def as_whole(value: Any) -> Any:
    """Makes an integer of a number that is one: 1e6 is how people write a million."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole(**limits: Any) -> Any:
    """Returns the type of integers within limits (`ge=1`), which may be written as 1e6."""
    # In this order, so that the limits are in the JSON Schema.
    return Annotated[int, Field(**limits), BeforeValidator(as_whole)]


Whole = Annotated[int, BeforeValidator(as_whole)]
Count = Annotated[int, Field(ge=1), BeforeValidator(as_whole)]


class Section(BaseModel):
    """A mapping with known keys. It cannot be changed."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=False,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _tell_everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Collects unknown keys, what pydantic finds, and what `further_complaints` finds."""
        found: list[InitErrorDetails] = []
        if isinstance(data, Mapping):
            known = list(cls.model_fields)
            found = [complaint(unknown_key(key, known), (key,)) for key in data if key not in known]
            data = {key: value for key, value in data.items() if key in known}
        try:
            section = handler(data)
            found += section.further_complaints(info)
        except ValidationError as error:
            found += complaints(error)
            found += cls._complaints_without({each["loc"][0] for each in found if each.get("loc")}, data, handler, info)
        if found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return section

    @classmethod
    def _complaints_without(
        cls, wrong: set[int | str], data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Iterable[InitErrorDetails]:
        """Returns what would still be wrong if the keys that are wrong had been left out."""
        if not isinstance(data, Mapping):
            return []
        try:
            section = handler({key: value for key, value in data.items() if key not in wrong})
        except ValidationError:
            return []
        return [each for each in section.further_complaints(info) if each.get("loc", ("",))[0] not in wrong]

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Returns what is wrong though every value alone is right."""
        return []

    def given(self) -> dict[str, Any]:
        """Returns what was given, by key; what was not has the default."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def changed(self, **changes: Any) -> Self:
        """Returns a copy with other values, which are not checked."""
        return self.model_copy(update=changes)

    def to_data(self) -> dict[str, Any]:
        """Returns the section with its defaults, as it can be written to a file."""
        return {name: as_data(getattr(self, name)) for name in type(self).model_fields}


def as_data(value: Any) -> Any:
    """Returns a value of a section as it can be written to a file."""
    if isinstance(value, Section):
        return value.to_data()
    if isinstance(value, Mapping):
        return {name: as_data(part) for name, part in value.items()}
    return [as_data(part) for part in value] if isinstance(value, list | tuple) else value


def complaint(message: str, key: Key = ()) -> InitErrorDetails:
    """Makes one of pydantic's error details."""
    return InitErrorDetails(type=PydanticCustomError("configuration", "{text}", {"text": message}), loc=key, input=None)


def complaints(error: ValidationError) -> list[InitErrorDetails]:
    """Returns the details of an error in words of this package."""
    return [
        complaint(_in_words(details["type"], details), details["loc"])
        for details in error.errors(include_url=False, include_input=True)
    ]


def unknown_key(key: object, known: Iterable[str]) -> str:
    """Says that a key is not known, and which are near."""
    names = list(known)
    near = get_close_matches(str(key), names, n=2, cutoff=0.6)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else f"; known here: {', '.join(names) or 'none'}"
    return f"there is no such key{hint}"


def problems_of(error: ValidationError, document: Document) -> list[ConfigurationProblem]:
    """Returns the problems that pydantic found, each with its place."""
    return [document.problem(details["msg"], details["loc"]) for details in error.errors(include_url=False)]


_WORDS: dict[str, str] = {
    "missing": "is needed",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "string_type": "must be a text (numbers and true/false need quotes to be one)",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "list_type": "must be a list",
    "none_required": "must be null",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} entries",
    "string_pattern_mismatch": "does not have the form {pattern}",
}


def _in_words(kind: str, details: Mapping[str, Any]) -> str:
    if kind not in _WORDS:
        return str(details["msg"])
    limits = {
        name: f"{value:g}" if isinstance(value, float) else value for name, value in details.get("ctx", {}).items()
    }
    message = _WORDS[kind].format(**limits)
    if kind == "missing" or is_secret(next(reversed(details["loc"]), "")):
        return message
    return redact(f"{message}, and is {shorten(details['input'])}")
