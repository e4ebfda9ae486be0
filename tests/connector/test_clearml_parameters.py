from __future__ import annotations

from typing import Any

import pytest

from rl_framework.connector.clearml.parameters import merged, shown
from rl_framework.errors import ArgumentError


class Activation:
    """Stands for a class among parameters."""


GIVEN: dict[str, Any] = {
    "text": "abc",
    "number": 3,
    "rate": 1e-3,
    "large": 2**63 + 1,
    "flag": True,
    "nothing": None,
    "list": [64, 64],
    "tuple": (1, 2),
    "empty": {},
    "class": Activation,
    "digits": "0123",
    "inner": {"schedule": {"type": "linear", "start": 0.1}, "list": [Activation]},
}


def test_they_are_shown_as_texts_with_flat_names() -> None:
    assert shown(GIVEN) == {
        "text": "abc",
        "number": "3",
        "rate": "0.001",
        "large": "9223372036854775809",
        "flag": "True",
        "nothing": "",
        "list": "[64, 64]",
        "tuple": "[1, 2]",
        "empty": "{}",
        "class": "Activation",
        "digits": "0123",
        "inner/schedule/type": "linear",
        "inner/schedule/start": "0.1",
        "inner/list": "[Activation]",
    }


def test_what_was_not_changed_is_what_was_given() -> None:
    result = merged(GIVEN, shown(GIVEN))
    assert result == GIVEN
    assert {name: type(value) for name, value in result.items()} == {name: type(v) for name, v in GIVEN.items()}
    result["inner"]["schedule"]["type"] = "changed"
    assert GIVEN["inner"]["schedule"]["type"] == "linear"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("text", "12", "12"),
        ("digits", "0", "0"),
        ("number", "4", 4),
        ("number", "1e5", 100_000),
        ("number", "0.5", 0.5),
        ("large", "9223372036854775811", 2**63 + 3),
        ("rate", " 2 ", 2.0),
        ("flag", "false", False),
        ("flag", "0", False),
        ("nothing", "7", 7),
        ("nothing", "None", None),
        ("nothing", "word", "word"),
        ("list", "[32]", [32]),
        ("list", "", None),
        ("tuple", "(3, 4)", (3, 4)),
        ("class", "relu", "relu"),
        ("empty", "{'a': 1}", {"a": 1}),
        ("new", "0.9", 0.9),
        ("new", "True", True),
    ],
)
def test_what_was_changed_takes_the_type_it_had(name: str, text: str, expected: Any) -> None:
    result = merged(GIVEN, {name: text})[name]
    assert result == expected
    assert type(result) is type(expected)


def test_nested_ones_are_changed_and_added() -> None:
    result = merged(GIVEN, {"inner/schedule/start": "0.2", "inner/schedule/end": "0.0", "other/a/b": "x"})
    assert result["inner"]["schedule"] == {"type": "linear", "start": 0.2, "end": 0.0}
    assert result["other"] == {"a": {"b": "x"}}


@pytest.mark.parametrize(
    ("parameters", "texts", "message"),
    [
        ({"n_steps": 3}, {"n_steps": "many"}, "'n_steps', which must be a number"),
        ({"flag": True}, {"flag": "maybe"}, "'flag', which must be True or False"),
        ({1: 2}, {}, "must be texts"),
        ({"a/b": 1, "a": {"b": 2}}, {}, "two parameters get this name"),
    ],
    ids=["number", "flag", "key", "twice"],
)
def test_what_cannot_be_is_refused(parameters: Any, texts: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        merged(parameters, texts)


def test_no_text_is_run() -> None:
    hostile = "__import__('os').system('touch hostile')"
    assert merged({"nothing": None}, {"nothing": hostile}) == {"nothing": hostile}
