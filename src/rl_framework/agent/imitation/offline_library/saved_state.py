"""What of an algorithm of d3rlpy goes into a bundle, as tensors, arrays and JSON, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.offline_library.scalers import SCALERS
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.bundle import decode_value, encode_value
from rl_framework.errors import BundleError

__all__ = [
    "check_sizes",
    "give_networks",
    "give_optimizers",
    "give_scalers",
    "networks_of",
    "take_networks",
    "take_optimizers",
    "take_scalers",
]

_STATISTICS = {"min_max": ("minimum", "maximum"), "standard": ("mean", "std"), "return": ("return_min", "return_max")}
# Counts of things that are drawn or built, which a file could make endless. The networks themselves are measured.
_MOST = 10_000
_COUNTS = ("n_", "num_")


def networks_of(algorithm: Any) -> dict[str, torch.nn.Module]:
    """Returns the networks of an algorithm by name; none for those that only act at random."""
    return {} if algorithm.impl is None else algorithm.impl.modules.get_torch_modules()


def take_networks(algorithm: Any) -> dict[str, torch.Tensor]:
    """Returns the tensors of all networks, target networks included."""
    return {
        f"{name}.{key}": tensor
        for name, network in networks_of(algorithm).items()
        for key, tensor in network.state_dict().items()
    }


def give_networks(algorithm: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts the tensors that `take_networks` took into networks of the same sizes.

    Raises:
        BundleError: They do not fit.
    """
    expected = take_networks(algorithm)
    differing = set(tensors) ^ set(expected)
    if differing:
        raise BundleError(f"missing or unexpected tensors: {', '.join(sorted(differing)[:5])}")
    for key, tensor in tensors.items():
        own = expected[key]
        if tensor.shape != own.shape or tensor.dtype != own.dtype:
            found = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise BundleError(f"{key} is {found}, the configuration asks for {tuple(own.shape)} {own.dtype}")
    for name, network in networks_of(algorithm).items():
        prefix = f"{name}."
        network.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})


def check_sizes(configuration: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuses numbers in somebody else's configuration that would take hours or terabytes.

    Raises:
        BundleError: There is one.
    """
    for owner in (configuration, *vars(configuration).values()):
        for name, value in vars(owner).items() if dataclasses.is_dataclass(owner) else ():
            if name.startswith(_COUNTS) and isinstance(value, int) and value > _MOST:
                raise BundleError(f"the configuration in the bundle has {name}={value}; at most {_MOST} are taken")
    context = getattr(configuration, "context_size", 0)
    # The mask of attention, one of whose sides is three times the context, is reserved before anything can be counted.
    if 9 * context**2 > sum(tensor.numel() for tensor in tensors.values()):
        raise BundleError(f"the configuration in the bundle has context_size={context}, more than the bundle holds")


# Optimizers


def _optimizers_of(algorithm: Any) -> Iterator[tuple[str, Any]]:
    modules = None if algorithm.impl is None else algorithm.impl.modules
    for field in dataclasses.fields(modules) if modules is not None else ():
        wrapper = getattr(modules, field.name)
        if isinstance(getattr(wrapper, "optim", None), torch.optim.Optimizer):
            yield field.name, wrapper


def take_optimizers(algorithm: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Returns the states of all optimizers and learning-rate schedules as JSON-able data.

    Args:
        algorithm: The library's object.
        tensors: Receives the tensors.
    """
    return {
        name: {
            "optimizer": take_optimizer(name, wrapper.optim, tensors),
            "schedule": encode_value(wrapper.state_dict()["lr_scheduler"], name),
        }
        for name, wrapper in _optimizers_of(algorithm)
    }


def give_optimizers(algorithm: Any, saved: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives all optimizers and schedules the states that `take_optimizers` took.

    Raises:
        ValueError: They do not fit. What a crafted state can raise besides is of any type.
    """
    for name, wrapper in _optimizers_of(algorithm):
        give_optimizer(name, wrapper.optim, saved[name]["optimizer"], tensors)
        schedule, own = decode_value(saved[name]["schedule"]), wrapper.state_dict()["lr_scheduler"]
        if not _is_alike(schedule, own):
            raise ValueError(f"the schedule of {name} is {schedule!r}")
        if own is not None:
            # The optimizer first: the library's loading of a schedule leaves its rates alone.
            wrapper.load_state_dict({"optim": wrapper.optim.state_dict(), "lr_scheduler": schedule})


def _is_alike(value: Any, own: Any) -> bool:
    if isinstance(own, dict):
        return isinstance(value, dict) and value.keys() == own.keys() and all(_is_alike(value[k], own[k]) for k in own)
    if isinstance(own, list | tuple):
        return type(value) is type(own) and len(value) == len(own) and all(map(_is_alike, value, own))
    if isinstance(own, bool) or own is None or isinstance(own, str):
        return type(value) is type(own)
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


# Scalers


def take_scalers(configuration: Any, fitted: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Returns the statistics of the scalers that were fitted to data, as arrays.

    Args:
        configuration: Of the algorithm.
        fitted: Which they are; the others have theirs in the parameters.
    """
    arrays = {}
    for name in fitted:
        scaler = getattr(configuration, name)
        for statistic in _STATISTICS[scaler.get_type()]:
            arrays[f"{name}/{statistic}"] = np.asarray(getattr(scaler, statistic), np.float64)
    return arrays


def give_scalers(configuration: Any, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Gives scalers that have no statistics those that `take_scalers` took.

    Args:
        configuration: Of the algorithm.
        arrays: The statistics.
        shapes: Shape of what each scaler scales.

    Raises:
        BundleError: They do not fit, or something is missing.
    """
    for name in SCALERS:
        scaler = getattr(configuration, name)
        if scaler is None or scaler.built:
            continue
        for statistic in _STATISTICS.get(scaler.get_type(), ()):
            array = arrays.get(f"{name}/{statistic}")
            if (
                array is None
                or array.shape != shapes[name]
                or array.dtype != np.float64
                or not np.isfinite(array).all()
            ):
                raise BundleError(f"{name}: {statistic} is missing, or has the wrong shape or type")
            setattr(scaler, statistic, array if shapes[name] else float(array))
        if not scaler.built:
            raise BundleError(f"{name} has no statistics")
