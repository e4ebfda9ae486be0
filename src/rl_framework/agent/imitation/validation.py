"""How an agent that learns by acting does on episodes that it does not learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_framework.episode import EpisodeSequence
from rl_framework.seeding import isolated_random_state
from rl_framework.training import Callback, Training, TrainingStarted, Updated, Validated

__all__ = ["EpisodeValidation"]

_MOST_ROWS = 1_000
"""Transitions that are compared, evenly chosen."""

_EVERY = 1_000
"""Timesteps between two measurements, of algorithms that report more often."""


class EpisodeValidation(Callback):
    """Compares what the agent would do with what was done in recorded episodes, when the algorithm reports metrics.

    It reports "validation/accuracy", the share of transitions where the agent's most likely action is the recorded one
    in all its parts, or for continuous actions "validation/mse", the squared difference of the two.

    Args:
        episodes: What to compare with.
    """

    def __init__(self, episodes: EpisodeSequence) -> None:
        transitions = episodes.transitions()
        count = min(len(transitions), _MOST_ROWS)
        self._batch = transitions.gather(np.linspace(0, len(transitions) - 1, count).astype(np.int64))
        self._next = 0

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Measures at the first report."""
        self._next = event.timestep

    def on_update(self, event: Updated, training: Training) -> None:
        """Measures and tells everybody, unless it has just done so."""
        if event.timestep < self._next:
            return
        self._next = event.timestep + _EVERY
        metrics = self.measure(training.agent)
        training.emit(Validated(timestep=event.timestep, metrics=metrics))

    def measure(self, agent: Any) -> dict[str, float]:
        """Returns the metrics of an agent as it is."""
        with isolated_random_state():
            chosen, _ = agent.predict(self._batch.observations, None, None, True)
        recorded = self._batch.actions
        chosen = np.asarray(chosen).reshape(recorded.shape)
        if isinstance(agent.action_space, spaces.Box):
            return {"validation/mse": float(np.square(chosen - recorded).mean())}
        return {"validation/accuracy": float((chosen == recorded).reshape(len(recorded), -1).all(axis=1).mean())}
