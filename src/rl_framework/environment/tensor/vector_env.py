"""What an environment that computes in torch implements."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

__all__ = ["TensorVectorEnv"]


class TensorVectorEnv(VectorEnv[Any, Any, Any]):
    """A gymnasium `VectorEnv` in same-step mode whose observations, actions and rewards are tensors on one device.

    `step` returns in its info `"final_obs"`: the observation of every slot before any reset, which in slots whose
    episode ended is the last one of that episode. Nothing else is in the info, so that no step waits for the device.

    A subclass implements `begin`, `advance`, and names its state.

    Args:
        num_envs: How many environments.
        observation_space: Of one observation; a Box.
        action_space: Of one action.
        device: Where everything is computed.
        max_episode_steps: After how many steps an episode is truncated; None: never.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        device: str | torch.device = "cpu",
        max_episode_steps: int | None = None,
    ) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "tensors": True, "render_modes": []}
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.max_episode_steps = max_episode_steps
        self.render_mode = None
        self.generator = torch.Generator(self.device)
        self.state = torch.zeros(0, device=self.device)
        self.elapsed = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    # What a subclass implements

    @abstractmethod
    def begin(self, count: int) -> Tensor:
        """Returns the states in which so many episodes begin, `(count, *shape)`, drawn from `self.generator`."""

    @abstractmethod
    def advance(self, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the next states, the rewards `(num_envs,)`, and which episodes are over by the task's own rule."""

    def observe(self, state: Tensor) -> Tensor:
        """Returns what is seen of states; the states themselves unless overridden."""
        return state

    # What everybody uses

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Starts a new episode in every slot.

        Args:
            seed: Of the one generator behind all slots; None goes on with it.
            options: Not used.
        """
        if seed is not None:
            self.generator.manual_seed(int(seed))
        self.state = self.begin(self.num_envs)
        self.elapsed = torch.zeros_like(self.elapsed)
        return self.observe(self.state), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Steps every slot, and begins the next episode where one ended.

        Args:
            actions: A tensor on the device, leading axis `num_envs`.

        Returns:
            Observations, rewards (float32), terminated, truncated (bool), all tensors on the device, and the info.
        """
        state, rewards, terminated = self.advance(self.state, actions)
        elapsed = self.elapsed + 1
        truncated = torch.zeros_like(terminated)
        if self.max_episode_steps is not None:
            truncated = (elapsed >= self.max_episode_steps) & ~terminated
        ended = terminated | truncated
        final = self.observe(state)
        # As many as there are slots, whoever needs one: asking who does would wait for the device.
        fresh = self.begin(self.num_envs)
        self.state = torch.where(ended.reshape(-1, *([1] * (state.ndim - 1))), fresh, state)
        self.elapsed = torch.where(ended, 0, elapsed)
        return self.observe(self.state), rewards, terminated, truncated, {"final_obs": final}

    def snapshot(self) -> dict[str, Tensor]:
        """Returns everything that later steps depend on."""
        return {"state": self.state, "elapsed": self.elapsed, "generator": self.generator.get_state()}

    def restore(self, snapshot: dict[str, Tensor]) -> Tensor:
        """Goes on from where `snapshot` was taken.

        Returns:
            The observations there.

        Raises:
            ValueError: It is of other environments.
        """
        expected = self.begin(self.num_envs)
        state, elapsed = snapshot["state"], snapshot["elapsed"]
        if state.shape != expected.shape or elapsed.shape != self.elapsed.shape or not bool(state.isfinite().all()):
            raise ValueError(f"a state of shape {tuple(state.shape)} does not fit, it is {tuple(expected.shape)}")
        self.state = state.to(self.device, expected.dtype)
        self.elapsed = elapsed.to(self.device, torch.int64)
        self.generator.set_state(snapshot["generator"].cpu())
        return self.observe(self.state)
