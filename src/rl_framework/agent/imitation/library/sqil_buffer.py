"""Replay buffers of which half of each batch is the expert's, with a reward of 1, and half the learner's, with 0.

That is all that makes SQIL of an off-policy algorithm (Reddy, Dragan and Levine 2020, https://arxiv.org/abs/1905.11108).
The imitation library has such a buffer, which fails on Stable-Baselines3 2.9 and copies the expert's transitions one at
a time. Here they stay where they are. Two things are done otherwise than there: actions of the expert are scaled as the
learner's own are, and an episode that was cut by a limit of time is no terminal state, for either of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from rl_framework.agent.imitation.library.expert_transitions import ExpertTransitions
from rl_framework.errors import NotTrainedError

__all__ = ["SQILDictReplayBuffer", "SQILReplayBuffer"]


class _HalfFromExpert:
    """Adds the expert's half; for a class of Stable-Baselines3's replay buffers."""

    action_space: gymnasium.Space[Any]
    action_dim: int
    handle_timeout_termination: bool

    def __init__(
        self,
        buffer_size: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage=optimize_memory_usage,
            handle_timeout_termination=not optimize_memory_usage,  # the library cannot do both
        )
        self._expert: ExpertTransitions | None = None

    def set_expert(self, expert: ExpertTransitions | None) -> None:
        """Takes the transitions that half of each batch comes from.

        Args:
            expert: Observations and actions as the learner sees its own, actions in the units of the environment.
        """
        self._expert = expert

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        """Stores the learner's transitions, with a reward of 0."""
        super().add(obs, next_obs, action, np.zeros_like(reward), done, infos)  # type: ignore[misc]

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Any:
        """Draws a batch: the first half is the learner's own, the rest (one more of an odd number) the expert's.

        Args:
            batch_size: Transitions in all.
            env: Normalises observations; rewards stay 0 and 1.

        Raises:
            NotTrainedError: No expert was given.
        """
        if self._expert is None:
            raise NotTrainedError("a batch with an expert's half")
        own_size = batch_size // 2
        expert = self._sample_expert(self._expert, batch_size - own_size, env)
        if own_size == 0:
            return expert
        own = super().sample(own_size, env)  # type: ignore[misc]
        own = own._replace(rewards=torch.zeros_like(own.rewards))  # a normaliser may have moved them
        joined = {
            name: _join(getattr(own, name), getattr(expert, name))
            for name in own._fields
            if getattr(own, name) is not None  # "discounts", which only n-step returns have
        }
        return type(own)(**joined)

    def _sample_expert(self, expert: ExpertTransitions, count: int, env: VecNormalize | None) -> Any:
        buffer: Any = self
        batch = expert.gather(np.random.randint(0, len(expert), size=count))
        done = batch.terminated if self.handle_timeout_termination else batch.terminated | batch.truncated
        return buffer.samples_class(
            observations=buffer.tensors_of(batch.observations, env),
            actions=buffer.to_torch(self._as_stored(batch.actions)),
            next_observations=buffer.tensors_of(batch.next_observations, env),
            dones=buffer.to_torch(done.astype(np.float32).reshape(-1, 1)),
            rewards=buffer.to_torch(np.ones((count, 1), dtype=np.float32)),
        )

    def _as_stored(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Returns actions as the library stores them: continuous ones from -1 to 1."""
        buffer: Any = self
        space = self.action_space
        if isinstance(space, spaces.Box):
            actions = np.clip(2.0 * ((actions - space.low) / (space.high - space.low)) - 1.0, -1.0, 1.0)
        return actions.reshape(len(actions), self.action_dim).astype(buffer.actions.dtype, copy=False)


def _join(own: Any, expert: Any) -> Any:
    if isinstance(own, Mapping):
        return {key: torch.cat((part, expert[key])) for key, part in own.items()}
    return torch.cat((own, expert))


class SQILReplayBuffer(_HalfFromExpert, ReplayBuffer):
    """A `ReplayBuffer` with the expert's half."""

    def samples_class(self, **fields: Any) -> Any:
        """Makes what the library's buffer of this kind returns."""
        from stable_baselines3.common.type_aliases import ReplayBufferSamples

        return ReplayBufferSamples(**fields)

    def tensors_of(self, observations: Any, env: VecNormalize | None) -> torch.Tensor:
        """Returns observations as the networks get them."""
        return self.to_torch(self._normalize_obs(observations.reshape(len(observations), *self.obs_shape), env))  # type: ignore[arg-type]


class SQILDictReplayBuffer(_HalfFromExpert, DictReplayBuffer):
    """A `DictReplayBuffer` with the expert's half."""

    def samples_class(self, **fields: Any) -> Any:
        """Makes what the library's buffer of this kind returns."""
        from stable_baselines3.common.type_aliases import DictReplayBufferSamples

        return DictReplayBufferSamples(**fields)

    def tensors_of(self, observations: Any, env: VecNormalize | None) -> dict[str, torch.Tensor]:
        """Returns observations as the networks get them."""
        shaped = {key: part.reshape(len(part), *self.obs_shape[key]) for key, part in observations.items()}
        return {key: self.to_torch(part) for key, part in self._normalize_obs(shaped, env).items()}  # type: ignore[union-attr]
