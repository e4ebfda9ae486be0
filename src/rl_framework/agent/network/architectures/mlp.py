"""Networks for vectors: fully connected layers, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from gymnasium import spaces
from torch import Tensor, nn

from rl_framework import registry
from rl_framework.agent.network.architectures.sizes import check_sizes
from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.agent.network.preprocessing import flat_size, joined

__all__ = ["MLP", "Flatten"]


class MLP(nn.Module):
    """Fully connected layers, each followed by an activation.

    Args:
        input_space: Space of one encoded observation.
        hidden_sizes: Width of each layer.
        activation: Registered name of the activation.
    """

    takes_dicts = True

    def __init__(
        self, input_space: spaces.Box | spaces.Dict, hidden_sizes: Sequence[int] = (64, 64), activation: str = "tanh"
    ) -> None:
        super().__init__()
        make_activation = registry.activations.get(activation, "activation")
        sizes = [flat_size(input_space), *check_sizes("hidden_sizes", hidden_sizes)]
        layers: list[nn.Module] = []
        for size, width in pairwise(sizes):
            layers += [nn.Linear(size, width), make_activation()]
        self.layers = nn.Sequential(*layers)
        self.features_dim = sizes[-1]
        initialise_orthogonally(self)

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Returns features, `(rows, features_dim)`."""
        features: Tensor = self.layers(joined(observations))
        return features


class Flatten(nn.Module):
    """The observation itself, as a vector.

    Args:
        input_space: Space of one encoded observation.
    """

    takes_dicts = True

    def __init__(self, input_space: spaces.Box | spaces.Dict) -> None:
        super().__init__()
        self.features_dim = flat_size(input_space)

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Returns the observations as `(rows, features_dim)`."""
        return joined(observations)
