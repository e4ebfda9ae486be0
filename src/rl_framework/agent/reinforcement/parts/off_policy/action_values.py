"""How good actions are: several networks side by side, of which the most careful counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_framework.agent.network.trunk import Trunk

__all__ = ["ActionValues"]


class ActionValues(nn.Module):
    """Estimates of what an action is worth, by fully connected networks over one encoder.

    Their weights lie in one tensor for each layer, so that all networks are computed at once.

    Args:
        encoder: From observations to features, shared by the networks.
        n_networks: How many networks.
        action_size: How many numbers an action is, which are appended to the features; 0: there is an output for each
            of `n_outputs` actions instead.
        n_outputs: Outputs of each network.
        hidden_sizes: Widths of the hidden layers, with ReLU.
    """

    def __init__(
        self, encoder: Trunk, n_networks: int, action_size: int, n_outputs: int, hidden_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = [encoder.features_dim + action_size, *hidden_sizes, n_outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            # As torch's Linear does.
            bound = 1 / math.sqrt(inputs)
            self.weights.append(torch.empty(n_networks, inputs, outputs).uniform_(-bound, bound))
            self.biases.append(torch.empty(n_networks, 1, outputs).uniform_(-bound, bound))

    def forward(self, observations: Any, actions: Tensor | None = None) -> Tensor:
        """Returns the values of observations and actions; see `of_features`."""
        return self.of_features(self.encoder(observations), actions)

    def of_features(self, features: Tensor, actions: Tensor | None = None, frozen: bool = False) -> Tensor:
        """Returns the values of actions.

        Args:
            features: What the encoder made of the observations, `(rows, features_dim)`.
            actions: Shape `(rows, action_size)`; None if there is an output for each action.
            frozen: Whether gradients flow to the actions only, and not to the weights.

        Returns:
            Shape `(n_networks, rows, n_outputs)`.
        """
        values = features if actions is None else torch.cat([features, actions], dim=1)
        values = values.expand(len(self.weights[0]), *values.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            values = torch.baddbmm(bias, values, weight)
            if layer < last:
                values = functional.relu(values)
        return values
