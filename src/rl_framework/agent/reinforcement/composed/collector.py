"""Collects rollouts: the policy acts, the environments answer, and everything stays a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import Trunk
from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.episode.observation_tree import stacked
from rl_framework.training import EpisodeEnded, RolloutEnded, Training

__all__ = ["Collector", "as_tensors"]


class Collector:
    """Acts in environments and remembers where it is, from one rollout to the next.

    Args:
        batch: The environments.
        policy: What acts.
        parts: Whose `explore` is asked, and what they want recorded.
        trunks: All trunks; recurrent ones have a state that is carried on.
        generators: Where actions and the order of batches are drawn from: on the device, and on the CPU.
        timesteps: Environment steps so far.

    Attributes:
        timesteps: Environment steps so far.
        states: State of each recurrent trunk, `(n_slots, state_size)` by name.
        starts: Shape `(n_slots,)`, bool: whether the next step is the first of an episode.
    """

    def __init__(
        self,
        batch: BatchedEnvironment,
        policy: Policy,
        parts: Iterable[Part],
        trunks: Iterable[Trunk],
        generators: tuple[torch.Generator, torch.Generator],
        timesteps: int = 0,
    ) -> None:
        self.batch = batch
        self.policy = policy
        self.timesteps = timesteps
        self._parts = list(parts)
        self._generator, self._order = generators
        self._device = self._generator.device
        self._explorers = [part for part in self._parts if type(part).explore is not Part.explore]
        self._keeps_next = any("next_observations" in part.records for part in self._parts)
        recurrent = [trunk for trunk in trunks if trunk.state_size]
        self._sequence_length = min((trunk.sequence_length for trunk in recurrent), default=1)
        count = batch.num_envs
        self.states = {trunk.name: trunk.initial_state(count).to(self._device) for trunk in recurrent}
        self.starts = torch.ones(count, dtype=torch.bool, device=self._device)
        self._observations: Any = None
        # What those chose whose outcome is told in a later step.
        self.pending = torch.zeros(count, dtype=torch.bool, device=self._device)
        self.chosen: Tensor | None = None

    def reset(self, seed: int | None) -> Any:
        """Starts a new episode in every slot and returns the observations."""
        return self.batch.reset_slots(seed)[0]

    def begin(self, observations: Any, training: Training) -> None:
        """Takes the observations that the environments stand at, and who is told of what happens from there on."""
        self._observations = observations
        if not isinstance(observations, Tensor):
            self._observations = as_tensors(observations, self._device)
        self._training = training
        self._taken = training.gather_actions(self.batch.single_action_space)

    def collect(self, n_steps: int) -> Rollout | None:
        """Collects a rollout.

        Args:
            n_steps: Steps of every slot.

        Returns:
            The rollout, or None if somebody stopped the training in the middle of it.
        """
        batch, policy, device, training = self.batch, self.policy, self._device, self._training
        count = batch.num_envs
        rewards = np.zeros((n_steps, count), dtype=np.float32)
        terminated = np.zeros((n_steps, count), dtype=np.bool_)
        truncated = np.zeros((n_steps, count), dtype=np.bool_)
        acted = np.ones((n_steps, count), dtype=np.bool_) if batch.may_be_absent else None
        starts, observations, actions, following = [], [], [], []
        final_rows: list[int] = []
        finals: list[Any] = []
        states = dict(self.states)
        state = self.states.get(policy.trunk.name)
        taken = self._taken
        for step_index in range(n_steps):
            chosen, next_state = policy.act(self._observations, state, self.starts, False, self._generator)
            for part in self._explorers:
                chosen = part.explore(chosen, self.timesteps)
            if self.chosen is not None:
                chosen = torch.where(_aligned(self.pending, chosen), self.chosen, chosen)
            given = policy.to_environment(chosen)
            given_array = given.cpu().numpy()
            step = batch.step_slots(given_array)
            observations.append(self._observations)
            actions.append(chosen)
            starts.append(self.starts)
            rewards[step_index], terminated[step_index] = step.rewards, step.terminated
            truncated[step_index] = step.truncated
            following_observations = as_tensors(step.observations, device)
            for slot, final in step.final_observations.items():
                final_rows.append(step_index * count + slot)
                finals.append(final)
            if self._keeps_next:
                following.append(self._with_finals(step, following_observations))
            ended = (step.terminated | step.truncated) & step.acted
            if acted is None:
                self.timesteps += count
                self.starts = torch.from_numpy(ended).to(device)
                state = next_state
            else:
                acted[step_index] = step.acted
                self.timesteps += int(step.acted.sum())
                state = self._follow_absence(step, chosen, state, next_state)
            self._observations = following_observations
            if taken is not None:
                taken.add(given_array if acted is None else given_array[step.acted])
            if ended.any():
                for index in np.flatnonzero(ended):
                    training.emit(EpisodeEnded.from_info(self.timesteps, int(index), step.infos[index]))
            training.step(self.timesteps)
            if training.stop_reason is not None and step_index + 1 < n_steps:
                return None
        tensors: dict[str, Any] = {
            "observations": _stacked_tensors(observations),
            "actions": torch.stack(actions),
            "rewards": torch.from_numpy(rewards).to(device),
            "terminated": torch.from_numpy(terminated).to(device),
            "truncated": torch.from_numpy(truncated).to(device),
            "starts": torch.stack(starts),
        }
        if following:
            tensors["next_observations"] = _stacked_tensors(following)
        if taken is not None:
            shares, histograms = taken.report(self.timesteps)
            if histograms or n_steps > 1:
                training.emit(RolloutEnded(timestep=self.timesteps, metrics=shares, histograms=histograms))
        return Rollout(
            tensors,
            self._observations,
            torch.tensor(final_rows, dtype=torch.int64, device=device),
            as_tensors(stacked(finals), device) if finals else None,
            None if acted is None or acted.all() else torch.from_numpy(acted).to(device),
            states,
            self._sequence_length,
            self._order,
            self.timesteps,
        )

    def follow(self, rollout: Rollout) -> None:
        """Carries on the states of recurrent trunks from the end of a rollout, as parts have computed them."""
        for name, state in rollout.last_states().items():
            self.states[name] = state

    def _follow_absence(
        self, step: SlotStep, chosen: Tensor, state: Tensor | None, next_state: Tensor | None
    ) -> Tensor | None:
        acted = torch.from_numpy(step.acted).to(self._device)
        ended = torch.from_numpy(step.terminated | step.truncated).to(self._device)
        self.starts = torch.where(acted, ended, self.starts)
        if step.pending is not None:
            self.pending, self.chosen = torch.from_numpy(step.pending.copy()).to(self._device), chosen
        if state is None or next_state is None:
            return next_state
        return torch.where(acted[:, None], next_state, state)

    def _with_finals(self, step: SlotStep, observations: Any) -> Any:
        if not step.final_observations:
            return observations
        rows = torch.tensor(list(step.final_observations), device=self._device)
        finals = as_tensors(stacked(list(step.final_observations.values())), self._device)
        return _replaced(observations, rows, finals)

    # For checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Returns where it is, apart from the environments."""
        state = {f"state/{name}": value for name, value in self.states.items()}
        state |= {"starts": self.starts, "pending": self.pending}
        if self.chosen is not None:
            state["chosen"] = self.chosen
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            ValueError: It does not fit.
        """
        mine = self.state_dict()
        for name, value in mine.items():
            if name not in state or state[name].shape != value.shape or state[name].dtype != value.dtype:
                raise ValueError(f"the state of {name} does not fit")
        self.states = {name: state[f"state/{name}"].to(self._device) for name in self.states}
        self.starts, self.pending = state["starts"].to(self._device), state["pending"].to(self._device)
        if "chosen" in state:
            self.chosen = state["chosen"].to(self._device)


def as_tensors(observations: Any, device: torch.device) -> Any:
    """Copies a batch of observations to tensors on a device; floating-point numbers become float32."""
    if isinstance(observations, Mapping):
        return {key: as_tensors(value, device) for key, value in observations.items()}
    array = np.asarray(observations)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.int64)
    elif array is observations:
        array = array.copy()
    return torch.from_numpy(array).to(device)


def _stacked_tensors(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _stacked_tensors([value[key] for value in values]) for key in values[0]}
    return torch.stack(values)


def _replaced(values: Any, rows: Tensor, others: Any) -> Any:
    if isinstance(values, dict):
        return {key: _replaced(value, rows, others[key]) for key, value in values.items()}
    changed = values.clone()
    changed[rows] = others
    return changed


def _aligned(mask: Tensor, values: Tensor) -> Tensor:
    return mask.reshape(-1, *([1] * (values.ndim - 1)))
