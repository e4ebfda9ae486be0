"""Advantage actor-critic, as a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional

from rl_framework.agent.reinforcement.parts.checks import check_number
from rl_framework.agent.reinforcement.parts.on_policy import OnPolicy, normalised

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout

__all__ = ["A2C"]


class A2C(OnPolicy):
    """Synchronous advantage actor-critic (Mnih et al. 2016), the same as Stable-Baselines3's.

    The defaults are those of the paper; there, and in Stable-Baselines3, the optimizer is RMSprop:
    `ComposedAgent([A2C()], optimizer={"type": "rmsprop_tf_like", "alpha": 0.99, "eps": 1e-5}, learning_rate=7e-4)`.

    Args:
        n_steps: Steps of every slot in a rollout, each of which is learned from in one step.
        gamma: Discount factor.
        gae_lambda: Trade-off of generalised advantage estimation; 1: whole returns.
        ent_coef: Weight of the entropy bonus; a number or a schedule.
        vf_coef: Weight of the value loss.
        normalize_advantage: Whether advantages are normalised.
        policy_trunk: Name of the trunk that the policy is built on.
        value_trunk: The same for the value; None: the policy's for images and recurrent networks, else one of its own.
    """

    schedules = ("ent_coef",)

    def __init__(
        self,
        n_steps: int = 5,
        gamma: float = 0.99,
        gae_lambda: float = 1.0,
        ent_coef: Any = 0.0,
        vf_coef: float = 0.5,
        normalize_advantage: bool = False,
        policy_trunk: str = "policy",
        value_trunk: str | None = None,
    ) -> None:
        super().__init__()
        self.n_steps, self.gamma, self.gae_lambda = n_steps, gamma, gae_lambda
        self.ent_coef, self.vf_coef, self.normalize_advantage = ent_coef, vf_coef, normalize_advantage
        self.policy_trunk, self.value_trunk = policy_trunk, value_trunk
        self._check_common()
        check_number(self, "vf_coef")

    def updates_per_round(self, n_slots: int) -> int:
        """Returns 1: a rollout is one batch."""
        return 1

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields the whole rollout."""
        yield rollout.batch()

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the policy gradient, the value loss, and the entropy bonus."""
        distribution, values = self.policy(batch), self.value(batch)
        advantages = batch["advantages"]
        if self.normalize_advantage:
            advantages = normalised(advantages)
        entropy = distribution.entropy().mean()
        batch.report("entropy", entropy)
        return {
            "policy": -(advantages * distribution.log_prob(batch["actions"])).mean(),
            "value": self.vf_coef * functional.mse_loss(batch["returns"], values),
            "entropy": -self.now["ent_coef"] * entropy,
        }
