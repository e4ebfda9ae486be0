"""From the attributes of a Stable-Baselines3 algorithm back to the parameters that made it."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from rl_framework import registry
from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement import schedules
from rl_framework.agent.reinforcement.library.extractor import LibraryExtractor
from rl_framework.agent.reinforcement.library.parameters import choose_policy, portable_parameters
from rl_framework.environment.sb3 import SpacesOnlyVecEnv
from rl_framework.errors import ArgumentError
from rl_framework.seeding import isolated_random_state

__all__ = ["features_extractor_in", "parameters_from_library", "without_framework"]

# What the framework decides itself, what belongs to a machine, and what has a place of its own in an agent.
_LEFT_OUT = ("policy", "env", "_init_setup_model", "device", "verbose", "tensorboard_log", "seed", "monitor_wrapper")
_USUAL_REPLAY_BUFFERS = (None, ReplayBuffer, DictReplayBuffer, NStepReplayBuffer)
_LIBRARIES = ("stable_baselines3", "sb3_contrib")


def parameters_from_library(
    algorithm_class: type[Any], data: dict[str, Any], observation_space: gymnasium.Space[Any]
) -> dict[str, Any]:
    """Finds the parameters with which an algorithm was made.

    Args:
        algorithm_class: The library's class.
        data: Its attributes, as its own `save` keeps them.
        observation_space: Space of one observation, as the environment gives it.

    Returns:
        `algorithm_parameters` for an agent: what differs from the defaults, as data where it can be said as data.
    """
    usual = _attributes_by_default(algorithm_class, data)
    parameters = {}
    known = inspect.signature(algorithm_class).parameters
    for name in known:
        if name in _LEFT_OUT:
            continue
        for attribute in (name, f"_{name}", f"{name}_schedule"):
            if attribute in data:
                value = _as_parameter(name, data[attribute])
                if not _equal(value, _as_parameter(name, usual.get(attribute))):
                    parameters[name] = value
                break
    _correct_derived(parameters, data, usual)
    if "use_rms_prop" in known and "optimizer_class" not in data["policy_kwargs"]:
        parameters["use_rms_prop"] = False
    policy = _policy_as_parameter(algorithm_class, data["policy_class"], observation_space)
    return portable_parameters(parameters if policy is None else {"policy": policy, **parameters})


def features_extractor_in(parameters: dict[str, Any]) -> FeaturesExtractor | None:
    """Takes our features extractor, if there is one, out of parameters as the library keeps it there."""
    policy_kwargs = dict(parameters.get("policy_kwargs", {}))
    if policy_kwargs.pop("features_extractor_class", None) is not LibraryExtractor:
        return None
    extractor: FeaturesExtractor = policy_kwargs.pop("features_extractor_kwargs")["extractor"]
    parameters["policy_kwargs"] = policy_kwargs
    if not policy_kwargs:
        del parameters["policy_kwargs"]
    return extractor


def _attributes_by_default(algorithm_class: type[Any], data: dict[str, Any]) -> dict[str, Any]:
    vec_env = SpacesOnlyVecEnv(data["observation_space"], data["action_space"], max(1, int(data.get("n_envs", 1))))
    with isolated_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return vars(algorithm_class(data["policy_class"], vec_env, device="cpu", _init_setup_model=False))


def _correct_derived(parameters: dict[str, Any], data: dict[str, Any], usual: dict[str, Any]) -> None:
    """Takes out what the library made of other parameters."""
    if parameters.get("target_entropy") == -float(np.prod(data["action_space"].shape or ())):
        del parameters["target_entropy"]
    if "policy_kwargs" in parameters:
        added, given = (
            _as_parameter("policy_kwargs", kwargs) for kwargs in (usual["policy_kwargs"], data["policy_kwargs"])
        )
        # All or none: the library adds an optimizer and its arguments if the user has given neither.
        if all(key in given and _equal(given[key], item) for key, item in added.items()):
            given = {key: item for key, item in given.items() if key not in added}
        parameters |= {"policy_kwargs": given}
        if not given:
            del parameters["policy_kwargs"]
    if data.get("replay_buffer_class") is NStepReplayBuffer:
        kwargs = parameters.pop("replay_buffer_kwargs", {})
        kwargs = {name: value for name, value in kwargs.items() if name not in ("n_steps", "gamma")}
        parameters |= {"replay_buffer_kwargs": kwargs} if kwargs else {}


def _as_parameter(name: str, value: Any) -> Any:
    if name == "policy_kwargs":  # the library adds what it also has as a parameter of its own
        return {key: item for key, item in (value or {}).items() if key != "use_sde"}
    if name == "replay_buffer_class":
        return None if value in _USUAL_REPLAY_BUFFERS else value
    if name == "rollout_buffer_class":
        return None if _is_of_libraries(value) else value
    if name in ("replay_buffer_kwargs", "rollout_buffer_kwargs"):
        return value or {}
    if name == "train_freq":
        return _train_freq(value)
    if isinstance(value, VectorizedActionNoise):
        return value.base_noise
    return _schedule_as_data(value)


def _is_of_libraries(value: Any) -> bool:
    return value is None or str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES


def _train_freq(value: Any) -> Any:
    if isinstance(value, TrainFreq):
        unit = value.unit.value
        return value.frequency if unit == "step" else (value.frequency, unit)
    return tuple(value) if isinstance(value, list) else value


def _policy_as_parameter(
    algorithm_class: type[Any], policy: Any, observation_space: gymnasium.Space[Any]
) -> str | type[Any] | None:
    """Returns the name of a policy, or its class if it has none; None for the one that is chosen anyway."""
    aliases: dict[str, Any] = algorithm_class.policy_aliases
    try:
        if aliases[choose_policy(algorithm_class, observation_space)] is policy:
            return None
    except ArgumentError:  # there is no choice, but the file has a policy
        pass
    found: str | type[Any] = next((name for name, known in aliases.items() if known is policy), policy)
    return found


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # arrays, which are no default of any parameter
        return False


def _schedule_as_data(value: Any) -> Any:
    """Says a schedule as data; anything else stays as it is."""
    if isinstance(value, FloatSchedule):
        value = value.value_schedule
    if isinstance(value, ConstantSchedule):
        return float(value.val)
    if isinstance(value, LinearSchedule):
        end_fraction = {"end_fraction": value.end_fraction} if value.end_fraction != 1.0 else {}
        return {"type": "linear", "start": float(value.start), "end": float(value.end), **end_fraction}
    name = registry.schedules.name_of(type(value))
    if name is not None and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": name, **dataclasses.asdict(value)}
    if inspect.isfunction(value):
        return _measured(value)
    return value


def _measured(schedule: Callable[[float], float]) -> Any:
    """Says a function as data if it is constant or a straight line; how older versions kept every number."""
    points = np.linspace(1.0, 0.0, 41)
    try:
        values = np.array([float(schedule(float(point))) for point in points])
    except (TypeError, ValueError, ArithmeticError):
        return schedule
    start, end = float(values[0]), float(values[-1])
    if not (math.isfinite(start) and math.isfinite(end)):
        return schedule
    if (values == start).all():
        return start
    line = end + points * (start - end)
    if np.allclose(values, line, rtol=0.0, atol=1e-9 * max(abs(start), abs(end))):
        return {"type": "linear", "start": start, "end": end}
    return schedule


def without_framework(value: Any) -> Any:
    """Exchanges what needs this framework to be unpickled for the library's own, where it has the same.

    Args:
        value: An attribute of an algorithm.

    Returns:
        The library's schedule for a constant or linear one of ours, the library's buffer class for one derived from
        it here; anything else as it is.
    """
    if isinstance(value, FloatSchedule):
        return FloatSchedule(without_framework(value.value_schedule))
    if isinstance(value, schedules.ConstantSchedule):
        return ConstantSchedule(float(value.value))
    if isinstance(value, schedules.LinearSchedule):
        return LinearSchedule(float(value.start), float(value.end), float(value.end_fraction))
    if isinstance(value, type) and value.__module__.startswith("rl_framework."):
        return next((base for base in value.__mro__ if _is_of_libraries(base)), value)
    return value
