"""Networks that take one tensor, for observations that are a dict of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.network.preprocessing import flat_size, is_visual, joined
from rl_framework.errors import ArgumentError

__all__ = ["adapted_to_dict", "features_dim_of"]


def adapted_to_dict(input_space: spaces.Dict, make: Callable[[spaces.Box], nn.Module], argument: str) -> nn.Module:
    """Returns a network for a dict of tensors.

    Each image goes through a network of its own, and everything else is appended to what they say, in the order of
    the Dict. Without images everything is joined to one vector for a single network.

    Args:
        input_space: Space of one encoded observation.
        make: Makes a network for a Box.
        argument: What to call the network in errors.

    Raises:
        ArgumentError: The network is recurrent, and there are images.
    """
    if not is_visual(input_space):
        return _OnVector(make(spaces.Box(-np.inf, np.inf, (flat_size(input_space),), np.float32)))
    network = _OnImages(input_space, make)
    if any(getattr(part, "state_size", 0) for part in network.networks):
        kind = type(network.networks[0])
        raise ArgumentError(
            argument,
            kind,
            "is recurrent and does not take a Dict with images",
            f"Let {kind.__name__} take a dict of tensors and give it the attribute takes_dicts = True.",
        )
    return network


def features_dim_of(network: nn.Module) -> int:
    """Returns how many features a network gives."""
    features_dim: Any = network.features_dim
    return int(features_dim)


class _OnVector(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.features_dim = features_dim_of(network)
        self.state_size = getattr(network, "state_size", 0)
        if hasattr(network, "sequence_length"):
            self.sequence_length = network.sequence_length

    def forward(self, observations: dict[str, Tensor], *state: Tensor) -> Any:
        """Returns what the network makes of everything in one vector."""
        return self.network(joined(observations), *state)


class _OnImages(nn.Module):
    def __init__(self, input_space: spaces.Dict, make: Callable[[Any], nn.Module]) -> None:
        super().__init__()
        self.keys = tuple(input_space)
        self.images = tuple(key for key, space in input_space.items() if is_visual(space))
        self.networks = nn.ModuleList(make(input_space[key]) for key in self.images)
        rest = sum(flat_size(input_space[key]) for key in self.keys if key not in self.images)
        self.features_dim = rest + sum(features_dim_of(network) for network in self.networks)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Returns the features of the images and everything else, `(rows, features_dim)`."""
        features = {key: network(observations[key]) for key, network in zip(self.images, self.networks, strict=True)}
        parts = [features[key] if key in features else observations[key].flatten(1) for key in self.keys]
        return torch.cat(parts, dim=1)
