"""Initial weights."""

from __future__ import annotations

from torch import nn

__all__ = ["TRUNK_GAIN", "initialise_orthogonally"]

TRUNK_GAIN = 2**0.5


def initialise_orthogonally(module: nn.Module, gain: float = TRUNK_GAIN) -> None:
    """Gives all linear and convolutional layers of a module orthogonal weights, and biases of 0.

    Small policies, whose first actions hardly depend on what they see, learn better (Andrychowicz et al. 2021,
    "What Matters for On-Policy Deep Actor-Critic Methods?", section 3.2); the gains are those of Stable-Baselines3's
    `ActorCriticPolicy`: sqrt(2) in trunks, 0.01 in the head of a policy, 1 in that of a value.

    Args:
        module: Changed in place, with all that is in it.
        gain: Factor of the weights.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
