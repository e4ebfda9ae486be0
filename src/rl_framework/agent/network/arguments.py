"""What an object was made with, by name, so that a bundle can make it again."""

from __future__ import annotations

import inspect
from typing import Any

from rl_framework.errors import ArgumentError

__all__ = ["note_arguments"]


def note_arguments(
    cls: type[Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any], argument: str
) -> dict[str, Any]:
    """Returns the arguments of a constructor by name.

    Args:
        cls: The class of which an object is being made.
        instance: The object, not initialised yet.
        args: Positional arguments.
        kwargs: Arguments by name.
        argument: Where such objects are given, for errors.

    Raises:
        ArgumentError: The constructor takes arguments that have no name.
    """
    # Not of the class: its signature would be that of __new__ where a subclass has no __init__.
    signature = inspect.signature(cls.__init__)
    bound = dict(signature.bind(instance, *args, **kwargs).arguments)
    bound.pop(next(iter(signature.parameters)))
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound |= bound.pop(name, {})
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY) and bound.get(name):
            raise ArgumentError(argument, cls, f"{name} cannot be given by name", "Name every parameter of __init__.")
    return bound
