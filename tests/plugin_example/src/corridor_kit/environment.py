"""A simulator that rl_framework does not know, its adapter, and a wrapper."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

from rl_framework import EnvironmentAdapter


class Corridor:
    """A walk along a corridor, with the exit at its right end. It speaks of "left" and "right"."""

    def __init__(self, length: int = 6) -> None:
        self.length = length
        self.position = 0

    def restart(self) -> int:
        self.position = 0
        return self.position

    def walk(self, direction: str) -> tuple[int, bool]:
        self.position = max(0, self.position + (1 if direction == "right" else -1))
        return self.position, self.position == self.length - 1


class CorridorAdapter(EnvironmentAdapter):
    """Pays 1 at the exit, and calls the walker back after 100 steps."""

    @classmethod
    def accepts(cls, source: object) -> bool:
        return isinstance(source, Corridor)

    def setup(self, source: Corridor | str, length: int = 6) -> None:
        self.corridor = source if isinstance(source, Corridor) else Corridor(length)
        self.observation_space = spaces.Discrete(self.corridor.length)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        self.n_steps = 0
        return self.corridor.restart(), {}

    def get_action(self, action: Any) -> str:
        return ("left", "right")[int(action)]

    def step(self, action: str) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        position, is_out = self.corridor.walk(action)
        return position, float(is_out), is_out, self.n_steps >= 100, {}


class StepCost(gymnasium.RewardWrapper[Any, Any]):
    """Takes a little off every reward, so that the short way pays."""

    def __init__(self, env: gymnasium.Env[Any, Any], cost: float = 0.01) -> None:
        super().__init__(env)
        self.cost = cost

    def reward(self, reward: Any) -> float:
        return float(reward) - self.cost
