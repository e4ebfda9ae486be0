"""Tabular Q-learning (Watkins and Dayan 1992), the algorithm of one's own that comes with the framework."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.agent.reinforcement.custom import CustomAlgorithm, Transitions
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.errors import ArgumentError

__all__ = ["QLearning"]


class QLearning(CustomAlgorithm):
    """Learns the value of every action in every state, in a table, with epsilon-greedy exploration.

    Args:
        observation_space: A discrete space: the states.
        action_space: A discrete space.
        learning_rate: Step size in (0, 1]; a number or a schedule as data.
        gamma: Discount factor in [0, 1].
        epsilon: Share of random actions while training; a number or a schedule as data.
        initial_value: What the table holds at first; a high value makes it try every action.
    """

    supported_observation_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (spaces.Discrete,)
    supported_action_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (spaces.Discrete,)

    def __init__(
        self,
        observation_space: spaces.Discrete[Any],
        action_space: spaces.Discrete[Any],
        learning_rate: Any = 0.1,
        gamma: float = 0.99,
        epsilon: Any = {"type": "linear", "start": 1.0, "end": 0.05, "end_fraction": 0.5},  # noqa: B006 - never changed
        initial_value: float = 0.0,
    ) -> None:
        super().__init__(observation_space, action_space)
        if not 0 <= gamma <= 1:
            raise ArgumentError("algorithm_parameters['gamma']", gamma, "must be from 0 to 1")
        self.learning_rate = to_schedule(learning_rate, "algorithm_parameters['learning_rate']")
        self.epsilon = to_schedule(epsilon, "algorithm_parameters['epsilon']")
        self.gamma = gamma
        # One number that looks like a table, until there is something to learn: a file may name a space of any size.
        shape = int(observation_space.n), int(action_space.n)
        self.table: NDArray[np.float64] = np.broadcast_to(np.float64(initial_value), shape)
        self._first_state, self._first_action = int(observation_space.start), int(action_space.start)
        self._progress_remaining = 1.0

    def choose_actions(self, observations: Any, deterministic: bool) -> NDArray[np.int64]:
        """Chooses the action of highest value, or sometimes a random one."""
        actions: NDArray[np.int64] = self.table[observations - self._first_state].argmax(axis=1)
        if not deterministic:
            explores = self.np_random.random(len(actions)) < _at(self.epsilon, self._progress_remaining)
            actions = np.where(explores, self.np_random.integers(self.table.shape[1], size=len(actions)), actions)
        return actions + self._first_action

    def learn_from(self, transitions: Transitions) -> None:
        """Moves each value towards reward plus discounted best value of the next state."""
        self._progress_remaining = transitions.progress_remaining
        if not self.table.flags.writeable:
            self.table = self.table.copy()
        states = transitions.observations - self._first_state
        actions = transitions.actions - self._first_action
        best = self.table[transitions.next_observations - self._first_state].max(axis=1)
        targets = transitions.rewards + self.gamma * best * ~transitions.terminated
        rate = _at(self.learning_rate, self._progress_remaining)
        # One after the other: two environments may have been in the same state.
        for state, action, target in zip(states, actions, targets, strict=True):
            self.table[state, action] += rate * (target - self.table[state, action])

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Returns the table and how far exploration has come down."""
        return {"table": self.table, "progress_remaining": np.array(self._progress_remaining)}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Takes the table back."""
        table = state["table"]
        if table.shape != self.table.shape or table.dtype != self.table.dtype or not np.isfinite(table).all():
            raise ValueError(f"the table has shape {table.shape} and type {table.dtype}, expected {self.table.shape}")
        progress_remaining = float(state["progress_remaining"])
        if not 0 <= progress_remaining <= 1:
            raise ValueError(f"progress_remaining is {progress_remaining}")
        self.table, self._progress_remaining = table, progress_remaining


def _at(schedule: Any, progress_remaining: float) -> float:
    return float(schedule(progress_remaining)) if callable(schedule) else float(schedule)
