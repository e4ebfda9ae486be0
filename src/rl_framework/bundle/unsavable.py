"""What to tell who gives a parameter that no file can hold."""

from __future__ import annotations

import functools
import re
from typing import Any

from rl_framework import registry as registries
from rl_framework.errors import UnsavableError
from rl_framework.registry import Registry

__all__ = ["class_registries", "unsavable"]


def class_registries() -> dict[str, Registry]:
    """Returns the registries whose names may stand for a class in a bundle, by kind."""
    holders = (
        registries.activations,
        registries.optimizers,
        registries.features_extractors,
        registries.policies,
        registries.replay_buffers,
        registries.algorithms,
        registries.schedules,
    )
    return {registry.kind: registry for registry in holders}


def unsavable(value: Any, argument: str) -> UnsavableError:
    """Returns the error for a value that cannot be saved, with the line that makes it savable.

    Args:
        value: A class, function or object without a name.
        argument: Where it was found, such as `"algorithm_parameters['policy_kwargs']['activation_fn']"`.
    """
    if isinstance(value, type):
        registry = _registry_for(value)
        if registry is None:
            calls = [f"rl_framework.register_{kind}" for kind in class_registries()]
            remedy = f"Give it one with one of {', '.join(calls)}."
            return UnsavableError(argument, value, "a class that has no name cannot be saved", remedy)
        problem = f"a {registry.kind.replace('_', ' ')} class that has no name cannot be saved"
        return UnsavableError(argument, value, problem, f"Register it first: {_registering(registry, value.__name__)}")
    if isinstance(value, functools.partial) and isinstance(value.func, type):
        problem = "a class with some arguments filled in cannot be saved"
        registry = _registry_for(value.func)
        call = f" and register it: {_registering(registry, f'My{value.func.__name__}')}" if registry else ""
        return UnsavableError(argument, value, problem, f"Write a subclass of {value.func.__name__}{call}")
    if callable(value) and _registry_for(type(value)) is None:
        name = getattr(value, "__name__", "")
        name = name if name.isidentifier() else "my_schedule"
        return UnsavableError(
            argument,
            value,
            "a function cannot be saved",
            "Write a schedule as data, such as {'type': 'linear', 'start': 3e-4, 'end': 0}, or register it first: "
            f"{_registering(registries.schedules, name)}",
        )
    kind = type(value).__name__
    if _registry_for(type(value)) is not None:
        return UnsavableError(argument, value, f"an object of {kind} cannot be saved", f"Give the class: {kind}.")
    return UnsavableError(
        argument,
        value,
        f"an object of {kind} cannot be saved",
        "Give numbers, strings, lists, dicts, arrays, or a class that has a name in a registry.",
    )


def _registry_for(cls: type) -> Registry | None:
    # By names along the ancestors, so that neither torch nor Stable-Baselines3 is imported to find out.
    ancestors = {f"{ancestor.__module__.partition('.')[0]}.{ancestor.__name__}" for ancestor in cls.__mro__}
    by_ancestor = {
        "stable_baselines3.BaseFeaturesExtractor": registries.features_extractors,
        "stable_baselines3.BasePolicy": registries.policies,
        "stable_baselines3.BaseAlgorithm": registries.algorithms,
        "stable_baselines3.ReplayBuffer": registries.replay_buffers,
        "torch.Optimizer": registries.optimizers,
        "torch.Module": registries.activations,
    }
    return next((registry for name, registry in by_ancestor.items() if name in ancestors), None)


def _registering(registry: Registry, name: str) -> str:
    call = registry.register_call.partition("(")[0]
    short = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).strip("<>_").lower()
    return f"{call}('{short}', {name})"
