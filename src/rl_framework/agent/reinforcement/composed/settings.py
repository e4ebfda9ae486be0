"""What a composed agent is asked to be, besides its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from rl_framework import registry
from rl_framework.agent.network.specification import describe_network, network_from_data
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.bundle import decode_value, encode_value
from rl_framework.errors import ArgumentError, BundleError

__all__ = ["Settings", "choose_device"]


@dataclass(frozen=True)
class Settings:
    """Settings of a composed agent that go into its bundle; see `ComposedAgent` for each of them.

    Attributes:
        networks: How trunks are built, by trunk name.
        optimizer: Its registered name as "type", and its arguments.
    """

    networks: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    learning_rate: Any
    max_grad_norm: float | str | None
    normalize_observations: bool
    normalize_rewards: bool

    @classmethod
    def of(
        cls,
        networks: Any,
        optimizer: Any,
        learning_rate: Any,
        max_grad_norm: float | str | None,
        normalize_observations: bool,
        normalize_rewards: bool,
    ) -> Self:
        """Makes settings of what a user wrote.

        Raises:
            ArgumentError: One of them cannot be used.
        """
        _check_rate(learning_rate)
        is_number = isinstance(max_grad_norm, int | float) and not isinstance(max_grad_norm, bool)
        if max_grad_norm not in (None, "auto") and not (is_number and max_grad_norm > 0):  # type: ignore[operator]
            raise ArgumentError("max_grad_norm", max_grad_norm, 'must be a number above 0, None, or "auto"')
        return cls(
            _networks(networks),
            _optimizer(optimizer),
            learning_rate,
            max_grad_norm,
            bool(normalize_observations),
            bool(normalize_rewards),
        )

    def arguments(self) -> dict[str, Any]:
        """Returns them as arguments of `ComposedAgent`."""
        return {**vars(self), "networks": dict(self.networks), "optimizer": dict(self.optimizer)}

    def to_data(self) -> dict[str, Any]:
        """Returns them as JSON-able data.

        Raises:
            UnsavableError: Something has no registered name.
        """
        return {
            "networks": {name: describe_network(given) for name, given in self.networks.items()},
            "optimizer": encode_value(dict(self.optimizer), "optimizer"),
            "learning_rate": encode_value(self.learning_rate, "learning_rate"),
            "max_grad_norm": self.max_grad_norm,
            "normalize_observations": self.normalize_observations,
            "normalize_rewards": self.normalize_rewards,
        }

    @staticmethod
    def arguments_from_data(data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns arguments of `ComposedAgent` from what `to_data` gave, which may be from somebody else.

        Raises:
            BundleError: A network is not known here. What crafted data can raise besides is of any type.
        """
        names = ("optimizer", "learning_rate", "max_grad_norm", "normalize_observations", "normalize_rewards")
        networks = data["networks"]
        if not isinstance(networks, dict):
            raise BundleError("the networks in the bundle are no dictionary")
        return {
            "networks": {name: network_from_data(given) for name, given in networks.items()},
            **{name: decode_value(data[name]) for name in names},
        }


def choose_device(given: str | torch.device) -> torch.device:
    """Returns a device that can be used.

    Args:
        given: "auto", a name, or a device.

    Raises:
        ArgumentError: It cannot be used here.
    """
    if given == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError("device", given, f"cannot be used: {error}", 'Such as "cpu" or "cuda".') from error
    return device


def _check_rate(learning_rate: Any) -> None:
    """Refuses what is neither a positive number nor a schedule."""
    schedule = to_schedule(learning_rate, "learning_rate")
    if callable(schedule):
        return
    if not isinstance(schedule, int | float) or isinstance(schedule, bool) or not 0 < schedule < float("inf"):
        raise ArgumentError("learning_rate", learning_rate, "must be a number above 0, or a schedule")


def _networks(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping) and "type" not in given:
        return dict(given)
    return {"default": given}


def _optimizer(given: Any) -> dict[str, Any]:
    fields = dict(given) if isinstance(given, Mapping) else {"type": given}
    kind = fields.get("type")
    if isinstance(kind, type):
        kind = registry.optimizers.name_of(kind)
    if not isinstance(kind, str):
        raise ArgumentError("optimizer", given, "is no registered optimizer", registry.optimizers.register_call)
    registry.optimizers.get(kind, "optimizer")
    if "lr" in fields:
        raise ArgumentError(
            "optimizer", given, "has a learning rate", "It is an argument of its own: learning_rate=..."
        )
    if kind == "adam":
        fields.setdefault("eps", 1e-5)  # as Stable-Baselines3 and the reference of PPO
    return {**fields, "type": kind}
