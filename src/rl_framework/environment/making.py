"""Making one environment from what names it, from a factory, or from a simulator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from rl_framework import registry
from rl_framework.environment.adapter import AdaptedEnvironment, EnvironmentAdapter, MultiSlotAdapter
from rl_framework.environment.known_packages import near_ids, register_package_of
from rl_framework.environment.wrappers import wrap_environment
from rl_framework.errors import ArgumentError, EnvironmentSourceError

__all__ = [
    "Made",
    "adapter_class_for",
    "check_factory",
    "closed_on_failure",
    "gymnasium_errors",
    "make_adapted",
    "make_from_factory",
    "make_from_id",
    "make_wrapped",
]

Made = gymnasium.Env[Any, Any] | MultiSlotAdapter


@contextmanager
def closed_on_failure(thing: Any) -> Iterator[None]:
    """Closes something that was made here if the block fails: a simulator's process would stay otherwise."""
    try:
        yield
    except BaseException as error:
        close = getattr(thing, "close", None)
        try:
            if close is not None:
                close()
        except Exception as second:  # noqa: BLE001  # what went wrong first is what the user has to know
            error.add_note(f"It could not be closed, either: {second!r}")
        raise


def adapter_class_for(source: Any) -> type[EnvironmentAdapter] | None:
    """Returns the registered adapter that takes a source, or that a name names; None if there is none."""
    if isinstance(source, str):
        return registry.environment_adapters.get(source) if source in registry.environment_adapters else None
    adapter_class: type[EnvironmentAdapter]
    for _, adapter_class in registry.environment_adapters.usable():
        if adapter_class.accepts(source):
            return adapter_class
    return None


def make_adapted(
    adapter_class: type[EnvironmentAdapter], source: Any, kwargs: dict[str, Any], is_made_here: bool
) -> Made:
    """Sets up an adapter.

    Args:
        adapter_class: Its class.
        source: What `setup` is given; an adapter that the user has made, with options of its own, is used itself.
        kwargs: Its `environment_kwargs`.
        is_made_here: Whether what `setup` takes is closed if it fails.
    """
    adapter = source if isinstance(source, EnvironmentAdapter) else adapter_class()
    if is_made_here:
        with closed_on_failure(adapter):
            adapter.setup(source, **kwargs)
    else:
        adapter.setup(source, **kwargs)
    return adapter if isinstance(adapter, MultiSlotAdapter) else AdaptedEnvironment(adapter)


def make_from_id(source: str | EnvSpec, kwargs: dict[str, Any], argument: str) -> gymnasium.Env[Any, Any]:
    """Makes an environment of an id, whose package is imported if it is a known one."""
    register_package_of(source, argument)
    with gymnasium_errors(source, argument):
        return gymnasium.make(source, **kwargs)


@contextmanager
def gymnasium_errors(source: str | EnvSpec, argument: str) -> Iterator[None]:
    """Explains what gymnasium raises when it makes an environment."""
    try:
        yield
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise EnvironmentSourceError(argument, source, f"a package that it needs is missing: {error}") from error
    except gymnasium.error.UnregisteredEnv as error:
        near = _did_you_mean(source)
        # Gymnasium's own guess knows the name alone.
        problem = str(error).partition(" Did you mean")[0] if near else str(error)
        raise EnvironmentSourceError(
            argument,
            source,
            f"gymnasium does not know this id: {problem}",
            f"{near}Import the package that registers it before this call, or give a factory.{_if_path(source)}",
        ) from error
    except (gymnasium.error.Error, TypeError) as error:
        problem = f"gymnasium could not make it: {error}"
        is_unknown = isinstance(source, str) and source not in gymnasium.registry
        # Whoever asks for a spec needs a version; gymnasium has no error of its own for that.
        near = _did_you_mean(source) if is_unknown and not isinstance(error, gymnasium.error.DeprecatedEnv) else ""
        raise EnvironmentSourceError(argument, source, problem, f"{near}{_if_path(source)}".strip()) from error


def _if_path(source: str | EnvSpec) -> str:
    if not isinstance(source, str) or not source.endswith((".x86_64", ".x86", ".exe", ".app")):
        return ""
    return f" What Unity built is given as a path: pathlib.Path({source!r})."


def _did_you_mean(source: str | EnvSpec) -> str:
    near = near_ids(source if isinstance(source, str) else source.id)
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def check_factory(factory: Callable[..., Any], kwargs: dict[str, Any], argument: str) -> None:
    """Refuses arguments that a factory does not take, before it is called."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # some built-in callables have none
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        if kwargs:
            raise ArgumentError("environment_kwargs", kwargs, f"the factory does not take them: {error}") from error
        raise EnvironmentSourceError(
            argument, factory, f"the factory cannot be called without arguments: {error}", "Give environment_kwargs."
        ) from error


def make_from_factory(factory: Callable[..., Any], kwargs: dict[str, Any], argument: str) -> Made:
    """Calls a factory; what it returns may be an environment, or anything that an adapter takes."""
    made = factory(**kwargs)
    if isinstance(made, gymnasium.Env):
        return made
    adapter_class = adapter_class_for(made)
    with closed_on_failure(made):
        if adapter_class is None:
            raise EnvironmentSourceError(
                argument, factory, f"the factory returned a {type(made).__name__}", "It must return a gymnasium.Env."
            )
        return make_adapted(adapter_class, made, {}, is_made_here=False)


def make_wrapped(
    make: Callable[[], Made], wrappers: Sequence[dict[str, Any]], training: bool, argument: str, is_made_here: bool
) -> Made:
    """Makes an environment and puts wrappers around it; closes it if they do not fit, unless it is the caller's.

    Raises:
        ArgumentError: It is a world of several slots, or a wrapper does not fit it.
    """
    made = make()
    with closed_on_failure(made if is_made_here else None):
        if isinstance(made, MultiSlotAdapter):
            raise ArgumentError(
                "wrappers",
                list(wrappers),
                f"{argument} has several slots in one world, which wrappers of single environments cannot go around",
                "Translate observations, actions and rewards in the adapter or in the simulator.",
            )
        return wrap_environment(made, wrappers, training)
