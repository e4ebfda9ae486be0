"""The algorithms of Stable-Baselines3 and sb3-contrib: their names, and which action spaces they take."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_framework import registry
from rl_framework.errors import ArgumentError, UnsavableError, UnsupportedSpaceError, require_extra

__all__ = ["check_spaces_supported", "name_of_algorithm", "resolve_algorithm", "starts_elsewhere"]

_EVERY_SPACE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)

# The libraries keep this table inside the constructors, where it cannot be asked before a model is built.
_ACTION_SPACES: dict[str, tuple[type[spaces.Space[Any]], ...]] = {
    "a2c": _EVERY_SPACE,
    "ars": (spaces.Box, spaces.Discrete),
    "crossq": (spaces.Box,),
    "ddpg": (spaces.Box,),
    "dqn": (spaces.Discrete,),
    "maskable_ppo": (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
    "ppo": _EVERY_SPACE,
    "qrdqn": (spaces.Discrete,),
    "recurrent_ppo": _EVERY_SPACE,
    "sac": (spaces.Box,),
    "td3": (spaces.Box,),
    "tqc": (spaces.Box,),
    "trpo": _EVERY_SPACE,
}

_CONTRIB = {
    "ars": "ARS",
    "crossq": "CrossQ",
    "maskable_ppo": "MaskablePPO",
    "qrdqn": "QRDQN",
    "recurrent_ppo": "RecurrentPPO",
    "tqc": "TQC",
    "trpo": "TRPO",
}

for _name in _ACTION_SPACES:
    _address = f"sb3_contrib:{_CONTRIB[_name]}" if _name in _CONTRIB else f"stable_baselines3:{_name.upper()}"
    registry.register_algorithm(_name, _address)


def resolve_algorithm(algorithm_class: str | type[Any]) -> type[Any]:
    """Returns the library's class for a class or a registered name.

    Raises:
        UnknownNameError: No such name; the nearest names are suggested.
        ArgumentError: It is no algorithm of Stable-Baselines3.
        MissingExtraError: It is one of sb3-contrib, which is not installed.
    """
    from stable_baselines3.common.base_class import BaseAlgorithm

    if isinstance(algorithm_class, str):
        if algorithm_class.lower() in _CONTRIB:
            require_extra("contrib", f"algorithm_class={algorithm_class!r}", "sb3_contrib")
        algorithm_class = registry.algorithms.get(algorithm_class, "algorithm_class")
    if not isinstance(algorithm_class, type) or not issubclass(algorithm_class, BaseAlgorithm):
        raise ArgumentError(
            "algorithm_class",
            algorithm_class,
            "is no algorithm class of Stable-Baselines3",
            f"Give a class such as stable_baselines3.PPO, or one of {', '.join(registry.algorithms)}.",
        )
    return algorithm_class


def name_of_algorithm(algorithm_class: type[Any]) -> str:
    """Returns the registered name of an algorithm class.

    Raises:
        UnsavableError: It has none, so that a saved agent could not name its algorithm.
    """
    name = registry.algorithms.name_of(algorithm_class)
    if name is None:
        own = algorithm_class.__name__
        raise UnsavableError(
            "algorithm_class",
            algorithm_class,
            "has no registered name, so that an agent with it could not be saved",
            f"Register it first: rl_framework.register_algorithm({own.lower()!r}, {own})",
        )
    return name


def check_spaces_supported(
    algorithm_class: type[Any], observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    """Checks that an algorithm can take these spaces.

    Raises:
        UnsupportedSpaceError: It cannot; the message says which algorithms can.
    """
    name = registry.algorithms.name_of(algorithm_class)
    supported = _ACTION_SPACES.get(name or "")
    if supported is not None and not isinstance(action_space, supported):
        able = [other for other, taken in _ACTION_SPACES.items() if isinstance(action_space, taken)]
        raise UnsupportedSpaceError(
            "action_space",
            action_space,
            f"{algorithm_class.__name__} takes {' and '.join(space.__name__ for space in supported)} actions only",
            f"These can take it: {', '.join(able)}."
            if able
            else "No algorithm here can take it; wrap the environment.",
        )
    if starts_elsewhere(action_space):
        raise UnsupportedSpaceError(
            "action_space",
            action_space,
            "Stable-Baselines3 counts discrete actions from 0, and these start elsewhere",
            "Wrap the environment in gymnasium.wrappers.TransformAction, which adds the start.",
        )
    if isinstance(action_space, spaces.Box) and not action_space.is_bounded("both"):
        raise UnsupportedSpaceError(
            "action_space",
            action_space,
            "continuous actions need a finite lower and upper bound",
            "Wrap the environment in gymnasium.wrappers.RescaleAction or give its Box bounds.",
        )
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    for part in parts:
        if not isinstance(part, _EVERY_SPACE):
            raise UnsupportedSpaceError(
                "observation_space",
                observation_space,
                f"Stable-Baselines3 has no network for {type(part).__name__} observations"
                + (" inside a Dict" if part is not observation_space else ""),
                "Wrap the environment, for example in gymnasium.wrappers.FlattenObservation.",
            )
        if starts_elsewhere(part):
            raise UnsupportedSpaceError(
                "observation_space",
                part,
                "Stable-Baselines3 counts discrete observations from 0, and these start elsewhere",
                "Wrap the environment in gymnasium.wrappers.TransformObservation, which subtracts the start.",
            )
        if name == "recurrent_ppo" and isinstance(part, spaces.MultiDiscrete):
            raise UnsupportedSpaceError(
                "observation_space",
                observation_space,
                "RecurrentPPO cannot build its LSTM for MultiDiscrete observations",  # sb3-contrib 2.9 with torch 2.13
                "Wrap the environment in gymnasium.wrappers.FlattenObservation, which writes them as the same numbers.",
            )


def starts_elsewhere(space: spaces.Space[Any]) -> bool:
    """Tells whether discrete values of a space are counted from another number than 0."""
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and bool(np.any(space.start))
