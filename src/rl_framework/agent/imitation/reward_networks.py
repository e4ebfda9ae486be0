"""Reward networks of the imitation library as data: by name, savable, and built from nothing but spaces.

A reward network is `{"type": name, ...}` with the arguments of its class:

| type | class of `imitation.rewards.reward_nets` | of its arguments |
|---|---|---|
| `basic` | `BasicRewardNet` | `hid_sizes`, `use_state`, `use_action`, `use_next_state`, `use_done` |
| `basic_shaped` | `BasicShapedRewardNet` | `reward_hid_sizes`, `potential_hid_sizes`, `discount_factor` |
| `cnn` | `CnnRewardNet` | `hid_channels`, `kernel_size`, `use_action`; images only |
| `shaped` | `ShapedRewardNet` | `base`, `potential` (`{"type": "mlp"}` or `"cnn"`), `discount_factor` |
| `ensemble` | `RewardEnsemble` | `members`: a list; or `member` and `n_members` |
| `add_std` | `AddSTDRewardWrapper` | `base`: an ensemble; `default_alpha` |
| `normalized` | `NormalizedRewardNet` | `base`, `normalize_output_layer` |

and whatever `rl_framework.register_reward_network` added, whose class is called with the observation space, the action
space and the other keys. `base`, `member` and `members` are reward networks again. `activation` is a registered name,
`normalize_input_layer` and `normalize_output_layer` are "running_norm", "ema_norm" or None; any type may have a
`normalize_output_layer`, which puts a `normalized` around it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import torch

from rl_framework import registry
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsavableError, require_extra

__all__ = ["build_reward_network", "reward_network_data"]

_NETS, _NETWORKS = "imitation.rewards.reward_nets", "imitation.util.networks"
for _name, _class in {
    "basic": "BasicRewardNet",
    "basic_shaped": "BasicShapedRewardNet",
    "cnn": "CnnRewardNet",
    "shaped": "ShapedRewardNet",
    "ensemble": "RewardEnsemble",
    "add_std": "AddSTDRewardWrapper",
    "normalized": "NormalizedRewardNet",
}.items():
    registry.reward_networks.register(_name, f"{_NETS}:{_class}")

_NORMALISERS = {"running_norm": "RunningNorm", "ema_norm": "EMANorm"}
_NORMALISING = ("normalize_input_layer", "normalize_output_layer")
_POTENTIALS = {"mlp": "BasicPotentialMLP", "cnn": "BasicPotentialCNN"}
_INSIDE = ("base", "member")
_BUILDERS = {"basic": "build_mlp", "basic_shaped": "build_mlp", "cnn": "build_cnn", "mlp": "build_mlp"} | {
    "cnn potential": "build_cnn"
}
_CHOSEN = ("self", "observation_space", "action_space", "in_size", "in_channels", "out_size", "squeeze_output",
           "flatten_input", "kwargs")  # fmt: skip
_DEEPEST = 8


def reward_network_data(value: Any, argument: str = "reward_net", *, depth: int = _DEEPEST) -> dict[str, Any]:
    """Returns a reward network as data in which everything has its registered name.

    Args:
        value: A name, a registered class, or `{"type": name or class, ...}`.
        argument: What to call it in errors.
        depth: How deeply networks may be inside of one another.

    Raises:
        UnknownNameError: A name in it is not known.
        UnsavableError: A class in it has no registered name, or it is a network that was made already.
        ArgumentError: It is nothing of these.
    """
    require_extra("imitation", argument, "imitation")
    if isinstance(value, str | type):
        value = {"type": value}
    if isinstance(value, torch.nn.Module):
        own = type(value).__name__
        raise UnsavableError(
            argument,
            value,
            "is a network that was made already, and an agent with it could not be saved and opened again",
            f'Give {{"type": name, ...}} with its arguments. A class of your own gets a name with '
            f"rl_framework.register_reward_network({own.lower()!r}, {own}).",
        )
    if not isinstance(value, Mapping) or "type" not in value:
        raise ArgumentError(
            argument, value, "is no reward network", 'Such as {"type": "basic", "hid_sizes": [32, 32]}.'
        )
    if depth < 1:
        raise ArgumentError(argument, value, f"has networks inside of one another, more than {_DEEPEST} deep")
    kind = _name_of_type(value["type"], argument)
    data: dict[str, Any] = {"type": kind}
    for name, part in value.items():
        place = f"{argument}[{name!r}]"
        if name in _NORMALISING and part is not None:
            data[name] = _name_of_normaliser(part, place)
        elif name == "activation":
            data[name] = _name_of_activation(part, place)
        elif name in _INSIDE:
            data[name] = reward_network_data(part, place, depth=depth - 1)
        elif name == "members":
            data[name] = [reward_network_data(member, place, depth=depth - 1) for member in part]
        elif name == "potential":
            data[name] = _potential_data(part, place)
        elif name != "type":
            data[name] = part
    _check_names(data, kind, argument)
    return data


def _name_of_type(given: Any, argument: str) -> str:
    if isinstance(given, str):
        registry.reward_networks.get(given, f"{argument}['type']")
        return given.lower()
    name = registry.reward_networks.name_of(given)
    if name is None:
        own = getattr(given, "__name__", "MyRewardNet")
        raise UnsavableError(
            argument,
            given,
            "has no registered name, so that an agent with it could not be saved",
            f"Register it first: rl_framework.register_reward_network({own.lower()!r}, {own})",
        )
    return name


def _name_of_normaliser(given: Any, argument: str) -> str:
    name = given if isinstance(given, str) else None
    for known, attribute in _NORMALISERS.items():
        if isinstance(given, type) and (given.__module__, given.__name__) == (_NETWORKS, attribute):
            name = known
    if name not in _NORMALISERS:
        raise UnknownNameError(argument, str(given), _NORMALISERS)
    return name


def _name_of_activation(given: Any, argument: str) -> str:
    name = given if isinstance(given, str) else registry.activations.name_of(given)
    if name is None:
        raise UnsavableError(
            argument, given, "has no registered name", f"Register it: {registry.activations.register_call}"
        )
    registry.activations.get(name, argument)
    return name.lower()


def _potential_data(given: Any, argument: str) -> dict[str, Any]:
    data = {"type": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
    kind = str(data.get("type"))
    if kind not in _POTENTIALS:
        raise UnknownNameError(f"{argument}['type']", kind, _POTENTIALS)
    if data.get("normalize_input_layer") is not None:
        data["normalize_input_layer"] = _name_of_normaliser(data["normalize_input_layer"], argument)
    if "activation" in data:
        data["activation"] = _name_of_activation(data["activation"], argument)
    known = _arguments_of(_library(_NETS, _POTENTIALS[kind]), "mlp" if kind == "mlp" else "cnn potential")
    _check_known(data, known, argument)
    return data


def _check_names(data: Mapping[str, Any], kind: str, argument: str) -> None:
    network_class = registry.reward_networks.get(kind)
    parameters = inspect.signature(network_class).parameters.values()
    if kind not in _BUILDERS and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return  # a class of the user's, which says itself what it takes
    known = _arguments_of(network_class, kind) | {"normalize_output_layer"}
    if kind == "ensemble":
        known |= {"member", "n_members"}
        if ("members" in data) == ("member" in data):
            raise ArgumentError(argument, data, "needs members, or member and n_members")
    _check_known(data, known, argument)


def _arguments_of(network_class: Any, kind: str) -> set[str]:
    known = set(inspect.signature(network_class).parameters)
    if kind in _BUILDERS:
        known |= set(inspect.signature(_library(_NETWORKS, _BUILDERS[kind])).parameters)
    return known - set(_CHOSEN)


def _check_known(data: Mapping[str, Any], known: set[str], argument: str) -> None:
    for name in data:
        if name != "type" and name not in known:
            raise UnknownNameError(argument, str(name), known)


def _library(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(module), name)


def build_reward_network(
    data: Mapping[str, Any],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    argument: str = "reward_net",
) -> Any:
    """Builds a reward network, with fresh weights from torch's global generator.

    Args:
        data: From `reward_network_data`.
        observation_space: Space of the observations as the network gets them.
        action_space: Space of the actions.
        argument: What to call it in errors.

    Returns:
        A `RewardNet` of the library.

    Raises:
        ArgumentError: The class does not take the arguments, or not for these spaces.
    """
    fields = dict(data)
    kind = fields.pop("type")
    output = None if kind == "normalized" else fields.pop("normalize_output_layer", None)

    def build(part: Mapping[str, Any]) -> Any:
        return build_reward_network(part, observation_space, action_space, argument)

    try:
        network = _build(kind, fields, observation_space, action_space, build)
        if output is not None:
            network = _library(_NETS, "NormalizedRewardNet")(network, _normaliser(output))
    except (ArgumentError, BundleError):
        raise
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(argument, data, f"cannot be built for {observation_space}: {error}") from error
    return network


def _build(
    kind: str,
    fields: dict[str, Any],
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    build: Callable[[Mapping[str, Any]], Any],
) -> Any:
    network_class = registry.reward_networks.get(kind)
    arguments = _objects(fields)
    if kind == "ensemble":
        member, count = arguments.pop("member", None), arguments.pop("n_members", 5)
        members = arguments.pop("members", None) or (member for _ in range(count))
        return network_class(observation_space, action_space, [build(one) for one in members], **arguments)
    if kind in ("add_std", "normalized", "shaped"):
        arguments["base"] = build(arguments["base"])
        if kind == "normalized":
            arguments["normalize_output_layer"] = _normaliser(fields["normalize_output_layer"])
        if kind == "shaped":
            arguments["potential"] = _potential(fields["potential"], observation_space)
        return network_class(**arguments)
    if kind == "cnn":
        arguments.setdefault("hwc_format", not _channels_are_first(observation_space))
    return network_class(observation_space, action_space, **arguments)


def _objects(fields: Mapping[str, Any]) -> dict[str, Any]:
    objects = dict(fields)
    if "activation" in objects:
        objects["activation"] = registry.activations.get(objects["activation"])
    if objects.get("normalize_input_layer") is not None:
        objects["normalize_input_layer"] = _normaliser(objects["normalize_input_layer"])
    return objects


def _normaliser(name: str) -> Any:
    return _library(_NETWORKS, _NORMALISERS[name])


def _potential(data: Mapping[str, Any], observation_space: gymnasium.Space[Any]) -> Any:
    fields = _objects(data)
    kind = fields.pop("type")
    fields.setdefault("hid_sizes", (32, 32))
    if kind == "cnn":
        fields.setdefault("hwc_format", not _channels_are_first(observation_space))
    return _library(_NETS, _POTENTIALS[kind])(observation_space, **fields)


def _channels_are_first(space: Any) -> bool:
    from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

    return is_image_space(space) and is_image_space_channels_first(space)
