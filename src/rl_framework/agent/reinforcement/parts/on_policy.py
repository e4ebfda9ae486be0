"""What parts share that learn from each rollout once it is there, by its advantages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.advantages import advantages_of
from rl_framework.agent.reinforcement.composed.rollout import flattened
from rl_framework.agent.reinforcement.parts.checks import check_fraction, check_positive_integer
from rl_framework.agent.reinforcement.parts.part import Part

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["OnPolicy", "normalised"]


class OnPolicy(Part):
    """Base of actor-critics: it makes the policy and a value network, and estimates advantages.

    To a rollout it adds "values", "returns" (what the value network learns) and "log_probs", and its advantages to
    "advantages", where other parts may add theirs.
    """

    provides = frozenset({"policy", "advantages", "batches", "values", "returns", "log_probs"})
    max_grad_norm = 0.5

    n_steps: int
    gamma: float
    gae_lambda: float
    policy_trunk: str
    value_trunk: str | None

    def build(self, setup: Setup) -> None:
        """Asks for the policy and the value network."""
        self.policy = setup.policy(self.policy_trunk)
        shared = setup.sees_images or self.policy.trunk.state_size > 0
        trunk = self.value_trunk or (self.policy_trunk if shared else "value")
        self.value = setup.value("value", trunk)
        self._explained = torch.zeros(())

    @property
    def rollout_length(self) -> int:
        """Steps of every slot in a rollout."""
        return self.n_steps

    def annotate(self, rollout: Rollout) -> None:
        """Adds values, returns, log-probabilities, and its advantages."""
        values = rollout.values(self.value)
        advantages = advantages_of(
            rollout["rewards"],
            values,
            rollout.next_values(self.value, values),
            rollout["terminated"],
            rollout.ended,
            self.gamma,
            self.gae_lambda,
            rollout.acted,
        )
        rollout.add("advantages", advantages)
        rollout["values"], rollout["returns"] = values, advantages + values
        log_probs = self.policy(rollout).log_prob(flattened(rollout["actions"]))
        rollout["log_probs"] = log_probs.reshape(values.shape)
        self._explained = _explained_variance(values, rollout["returns"], rollout.acted)

    @abstractmethod
    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields what to learn from."""

    def metrics(self) -> dict[str, float]:
        """Returns how much of the variance of the returns the value network explained: 1 is all, 0 none."""
        return {"train/explained_variance": float(self._explained)}

    def _check_common(self) -> None:
        check_positive_integer(self, "n_steps")
        check_fraction(self, "gamma")
        check_fraction(self, "gae_lambda")


def _explained_variance(values: Tensor, returns: Tensor, acted: Tensor | None) -> Tensor:
    if acted is not None:
        values, returns = values[acted], returns[acted]
    return 1 - (returns - values).var(correction=0) / returns.var(correction=0)


def normalised(advantages: Tensor) -> Tensor:
    """Returns advantages with mean 0 and deviation 1; a single one stays as it is."""
    if len(advantages) < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
