"""Wrappers as data: checked, and put around an environment."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rl_framework import registry
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RLFrameworkError

__all__ = ["WrapperSpecification", "check_wrappers", "wrap_environment", "wrappers_around", "wrappers_of"]

WrapperSpecification = str | Mapping[str, Any] | Callable[..., Any]
"""A registered name, `{"type": name, ...}` with arguments, or the wrapper class that has a name."""

_MARK = "_rl_framework_wrappers"
_GIVEN = ("env", "training")
"""Arguments that a wrapper is given, and that a specification cannot have."""

# Wrappers check what they are given in many ways.
_REFUSALS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    gymnasium.error.Error,
)


def check_wrappers(wrappers: Sequence[WrapperSpecification] | None, argument: str = "wrappers") -> list[dict[str, Any]]:
    """Returns wrappers in the form in which they are kept, without making or importing any.

    Args:
        wrappers: Specifications, the innermost first; None: none.
        argument: What to call them in errors.

    Returns:
        One `{"type": name, ...}` each, of JSON data.

    Raises:
        ArgumentError: Something is no specification, or an argument of a wrapper is no plain data.
        UnknownNameError: A name is not known.
    """
    if wrappers is None:
        return []
    if isinstance(wrappers, str | Mapping) or not isinstance(wrappers, Sequence):
        raise ArgumentError(argument, wrappers, "must be a list, the innermost wrapper first", 'Such as ["grayscale"].')
    return [_checked(wrapper, f"{argument}[{index}]") for index, wrapper in enumerate(wrappers)]


def _checked(wrapper: Any, argument: str) -> dict[str, Any]:
    if isinstance(wrapper, str):
        wrapper = {"type": wrapper}
    elif not isinstance(wrapper, Mapping):
        if not callable(wrapper):
            raise ArgumentError(
                argument, wrapper, "is no wrapper", 'Give a name, or a dictionary such as {"type": "frame_stack", ...}.'
            )
        name = registry.wrappers.name_of(wrapper)
        if name is None:
            raise ArgumentError(
                argument,
                wrapper,
                "has no registered name, so that an agent trained with it could not be saved",
                f"Register it: {registry.wrappers.register_call}",
            )
        wrapper = {"type": name}
    name = wrapper.get("type")
    if not isinstance(name, str) or not all(isinstance(key, str) for key in wrapper):
        raise ArgumentError(argument, dict(wrapper), 'needs a "type", the name of the wrapper, and names of arguments')
    name = registry.wrappers.name_for_files(name, argument)
    for key in _GIVEN:
        if key in wrapper:
            raise ArgumentError(argument, dict(wrapper), f"{key!r} is not for a specification to say")
    arguments = {key: _plain(value, f"{argument}[{key!r}]") for key, value in wrapper.items() if key != "type"}
    return {"type": name, **arguments}


def _plain(value: Any, argument: str) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part, argument) for part in value]
    raise ArgumentError(
        argument, value, "is no plain data", "Arguments of wrappers are finite numbers, text, None, and lists of these."
    )


def wrap_environment(
    environment: gymnasium.Env[Any, Any],
    wrappers: Sequence[WrapperSpecification] | None,
    training: bool = False,
    argument: str = "wrappers",
) -> gymnasium.Env[Any, Any]:
    """Puts wrappers around an environment, which itself stays as it is.

    Args:
        environment: The environment. One that was wrapped like this already is returned as it is.
        wrappers: Specifications, the innermost first.
        training: Whether an agent learns in it. Wrappers that have an argument `training` are told, because some, such
            as "atari", show the learner more ends of episodes than there are.
        argument: What to call the wrappers in errors.

    Raises:
        ArgumentError: A wrapper cannot be put around this environment, or does not take these arguments.
        EnvironmentSourceError: The environment was wrapped with others already.
        UnknownNameError: A name is not known.
        MissingExtraError: What a wrapper needs is not installed.
    """
    specifications = check_wrappers(wrappers, argument)
    around = wrappers_around(environment)
    if around is not None and specifications:
        if around != specifications:
            raise EnvironmentSourceError(
                "environment",
                environment,
                f"has the wrappers {around} already, and {specifications} are to be put around it",
                "Give the environment without wrappers.",
            )
        return environment
    wrapped = environment
    for index, specification in enumerate(specifications):
        wrapped = _wrapped(wrapped, dict(specification), training, f"{argument}[{index}]")
    if wrapped is not environment:
        setattr(wrapped, _MARK, specifications)
    return wrapped


def _wrapped(
    environment: gymnasium.Env[Any, Any], arguments: dict[str, Any], training: bool, argument: str
) -> gymnasium.Env[Any, Any]:
    specification = dict(arguments)
    name = arguments.pop("type")
    make = registry.wrappers.get(name, argument)
    signature = inspect.signature(make)
    try:
        signature.bind(environment, **arguments)
    except TypeError as error:
        names = [each for each in list(signature.parameters)[1:] if each not in _GIVEN]
        takes = f"It takes {', '.join(names)}." if names else "It takes no arguments."
        raise ArgumentError(argument, specification, f"does not fit the wrapper {name!r}: {error}", takes) from error
    if "training" in signature.parameters:
        arguments["training"] = training
    try:
        wrapped = make(environment, **arguments)
    except RLFrameworkError:
        raise
    except _REFUSALS as error:
        reason = str(error) or type(error).__name__
        raise ArgumentError(
            argument,
            specification,
            f"the wrapper {name!r} cannot be put around {environment}, whose observations are "
            f"{environment.observation_space} and whose actions are {environment.action_space}: {reason}",
        ) from error
    if not isinstance(wrapped, gymnasium.Env):
        raise ArgumentError(argument, specification, f"{name!r} returned a {type(wrapped).__name__} and no environment")
    return wrapped


def wrappers_around(environment: gymnasium.Env[Any, Any]) -> list[dict[str, Any]] | None:
    """Returns what `wrap_environment` has put around an environment, or None if it has not."""
    layer = environment
    while isinstance(layer, gymnasium.Wrapper):
        if _MARK in vars(layer):
            return [dict(each) for each in vars(layer)[_MARK]]
        layer = layer.env
    return None


def wrappers_of(agent: Any) -> list[dict[str, Any]]:
    """Returns the wrappers in which an agent acts; none for policies of other libraries."""
    return list(agent.wrappers) if hasattr(agent, "open_environments") and hasattr(agent, "wrappers") else []
