"""What a part is given to build its networks with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium
import torch
from torch import nn

from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import Trunk, build_trunk, is_visual
from rl_framework.agent.network.value import ValueNetwork
from rl_framework.errors import ArgumentError

__all__ = ["Setup"]

Network = TypeVar("Network", bound=nn.Module)


class Setup:
    """The spaces, the device, and the networks that parts share by name.

    Args:
        observation_space: Space of one observation.
        action_space: Space of one action.
        specifications: How trunks are built, by name: `{"policy": {"type": "mlp", "hidden_sizes": [64, 64]}}`; the
            entry "default" is for every other trunk. A trunk without one gets what suits the observations.
        device: Where the networks go.
        generator: The source of random numbers for parts, on that device.
        normaliser: The shared normalisation of observations, or None.

    Attributes:
        networks: The networks that were made so far, by name.
        asked: Names of the trunks that were asked for.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        specifications: dict[str, Any],
        device: torch.device,
        generator: torch.Generator,
        normaliser: nn.Module | None = None,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.device = device
        self.generator = generator
        self.networks = nn.ModuleDict()
        self._specifications = specifications
        self.asked: set[str] = set()
        self._trunk_names: set[str] = set()
        self.normaliser = normaliser

    @property
    def sees_images(self) -> bool:
        """Whether the observation is an image, or has one in it."""
        return is_visual(self.observation_space)

    def network(self, name: str, make: Callable[[], Network]) -> Network:
        """Returns the network of that name, which is made when somebody first asks for it.

        Args:
            name: By which parts share it.
            make: Makes it.
        """
        if name not in self.networks:
            self.networks[name] = make().to(self.device)
        return self.networks[name]  # type: ignore[return-value]

    def trunk(self, name: str, default: Any = None) -> Trunk:
        """Returns the trunk of that name: from observations to features.

        Args:
            name: By which parts share it, and by which users say how it is built.
            default: How it is built if users say neither that nor a "default"; None: as suits the observations.
        """
        self.asked.add(name)
        chosen = self._specifications.get(name, self._specifications.get("default", default))
        return self.network(f"trunk_{name}", lambda: self._built(name, chosen))

    def private_trunk(self, name: str, specification: Any = None) -> Trunk:
        """Returns a new trunk that nobody else gets; for a part to keep.

        Args:
            name: Tells it from others; users may say under this name how it is built.
            specification: How it is built if they do not; None: by their "default", else as suits the observations.
        """
        self.asked.add(name)
        chosen = self._specifications.get(name, specification)
        return self._built(name, self._specifications.get("default") if chosen is None else chosen)

    def _built(self, name: str, specification: Any) -> Trunk:
        trunk = build_trunk(name, specification, self.observation_space, self.normaliser).to(self.device)
        # Features are kept by the name of their trunk: a private one may have been called the same.
        number = 2
        while trunk.name in self._trunk_names:
            trunk.name, number = f"{name}_{number}", number + 1
        self._trunk_names.add(trunk.name)
        return trunk

    def policy(self, trunk: str = "policy", distribution: str | None = None) -> Policy:
        """Returns the policy, which acts.

        Args:
            trunk: The trunk to build it on.
            distribution: "categorical", "gaussian", "squashed_gaussian", ...; None: as suits the action space, or as
                whoever asked first chose.

        Raises:
            UnsupportedSpaceError: There is no such policy for the action space.
            ArgumentError: Another part has chosen another distribution.
        """
        policy = self.network("policy", lambda: Policy(self.trunk(trunk), self.action_space, distribution))
        if distribution is not None and policy.distribution_name != distribution:
            raise ArgumentError(
                "parts",
                distribution,
                f"another part makes the policy {policy.distribution_name}",
                "Combine parts that agree on the policy.",
            )
        return policy

    def value(self, name: str = "value", trunk: str = "value") -> ValueNetwork:
        """Returns the value network of that name.

        Args:
            name: By which parts share it.
            trunk: The trunk to build it on.
        """
        return self.network(name, lambda: ValueNetwork(self.trunk(trunk)))
