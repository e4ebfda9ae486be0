"""Backends by name: how an environment of a simulator is asked for in a configuration or on a command line."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.environment.known_packages import FAMILIES, Family
from rl_framework.errors import ArgumentError, EnvironmentSourceError, UnknownNameError, require_extra

__all__ = ["Backend", "backends", "environment_source", "explain_isaac"]

_Source = tuple[Any, dict[str, Any]]

_ISAAC_NEEDS = (
    "It needs an NVIDIA RTX GPU with 16 GB of memory or more, 32 GB of RAM, and Ubuntu 22.04 or later (GLIBC 2.35) or "
    "Windows 11. With Python 3.11, and an NVIDIA driver of branch 580 or later, a virtual environment of its own, and "
    'some 30 GB of disk: pip install "isaaclab[isaacsim,all]==2.3.2.post1" --extra-index-url https://pypi.nvidia.com '
    "(Isaac Lab 2.3 with Isaac Sim 5.1). Isaac Lab 3.0 with Isaac Sim 6.2 needs Python 3.12 and is installed as "
    "https://docs.nvidia.com/isaaclab says. "
)
_NO_ADAPTER = (
    "rl_framework has no adapter for it: its tasks step thousands of copies on the GPU and speak in CUDA tensors. "
    "Until there is one, start Isaac Lab's AppLauncher, put your task into Isaac Lab's Sb3VecEnvWrapper, and give that "
    "VecEnv to train(...), or register an adapter of your own (rl_framework.register_environment_adapter)."
)


@dataclass(frozen=True)
class Backend:
    """One kind of simulator.

    Attributes:
        name: Its name, such as "gymnasium".
        description: What it is.
        extra: Extra of this distribution that installs what it needs; None: nothing, or no extra can.
        is_installed: Whether it can be used here.
        make_source: Returns what `open_environments` takes, and its `environment_kwargs`, for an id and arguments.
    """

    name: str
    description: str
    extra: str | None
    is_installed: bool
    make_source: Callable[[str | None, dict[str, Any]], _Source]


def backends() -> dict[str, Backend]:
    """Returns every backend by name: ours, those of the known packages, and registered adapters. Imports nothing."""
    ours = [
        Backend("gymnasium", "any id that gymnasium or a known package has", None, True, _from_id),
        *(
            Backend(family.name, family.description, family.extra, family.is_installed, partial(_from_family, family))
            for family in FAMILIES
        ),
        Backend(
            "unity",
            "a scene made with Unity's ML-Agents: the path of the player, or none for the Editor",
            "unity",
            find_spec("mlagents_envs") is not None,
            _from_unity,
        ),
        Backend(
            "pettingzoo",
            'worlds of several agents: "butterfly/pistonball_v6", "mpe/simple_spread_v3"',
            "pettingzoo",
            find_spec("pettingzoo") is not None,
            _from_pettingzoo,
        ),
        Backend("isaac", "NVIDIA Isaac Lab on Isaac Sim; cannot be used yet", None, False, partial(_refuse, "isaac")),
        Backend("omniverse", "NVIDIA Omniverse; cannot be used yet", None, False, partial(_refuse, "omniverse")),
    ]
    found = {backend.name: backend for backend in ours}
    for name in registry.environment_adapters:
        if name not in found:
            found[name] = Backend(name, "a registered adapter", None, True, partial(_from_adapter, name))
    return found


def environment_source(
    backend: str = "gymnasium", identifier: str | None = None, arguments: Mapping[str, Any] | None = None
) -> _Source:
    """Returns what a configuration means by an environment.

    Args:
        backend: Name of a backend.
        identifier: Which environment: an id, a path of a player, a name; None where the backend needs none.
        arguments: For the constructor or the adapter.

    Returns:
        What `train`, `evaluate` and `open_environments` take, and the `environment_kwargs` to go with it.

    Raises:
        UnknownNameError: There is no such backend.
        ArgumentError: The id is missing, or not one of this backend.
        MissingExtraError: What the backend needs is not installed.
        EnvironmentSourceError: The backend cannot be used; the message says what would have to be installed.
    """
    known = backends()
    name = str(backend).lower()
    if name not in known:
        raise UnknownNameError("backend", backend, known, registry.environment_adapters.register_call)
    return known[name].make_source(identifier, dict(arguments or {}))


def explain_isaac(name: str) -> str:
    """Returns what would have to be installed for NVIDIA's simulators, which cannot be used yet.

    The facts are those of NVIDIA's documentation of Isaac Lab 2.3 and 3.0 and of the package index in November 2026.
    """
    if name == "omniverse":
        return (
            "Omniverse is a platform and no environment: what can be learned in is Isaac Lab, which runs on Isaac Sim, "
            f"which runs on Omniverse Kit. {_ISAAC_NEEDS}{_NO_ADAPTER}"
        )
    return f"Isaac Lab is not supported yet. {_ISAAC_NEEDS}{_NO_ADAPTER}"


def _refuse(name: str, identifier: str | None, arguments: dict[str, Any]) -> _Source:
    raise EnvironmentSourceError("backend", name, explain_isaac(name))


def _from_id(identifier: str | None, arguments: dict[str, Any]) -> _Source:
    return _needed(identifier, "gymnasium", "CartPole-v1"), arguments


def _from_family(family: Family, identifier: str | None, arguments: dict[str, Any]) -> _Source:
    identifier = _needed(identifier, family.name, family.examples[0])
    family.require(f"backend={family.name!r}")
    for candidate in (identifier, *_completed(family, identifier)):
        if family.has(candidate):
            return candidate, arguments
    raise ArgumentError(
        "environment", identifier, f"is no id of {family.name}", f"Such as {', '.join(family.examples)}."
    )


def _completed(family: Family, identifier: str) -> list[str]:
    """Returns what a short name may stand for: "Pong" in atari, "walker-walk" in dm_control."""
    if family.name == "atari" and identifier.isalnum():
        return [f"ALE/{identifier}-v5"]
    if family.name == "dm_control" and re.fullmatch(r"[A-Za-z_]+-[A-Za-z_]+", identifier):
        return [f"dm_control/{identifier}-v0"]
    return []


def _from_unity(identifier: str | None, arguments: dict[str, Any]) -> _Source:
    require_extra("unity", "backend='unity'", "mlagents_envs")
    if identifier is None or identifier == "editor":
        return "unity", {"file_name": None, **arguments}
    return Path(identifier), arguments


def _from_pettingzoo(identifier: str | None, arguments: dict[str, Any]) -> _Source:
    identifier = _needed(identifier, "pettingzoo", "butterfly/pistonball_v6")
    require_extra("pettingzoo", "backend='pettingzoo'", "pettingzoo")
    parts = re.fullmatch(r"(atari|butterfly|classic|mpe|sisl)/([a-z0-9_]+_v[0-9]+)", identifier)
    if parts is None:
        raise ArgumentError(
            "environment", identifier, "is no environment of PettingZoo", 'Such as "sisl/waterworld_v4".'
        )
    group, name = parts.groups()
    module = f"mpe2.{name}" if group == "mpe" else f"pettingzoo.{group}.{name}"
    # PettingZoo's particle worlds have moved to a package of their own.
    if group == "mpe" and find_spec("mpe2") is None:
        raise EnvironmentSourceError("environment", identifier, "'mpe2' is not installed", "pip install mpe2")
    return partial(_make_pettingzoo, module, identifier), arguments


def _make_pettingzoo(module: str, identifier: str, **arguments: Any) -> Any:
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentSourceError(
            "environment", identifier, f"PettingZoo cannot make it: {error}", "Is the name right, with its version?"
        ) from error
    make = getattr(found, "parallel_env", None) or found.env
    return make(**arguments)


def _from_adapter(name: str, identifier: str | None, arguments: dict[str, Any]) -> _Source:
    adapter_class = registry.environment_adapters.get(name, "backend")
    if identifier is not None:
        arguments = {"id": identifier, **arguments}
    try:
        inspect.signature(adapter_class.setup).bind(None, name, **arguments)
    except TypeError as error:
        raise ArgumentError("environment", arguments, f"the adapter {name!r} does not take them: {error}") from error
    return name, arguments


def _needed(identifier: str | None, backend: str, example: str) -> str:
    if not isinstance(identifier, str) or not identifier:
        raise ArgumentError("environment", identifier, f"the backend {backend!r} needs an id", f"Such as {example!r}.")
    return identifier
