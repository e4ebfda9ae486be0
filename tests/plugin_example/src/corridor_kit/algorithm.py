"""Expected Sarsa (van Seijen et al. 2009) in a table."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework import CustomAlgorithm
from rl_framework.agent.reinforcement import Transitions


class ExpectedSarsa(CustomAlgorithm):
    """Learns the value of each action under an epsilon-greedy policy."""

    supported_observation_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (spaces.Discrete,)
    supported_action_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (spaces.Discrete,)

    def __init__(
        self,
        observation_space: spaces.Discrete[Any],
        action_space: spaces.Discrete[Any],
        learning_rate: float = 0.2,
        gamma: float = 0.95,
        epsilon: float = 0.3,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.learning_rate, self.gamma, self.epsilon = learning_rate, gamma, epsilon
        # Values that are too high at first make it try every action.
        self.table = np.ones((int(observation_space.n), int(action_space.n)))

    def choose_actions(self, observations: Any, deterministic: bool) -> NDArray[np.int64]:
        best: NDArray[np.int64] = self.table[observations].argmax(axis=1)
        if deterministic:
            return best
        random = self.np_random.integers(self.table.shape[1], size=len(best))
        return np.where(self.np_random.random(len(best)) < self.epsilon, random, best)

    def learn_from(self, transitions: Transitions) -> dict[str, float]:
        following = self.table[transitions.next_observations]
        expected = (1 - self.epsilon) * following.max(axis=1) + self.epsilon * following.mean(axis=1)
        targets = transitions.rewards + self.gamma * expected * ~transitions.terminated
        errors = targets - self.table[transitions.observations, transitions.actions]
        np.add.at(self.table, (transitions.observations, transitions.actions), self.learning_rate * errors)
        return {"train/error": float(np.abs(errors).mean())}

    def get_state(self) -> dict[str, NDArray[Any]]:
        return {"table": self.table}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        if state["table"].shape != self.table.shape:
            raise ValueError(f"the table has shape {state['table'].shape}, expected {self.table.shape}")
        self.table = state["table"]
