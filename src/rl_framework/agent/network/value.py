"""How good a situation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.agent.network.trunk import Trunk

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout

__all__ = ["ValueNetwork"]


class ValueNetwork(nn.Module):
    """Estimates one number for each observation: a trunk, and a linear layer.

    Args:
        trunk: From observations to features; may be shared.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(trunk.features_dim, 1)
        initialise_orthogonally(self.head, gain=1.0)

    def forward(self, view: Batch | Rollout) -> Tensor:
        """Returns the value of every row of a batch or rollout, `(rows,)`."""
        return self.of_features(view.features(self.trunk))

    def of_features(self, features: Tensor) -> Tensor:
        """Returns the value of features that the trunk gave, `(rows,)`."""
        values: Tensor = self.head(features).squeeze(-1)
        return values

    def of(self, observations: Any, state: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Returns the value of observations, `(rows,)`.

        Args:
            observations: A tensor, or a dict of them; leading axis: rows.
            state: For recurrent trunks: the state before, `(rows, state_size)`, and which rows begin an episode,
                `(rows,)`; None: all begin one.
        """
        if not self.trunk.state_size:
            return self.of_features(self.trunk(observations))
        before, starts = state if state is not None else (None, None)
        features, _ = self.trunk.step(observations, before, starts)
        return self.of_features(features)
