"""How algorithms of d3rlpy act: on one observation at a time, or, transformers, on what they remember of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.offline_library.forms import ActionForm, ObservationForm

__all__ = ["Memory", "act", "act_on_memory", "last_actions"]


def act(algorithm: Any, observations: NDArray[np.float32], actions: ActionForm, deterministic: bool) -> NDArray[Any]:
    """Chooses an action for each observation.

    Args:
        algorithm: The library's object.
        observations: In the library's form, shape `(B, *shape)`.
        actions: The library's form of actions.
        deterministic: Whether to take the best action instead of a sampled one, where the algorithm samples at all.
    """
    choose = algorithm.predict if deterministic else algorithm.sample_action
    return actions.from_library(choose(observations))


@dataclass(frozen=True)
class Memory:
    """What a transformer has seen and done in the episode of each slot; the newest is last.

    Attributes:
        observations: Shape `(slots, context, *shape)`.
        actions: Shape `(slots, context, numbers)`.
        steps: Shape `(slots,)`: steps of the episode so far.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    steps: NDArray[np.int64]

    @classmethod
    def empty(cls, slots: int, context: int, observations: ObservationForm, actions: ActionForm) -> Memory:
        """Returns the memory at the beginning of episodes."""
        numbers = 1 if actions.is_discrete else actions.size
        return cls(
            np.zeros((slots, context, *observations.shape), np.float32),
            np.zeros((slots, context, numbers), np.float32),
            np.zeros(slots, np.int64),
        )

    def forgetting(self, slots: NDArray[np.bool_]) -> Memory:
        """Returns the memory with new episodes in some slots."""
        if not slots.any():
            return self
        forgotten = Memory(self.observations.copy(), self.actions.copy(), self.steps.copy())
        for part in (forgotten.observations, forgotten.actions, forgotten.steps):
            part[slots] = 0
        return forgotten

    def seeing(self, observations: NDArray[np.float32]) -> Memory:
        """Returns the memory with one more step, whose action is still open."""
        return Memory(
            np.concatenate([self.observations[:, 1:], observations[:, None]], axis=1),
            np.concatenate([self.actions[:, 1:], np.zeros_like(self.actions[:, :1])], axis=1),
            self.steps + 1,
        )

    def doing(self, actions: NDArray[np.float32]) -> Memory:
        """Returns the memory with the action of its last step."""
        return Memory(self.observations, np.concatenate([self.actions[:, :-1], actions[:, None]], axis=1), self.steps)


def act_on_memory(
    algorithm: Any,
    memory: Memory,
    actions: ActionForm,
    deterministic: bool,
    target_return: float,
    reward_per_step: float,
) -> tuple[NDArray[Any], Memory]:
    """Chooses an action for each slot.

    Args:
        algorithm: The library's object.
        memory: What was seen, with the present observation last.
        actions: The library's form of actions.
        deterministic: Whether to take the most likely action instead of a sampled one, where actions are discrete.
        target_return: What an episode is to bring.
        reward_per_step: What every step is taken to have brought, because who acts is not told rewards.

    Returns:
        The actions, and the memory with them.
    """
    from d3rlpy.torch_utility import TorchTrajectoryMiniBatch

    device, config = algorithm._device, algorithm.config
    context = memory.observations.shape[1]
    steps = memory.steps[:, None] + np.arange(1 - context, 1)  # of each remembered step, counted from 1
    inside = steps > 0
    to_go = np.where(inside, target_return - (steps - 1) * reward_per_step, 0.0).astype(np.float32)[..., None]

    def scaled(kind: str, array: NDArray[np.float32]) -> torch.Tensor:
        tensor, scaler = torch.from_numpy(array).to(device), getattr(config, f"{kind}_scaler")
        return tensor if scaler is None else scaler.transform(tensor)

    with torch.no_grad():
        batch = TorchTrajectoryMiniBatch(
            observations=scaled("observation", memory.observations),
            actions=scaled("action", memory.actions),
            rewards=torch.zeros(to_go.shape, device=device),
            returns_to_go=scaled("reward", to_go),
            terminals=torch.zeros(to_go.shape, device=device),
            timesteps=torch.from_numpy(np.where(inside, np.minimum(steps, config.max_timestep), 0)).to(device),
            masks=torch.from_numpy(inside.astype(np.float32)).to(device),
            device=device,
        )
        answer = last_actions(algorithm, batch, actions, deterministic)
    done = answer.reshape(len(answer), -1).astype(np.float32)
    return actions.from_library(answer), memory.doing(done)


@torch.no_grad()
def last_actions(algorithm: Any, batch: Any, actions: ActionForm, deterministic: bool) -> NDArray[Any]:
    """Returns what a transformer would do at the end of each stretch, in the library's form.

    Args:
        algorithm: The library's object.
        batch: Stretches, as the library's `TorchTrajectoryMiniBatch`.
        actions: The library's form of actions.
        deterministic: Whether to take the most likely action.
    """
    modules = algorithm.impl.modules
    modules.set_eval()
    answer = modules.transformer(
        batch.observations, batch.actions, batch.returns_to_go, batch.timesteps, 1 - batch.masks
    )
    if actions.is_discrete:
        logits = answer[1][:, -1]
        if deterministic:
            return np.asarray(logits.argmax(dim=1).cpu())
        return np.asarray(torch.distributions.Categorical(logits=logits).sample().cpu())
    scaler, chosen = algorithm.config.action_scaler, answer[:, -1]
    return np.asarray((chosen if scaler is None else scaler.reverse_transform(chosen)).cpu())
