"""A network and a part for composed agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.reinforcement.parts import Part

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.setup import Setup


class NormalisedLayers(nn.Module):
    """Fully connected layers with layer normalisation."""

    def __init__(self, input_space: spaces.Box, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(spaces.flatdim(input_space), width)]
        for _ in range(depth - 1):
            layers += [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)]
        self.layers = nn.Sequential(*layers)
        self.features_dim = width

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.layers(observations)
        return features


class WeightDecay(Part):
    """Pulls the weights of the policy towards 0."""

    needs = frozenset({"policy"})
    schedules = ("weight",)

    def __init__(self, weight: Any = 1e-4) -> None:
        super().__init__()
        self.weight = weight

    def build(self, setup: Setup) -> None:
        self.policy = setup.policy()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        squares = [parameter.square().sum() for parameter in self.policy.parameters()]
        return {"size": self.now["weight"] * sum(squares)}
