"""Behavioural cloning: supervised learning of the actions that an expert took.

The loss, its metrics and their names, the order of operations and the defaults are those of
`imitation.algorithms.bc.BC` (https://imitation.readthedocs.io); what differs is what a step costs, and that training
can be continued at any batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch.distributions import Distribution

from rl_framework import registry
from rl_framework.agent.imitation.library.batch_order import BatchOrder
from rl_framework.agent.imitation.library.plain_network import ActionLoss, PlainNetwork, computes_as_usual
from rl_framework.agent.imitation.library.transition_tensors import TransitionTensors
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.episode.transitions import Transitions
from rl_framework.errors import ArgumentError

__all__ = ["BehaviouralCloning"]

_FUSED = (torch.optim.Adam, torch.optim.AdamW)
_IMPLEMENTATIONS = ("fused", "foreach", "capturable", "differentiable")
_OPTIMIZER = "behavioural_cloning"
_ROWS_AT_ONCE = 1024
_CHECK_EVERY = 500


class BehaviouralCloning:
    """Trains a policy to act as recorded.

    Batches come in an order that is a function of the seed, the data set and the epoch. With `minibatch_size` the
    gradients of several minibatches, each shuffled and drawn like a batch, are summed before a step of the optimizer.

    Args:
        policy: What learns. It may have been trained before.
        transitions: What to learn from.
        batch_size: Transitions to a step of the optimizer.
        minibatch_size: Transitions to a pass through the network, a divisor of `batch_size`; None: `batch_size`.
        ent_weight: Weight of the policy's entropy, which is added to the objective.
        l2_weight: Weight of half the squared norm of all parameters.
        optimizer_cls: A class, or its registered name ("adam").
        optimizer_kwargs: Its arguments, except `weight_decay`.
        seed: Gives the order of the batches.

    Raises:
        ArgumentError: An argument cannot be used, or the transitions do not fit the policy.
        UnknownNameError: No optimizer of that name.

    Attributes:
        policy: What learns.
        optimizer: What changes it.
        n_batches: Steps of the optimizer so far.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        transitions: Transitions,
        batch_size: int = 32,
        minibatch_size: int | None = None,
        ent_weight: float = 1e-3,
        l2_weight: float = 0.0,
        optimizer_cls: str | type[torch.optim.Optimizer] = "adam",
        optimizer_kwargs: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.policy = policy
        self.batch_size = batch_size
        self.minibatch_size = batch_size if minibatch_size is None else minibatch_size
        if self.minibatch_size < 1 or batch_size % self.minibatch_size:
            raise ArgumentError("minibatch_size", minibatch_size, f"must divide batch_size={batch_size}")
        self.ent_weight = float(ent_weight)
        self.l2_weight = float(l2_weight)
        self.seed = seed
        self.n_batches = 0
        self._optimizer_kwargs = optimizer_kwargs
        self.optimizer = _optimizer(policy, optimizer_cls, optimizer_kwargs)
        self._parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        self._gradients = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._plain = PlainNetwork.of(policy, self.ent_weight)
        self._action_loss = ActionLoss.of(policy, self.ent_weight)
        self._data_set = -1
        self.set_transitions(transitions)

    def set_transitions(self, transitions: Transitions) -> None:
        """Goes on with another data set, from the beginning of an epoch; the optimizer stays as it is.

        Raises:
            ArgumentError: The transitions do not fit the policy, or are fewer than a batch.
        """
        order = BatchOrder(len(transitions), self.minibatch_size, self.seed, self._data_set + 1)
        self._data = self._tensors(transitions)
        self._order = order
        self._data_set += 1
        self._position = 0

    @property
    def epoch(self) -> int:
        """Complete passes through the present data set."""
        return self._position // self._order.batches_per_epoch

    @property
    def n_minibatches_per_epoch(self) -> int:
        """Minibatches in a pass through the present data set."""
        return self._order.batches_per_epoch

    def batches_in(self, n_epochs: int) -> int:
        """Returns how many whole batches some epochs have, at least one.

        The imitation library makes a smaller step with minibatches that are left over; here they are the next batch's.
        """
        return max(1, n_epochs * self._order.batches_per_epoch * self.minibatch_size // self.batch_size)

    # Training

    def train_batches(self, n_batches: int, measure_every: int = 500) -> Iterator[dict[str, float] | None]:
        """Trains on the next batches, one for each item that is asked for.

        Args:
            n_batches: How many.
            measure_every: How often to measure, counted from the first batch of all; 0: never.

        Yields:
            The metrics of a batch that was measured, None for the others.
        """
        for _ in range(n_batches):
            yield self.train_batch(measure=measure_every > 0 and self.n_batches % measure_every == 0)

    def train_batch(self, measure: bool = False) -> dict[str, float] | None:
        """Trains on the next batch.

        Args:
            measure: Whether to return metrics, which takes longer than the rest.

        Returns:
            The library's metrics, by the names that it logs them under, of the last minibatch before the step; None if
            not asked for. `bc/entropy` is missing where the distribution has none in closed form.
        """
        if not self.policy.training:
            self.policy.set_training_mode(True)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            # Parameters that the loss does not reach have gradients of zero, as with the library's l2 term, and not
            # none: some optimizers move them nevertheless.
            if parameter.grad is not gradient:
                parameter.grad = gradient.zero_()
        metrics = None
        n_minibatches = self.batch_size // self.minibatch_size
        for index in range(n_minibatches):
            observations, actions = self._data.gather(self._order.rows(self._position))
            if measure and index == n_minibatches - 1:
                metrics = self._measure(observations, actions)
            self._differentiate(observations, actions, add=index > 0)
            self._position += 1
        if self.l2_weight:
            for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
                gradient.add_(parameter.detach(), alpha=self.l2_weight)
        self.optimizer.step()
        self.n_batches += 1
        if self.n_batches % _CHECK_EVERY == 0:
            self.check_finite()
        return metrics

    def check_finite(self) -> None:
        """Checks that training has not diverged; it does so by itself every 500 batches.

        Raises:
            ArgumentError: A weight is NaN or infinite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self._parameters):
            raise ArgumentError(
                "optimizer_kwargs",
                self._optimizer_kwargs,
                f"training has diverged: after {self.n_batches} batches there are weights that are not finite",
                "Use a smaller learning rate (lr).",
            )

    def _differentiate(self, observations: Any, actions: torch.Tensor, add: bool) -> None:
        if not add and (self._plain is None or self.l2_weight):
            torch._foreach_zero_(self._gradients)
        if self._plain is not None:
            self._plain.differentiate(observations, actions, 1.0 / self.batch_size, add)
            return
        if self._action_loss is not None:
            outputs = self.policy.action_net(self._latent(observations))
            outputs.backward(self._action_loss.differentiate(outputs, actions, 1.0 / self.batch_size, add))
            return
        with _unchecked_distributions():
            log_prob, entropy = self._log_prob(observations, actions)
        loss = -log_prob.sum()
        if entropy is not None:
            loss = loss - self.ent_weight * entropy.sum()
        (loss / self.batch_size).backward()

    def _latent(self, observations: Any) -> torch.Tensor:
        """Returns what the action network gets, without the value network's."""
        policy = self.policy
        return policy.mlp_extractor.forward_actor(
            BasePolicy.extract_features(policy, observations, policy.pi_features_extractor)
        )

    def _log_prob(self, observations: Any, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not computes_as_usual(self.policy):
            _, log_prob, entropy = self.policy.evaluate_actions(observations, actions)
            return log_prob, entropy
        # The same without the value, which is no part of the loss.
        distribution = self.policy.get_distribution(observations)
        return distribution.log_prob(actions), distribution.entropy()

    @torch.no_grad()
    def _measure(self, observations: Any, actions: torch.Tensor) -> dict[str, float]:
        log_prob, entropy = self._log_prob(observations, actions)
        metrics = {"bc/neglogp": -log_prob.mean(), "bc/prob_true_act": log_prob.exp().mean()}
        ent_loss: Any = 0.0
        if entropy is not None:
            metrics["bc/entropy"] = entropy.mean()
            ent_loss = -self.ent_weight * metrics["bc/entropy"]
        l2_norm = sum((parameter.square().sum() for parameter in self.policy.parameters()), torch.zeros(())) / 2
        metrics |= {"bc/ent_loss": ent_loss, "bc/l2_norm": l2_norm, "bc/l2_loss": self.l2_weight * l2_norm}
        metrics["bc/loss"] = metrics["bc/neglogp"] + ent_loss + metrics["bc/l2_loss"]
        return {
            "bc/epoch": float(self.epoch),
            "bc/batch": float(self.n_batches),
            "bc/samples_so_far": float((self.n_batches + 1) * self.batch_size),
            **{name: float(value) for name, value in metrics.items()},
        }

    # Validation

    def evaluate(self, transitions: Transitions, batch_size: int = _ROWS_AT_ONCE) -> dict[str, float]:
        """Measures how well the policy predicts recorded actions, without learning from them.

        Args:
            transitions: What to predict; all of it is read, a batch at a time.
            batch_size: Transitions to a pass through the network.

        Returns:
            Means over the transitions: `neglogp` and `prob_true_act` of the recorded actions, `entropy` where it is
            known, and `accuracy` (share of transitions whose most likely action is the recorded one, in all its parts)
            or, for continuous actions, `mse` (squared difference of the most likely action, within the bounds of the
            space, and the recorded one; mean over its components).
        """
        data = self._tensors(transitions, kept_in_memory=0)
        sums: dict[str, float] = {}
        was_training = self.policy.training
        self.policy.set_training_mode(False)
        try:
            for observations, actions in data.in_order(batch_size):
                for name, value in self._predictions(observations, actions).items():
                    sums[name] = sums.get(name, 0.0) + float(value.sum(dtype=torch.float64))
        finally:
            self.policy.set_training_mode(was_training)
        return {name: value / len(data) for name, value in sums.items()}

    @torch.no_grad()
    def _predictions(self, observations: Any, actions: torch.Tensor) -> dict[str, torch.Tensor]:
        distribution = self.policy.get_distribution(observations)
        log_prob, entropy = distribution.log_prob(actions), distribution.entropy()
        values = {"neglogp": -log_prob, "prob_true_act": log_prob.exp()}
        if entropy is not None:
            values["entropy"] = entropy
        likely = distribution.mode()
        space = self.policy.action_space
        if isinstance(space, spaces.Box):
            low, high = (torch.as_tensor(bound).flatten().to(likely) for bound in (space.low, space.high))
            values["mse"] = (likely.clamp(low, high) - actions).square().mean(1)
        else:
            values["accuracy"] = (likely == actions).reshape(len(actions), -1).all(1)
        return values

    # Resuming

    def state(self, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Returns what going on exactly needs besides the weights of the policy and the transitions.

        Args:
            tensors: Receives the tensors of the optimizer.

        Returns:
            The rest, as JSON-able data.
        """
        return {
            **self._identity(),
            "n_batches": self.n_batches,
            "data_set": self._data_set,
            "position": self._position,
            "optimizer": take_optimizer(_OPTIMIZER, self.optimizer, tensors),
        }

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        """Goes to where `state` was called; the policy's weights are the caller's to put back.

        Raises:
            ValueError: The state does not fit, or was made with other transitions. What a crafted state can raise
                besides is of any type.
        """
        for name, mine in self._identity().items():
            if state[name] != mine:
                raise ValueError(f"behavioural cloning was at {name}={state[name]!r}, and here it is {mine!r}")
        counters = [state[name] for name in ("n_batches", "data_set", "position")]
        if not all(type(counter) is int and 0 <= counter < 1 << 63 for counter in counters):
            raise ValueError(f"behavioural cloning was at batch, data set and position {counters}")
        give_optimizer(_OPTIMIZER, self.optimizer, state["optimizer"], tensors)
        self.n_batches, self._data_set, self._position = counters
        self._order = BatchOrder(len(self._data), self.minibatch_size, self.seed, self._data_set)

    def _identity(self) -> dict[str, int]:
        """What has to be the same for the batches to be the same."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "minibatch_size": self.minibatch_size,
            "n_transitions": len(self._data),
        }

    def _tensors(self, transitions: Transitions, **arguments: Any) -> TransitionTensors:
        policy = self.policy
        return TransitionTensors(transitions, policy.observation_space, policy.action_space, policy.device, **arguments)


@contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Lets distributions take their parameters as they are: to check them takes an eighth of the time of a step."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def _optimizer(policy: ActorCriticPolicy, kind: Any, arguments: Mapping[str, Any] | None) -> torch.optim.Optimizer:
    if isinstance(kind, str):
        kind = registry.optimizers.get(kind, "optimizer_cls")
    if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
        raise ArgumentError("optimizer_cls", kind, "is no optimizer class", "Give one such as torch.optim.Adam.")
    given = dict(arguments or {})
    if "weight_decay" in given:
        raise ArgumentError(
            "optimizer_kwargs['weight_decay']", given["weight_decay"], "cannot be set here", "Use l2_weight."
        )
    if kind in _FUSED and not any(name in given for name in _IMPLEMENTATIONS):
        given["fused"] = True  # the same formula in one call
    try:
        return kind(policy.parameters(), **given)
    except (TypeError, ValueError) as error:
        raise ArgumentError("optimizer_kwargs", arguments, f"{kind.__name__} does not take them: {error}") from error
