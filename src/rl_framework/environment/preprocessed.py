"""Observations changed once, at the door, for everything behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import gymnasium
import numpy as np

from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.replay import OpenEpisode, Replayed

__all__ = ["PreprocessedEnvironments", "Preprocessing"]


class Preprocessing(Protocol):
    """Changes observations before anybody learns from them."""

    def preprocess_space(self, observation_space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
        """Returns the space of the changed observations."""

    def preprocess(self, observations: Any) -> Any:
        """Changes a batch of observations, leading axis: slots."""


class PreprocessedEnvironments(BatchedEnvironment):
    """A batch whose observations go through a preprocessing stage.

    Args:
        batch: The environments; closing them stays with whoever opened them.
        preprocessing: The stage.
    """

    def __init__(self, batch: BatchedEnvironment, preprocessing: Preprocessing) -> None:
        self.batch = batch
        self._preprocessing = preprocessing
        self.metadata = batch.metadata
        self.render_mode = batch.render_mode
        self.may_be_absent = batch.may_be_absent
        super().__init__(
            batch.num_envs, preprocessing.preprocess_space(batch.single_observation_space), batch.single_action_space
        )
        self.vectorization, self.vectorization_reason = batch.vectorization, batch.vectorization_reason
        self.environment_id = batch.environment_id
        self.present = batch.present
        self.replayable = batch.replayable

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        observations, infos = self.batch.reset_slots(seeds, options)
        self.present = self.batch.present
        return self._preprocessing.preprocess(observations), infos

    def _step(self, actions: Any) -> SlotStep:
        step = self.batch.step_slots(actions)
        self.present = step.present
        step.observations = self._preprocessing.preprocess(step.observations)
        for index, observation in step.final_observations.items():
            changed = self._preprocessing.preprocess(_batch_of_one(observation))
            step.final_observations[index] = self.observation_of(changed, 0)
        return step

    def _finish_episode(self, info: dict[str, Any], index: int, raw_return: float | None) -> None:
        """Leaves the account of the episode to the batch behind, which has given it."""
        self._step_metrics.clear([index])

    def replay_slots(self, episodes: Sequence[OpenEpisode]) -> list[Replayed]:
        """Brings every slot to where an open episode was; the observations are preprocessed."""
        replayed = self.batch.replay_slots(episodes)
        self._latest_infos = self.batch._latest_infos  # with the action masks
        self.latest_observations = self._preprocessing.preprocess(self.batch.latest_observations)
        return [
            replace(slot, observation=self.observation_of(self.latest_observations, index))
            for index, slot in enumerate(replayed)
        ]

    def restart_slot(self, index: int, seed: int) -> Any:
        """Begins a new episode in one slot; its first observation is preprocessed."""
        observation = self.batch.restart_slot(index, seed)
        self._latest_infos = self.batch._latest_infos
        return self.observation_of(self._preprocessing.preprocess(_batch_of_one(observation)), 0)

    def render_slots(self) -> list[Any]:
        """Returns one rendered frame a slot."""
        return self.batch.render_slots()

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments; see the base class."""
        return self.batch.call_slots(name, *args, indices=indices, **kwargs)

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the environments."""
        return self.batch.get_slots(name, indices)

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the environments."""
        self.batch.set_slots(name, value, indices)


def _batch_of_one(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _batch_of_one(value) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_batch_of_one(value) for value in observation)
    return np.asarray(observation)[None]
