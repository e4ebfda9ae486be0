"""The intrinsic curiosity module, as a part: a reward for what happens otherwise than expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rl_framework.agent.network.action_heads import build_action_head
from rl_framework.agent.network.distributions import Gaussian, SquashedGaussian
from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.agent.network.preprocessing import flat_size, joined, observation_encoder
from rl_framework.agent.network.specification import describe_network, network_from_data
from rl_framework.agent.reinforcement.composed.rollout import flattened, in_chunks
from rl_framework.agent.reinforcement.parts.checks import check_fraction, check_number, check_positive_integer
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["ICM"]


class ICM(Part):
    """Intrinsic curiosity module (Pathak et al. 2017, "Curiosity-driven Exploration by Self-supervised Prediction").

    An inverse model tells from the features of two observations in a row which action was taken between them, so that
    the features are about what actions have to do with. A forward model predicts the features of the second observation
    from those of the first and the action; half its squared error, times `weight`, is added to the reward.

    The loss is `(1 - beta)` times that of the inverse model (minus the log-probability of the action; for Box actions
    the mean squared error) plus `beta` times that of the forward model (half the squared error). Both train the
    features, as in the paper. It goes with whatever learns from rewards.

    Args:
        weight: What the error counts as a reward; a number or a schedule. Paper (eta): 0.01.
        beta: Share of the forward model in the loss, from 0 to 1.
        loss_weight: Weight of the whole loss. The paper weighs the policy's loss with 0.1 instead, which is 10 here;
            with a limit to the norm of all gradients together, that would leave the policy little of it.
        network: How the network for the features is built; the entry "icm" of the agent's `networks` comes first; None:
            as suits the observations.
        hidden_size: Width of the hidden layer of both models.

    Raises:
        ArgumentError: An argument cannot be used.
    """

    records = frozenset({"next_observations"})
    needs = frozenset({"policy"})
    schedules = ("weight",)

    def __init__(
        self,
        weight: Any = 0.01,
        beta: float = 0.2,
        loss_weight: float = 1.0,
        network: Any = None,
        hidden_size: int = 256,
    ) -> None:
        super().__init__()
        self.weight, self.beta, self.loss_weight = weight, beta, loss_weight
        self.network, self.hidden_size = network, hidden_size
        check_fraction(self, "beta")
        check_number(self, "loss_weight", 0.0)
        check_positive_integer(self, "hidden_size")
        self._told: dict[str, Tensor] = {}

    def build(self, setup: Setup) -> None:
        """Makes the three networks.

        Raises:
            ArgumentError: The network is recurrent.
        """
        self.policy = setup.policy()
        self.trunk = setup.private_trunk("icm", self.network)
        if self.trunk.state_size:
            raise ArgumentError(
                "ICM(network)",
                self.network,
                "is recurrent, and here observations are judged one by one",
                'Give it a network without state, such as ICM(network="mlp").',
            )
        self._encode_actions, space = observation_encoder(setup.action_space)
        features = self.trunk.features_dim
        self.inverse = nn.Sequential(
            nn.Linear(2 * features, self.hidden_size),
            nn.ReLU(),
            build_action_head(self.hidden_size, setup.action_space, self.policy.distribution_name),
        )
        self.forward_model = nn.Sequential(
            nn.Linear(features + flat_size(space), self.hidden_size),
            nn.ReLU(),
            nn.Linear(self.hidden_size, features),
        )
        initialise_orthogonally(self.inverse[0])
        initialise_orthogonally(self.forward_model)

    def reward(self, rollout: Rollout) -> None:
        """Adds the error of the forward model to the rewards."""
        names = ("actions", "observations", "next_observations")
        surprise = in_chunks(self._surprise, {name: flattened(rollout[name]) for name in names})
        intrinsic = self.now["weight"] * surprise.reshape(rollout.n_steps, rollout.n_slots)
        rollout["rewards"] = rollout["rewards"] + intrinsic
        self._told = {"curiosity_reward": (intrinsic if rollout.acted is None else intrinsic[rollout.acted]).mean()}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the losses of the inverse and the forward model."""
        before, after = batch.features(self.trunk), self.trunk(batch["next_observations"])
        actions = batch["actions"]
        guess = self.inverse(torch.cat([before, after], dim=1))
        if isinstance(guess, Gaussian | SquashedGaussian):
            inverse = (guess.mode() - actions).square().mean()
        else:
            inverse = -guess.log_prob(actions).mean()
        return {
            "inverse": self.loss_weight * (1 - self.beta) * inverse,
            "forward": self.loss_weight * self.beta * self._errors(before, actions, after).mean(),
        }

    def metrics(self) -> dict[str, float]:
        """Returns the mean of what was added to the rewards."""
        return {f"train/{name}": float(number) for name, number in self._told.items()}

    def saved_arguments(self) -> dict[str, Any]:
        """Returns the arguments, with names for classes of networks."""
        network = network_from_data(describe_network(self.network, "ICM(network)"))
        return self.arguments if network is None else {**self.arguments, "network": network}

    def _surprise(self, transitions: dict[str, Any]) -> Tensor:
        before, after = self.trunk(transitions["observations"]), self.trunk(transitions["next_observations"])
        return self._errors(before, transitions["actions"], after)

    def _errors(self, before: Tensor, actions: Tensor, after: Tensor) -> Tensor:
        encoded = joined(self._encode_actions(self.policy.to_environment(actions)))
        predicted = self.forward_model(torch.cat([before, encoded], dim=1))
        return 0.5 * (predicted - after).square().sum(-1)
