"""Agents for the toys of several agents, and algorithms that go wrong on purpose."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
from tests.environment.pettingzoo_toys import Rendezvous

import rl_framework
from rl_framework import MultiAgent, StableBaselinesAgent
from rl_framework.agent.reinforcement import CustomAgent, CustomAlgorithm

PPO = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
DQN = {"learning_starts": 8, "buffer_size": 200, "policy_kwargs": {"net_arch": [8]}}


def unlike(**arguments: Any) -> Rendezvous:
    """Returns the toy whose agents have different spaces."""
    return Rendezvous(alike=False, **arguments)


def two_of_a_kind(left: dict[str, Any] | None = None, right: dict[str, Any] | None = None) -> MultiAgent:
    return MultiAgent(
        {
            "left": StableBaselinesAgent("ppo", {**PPO, **(left or {})}),
            "right": StableBaselinesAgent("ppo", {**PPO, **(right or {})}),
        }
    )


class Chance(CustomAlgorithm):
    """Acts by chance, notes what it is told, and goes wrong when it is told to.

    Args:
        fails_at: The step in which it raises.
        interrupts_at: The step in which the user presses Ctrl-C.
        resets_at: The step after which it begins new episodes in `batch`.
    """

    def __init__(
        self,
        observation_space: Any,
        action_space: Any,
        fails_at: int = -1,
        interrupts_at: int = -1,
        resets_at: int = -1,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.fails_at, self.interrupts_at, self.resets_at = fails_at, interrupts_at, resets_at
        self.batch: Any = None
        self.steps = 0

    def choose_actions(self, observations: Any, deterministic: bool) -> Any:
        return self.np_random.integers(self.action_space.n, size=len(observations))

    def learn_from(self, transitions: Any) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("the algorithm broke")
        if self.steps == self.interrupts_at:
            os.kill(os.getpid(), signal.SIGINT)
        if self.steps == self.resets_at:
            self.batch.reset_slots()

    def get_state(self) -> dict[str, Any]:
        return {"steps": np.array(self.steps)}

    def set_state(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])


rl_framework.register_algorithm("chance_in_a_world_of_several", Chance)


def by_chance(**parameters: Any) -> CustomAgent:
    return CustomAgent("chance_in_a_world_of_several", parameters)
