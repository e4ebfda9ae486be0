"""The acting part of a composed agent as one `torch.nn.Module`: from raw observations to deterministic actions."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.reinforcement.composed.composition import Composition
from rl_framework.agent.reinforcement.export.acting_module import ExportedModule
from rl_framework.agent.reinforcement.parts.checks import check_without_state

__all__ = ["ComposedModule"]


class ComposedModule(ExportedModule):
    """Acts as `ComposedAgent.predict` does with `deterministic=True`.

    It is a copy on the CPU, without values, parts and optimizer; training the agent further does not change it.

    Args:
        composition: The networks of the agent.
        observation_space: Space of one observation, as the environment gives it.
        action_space: Space of one action.

    Raises:
        ArgumentError: The policy is recurrent.
    """

    def __init__(
        self, composition: Composition, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__(observation_space, action_space)
        check_without_state(composition.policy.trunk, "files of composed agents have no memory")
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
