"""The convolutional network of DQN."""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.network.architectures.sizes import check_size
from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.errors import ArgumentError

__all__ = ["NatureCNN"]

_SMALLEST = 36


class NatureCNN(nn.Module):
    """Three convolutions and a fully connected layer, for images of at least 36 by 36 (Mnih et al. 2015).

    Args:
        input_space: Space of one encoded image, channels first.
        features: Number of features.

    Raises:
        ArgumentError: The input is no image, or too small.
    """

    def __init__(self, input_space: spaces.Box, features: int = 512) -> None:
        super().__init__()
        shape = input_space.shape
        if len(shape) != 3 or min(shape[1:]) < _SMALLEST:
            raise ArgumentError(
                "input_space",
                shape,
                f"nature_cnn needs images of at least {_SMALLEST} by {_SMALLEST}",
                'Take "impala_cnn" for smaller ones, and "mlp" for vectors.',
            )
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(size, features), nn.ReLU())
        self.features_dim = check_size("features", features)
        initialise_orthogonally(self)

    def forward(self, images: Tensor) -> Tensor:
        """Returns features, `(rows, features_dim)`."""
        features: Tensor = self.linear(self.convolutions(images))
        return features
