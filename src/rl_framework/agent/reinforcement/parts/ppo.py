"""Proximal policy optimisation, as a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from rl_framework.agent.reinforcement.parts.checks import check_number, check_positive_integer
from rl_framework.agent.reinforcement.parts.on_policy import OnPolicy, normalised

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout

__all__ = ["PPO"]


class PPO(OnPolicy):
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017), the same as Stable-Baselines3's.

    Of the details on which its results depend (Huang et al. 2022, "The 37 implementation details of PPO") it has:
    vectorised environments; orthogonal initialisation, 0.01 for the policy's last layer and 1 for the value's; Adam
    with epsilon 1e-5; a schedule for the learning rate if given; generalised advantage estimation; minibatches in new
    order every epoch; advantages normalised in each minibatch; clipped objective; the value loss clipped only if
    `clip_range_vf` is given; entropy bonus; the norm of all gradients together limited (`max_grad_norm` of the agent);
    an early end by `target_kl`; episodes cut by a time limit bootstrapped from their last observation. For continuous
    actions: a Gaussian with deviations that do not depend on the state, independent components, actions clipped to
    their bounds only for the environment; normalisation of observations and rewards is the agent's.

    Args:
        n_steps: Steps of every slot in a rollout.
        batch_size: Rows of a minibatch.
        n_epochs: How often a rollout is gone through.
        gamma: Discount factor.
        gae_lambda: Trade-off of generalised advantage estimation.
        clip_range: How far the ratio of new to old probability counts; a number or a schedule.
        clip_range_vf: The same for values, in units of returns; None: not clipped.
        ent_coef: Weight of the entropy bonus; a number or a schedule.
        vf_coef: Weight of the value loss.
        normalize_advantage: Whether advantages are normalised in each minibatch.
        target_kl: A rollout is left when a minibatch's estimate of the divergence from the old policy passes 1.5
            times this; that minibatch's step is not taken. None: never.
        policy_trunk: Name of the trunk that the policy is built on.
        value_trunk: The same for the value; None: the policy's for images and recurrent networks, else one of its own.
    """

    schedules = ("clip_range", "clip_range_vf", "ent_coef")

    def __init__(
        self,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: Any = 0.2,
        clip_range_vf: Any = None,
        ent_coef: Any = 0.0,
        vf_coef: float = 0.5,
        normalize_advantage: bool = True,
        target_kl: float | None = None,
        policy_trunk: str = "policy",
        value_trunk: str | None = None,
    ) -> None:
        super().__init__()
        self.n_steps, self.batch_size, self.n_epochs = n_steps, batch_size, n_epochs
        self.gamma, self.gae_lambda = gamma, gae_lambda
        self.clip_range, self.clip_range_vf = clip_range, clip_range_vf
        self.ent_coef, self.vf_coef = ent_coef, vf_coef
        self.normalize_advantage, self.target_kl = normalize_advantage, target_kl
        self.policy_trunk, self.value_trunk = policy_trunk, value_trunk
        self._check_common()
        check_positive_integer(self, "batch_size")
        check_positive_integer(self, "n_epochs")
        check_number(self, "vf_coef")
        for argument in ("clip_range", "clip_range_vf"):
            if isinstance(getattr(self, argument), int | float):
                check_number(self, argument, 0.0)
        if target_kl is not None:
            check_number(self, "target_kl", 0.0)

    def updates_per_round(self, n_slots: int) -> int:
        """Returns how many minibatches there are in all epochs of a rollout."""
        return self.n_epochs * -(-self.n_steps * n_slots // self.batch_size)

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields minibatches, until all epochs are over or the policy has moved too far."""
        for batch in rollout.minibatches(self.batch_size, self.n_epochs):
            yield batch
            if batch.vetoed:
                return

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the clipped objective, the value loss, and the entropy bonus."""
        distribution, values = self.policy(batch), self.value(batch)
        now = self.now
        advantages = batch["advantages"]
        if self.normalize_advantage:
            advantages = normalised(advantages)
        log_ratio = distribution.log_prob(batch["actions"]) - batch["log_probs"]
        ratio = log_ratio.exp()
        clip_range = now["clip_range"]
        clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
        if self.clip_range_vf is not None:
            moved = torch.clamp(values - batch["values"], -now["clip_range_vf"], now["clip_range_vf"])
            values = batch["values"] + moved
        entropy = distribution.entropy().mean()
        with torch.no_grad():
            approx_kl = ((ratio - 1) - log_ratio).mean()
            batch.report("approx_kl", approx_kl)
            batch.report("clip_fraction", ((ratio - 1).abs() > clip_range).float().mean())
            batch.report("entropy", entropy)
        if self.target_kl is not None:
            batch.refuse_if(approx_kl > 1.5 * self.target_kl)
        return {
            "policy": -torch.min(advantages * ratio, advantages * clipped).mean(),
            "value": self.vf_coef * functional.mse_loss(batch["returns"], values),
            "entropy": -now["ent_coef"] * entropy,
        }
