"""CartPole as a torch program."""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.environment.tensor.vector_env import TensorVectorEnv

__all__ = ["TensorCartPole"]

_GRAVITY, _MASS_CART, _MASS_POLE, _HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
_FORCE, _SECONDS = 10.0, 0.02
_MOST_ANGLE, _MOST_POSITION = 12 * 2 * math.pi / 360, 2.4


class TensorCartPole(TensorVectorEnv):
    """Many poles on carts (Barto, Sutton and Anderson 1983), by the equations of Florian (2007) as in gymnasium.

    The same task as gymnasium's "CartPole-v1": spaces, rewards, ends, and a limit of 500 steps; the random starts are
    others. Registered as "rl_framework/TensorCartPole-v1".

    Args:
        num_envs: How many.
        device: Where they are computed.
        max_episode_steps: After how many steps an episode is truncated.
    """

    def __init__(
        self, num_envs: int = 1, device: str | torch.device = "cpu", max_episode_steps: int | None = 500
    ) -> None:
        largest = np.array(
            [2 * _MOST_POSITION, np.inf, 2 * _MOST_ANGLE, np.inf],
            dtype=np.float32,
        )
        observation_space = spaces.Box(-largest, largest, dtype=np.float32)
        super().__init__(num_envs, observation_space, spaces.Discrete(2), device, max_episode_steps)

    def begin(self, count: int) -> Tensor:
        """Returns states near upright and standing still."""
        return torch.rand(count, 4, device=self.device, generator=self.generator) * 0.1 - 0.05

    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pushes every cart to the left (0) or right (1) for a fiftieth of a second (explicit Euler)."""
        position, velocity, angle, turning = state.unbind(-1)
        force = _FORCE * (2.0 * actions.to(state.dtype) - 1.0)
        sine, cosine = angle.sin(), angle.cos()
        total, moment = _MASS_CART + _MASS_POLE, _MASS_POLE * _HALF_LENGTH
        push = (force + moment * turning.square() * sine) / total
        turn = (_GRAVITY * sine - cosine * push) / (_HALF_LENGTH * (4.0 / 3.0 - _MASS_POLE * cosine.square() / total))
        acceleration = push - moment * turn * cosine / total
        following = torch.stack(
            (
                position + _SECONDS * velocity,
                velocity + _SECONDS * acceleration,
                angle + _SECONDS * turning,
                turning + _SECONDS * turn,
            ),
            dim=-1,
        )
        fallen = (following[:, 0].abs() > _MOST_POSITION) | (following[:, 2].abs() > _MOST_ANGLE)
        return following, torch.ones_like(position), fallen
