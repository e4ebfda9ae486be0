"""Environments whose rewards are replaced by those of a function, before anybody learns from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.environment.replay import OpenEpisode, Replayed
from rl_framework.errors import ArgumentError

__all__ = ["RelabelledEnvironments", "RewardFunction"]

RewardFunction = Callable[[Any, NDArray[Any], Any, NDArray[np.bool_], NDArray[np.int64]], NDArray[Any]]
"""Takes observations, actions, next observations (the last one where an episode ended), whether an episode ended, and
how many steps of the episode came before, each with a leading axis; returns as many rewards."""

_EPISODES = 100
"""How many episodes the mean of replaced returns is over, as in the imitation library."""


class RelabelledEnvironments(BatchedEnvironment):
    """A batch that pays other rewards. What infos tell of an episode is still what the environment paid.

    It is a layer of the door and not of Stable-Baselines3, so that seeds, normalisers, checkpoints and replay are those
    of any training.

    Args:
        batch: The environments; closing them stays with whoever opened them.
        reward: Pays.
        allow_variable_horizon: Whether episodes may have different lengths. Where they have, their end tells of the
            true reward, and an agent may learn from that alone; see
            https://imitation.readthedocs.io/en/latest/main-concepts/variable_horizon.html.
        watch: Is told of each step as the environment made it, after the observations and actions that led to it.

    Attributes:
        batch: The environments.
        replaced_returns: Sums of replaced rewards of the last episodes.
    """

    def __init__(
        self,
        batch: BatchedEnvironment,
        reward: RewardFunction,
        allow_variable_horizon: bool = False,
        watch: Callable[[Any, Any, SlotStep], None] | None = None,
    ) -> None:
        self.batch = batch
        self._reward = reward
        self._watch = watch
        self._allow_variable_horizon = allow_variable_horizon
        self._horizon = 0
        self.metadata = batch.metadata
        self.render_mode = batch.render_mode
        self.may_be_absent = batch.may_be_absent
        super().__init__(batch.num_envs, batch.single_observation_space, batch.single_action_space)
        self.vectorization, self.vectorization_reason = batch.vectorization, batch.vectorization_reason
        self.environment_id = batch.environment_id
        self.present = batch.present
        self.replayable = batch.replayable
        self.always_tells_final_observations = batch.always_tells_final_observations
        self.replaced_returns: deque[float] = deque(maxlen=_EPISODES)
        self._sums = np.zeros(batch.num_envs)

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        observations, infos = self.batch.reset_slots(seeds, options)
        self.present = self.batch.present
        self._sums[:] = 0.0
        return observations, infos

    def _step(self, actions: Any) -> SlotStep:
        before, times = self.batch.latest_observations, self.batch._lengths.copy()
        step = self.batch.step_slots(actions)
        self.present = step.present
        if step.actions is not None:
            actions = step.actions
        ended = (step.terminated | step.truncated) & step.acted
        if self._watch is not None:
            self._watch(before, actions, step)
        after = step.observations
        if ended.any():
            after = self._with_final_observations(step, ended)
            self._check_horizon(step, ended)
        rewards = np.asarray(self._reward(before, np.asarray(actions), after, ended, times), dtype=np.float64)
        step.rewards = np.where(step.acted, rewards, 0.0)
        self._sums += step.rewards
        for slot in np.flatnonzero(ended):
            self.replaced_returns.append(float(self._sums[slot]))
            self._sums[slot] = 0.0
        return step

    def _with_final_observations(self, step: SlotStep, ended: NDArray[np.bool_]) -> Any:
        rows = [self.observation_of(step.observations, slot) for slot in range(self.num_envs)]
        for slot in map(int, np.flatnonzero(ended)):
            rows[slot] = step.final_observations.get(slot, rows[slot])
        return self.stack(rows)

    def _check_horizon(self, step: SlotStep, ended: NDArray[np.bool_]) -> None:
        if self._allow_variable_horizon:
            return
        for slot in np.flatnonzero(ended):
            length = int(step.infos[slot]["episode"]["l"])
            self._horizon = self._horizon or length
            if length != self._horizon:
                raise ArgumentError(
                    "algorithm_parameters['allow_variable_horizon']",
                    False,
                    f"episodes have different lengths, such as {self._horizon} and {length} steps, so that their end "
                    "tells of the true reward",
                    "Use an environment whose episodes all have one length (such as those of seals), or pass True if "
                    "you know what you compare.",
                )

    def _finish_episode(self, info: dict[str, Any], index: int, raw_return: float | None) -> None:
        """Leaves the account of the episode to the batch behind, which has given it."""

    def replay_slots(self, episodes: Sequence[OpenEpisode]) -> list[Replayed]:
        """Brings every slot to where an open episode was."""
        replayed = self.batch.replay_slots(episodes)
        self._latest_infos, self.latest_observations = self.batch._latest_infos, self.batch.latest_observations
        return replayed

    def restart_slot(self, index: int, seed: int) -> Any:
        """Begins a new episode in one slot."""
        observation = self.batch.restart_slot(index, seed)
        self._latest_infos = self.batch._latest_infos
        self._sums[index] = 0.0
        return observation

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns what goes on besides the environments."""
        return {
            "sums": self._sums.copy(),
            "replaced_returns": np.array(self.replaced_returns, dtype=np.float64),
            "horizon": np.array(self._horizon),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Goes to where `state` was called.

        Raises:
            ValueError: The state does not fit.
        """
        sums, returns, horizon = state["sums"], state["replaced_returns"], state["horizon"]
        if sums.shape != self._sums.shape or sums.dtype != np.float64 or returns.ndim != 1 or returns.dtype.kind != "f":
            raise ValueError(f"replaced rewards have the shapes {sums.shape} and {returns.shape}")
        if horizon.shape != () or horizon.dtype.kind != "i" or horizon < 0:
            raise ValueError(f"the horizon is {horizon}")
        self._sums = sums.copy()
        self.replaced_returns = deque(map(float, returns), maxlen=_EPISODES)
        self._horizon = int(horizon)

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
