"""The residual convolutional network of IMPALA."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_framework.agent.network.architectures.sizes import check_size, check_sizes
from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.errors import ArgumentError

__all__ = ["ImpalaCNN"]


class ImpalaCNN(nn.Module):
    """Convolutions with residual blocks, for images of any size (Espeholt et al. 2018, figure 3, the large network).

    Args:
        input_space: Space of one encoded image, channels first.
        channels: Channels of each sequence of a convolution, a pooling that halves the image, and two residual blocks.
        features: Number of features.

    Raises:
        ArgumentError: The input is no image, or a size is none.
    """

    def __init__(self, input_space: spaces.Box, channels: Sequence[int] = (16, 32, 32), features: int = 256) -> None:
        super().__init__()
        shape = input_space.shape
        if len(shape) != 3:
            raise ArgumentError("input_space", shape, "impala_cnn takes images", 'Take "mlp" for vectors.')
        widths = [shape[0], *check_sizes("channels", channels)]
        sequences: list[nn.Module] = []
        for before, width in pairwise(widths):
            pooling = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            sequences += [
                nn.Conv2d(before, width, kernel_size=3, padding=1),
                pooling,
                _Residual(width),
                _Residual(width),
            ]
        self.convolutions = nn.Sequential(*sequences, nn.ReLU(), nn.Flatten())
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.features_dim = check_size("features", features)
        self.linear = nn.Sequential(nn.Linear(size, features), nn.ReLU())
        initialise_orthogonally(self)
        # What the blocks add would otherwise double the variance each time.
        for block in self.convolutions.modules():
            if isinstance(block, _Residual):
                initialise_orthogonally(block.second, gain=len(channels) ** -0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Returns features, `(rows, features_dim)`."""
        features: Tensor = self.linear(self.convolutions(images))
        return features


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        change: Tensor = self.second(functional.relu(self.first(functional.relu(images))))
        return images + change
