"""Parts, rollouts and setups without environments, for the tests of parts."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces

from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.composed.setup import Setup

BOX = spaces.Box(-1, 1, (3,))
ACTIONS = spaces.Box(-2, 2, (2,))
CPU = torch.device("cpu")
SMALL = {"type": "mlp", "hidden_sizes": [8]}


def setup_of(
    observation_space: Any = BOX,
    action_space: Any = ACTIONS,
    networks: Any = None,
    seed: int = 0,
    normaliser: Any = None,
) -> Setup:
    """Returns a setup; the weights of what is built with it depend on the seed."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    specifications = {"default": SMALL} if networks is None else networks
    return Setup(observation_space, action_space, specifications, CPU, generator, normaliser)


def built(setup: Setup, *parts: Any) -> Any:
    """Builds parts as a trainer does, and returns them, or the only one."""
    for part in parts:
        part.join(parts)
    for part in sorted(parts, key=lambda part: "policy" not in part.provides):
        part.start_schedules(CPU)
        part.build(setup)
    return parts[0] if len(parts) == 1 else parts


def rollout_of(rewards: Any, acted: Any = None, seed: int = 0, **tensors: Any) -> Rollout:
    """Returns a rollout with these rewards, `(n_steps, n_slots)`; what is not given is random, or false."""
    rewards = torch.as_tensor(rewards, dtype=torch.float32)
    shape = rewards.shape
    random = torch.Generator().manual_seed(seed)
    never = torch.zeros(shape, dtype=torch.bool)
    found = {
        "observations": torch.rand((*shape, 3), generator=random),
        "next_observations": torch.rand((*shape, 3), generator=random),
        "actions": torch.rand((*shape, 2), generator=random),
        "terminated": never,
        "truncated": never,
        "starts": never,
        **{name: torch.as_tensor(value) for name, value in tensors.items()},
        "rewards": rewards,
    }
    last = torch.rand((shape[1], 3), generator=random)
    acted = None if acted is None else torch.as_tensor(acted)
    return Rollout(found, last, None, None, acted, {}, 1, torch.Generator().manual_seed(seed))
