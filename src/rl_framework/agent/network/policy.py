"""What to do in a situation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.network.action_heads import build_action_head
from rl_framework.agent.network.distributions import Distribution
from rl_framework.agent.network.numpy_forward import NumpyForward
from rl_framework.agent.network.preprocessing import joined
from rl_framework.agent.network.trunk import Trunk

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout

__all__ = ["Policy"]


class Policy(nn.Module):
    """A distribution over actions for each observation: a trunk, and a head.

    Args:
        trunk: From observations to features; may be shared.
        action_space: Space of one action.
        distribution: "categorical" (Discrete), "multi_categorical" (MultiDiscrete), "bernoulli" (MultiBinary),
            "gaussian" or "squashed_gaussian" (Box); None: as suits the action space, "gaussian" for a Box.

    Attributes:
        trunk: From observations to features.
        distribution_name: Name of the distribution.
        action_size: How many numbers an action is.

    Raises:
        UnsupportedSpaceError: There is no such policy for the action space.
        UnknownNameError: There is no such distribution.
    """

    def __init__(self, trunk: Trunk, action_space: spaces.Space[Any], distribution: str | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = build_action_head(trunk.features_dim, action_space, distribution)
        self.distribution_name = self.head.name
        self.action_size = self.head.size
        self._fast = NumpyForward(trunk.network, self.head.linear) if NumpyForward.possible(trunk.network) else None

    def forward(self, view: Batch | Rollout) -> Any:
        """Returns the distribution for every row of a batch or rollout."""
        return self.head(view.features(self.trunk))

    def of_features(self, features: Tensor) -> Any:
        """Returns the distribution for features that the trunk gave, `(rows, features_dim)`."""
        return self.head(features)

    def act(
        self,
        observations: Any,
        state: Tensor | None = None,
        starts: Tensor | None = None,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Chooses actions; call it where no gradients are needed.

        Args:
            observations: A tensor, or a dict of them; leading axis: rows.
            state: For recurrent trunks: what this gave before, `(rows, state_size)`; None: all begin an episode.
            starts: For recurrent trunks: who begins an episode, `(rows,)`; None: nobody.
            deterministic: Whether to take the most probable action.
            generator: The only source of random numbers; None: torch's own.

        Returns:
            Actions as the distribution gives them (see `to_environment`), and the next state.
        """
        trunk = self.trunk
        if trunk.state_size:
            features, state = trunk.step(observations, state, starts)
            distribution = self.head(features)
        else:
            distribution = self._of_encoded(trunk.encode(observations))
        return (distribution.mode() if deterministic else distribution.sample(generator)), state

    def _of_encoded(self, encoded: Any) -> Distribution:
        if self._fast is not None and not torch.is_grad_enabled():
            outputs = self._fast(joined(encoded))
            if outputs is not None:
                return self.head.of_outputs(outputs)
        distribution: Distribution = self.head(self.trunk.network(encoded))
        return distribution

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions as the environment takes them: `(rows, *shape)`, in the type and bounds of the space."""
        return self.head.to_environment(actions)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions as this policy gives them, from recorded ones of an environment, `(rows, *shape)`."""
        return self.head.from_environment(actions)
