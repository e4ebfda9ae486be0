"""Networks by name: what users write, checked, built, and as data."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from rl_framework import registry
from rl_framework.agent.network.dict_inputs import adapted_to_dict
from rl_framework.agent.network.preprocessing import is_visual
from rl_framework.bundle import decode_value, encode_value
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsavableError
from rl_framework.seeding import isolated_random_state

__all__ = ["build_network", "default_network", "describe_network", "network_from_data"]

_SMALL_IMAGE = 36


def default_network(space: spaces.Space[Any]) -> str:
    """Returns the name of what suits an observation space.

    Images of at least 36 by 36 go through "nature_cnn", smaller ones through "impala_cnn", vectors through "mlp".
    """
    parts = list(space.values()) if isinstance(space, spaces.Dict) else [space]
    sides = [min(part.shape[1:]) for part in parts if is_visual(part) and part.shape is not None]
    if not sides:
        return "mlp"
    return "nature_cnn" if min(sides) >= _SMALL_IMAGE else "impala_cnn"


def build_network(specification: Any, input_space: spaces.Box | spaces.Dict, argument: str = "networks") -> nn.Module:
    """Builds a network.

    A network is a module whose constructor takes the space of one encoded observation and further arguments of its
    own, and that has an attribute `features_dim`. It maps float tensors `(rows, *shape)` to features
    `(rows, features_dim)`. A recurrent one also has `state_size`, and maps observations and a state
    `(rows, state_size)`, 0 at the start of an episode, to features and the next state; `sequence_length` is how many
    steps in a row it learns from (16 unless it says).

    Of a Dict of observations each image goes through a network of its own and the rest is appended; one without images
    becomes one vector. A class with an attribute `takes_dicts` that is true gets the dict of tensors itself. A class
    that builds another network from one of its arguments says so in `inner_networks`, the names of these arguments.

    Args:
        specification: A registered name, a class, `{"type": name or class, ...}` with further arguments, or None for
            what suits the observations.
        input_space: Space of one encoded observation; see `observation_encoder`.
        argument: What to call it in errors.

    Raises:
        UnknownNameError: There is no such network, or it has no such parameter.
        ArgumentError: A value cannot be used.
    """
    cls, parameters = _class_and_parameters(specification, argument, input_space)
    if isinstance(input_space, spaces.Dict) and not getattr(cls, "takes_dicts", False):
        network = adapted_to_dict(input_space, lambda space: _made(cls, space, parameters, argument), argument)
    else:
        network = _made(cls, input_space, parameters, argument)
    if not cls.__module__.startswith("rl_framework."):
        _try(network, cls, input_space, argument)
    return network


def describe_network(specification: Any, argument: str = "networks") -> Any:
    """Returns a specification as JSON-able data; `network_from_data` makes it a specification again.

    Raises:
        UnsavableError: A class has no registered name, or an argument cannot be saved.
        UnknownNameError: There is no such network, or it has no such parameter.
        ArgumentError: It is no specification.
    """
    if specification is None:
        return None
    cls, parameters = _class_and_parameters(specification, argument)
    name = registry.networks.name_of(cls)
    if name is None:
        raise UnsavableError(
            argument,
            cls,
            "the network has no registered name, so that an agent with it could not be saved",
            f"Register it first: rl_framework.register_network({cls.__name__.lower()!r}, {cls.__name__})",
        )
    inner = {key: parameters.pop(key) for key in _inner_networks(cls) if key in parameters}
    described = {key: describe_network(value, f"{argument}[{key!r}]") for key, value in inner.items()}
    return {"type": name, **encode_value(parameters, argument), **described}


def network_from_data(data: Any) -> Any:
    """Returns the specification that `describe_network` was given, with names for classes.

    Args:
        data: Possibly from somebody else's file.

    Raises:
        BundleError: The data is malformed, or names a network that is not known here.
    """
    if data is None:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise BundleError("a saved network has no type")
    fields = dict(data)
    name = fields.pop("type")
    try:
        cls = registry.networks.get(name)
    except UnknownNameError as error:
        raise BundleError(f"a saved agent has a network that is not known here: {error}") from error
    inner = {key: network_from_data(fields.pop(key)) for key in _inner_networks(cls) if key in fields}
    return {"type": name, **decode_value(fields), **inner}


def _inner_networks(cls: type[nn.Module]) -> tuple[str, ...]:
    return tuple(getattr(cls, "inner_networks", ()))


def _class_and_parameters(
    specification: Any, argument: str, input_space: spaces.Space[Any] | None = None
) -> tuple[type[nn.Module], dict[str, Any]]:
    parameters = dict(specification) if isinstance(specification, dict) else {"type": specification}
    target = parameters.pop("type", None)
    if target is None and specification is not None:
        raise ArgumentError(argument, specification, 'needs a "type"', 'For example {"type": "mlp"}.')
    if target is None:
        assert input_space is not None
        target = default_network(input_space)
    if isinstance(target, str):
        target = registry.networks.get(target, argument)
    if not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise ArgumentError(
            argument,
            specification,
            "is no network",
            "Give a registered name, a class of torch.nn.Module (not an object of it), or a dictionary with one as "
            '"type" and the arguments of its constructor.',
        )
    _check_parameters(target, parameters, argument)
    return target, parameters


def _check_parameters(cls: type[nn.Module], parameters: dict[str, Any], argument: str) -> None:
    known = dict(list(inspect.signature(cls.__init__).parameters.items())[2:])
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for name in parameters:
        if name not in known:
            raise UnknownNameError(argument, name, known, f"These are the parameters of {cls.__name__}.")


def _made(cls: type[nn.Module], space: spaces.Space[Any], parameters: dict[str, Any], argument: str) -> nn.Module:
    try:
        network = cls(space, **parameters)
    except TypeError as error:
        raise ArgumentError(argument, parameters, f"does not fit {cls.__name__}: {error}") from error
    for name, meaning in (("features_dim", "what forward returns"), ("state_size", "its state")):
        value = getattr(network, name, 0 if name == "state_size" else None)
        if not isinstance(value, int) or value < 0:
            problem = f"{cls.__name__} has the {name} {value!r}, which is not a whole number"
            raise ArgumentError(argument, cls, problem, f"Set self.{name} in __init__: the length of {meaning}.")
    return network


def _try(network: Any, cls: type[nn.Module], space: spaces.Space[Any], argument: str) -> None:
    """Looks whether a network gives what it says, on two observations of zeros.

    Raises:
        ArgumentError: It fails, or gives something else.
    """
    rows, is_training = 2, network.training
    boxes = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    inputs = {key: torch.zeros(rows, *(box.shape or ())) for key, box in boxes.items()}
    size = getattr(network, "state_size", 0)
    wanted = (rows, network.features_dim)
    given: tuple[Any, ...] = (inputs if isinstance(space, spaces.Dict) else inputs[""],)
    if size:
        given = (*given, torch.zeros(rows, size))
    try:
        with torch.no_grad(), isolated_random_state():
            found = network.eval()(*given)
    # Of somebody else's code, which can raise anything.
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs.values())
        problem = f"{cls.__name__} fails with inputs of shape {shapes}: {type(error).__name__}: {error}"
        raise ArgumentError(
            argument, cls, problem, "The first axis is rows, the others are those of input_space."
        ) from (error)
    finally:
        network.train(is_training)
    outputs = found if size and isinstance(found, tuple) else (found,)
    shapes_found = [tuple(getattr(output, "shape", ())) for output in outputs]
    if shapes_found != [wanted, (rows, size)][: 2 if size else 1]:
        meaning = f"features of shape {wanted}" + (f" and a state of shape {(rows, size)}" if size else "")
        problem = f"{cls.__name__} gives {' and '.join(map(str, shapes_found))} for {rows} rows, not {meaning}"
        raise ArgumentError(argument, cls, problem, "Set self.features_dim to the length of what forward returns.")
