"""From what the user wrote as `algorithm_parameters` to what the library's constructor takes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_framework import registry
from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.bundle import encode_value
from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = [
    "build_arguments",
    "check_parameter_names",
    "check_savable",
    "choose_policy",
    "local_parameters",
    "portable_parameters",
]

_OWNED = {
    "env": "Pass the environments to train(training_environments=...).",
    "_init_setup_model": "The framework builds the model at the right time.",
}
# What belongs to the machine or the session rather than to the agent is not saved with it.
_LOCAL = ("device", "tensorboard_log", "verbose")

_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
_CLASSES_IN_POLICY_KWARGS = {
    "activation_fn": registry.activations,
    "features_extractor_class": registry.features_extractors,
    "optimizer_class": registry.optimizers,
}


def check_parameter_names(
    algorithm_class: type[Any], parameters: dict[str, Any], owned: dict[str, str] = _OWNED
) -> None:
    """Checks that the algorithm has all these parameters.

    Args:
        algorithm_class: The class whose constructor takes them.
        parameters: What the user wrote.
        owned: Parameters that the framework sets, and what to do instead of giving them.

    Raises:
        UnknownNameError: It does not; the nearest names are suggested.
        ArgumentError: One of them is the framework's own business.
    """
    for name, remedy in owned.items():
        if name in parameters:
            raise ArgumentError(f"algorithm_parameters[{name!r}]", parameters[name], "cannot be set here", remedy)
    signature = inspect.signature(algorithm_class)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        return
    known = set(signature.parameters) - set(owned)
    for name in parameters:
        if name not in known:
            raise UnknownNameError(
                "algorithm_parameters", name, known, f"See the documentation of {algorithm_class.__name__}."
            )


def choose_policy(algorithm_class: type[Any], observation_space: spaces.Space[Any]) -> str:
    """Returns the library's policy for an observation space: multi-input, convolutional, or a plain network."""
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(observation_space, spaces.Dict):
        wanted = "MultiInput"
    elif is_image_space(observation_space):
        wanted = "Cnn"
    else:
        wanted = "Mlp"
    names = [name for name in algorithm_class.policy_aliases if name.startswith(wanted)]
    if not names:
        raise ArgumentError(
            "algorithm_parameters['policy']",
            None,
            f"{algorithm_class.__name__} has no {wanted} policy for {observation_space}",
            f"It has {', '.join(algorithm_class.policy_aliases)}.",
        )
    return str(names[0])


def build_arguments(
    algorithm_class: type[Any],
    parameters: dict[str, Any],
    features_extractor: Any,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> dict[str, Any]:
    """Turns names and data into the objects that the library's constructor takes.

    Args:
        algorithm_class: The library's class.
        parameters: What the user wrote; not changed.
        features_extractor: A name, a class, `{"type": name, ...}` or None.
        observation_space: Space of one observation.
        action_space: Space of one action.

    Returns:
        Arguments for the constructor, except the environment and the seed.

    Raises:
        UnknownNameError: A name is not registered.
        ArgumentError: A value cannot be used.
    """
    # The library writes into dictionaries that it is given, which are the user's.
    arguments = {name: dict(value) if isinstance(value, dict) else value for name, value in parameters.items()}
    arguments.pop("seed", None)
    for name in _SCHEDULED:
        if name in arguments:
            arguments[name] = to_schedule(arguments[name], f"algorithm_parameters[{name!r}]")
    policy = arguments.pop("policy", None) or choose_policy(algorithm_class, observation_space)
    if isinstance(policy, str) and policy not in algorithm_class.policy_aliases:
        if policy not in registry.policies:
            known = [*algorithm_class.policy_aliases, *registry.policies]
            raise UnknownNameError("algorithm_parameters['policy']", policy, known)
        policy = registry.policies.get(policy)
    aliases = algorithm_class.policy_aliases
    if not (isinstance(policy, str) and policy in aliases) and policy not in aliases.values():
        _check_kind(policy, "policy", registry.policies)
    policy_kwargs = _policy_kwargs(arguments.get("policy_kwargs"), features_extractor)
    if policy_kwargs is not None:
        arguments["policy_kwargs"] = policy_kwargs
    replay_buffer_class: Any = arguments.get("replay_buffer_class")
    if isinstance(replay_buffer_class, str):
        argument = "algorithm_parameters['replay_buffer_class']"
        arguments["replay_buffer_class"] = registry.replay_buffers.get(replay_buffer_class, argument)
    rollout_buffer_class: Any = arguments.get("rollout_buffer_class")
    if rollout_buffer_class is not None and not _is_buffer_class(rollout_buffer_class):
        raise ArgumentError("rollout_buffer_class", rollout_buffer_class, "is no buffer class of Stable-Baselines3")
    if arguments.get("replay_buffer_class") is not None:
        _check_kind(arguments["replay_buffer_class"], "replay_buffer_class", registry.replay_buffers)
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    if isinstance(arguments.get("action_noise"), dict):
        arguments["action_noise"] = _action_noise(arguments["action_noise"], action_space)
    return {"policy": policy, **arguments}


def _policy_kwargs(given: dict[str, Any] | None, features_extractor: Any) -> dict[str, Any] | None:
    if given is None and features_extractor is None:
        return None
    if given is not None and not isinstance(given, dict):
        raise ArgumentError("algorithm_parameters['policy_kwargs']", given, "must be a dictionary")
    policy_kwargs = {key: dict(value) if isinstance(value, dict) else value for key, value in (given or {}).items()}
    if features_extractor is not None:
        if {"features_extractor_class", "features_extractor_kwargs"} & set(policy_kwargs):
            raise ArgumentError(
                "features_extractor",
                features_extractor,
                "policy_kwargs['features_extractor_class'] is given too",
                "Pass one of the two.",
            )
        if isinstance(features_extractor, FeaturesExtractor):
            from rl_framework.agent.reinforcement.library.extractor import LibraryExtractor

            policy_kwargs["features_extractor_class"] = LibraryExtractor
            policy_kwargs["features_extractor_kwargs"] = {"extractor": features_extractor}
            return _named_classes(policy_kwargs, ("activation_fn", "optimizer_class"), features_extractor)
        if isinstance(features_extractor, dict):
            fields = dict(features_extractor)
            policy_kwargs["features_extractor_class"] = fields.pop("type", None)
            if policy_kwargs["features_extractor_class"] is None:
                raise ArgumentError("features_extractor", features_extractor, 'needs a "type"')
            policy_kwargs["features_extractor_kwargs"] = fields
        else:
            policy_kwargs["features_extractor_class"] = features_extractor
    return _named_classes(policy_kwargs, tuple(_CLASSES_IN_POLICY_KWARGS), features_extractor)


def _named_classes(policy_kwargs: dict[str, Any], names: tuple[str, ...], features_extractor: Any) -> dict[str, Any]:
    for name in names:
        known, value = _CLASSES_IN_POLICY_KWARGS[name], policy_kwargs.get(name)
        argument = "features_extractor" if features_extractor is not None and "features" in name else name
        if isinstance(value, str):
            policy_kwargs[name] = known.get(value, argument)
        elif value is not None:
            _check_kind(value, argument, known)
    return policy_kwargs


def _is_buffer_class(value: Any) -> bool:
    from stable_baselines3.common.buffers import BaseBuffer

    return isinstance(value, type) and issubclass(value, BaseBuffer)


def _check_kind(value: Any, argument: str, known: registry.Registry) -> None:
    """Checks that a class is registered as what it is used for.

    The library calls it with arguments that may come from a file. An algorithm in the place of a features extractor
    would import the module that its `env` argument names.
    """
    if known.name_of(value) is None:
        kind = known.kind.replace("_", " ")
        raise ArgumentError(argument, value, f"is not registered as a {kind}", f"Register it: {known.register_call}")


def _action_noise(data: dict[str, Any], action_space: spaces.Space[Any]) -> Any:
    from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

    known = {"normal": NormalActionNoise, "ornstein_uhlenbeck": OrnsteinUhlenbeckActionNoise}
    fields = dict(data)
    kind = str(fields.pop("type", None)).lower()
    if kind not in known:
        raise UnknownNameError("algorithm_parameters['action_noise']['type']", kind, known)
    if not isinstance(action_space, spaces.Box):
        raise ArgumentError("algorithm_parameters['action_noise']", data, "noise is for continuous actions only")
    try:
        mean, sigma = (
            np.broadcast_to(np.asarray(fields.pop(name, default), np.float64), action_space.shape).copy()
            for name, default in (("mean", 0.0), ("sigma", 0.1))
        )
        return known[kind](mean, sigma, **fields)
    except (TypeError, ValueError) as error:
        raise ArgumentError("algorithm_parameters['action_noise']", data, f"does not fit: {error}") from error


def local_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that belong to this machine or session."""
    return {name: value for name, value in parameters.items() if name in _LOCAL}


def portable_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that belong to the agent, without those of this machine or session."""
    portable = {name: value for name, value in parameters.items() if name not in _LOCAL}
    if "action_noise" in portable:
        portable["action_noise"] = _noise_as_data(portable["action_noise"])
    return portable


def _noise_as_data(noise: Any) -> Any:
    """Returns the data form of the library's two kinds of noise; anything else stays and is refused at saving."""
    kinds = {"NormalActionNoise": "normal", "OrnsteinUhlenbeckActionNoise": "ornstein_uhlenbeck"}
    kind = kinds.get(type(noise).__name__)
    if kind is None or not type(noise).__module__.startswith("stable_baselines3."):
        return noise
    data = {"type": kind, "mean": np.asarray(noise._mu).tolist(), "sigma": np.asarray(noise._sigma).tolist()}
    if kind == "ornstein_uhlenbeck":
        data |= {"theta": float(noise._theta), "dt": float(noise._dt)}
        if noise.initial_noise is not None:
            data["initial_noise"] = np.asarray(noise.initial_noise)
    return data


def check_savable(algorithm_class: type[Any], parameters: dict[str, Any], features_extractor: Any) -> tuple[Any, Any]:
    """Encodes the configuration as data, which shows before training whether the agent could be saved.

    Returns:
        The encoded parameters and the encoded features extractor.

    Raises:
        UnsavableError: Something in it has no registered name; the message holds the line that registers it.
    """
    portable = portable_parameters(parameters)
    for name, policy in algorithm_class.policy_aliases.items():
        if portable.get("policy") is policy:
            portable["policy"] = name
    encoded = encode_value(portable, "algorithm_parameters")
    if isinstance(features_extractor, FeaturesExtractor):
        return encoded, features_extractor.to_data()
    return encoded, encode_value(features_extractor, "features_extractor")
