"""Random network distillation, as a part: a reward for what was seldom seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.agent.network.preprocessing import is_visual, observation_encoder
from rl_framework.agent.network.specification import build_network, describe_network, network_from_data
from rl_framework.agent.network.value import ValueNetwork
from rl_framework.agent.reinforcement.composed.advantages import advantages_of
from rl_framework.agent.reinforcement.composed.batch import rows_of
from rl_framework.agent.reinforcement.composed.moments import ObservationNormaliser, RunningMoments
from rl_framework.agent.reinforcement.composed.rollout import in_chunks
from rl_framework.agent.reinforcement.parts.checks import check_fraction, check_number, check_positive_integer
from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.composed.batch import Batch
    from rl_framework.agent.reinforcement.composed.rollout import Rollout
    from rl_framework.agent.reinforcement.composed.setup import Setup

__all__ = ["RND"]

_VECTOR_NETWORK = {"type": "mlp", "hidden_sizes": [64], "activation": "relu"}
_ROWS_AT_ONCE = 8192


class RND(Part):
    """Random network distillation (Burda et al. 2018, "Exploration by Random Network Distillation").

    A predictor learns what a random network, which never changes, says of observations. Where it errs, little was seen:
    its mean squared error at the next observation is the intrinsic reward of a step. As in the paper,

    - the intrinsic reward is divided by the running deviation of its discounted sum over the past of each slot,
    - what the two networks see is normalised by running moments and clipped. The moments take in a rollout before it
      is judged, so that no steps of a random policy are needed beforehand, as they are in the paper,
    - intrinsic and extrinsic returns have value networks of their own, with discount factors of their own, and only
      their advantages are added,
    - intrinsic returns go on beyond the end of an episode: what follows is the first observation of the next one.
      (The last observation of an episode is not judged: nobody learns from it, so it would stay new for ever.)
    - a part of each batch trains the predictor, so that it does not learn faster with more environments.

    It goes with whatever learns from advantages: `ComposedAgent([PPO(), RND()])`.

    Args:
        weight: What an intrinsic advantage counts, when an extrinsic one counts 1; a number or a schedule. The paper
            has 1 and 2, which is 0.5 here: `PPO` normalises their sum.
        gamma: Discount factor of intrinsic rewards. Paper: 0.99, with 0.999 for the extrinsic ones of `PPO`.
        gae_lambda: Trade-off of generalised advantage estimation for intrinsic rewards.
        network: How the random network and the first layers of the predictor are built, see `build_network`; None: as
            suits images, and an MLP with one layer of 64 for vectors.
        features: How many numbers the random network says; also the width of the predictor's two additional layers.
            Paper: 512.
        update_proportion: Share of each batch that trains the predictor. Paper: 32 divided by the number of
            environments, if these are more than 32.
        clip_observations: To which normalised observations are limited, in standard deviations.
        predictor_weight: Weight of the predictor's loss, the mean squared error.
        value_weight: Weight of the loss of the intrinsic value network.
        value_trunk: Name of the trunk that the intrinsic value network is built on; None: that of the extrinsic one.
            "intrinsic_value" gives it one of its own.

    Raises:
        ArgumentError: An argument cannot be used.
    """

    needs = frozenset({"advantages"})
    schedules = ("weight",)

    def __init__(
        self,
        weight: Any = 0.5,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        network: Any = None,
        features: int = 64,
        update_proportion: float = 1.0,
        clip_observations: float = 5.0,
        predictor_weight: float = 1.0,
        value_weight: float = 0.5,
        value_trunk: str | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.gamma, self.gae_lambda = weight, gamma, gae_lambda
        self.network, self.features = network, features
        self.update_proportion, self.clip_observations = update_proportion, clip_observations
        self.predictor_weight, self.value_weight, self.value_trunk = predictor_weight, value_weight, value_trunk
        for argument in ("gamma", "gae_lambda", "update_proportion"):
            check_fraction(self, argument)
        for argument in ("clip_observations", "predictor_weight", "value_weight"):
            check_number(self, argument, 0.0)
        check_positive_integer(self, "features")
        self._discounted: Tensor | None = None
        self._told: dict[str, Tensor] = {}

    def build(self, setup: Setup) -> None:
        """Makes both networks and a value network.

        Raises:
            ArgumentError: The network is recurrent.
        """
        self._generator = setup.generator
        self._encode, space = observation_encoder(setup.observation_space)
        self.normaliser = ObservationNormaliser(_shapes(space), self.clip_observations)
        self.target = self._build_network(space, further_layers=0).requires_grad_(False)
        self.predictor = self._build_network(space, further_layers=2)
        self.returns = RunningMoments()
        trunk = setup.value().trunk if self.value_trunk is None else setup.trunk(self.value_trunk)
        self.value = ValueNetwork(trunk)

    def annotate(self, rollout: Rollout) -> None:
        """Adds advantages of intrinsic rewards, their returns, and what the random network says."""
        observations = rollout.observations
        for rows in _present_rows(rollout).split(_ROWS_AT_ONCE):
            self.normaliser.update(self._encode(rows_of(observations, rows)))
        targets, errors = self._judged(observations)
        shape = (rollout.n_steps, rollout.n_slots)
        _, last_errors = self._judged(rollout.last_observations)
        novelty = rollout.following(errors.reshape(shape), last_errors)
        rewards = self._normalised(novelty, rollout.acted)
        values = rollout.values(self.value)
        never = torch.zeros_like(rollout["terminated"])
        advantages = advantages_of(
            rewards,
            values,
            rollout.next_values(self.value, values, episodic=False),
            terminated=never,
            ended=never,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            acted=rollout.acted,
        )
        rollout.add("advantages", self.now["weight"] * advantages)
        rollout[f"{self.name}/targets"] = targets.reshape(*shape, self.features)
        rollout[f"{self.name}/returns"] = advantages + values
        present = rollout.acted if rollout.acted is not None else ~never
        self._told = {
            "intrinsic_reward": rewards[present].mean(),
            "intrinsic_value": values[present].mean(),
            "novelty": novelty[present].mean(),
        }

    def prepare(self, batch: Batch) -> None:
        """Draws the rows that the predictor learns from."""
        if self.update_proportion < 1:
            returns = batch[f"{self.name}/returns"]
            drawn = torch.rand(len(returns), generator=self._generator, device=returns.device)
            batch[f"{self.name}/learned"] = (drawn < self.update_proportion).to(returns.dtype)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Returns the errors of predictor and intrinsic value network."""
        errors = (self.predictor(self._inputs(batch.observations)) - batch[f"{self.name}/targets"]).square().mean(-1)
        if self.update_proportion < 1:
            learned = batch[f"{self.name}/learned"]
            error = (errors * learned).sum() / learned.sum().clamp(min=1)
        else:
            error = errors.mean()
        return {
            "predictor": self.predictor_weight * error,
            "value": self.value_weight * functional.mse_loss(self.value(batch), batch[f"{self.name}/returns"]),
        }

    def metrics(self) -> dict[str, float]:
        """Returns the mean intrinsic reward (normalised), intrinsic value, and error of the predictor."""
        return {f"train/{name}": float(number) for name, number in self._told.items()}

    def training_state(self) -> dict[str, Any]:
        """Returns the discounted sum of the rewards so far, one number for each slot."""
        return {} if self._discounted is None else {"discounted": self._discounted.cpu().numpy()}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """Takes back what `training_state` gave.

        Raises:
            ValueError: It does not fit.
        """
        if not state:
            return
        discounted = torch.from_numpy(np.array(state["discounted"], dtype=np.float64))
        if discounted.ndim != 1 or not discounted.isfinite().all():
            raise ValueError(f"the sums of intrinsic rewards are {discounted}")
        self._discounted = discounted

    def saved_arguments(self) -> dict[str, Any]:
        """Returns the arguments, with names for classes of networks."""
        network = network_from_data(describe_network(self.network, "RND(network)"))
        return self.arguments if network is None else {**self.arguments, "network": network}

    def _build_network(self, space: spaces.Box | spaces.Dict, further_layers: int) -> nn.Sequential:
        specification = _VECTOR_NETWORK if self.network is None and not is_visual(space) else self.network
        network = build_network(specification, space, "RND(network)")
        if getattr(network, "state_size", 0):
            raise ArgumentError(
                "RND(network)",
                self.network,
                "is recurrent, and here observations are judged one by one",
                'Give it a network without state, such as RND(network="mlp").',
            )
        width: int = network.features_dim  # type: ignore[assignment]
        layers: list[nn.Module] = []
        for _ in range(further_layers):
            layers += [nn.Linear(width, self.features), nn.ReLU()]
            width = self.features
        layers.append(nn.Linear(width, self.features))
        for layer in layers:
            initialise_orthogonally(layer)
        return nn.Sequential(network, *layers)

    def _inputs(self, observations: Any) -> Any:
        return self.normaliser(self._encode(observations))

    def _judged(self, observations: Any) -> tuple[Tensor, Tensor]:
        def judge(rows: Any) -> Tensor:
            inputs = self._inputs(rows)
            targets = self.target(inputs)
            errors = (self.predictor(inputs) - targets).square().mean(-1, keepdim=True)
            return torch.cat([targets, errors], dim=1)

        judged = in_chunks(judge, observations)
        return judged[:, :-1], judged[:, -1]

    def _normalised(self, novelty: Tensor, acted: Tensor | None) -> Tensor:
        n_slots = novelty.shape[1]
        discounted = self._discounted
        if discounted is None or len(discounted) != n_slots:
            discounted = novelty.new_zeros(n_slots, dtype=torch.float64)
        discounted = discounted.to(novelty.device)
        sums = []
        for step, reward in enumerate(novelty.double()):
            grown = discounted * self.gamma + reward
            discounted = grown if acted is None else torch.where(acted[step], grown, discounted)
            sums.append(discounted if acted is None else discounted[acted[step]])
        self._discounted = discounted
        self.returns.update(torch.cat(sums))
        return novelty / self.returns.deviation()


def _shapes(space: spaces.Box | spaces.Dict) -> dict[str, tuple[int, ...]]:
    boxes = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    return {key: tuple(box.shape or ()) for key, box in boxes.items()}


def _present_rows(rollout: Rollout) -> Tensor:
    if rollout.acted is None:
        return torch.arange(rollout.n_steps * rollout.n_slots, device=rollout["rewards"].device)
    return rollout.acted.reshape(-1).nonzero()[:, 0]
