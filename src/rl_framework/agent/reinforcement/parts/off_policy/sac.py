"""Soft actor-critic, as a part."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_framework.agent.reinforcement.parts.checks import check_fraction, check_number, check_without_state
from rl_framework.agent.reinforcement.parts.off_policy.action_values import ActionValues
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError, UnsupportedSpaceError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["SAC"]

_DISCRETE_TARGET = 0.98


class SAC(Part):
    """Soft actor-critic (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"), over a `Replay`.

    With a Box of actions it is the original: a squashed Gaussian policy, several critics of which the smallest counts
    (Fujimoto et al. 2018), target critics that follow slowly, and a weight of the entropy that is learned so that the
    entropy stays at a target. With Discrete actions expectations over the actions are taken instead of samples
    (Christodoulou 2019).

    The losses are those of Stable-Baselines3's SAC, which however takes three steps, one after the other, of three
    optimizers: entropy weight, critics, policy. Here one optimizer takes one step on their sum. That is the same but
    for one thing: the policy learns from the critics as they were before the step and not after it. No loss has
    gradients for what another one trains, so that the optimizer (Adam looks at each parameter by itself) treats them
    as apart; only `max_grad_norm` of the agent looks at all gradients together, and None turns it off as in the paper.

    Users may name "policy" and "critic" in the agent's `networks`: the trunk of the policy, and the encoder whose
    features, with the action, go through the critics' hidden layers. Without that, the policy has `hidden_sizes`, and
    the encoder does nothing to vectors.

    Args:
        gamma: Discount factor.
        tau: How far the target critics follow after each step: 1 is all the way.
        ent_coef: Weight of the entropy; "auto": learned, from 1; "auto_0.1": learned, from 0.1.
        target_entropy: Entropy that a learned weight aims at, in nats; "auto": minus the number of action components,
            or for Discrete actions 0.98 of the largest there is.
        critics: How many critics.
        hidden_sizes: Widths of the hidden layers of the critics, and of the policy.
    """

    provides = frozenset({"policy"})
    needs = frozenset({"replay"})
    records = frozenset({"next_observations"})
    fixed_ent_coef: Tensor

    def __init__(
        self,
        gamma: float = 0.99,
        tau: float = 0.005,
        ent_coef: str | float = "auto",
        target_entropy: str | float = "auto",
        critics: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
    ) -> None:
        super().__init__()
        self.gamma, self.tau = gamma, tau
        self.ent_coef, self.target_entropy = ent_coef, target_entropy
        self.n_critics, self.hidden_sizes = critics, list(hidden_sizes)
        check_fraction(self, "gamma")
        check_fraction(self, "tau")
        self._learns_weight = isinstance(ent_coef, str)
        self._first_weight = _first_weight(ent_coef)
        if target_entropy != "auto":
            check_number(self, "target_entropy")
        for width in (critics, *hidden_sizes):
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                raise ArgumentError("SAC(critics, hidden_sizes)", width, "must be an integer of at least 1")

    def build(self, setup: Setup) -> None:
        """Makes the policy and the critics.

        Raises:
            UnsupportedSpaceError: Actions are neither a bounded Box nor Discrete.
            ArgumentError: A network is recurrent.
        """
        space = setup.action_space
        self._is_discrete = isinstance(space, spaces.Discrete)
        if not isinstance(space, spaces.Box | spaces.Discrete):
            raise UnsupportedSpaceError("action_space", space, "SAC acts in Box and Discrete")
        own = None if setup.sees_images else {"type": "mlp", "hidden_sizes": self.hidden_sizes, "activation": "relu"}
        setup.trunk("policy", own)
        self.policy = setup.policy("policy", "categorical" if self._is_discrete else "squashed_gaussian")
        size = self.policy.action_size
        n_actions = int(space.n) if isinstance(space, spaces.Discrete) else 0
        encoder = setup.private_trunk("critic", None if setup.sees_images else "flatten")
        for trunk in (self.policy.trunk, encoder):
            check_without_state(trunk, "SAC learns from single transitions")
        action_size, n_outputs = (0, n_actions) if self._is_discrete else (size, 1)
        self.critics = ActionValues(encoder, self.n_critics, action_size, n_outputs, self.hidden_sizes)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self._followers: list[Tensor] = list(self.targets.parameters())
        self._followed: list[Tensor] = list(self.critics.parameters())
        first = torch.tensor([self._first_weight], dtype=torch.float32)
        if self._learns_weight:
            self.log_ent_coef = nn.Parameter(first.log())
        else:
            self.register_buffer("fixed_ent_coef", first, persistent=False)
        self.entropy_target = self._entropy_target(size, n_actions)
        self._generator = setup.generator

    def prepare(self, batch: Batch) -> None:
        """Draws the noise of the actions that the policy would choose."""
        if self._is_discrete:
            return
        rewards = batch["rewards"]
        for name in (f"{self.name}/noise", f"{self.name}/next_noise"):
            batch[name] = torch.randn(
                (len(rewards), self.policy.action_size), generator=self._generator, device=rewards.device
            )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of the critics, of the policy, and of the entropy weight if it is learned."""
        weight = (self.log_ent_coef.detach().exp() if self._learns_weight else self.fixed_ent_coef).squeeze(0)
        with torch.no_grad():
            following = self._next_values(batch, weight)
            targets = batch["rewards"] + self.gamma * torch.where(batch["terminated"], 0.0, following)
        features = batch.features(self.critics.encoder)
        if self._is_discrete:
            values = self.critics.of_features(features)
            chosen = batch["actions"].long()[None, :, None].expand(self.n_critics, -1, 1)
            critic = self._critic_loss(values.gather(2, chosen).squeeze(2), targets)
            log_probs = self.policy(batch).log_probs
            probs = log_probs.exp()
            policy = (probs * (weight * log_probs - values.detach().amin(0))).sum(1).mean()
            log_prob = (probs * log_probs).sum(1).detach()
        else:
            values = self.critics.of_features(features, batch["actions"]).squeeze(2)
            critic = self._critic_loss(values, targets)
            actions, log_prob = self.policy(batch).rsample_with_log_prob(batch[f"{self.name}/noise"])
            worth = self.critics.of_features(features.detach(), actions, frozen=True).squeeze(2).amin(0)
            policy = (weight * log_prob - worth).mean()
        batch.report("entropy", -log_prob.mean())
        batch.report("ent_coef", weight)
        batch.report("q_value", values.mean())
        losses = {"critic": critic, "policy": policy}
        if self._learns_weight:
            losses["ent_coef"] = -(self.log_ent_coef * (log_prob.detach() + self.entropy_target)).mean()
        return losses

    def after_update(self) -> None:
        """Lets the target critics follow."""
        with torch.no_grad():
            torch._foreach_lerp_(self._followers, self._followed, self.tau)

    def _next_values(self, batch: Batch, weight: Tensor) -> Tensor:
        """Returns what the policy would get from the next observations on, entropy included, `(rows,)`."""
        observations = batch["next_observations"]
        distribution = self.policy.of_features(self.policy.trunk(observations))
        if self._is_discrete:
            log_probs = distribution.log_probs
            return (log_probs.exp() * (self.targets(observations).amin(0) - weight * log_probs)).sum(1)
        actions, log_prob = distribution.rsample_with_log_prob(batch[f"{self.name}/next_noise"])
        return self.targets(observations, actions).squeeze(2).amin(0) - weight * log_prob

    def _critic_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        squares = functional.mse_loss(values, targets.expand_as(values), reduction="none")
        return 0.5 * squares.mean(1).sum()

    def _entropy_target(self, action_size: int, n_actions: int) -> float:
        if not isinstance(self.target_entropy, str):
            return float(self.target_entropy)
        return _DISCRETE_TARGET * math.log(n_actions) if self._is_discrete else -float(action_size)


def _first_weight(ent_coef: Any) -> float:
    """Returns the weight of the entropy at the beginning."""
    number = ent_coef
    if isinstance(ent_coef, str):
        kind, _, given = ent_coef.partition("_")
        try:
            number = float(given or 1.0) if kind == "auto" else None
        except ValueError:
            number = None
    usable = isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < math.inf
    if not usable or (number == 0 and isinstance(ent_coef, str)):
        raise ArgumentError(
            "SAC(ent_coef)",
            ent_coef,
            'must be "auto", "auto_<first value above 0>", or a number of at least 0',
        )
    return float(number)
