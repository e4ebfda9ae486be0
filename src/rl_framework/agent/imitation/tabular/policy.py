"""A policy that is a table: the probability of each action in each state at each time."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.agent.imitation.tabular.model import StateIndex

__all__ = ["TablePolicy"]


class TablePolicy:
    """Acts by a table.

    Its state is the time since the beginning of the episode, of which the best action may depend: near the end other
    things are worth doing than before. Without a state every observation is taken for the first of an episode; after
    the last time of the table it acts as at that time.

    Args:
        table: Shape `(times, states, actions)`, probabilities.
        states: Which state an observation shows.
        action_space: Its copy is what sampled actions are drawn with.
    """

    def __init__(self, table: NDArray[np.float64], states: StateIndex, action_space: spaces.Discrete[Any]) -> None:
        self.table = table
        self.states = states
        self.action_space = deepcopy(action_space)

    def predict(
        self, observations: Any, state: Any = None, episode_starts: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64]]]:
        """Chooses one action for each observation of a batch.

        Returns:
            Actions, and the time of the next observations.
        """
        where = self.states(np.asarray(observations))
        times = np.zeros(len(where), dtype=np.int64) if state is None else np.array(state[0], dtype=np.int64)
        if episode_starts is not None:
            times[np.asarray(episode_starts, dtype=np.bool_)] = 0
        chances = self.table[np.minimum(times, len(self.table) - 1), where]
        if deterministic:
            chosen = chances.argmax(axis=1)
        else:
            drawn = self.action_space.np_random.random((len(where), 1))
            chosen = (chances.cumsum(axis=1) <= drawn * chances.sum(axis=1, keepdims=True)).sum(axis=1)
            chosen = np.minimum(chosen, chances.shape[1] - 1)
        return chosen + int(self.action_space.start), (times + 1,)
