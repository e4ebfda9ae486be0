"""Environments of tensors behind the door."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.tensor.vector_env import TensorVectorEnv
from rl_framework.errors import NonFiniteError

__all__ = ["EndedEpisodes", "TensorEnvironments", "TensorStep"]


@dataclass(frozen=True, slots=True)
class TensorStep:
    """What one step of all slots brought, on the environments' device.

    Attributes:
        observations: Shape `(num_envs, *shape)`: of the next episode where one ended.
        rewards: Shape `(num_envs,)`, float32.
        terminated: Shape `(num_envs,)`, bool.
        truncated: Shape `(num_envs,)`, bool.
        final_observations: Shape `(num_envs, *shape)`: before any reset.
    """

    observations: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    final_observations: Tensor


@dataclass(frozen=True)
class EndedEpisodes:
    """Episodes that ended in a row of steps, on the host.

    Attributes:
        steps: At which of the steps each ended.
        slots: In which slot.
        returns: Sum of rewards.
        lengths: Number of steps.
    """

    steps: NDArray[np.int64]
    slots: NDArray[np.int64]
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class TensorEnvironments(BatchedEnvironment):
    """A `TensorVectorEnv` as a batch: its tensors as they are by `step_tensors`, as arrays for everybody else.

    Args:
        environment: The environments.
        owned: Whether closing this batch closes them.
    """

    always_tells_final_observations = True

    def __init__(self, environment: TensorVectorEnv, owned: bool) -> None:
        self.environment = environment
        self.device = environment.device
        self.metadata = dict(environment.metadata or {})
        self.render_mode = environment.render_mode
        super().__init__(environment.num_envs, environment.single_observation_space, environment.single_action_space)
        self.spec = environment.spec
        self.environment_id = environment.spec.id if environment.spec is not None else None
        self._owned = owned
        self._sums = torch.zeros(self.num_envs, dtype=torch.float64, device=self.device)
        self._counts = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._past: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)

    # As tensors

    def reset_tensors(self, seed: int | None) -> Tensor:
        """Starts a new episode in every slot and returns the observations."""
        observations, _ = self.environment.reset(seed=seed)
        self._sums, self._counts = torch.zeros_like(self._sums), torch.zeros_like(self._counts)
        self._past = []
        self.step_count = 0
        return observations

    def step_tensors(self, actions: Tensor) -> TensorStep:
        """Steps every slot; nothing leaves the device."""
        observations, rewards, terminated, truncated, info = self.environment.step(actions)
        self.step_count += 1
        sums, counts = self._sums + rewards, self._counts + 1
        ended = terminated | truncated
        self._past.append((ended, sums, counts))
        self._sums, self._counts = torch.where(ended, 0.0, sums), torch.where(ended, 0, counts)
        self._sound = self._sound & rewards.isfinite().all() & observations.isfinite().all()
        return TensorStep(observations, rewards, terminated, truncated, info["final_obs"])

    def ended_episodes(self) -> EndedEpisodes:
        """Returns the episodes that ended since this was last asked, which waits for the device once.

        Raises:
            NonFiniteError: A reward or an observation was NaN or infinite meanwhile.
        """
        past, self._past = self._past, []
        if not bool(self._sound):
            raise NonFiniteError("observation or reward", 0, self.step_count, math.nan)
        if not past:
            empty = np.zeros(0, dtype=np.int64)
            return EndedEpisodes(empty, empty, np.zeros(0), empty)
        ended, sums, counts = (torch.stack(part) for part in zip(*past, strict=True))
        rows = ended.nonzero().cpu().numpy()
        return EndedEpisodes(rows[:, 0], rows[:, 1], sums[ended].cpu().numpy(), counts[ended].cpu().numpy())

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Returns where the environments stand, by which `restore` goes on exactly."""
        parts = {**self.environment.snapshot(), "sums": self._sums, "counts": self._counts}
        return {name: tensor.cpu().numpy() for name, tensor in parts.items()}

    def restore(self, snapshot: dict[str, NDArray[Any]]) -> Tensor:
        """Goes on from where `snapshot` was taken, and returns the observations there.

        Raises:
            ValueError: It is of other environments.
        """
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in snapshot.items()}
        for name, mine in {"sums": self._sums, "counts": self._counts}.items():
            if tensors[name].shape != mine.shape:
                raise ValueError(f"{name} of {len(tensors[name])} environments do not fit")
        observations = self.environment.restore(tensors)
        self._sums = tensors["sums"].to(self.device, torch.float64)
        self._counts = tensors["counts"].to(self.device, torch.int64)
        return observations

    # As arrays

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        observations = self.reset_tensors(seeds[0])
        return observations.cpu().numpy(), [{} for _ in range(self.num_envs)]

    def _step(self, actions: Any) -> SlotStep:
        observations, rewards, terminated, truncated, info = self.environment.step(
            torch.as_tensor(np.asarray(actions), device=self.device)
        )
        over = (terminated | truncated).cpu().numpy()
        finals = info["final_obs"].cpu().numpy() if over.any() else None
        return SlotStep(
            observations=observations.cpu().numpy(),
            rewards=rewards.double().cpu().numpy(),
            terminated=terminated.cpu().numpy(),
            truncated=truncated.cpu().numpy(),
            infos=[{} for _ in range(self.num_envs)],
            acted=self.present,
            present=self.present,
            final_observations={} if finals is None else {int(slot): finals[slot] for slot in np.flatnonzero(over)},
            reset_infos={int(slot): {} for slot in np.flatnonzero(over)},
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Closes environments that the door made."""
        if self._owned:
            self.environment.close()
