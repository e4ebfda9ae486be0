"""Collects rollouts in environments of tensors, without a step through the host."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.collector import Collector
from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.environment.tensor.environments import TensorEnvironments
from rl_framework.training import EpisodeEnded, RolloutEnded

__all__ = ["TensorCollector"]


class TensorCollector(Collector):
    """Acts in `TensorEnvironments`. Episodes are told of at the end of each rollout, with one transfer to the host."""

    batch: TensorEnvironments

    def reset(self, seed: int | None) -> Any:
        """Starts a new episode in every slot and returns the observations."""
        return self.batch.reset_tensors(seed)

    def collect(self, n_steps: int) -> Rollout | None:
        """Collects a rollout; see `Collector.collect`."""
        batch, policy, training = self.batch, self.policy, self._training
        count, first = batch.num_envs, self.timesteps
        rows: list[tuple[Tensor, ...]] = []
        states = dict(self.states)
        state = self.states.get(policy.trunk.name)
        for index in range(n_steps):
            chosen, state = policy.act(self._observations, state, self.starts, False, self._generator)
            for part in self._explorers:
                chosen = part.explore(chosen, self.timesteps)
            step = batch.step_tensors(policy.to_environment(chosen))
            rows.append(
                (
                    self._observations,
                    chosen,
                    step.rewards,
                    step.terminated,
                    step.truncated,
                    self.starts,
                    step.final_observations,
                )
            )
            self.starts = step.terminated | step.truncated
            self._observations = step.observations
            self.timesteps += count
            training.step(self.timesteps)
            if training.stop_reason is not None and index + 1 < n_steps:
                self._tell(first)
                return None
        names = ("observations", "actions", "rewards", "terminated", "truncated", "starts", "next_observations")
        tensors: dict[str, Any] = {
            name: torch.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
        self._tell(first)
        if self._taken is not None:
            self._taken.add(policy.to_environment(tensors["actions"].flatten(0, 1)).cpu().numpy())
            shares, histograms = self._taken.report(self.timesteps)
            if histograms or n_steps > 1:
                training.emit(RolloutEnded(timestep=self.timesteps, metrics=shares, histograms=histograms))
        return Rollout(
            tensors,
            self._observations,
            None,
            None,
            None,
            states,
            self._sequence_length,
            self._order,
            self.timesteps,
        )

    def _tell(self, first: int) -> None:
        ended = self.batch.ended_episodes()
        for step, slot, episode_return, length in zip(
            ended.steps.tolist(), ended.slots.tolist(), ended.returns.tolist(), ended.lengths.tolist(), strict=True
        ):
            timestep = first + (step + 1) * self.batch.num_envs
            info = {"episode": {"r": episode_return, "l": length}}
            self._training.emit(EpisodeEnded.from_info(timestep, slot, info))
