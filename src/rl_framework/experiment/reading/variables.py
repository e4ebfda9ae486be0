"""Secrets in a configuration: named there as `${NAME}`, and read from the environment when they are needed."""

from __future__ import annotations

import os
import re
from typing import Any

from rl_framework.errors import ConfigurationError, ConfigurationProblem
from rl_framework.experiment.reading.documents import Document, Key, dotted
from rl_framework.secrecy import remember_secret

__all__ = ["check_secrets", "is_secret", "with_secrets"]

_SECRET = re.compile(
    r"(?:^|_)(?:token|password|passphrase|secret|api_?key|access_key|secret_key|private_key|credentials?)$",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_secret(name: object) -> bool:
    """Tells whether a key is one that takes a secret."""
    return isinstance(name, str) and _SECRET.search(name) is not None


def check_secrets(document: Document) -> list[ConfigurationProblem]:
    """Returns what is wrong: secrets that are written out, and variables where no secret is taken."""
    return _check(document.data, (), document)


def _check(value: Any, key: Key, document: Document) -> list[ConfigurationProblem]:
    if isinstance(value, dict):
        return [problem for name, part in value.items() for problem in _check(part, (*key, name), document)]
    if isinstance(value, list):
        return [problem for index, part in enumerate(value) for problem in _check(part, (*key, index), document)]
    if not isinstance(value, str):
        return []
    if key and is_secret(key[-1]):
        if not value or _VARIABLE.fullmatch(value):
            return []
        remember_secret(value)
        name = re.sub(r"\W", "_", str(key[-1])).upper()
        message = f"is a secret, which is kept out of configurations: write ${{{name}}}, and set the variable {name}"
        return [document.problem(message, key)]
    if "${" in value:
        message = (
            "environment variables are read where a secret is taken (token, password, api_key, ...) and nowhere else, "
            "so that a configuration means the same on every machine: use an override"
        )
        return [document.problem(message, key)]
    return []


def with_secrets(value: Any, key: Key = ()) -> Any:
    """Returns a copy of data with the values of the variables that it names.

    Args:
        value: Data of a checked configuration.
        key: Where it is.

    Raises:
        ConfigurationError: A variable is not set.
    """
    if isinstance(value, dict):
        return {name: with_secrets(part, (*key, name)) for name, part in value.items()}
    if isinstance(value, list):
        return [with_secrets(part, (*key, index)) for index, part in enumerate(value)]
    if not (key and is_secret(key[-1]) and isinstance(value, str)) or (found := _VARIABLE.fullmatch(value)) is None:
        return value
    secret = os.environ.get(found[1])
    if not secret:
        raise ConfigurationError([ConfigurationProblem(f"the variable {found[1]} is not set", dotted(key))])
    remember_secret(secret)
    return secret
