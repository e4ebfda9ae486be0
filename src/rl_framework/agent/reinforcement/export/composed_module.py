"""The acting part of a composed agent as one `torch.nn.Module`: from raw observations to deterministic actions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.reinforcement.composed.composition import Composition
from rl_framework.agent.reinforcement.export.acting_module import ExportedModule

__all__ = ["ComposedModule", "RecurrentComposedModule"]


class ComposedModule(ExportedModule):
    """Acts as `ComposedAgent.predict` does with `deterministic=True`.

    It is a copy on the CPU, without values, parts and optimizer; training the agent further does not change it.

    Args:
        composition: The networks of the agent.
        observation_space: Space of one observation, as the environment gives it.
        action_space: Space of one action.
    """

    def __init__(
        self, composition: Composition, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__(observation_space, action_space)
        # In one copy: the trunk of the policy refers to the normaliser.
        networks = nn.ModuleDict({"policy": composition.policy})
        if composition.normaliser is not None:
            networks = nn.ModuleDict({"normaliser": composition.normaliser, "policy": composition.policy})
        self.networks = copy.deepcopy(networks).to("cpu").requires_grad_(False).eval()

    def forward(self, observation: Any) -> Tensor:
        """Acts.

        Args:
            observation: Batched observation as the environment gives it, in the space's type: shape
                `(batch, *observation_space.shape)`, or a dictionary of such.

        Returns:
            Actions, shape `(batch, *action_space.shape)`, in the type that `predict` gives.
        """
        policy: Any = self.networks["policy"]
        # Not by `act`, which may compute in NumPy.
        actions: Tensor = policy.to_environment(policy.of_features(policy.trunk(observation)).mode())
        return actions


class RecurrentComposedModule(ComposedModule):
    """Acts with the memory of a recurrent policy, one step at a time."""

    states = ("state",)

    def forward(  # type: ignore[override]
        self, observation: Any, state: Tensor, episode_starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Acts.

        Args:
            observation: Batched observation as the environment gives it.
            state: The state after the step before, float32, shape `(batch, state_size)`; zeros at first.
            episode_starts: Whose episode begins with this observation, bool, shape `(batch,)`: the state of those is
                taken for zeros. None: nobody's.

        Returns:
            Actions of shape `(batch, *action_space.shape)`, and the next state.
        """
        policy: Any = self.networks["policy"]
        features, following = policy.trunk.step(observation, state, episode_starts)
        return policy.to_environment(policy.of_features(features).mode()), following

    def example(self, batch_size: int) -> tuple[Any, ...]:
        """Returns arguments for `forward` (zeros) of this batch size."""
        policy: Any = self.networks["policy"]
        state = torch.zeros((batch_size, policy.trunk.state_size))
        return (*super().example(batch_size), state, torch.zeros(batch_size, dtype=torch.bool))

    def batch_axes(self) -> tuple[Any, ...]:
        """Returns, in the structure of `example`, which axis is the batch."""
        return (*super().batch_axes(), 0, 0)
