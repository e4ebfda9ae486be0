"""Rollouts that are written down instead of collected, and what a part is built with."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.composed.setup import Setup
from rl_framework.agent.reinforcement.parts import Part

CPU = torch.device("cpu")
PAIRS = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def built(
    part: Part,
    observation_space: gymnasium.Space[Any] = PAIRS,
    action_space: gymnasium.Space[Any] | None = None,
    networks: Any = None,
) -> Setup:
    """Builds a part alone; returns what it was built with."""
    setup = Setup(
        observation_space,
        spaces.Discrete(2) if action_space is None else action_space,
        {"default": "flatten"} if networks is None else networks,
        CPU,
        torch.Generator().manual_seed(0),
    )
    part.start_schedules(CPU)
    part.build(setup)
    return setup


def rollout_of(
    observations: Any,
    last_observations: Any,
    actions: Any = None,
    ended: Any = None,
    acted: Any = None,
    **tensors: Any,
) -> Rollout:
    """Makes a rollout of what can be written down, `(n_steps, n_slots, *shape)`."""
    observations = torch.as_tensor(np.asarray(observations, np.float32))
    shape = observations.shape[:2]
    ended = torch.zeros(shape, dtype=torch.bool) if ended is None else torch.as_tensor(ended, dtype=torch.bool)
    rows = ended.reshape(-1).nonzero()[:, 0]
    return Rollout(
        {
            "observations": observations,
            "actions": torch.zeros(shape, dtype=torch.int64) if actions is None else torch.as_tensor(actions),
            "rewards": torch.zeros(shape),
            "terminated": ended,
            "truncated": torch.zeros_like(ended),
            "starts": torch.zeros_like(ended),
            **{name: torch.as_tensor(np.asarray(value, np.float32)) for name, value in tensors.items()},
        },
        torch.as_tensor(np.asarray(last_observations, np.float32)),
        rows,
        torch.full((len(rows), *observations.shape[2:]), 1e6) if len(rows) else None,
        None if acted is None else torch.as_tensor(acted, dtype=torch.bool),
        {},
        1,
        torch.Generator().manual_seed(0),
    )


def set_linear(layer: Any, weight: list[list[float]], bias: list[float]) -> None:
    """Gives a linear layer weights and biases."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
