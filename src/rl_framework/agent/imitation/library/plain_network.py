"""The gradients of the loss of behavioural cloning for plain networks, written down instead of traced.

For small networks most of the time of a training step is bookkeeping of automatic differentiation. A feed-forward
policy without a trainable features extractor needs none: its derivatives are a few lines. That makes a step at batch
size 32 twice as fast. Of other policies, which have to be traced, at least the distribution of the actions does not.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import nn

__all__ = ["ActionLoss", "PlainNetwork", "computes_as_usual"]

_DISTRIBUTIONS = (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_BACKWARD: dict[type[nn.Module], Any] = {
    nn.ReLU: lambda gradient, output: torch.ops.aten.threshold_backward(gradient, output, 0),
    nn.Tanh: torch.ops.aten.tanh_backward,
}
# A policy with one of these of its own may compute anything.
_COMPUTATION = ("evaluate_actions", "extract_features", "_get_action_dist_from_latent")


def computes_as_usual(policy: ActorCriticPolicy) -> bool:
    """Tells whether a policy computes its distribution as Stable-Baselines3's own do."""
    return all(getattr(type(policy), name) is getattr(ActorCriticPolicy, name) for name in _COMPUTATION)


class ActionLoss:
    """The derivatives of the loss by the outputs of the action network, `-log_prob - ent_weight * entropy` each.

    Get one with `of`.

    Args:
        policy: Whose actions they are.
        ent_weight: Weight of the entropy in the loss.
    """

    def __init__(self, policy: ActorCriticPolicy, ent_weight: float) -> None:
        self._ent_weight = ent_weight
        self._log_std: nn.Parameter | None = getattr(policy, "log_std", None)
        distribution: Any = policy.action_dist
        self._sizes = list(distribution.action_dims) if type(distribution) is MultiCategoricalDistribution else []
        derivatives: dict[Any, Any] = {
            BernoulliDistribution: self._bernoulli,
            CategoricalDistribution: self._categorical,
            DiagGaussianDistribution: self._gaussian,
            MultiCategoricalDistribution: self._multi_categorical,
        }
        self._derivative = derivatives[type(distribution)]

    @classmethod
    def of(cls, policy: ActorCriticPolicy, ent_weight: float) -> Self | None:
        """Returns the loss of a policy's actions, or None if the policy computes something else than is known here."""
        if not computes_as_usual(policy):
            return None
        if type(policy.action_dist) not in _DISTRIBUTIONS:
            return None
        learning = list(policy.action_net.parameters())
        if type(policy.action_dist) is DiagGaussianDistribution:
            learning.append(policy.log_std)
        return cls(policy, ent_weight) if all(parameter.requires_grad for parameter in learning) else None

    @torch.no_grad()
    def differentiate(self, outputs: torch.Tensor, actions: torch.Tensor, factor: float, add: bool) -> torch.Tensor:
        """Returns the gradient of `factor` times the summed loss by the outputs, and writes that of `log_std`.

        Args:
            outputs: Of the action network, shape `(B, n)`. They are left as they are.
            actions: Shape `(B,)` or `(B, n)`.
            factor: Of the loss.
            add: Whether to add to the gradient of `log_std`.
        """
        return self._derivative(outputs, actions, factor, add).mul_(factor)

    def _categorical(self, logits: torch.Tensor, actions: torch.Tensor, *_: Any) -> torch.Tensor:
        log_probabilities = torch.log_softmax(logits, 1)
        probabilities = log_probabilities.exp()
        negative_entropy = (probabilities * log_probabilities).sum(1, keepdim=True)
        gradient = log_probabilities.sub_(negative_entropy).mul_(self._ent_weight).add_(1.0).mul_(probabilities)
        return gradient.scatter_add_(1, actions.unsqueeze(1), logits.new_full((len(logits), 1), -1.0))

    def _multi_categorical(self, logits: torch.Tensor, actions: torch.Tensor, *_: Any) -> torch.Tensor:
        parts = zip(logits.split(self._sizes, 1), actions.unbind(1), strict=True)
        return torch.cat([self._categorical(part, chosen) for part, chosen in parts], 1)

    def _bernoulli(self, logits: torch.Tensor, actions: torch.Tensor, *_: Any) -> torch.Tensor:
        probabilities = logits.sigmoid()
        slope = probabilities * (1.0 - probabilities) * logits
        return (probabilities - actions).add_(slope, alpha=self._ent_weight)

    def _gaussian(self, means: torch.Tensor, actions: torch.Tensor, factor: float, add: bool) -> torch.Tensor:
        log_std = self._log_std
        assert log_std is not None  # every policy with this distribution has it
        errors = means - actions
        gradient = errors * torch.exp(-2.0 * log_std)
        own = (gradient * errors).sum(0).neg_().add_(len(means) * (1.0 - self._ent_weight)).mul_(factor)
        if add:
            log_std.grad.add_(own)  # type: ignore[union-attr]
        else:
            log_std.grad.copy_(own)  # type: ignore[union-attr]
        return gradient


class PlainNetwork:
    """The actor of a policy: linear layers with an activation between them, which can be differentiated by hand.

    Get one with `of`.

    Args:
        policy: Whose actor it is.
        loss: Of its actions.
    """

    def __init__(self, policy: ActorCriticPolicy, loss: ActionLoss) -> None:
        self._policy: Any = policy  # the library does not say which of its forms of features it has
        self._loss = loss
        layers, activations = _layers(policy)
        self._weights = [(layer.weight, layer.bias) for layer in layers]
        self._backward = [_BACKWARD[type(activation)] for activation in activations]
        self._forward = [torch.relu_ if type(activation) is nn.ReLU else torch.tanh_ for activation in activations]

    @classmethod
    def of(cls, policy: ActorCriticPolicy, ent_weight: float) -> Self | None:
        """Returns the network of a policy, or None if the policy computes something else than this class knows."""
        loss = ActionLoss.of(policy, ent_weight)
        if loss is None or type(policy.mlp_extractor) is not MlpExtractor:
            return None
        if any(getattr(module, name) for module in policy.modules() for name in _HOOKS):
            return None
        # One with parameters that learn has to be differentiated too.
        if any(parameter.requires_grad for parameter in policy.pi_features_extractor.parameters()):
            return None
        layers, activations = _layers(policy)
        if any(type(layer) is not nn.Linear or layer.bias is None for layer in layers):
            return None
        if any(type(activation) not in _BACKWARD for activation in activations):
            return None
        learning = [parameter for layer in layers for parameter in layer.parameters()]
        return cls(policy, loss) if all(parameter.requires_grad for parameter in learning) else None

    @torch.no_grad()
    def differentiate(self, observations: Any, actions: torch.Tensor, factor: float, add: bool) -> None:
        """Writes the gradients of `factor` times the summed loss of some transitions into the parameters' `grad`.

        Args:
            observations: As the policy takes them.
            actions: Shape `(B,)` or `(B, n)`.
            factor: Of the loss, which is `-log_prob - ent_weight * entropy` for each transition.
            add: Whether to add to what is there.
        """
        features = self._policy.extract_features(observations)
        inputs = [features if self._policy.share_features_extractor else features[0]]
        for (weight, bias), activate in zip(self._weights, self._forward, strict=False):
            inputs.append(activate(nn.functional.linear(inputs[-1], weight, bias)))
        weight, bias = self._weights[-1]
        outputs = nn.functional.linear(inputs[-1], weight, bias)
        gradient = self._loss.differentiate(outputs, actions, factor, add)
        for index in range(len(inputs) - 1, -1, -1):
            weight, bias = self._weights[index]
            if add:
                weight.grad.addmm_(gradient.t(), inputs[index])
                bias.grad.add_(gradient.sum(0))
            else:
                torch.mm(gradient.t(), inputs[index], out=weight.grad)
                torch.sum(gradient, 0, out=bias.grad)
            if index:
                gradient = self._backward[index - 1](gradient.mm(weight), inputs[index])


def _layers(policy: ActorCriticPolicy) -> tuple[list[Any], list[Any]]:
    modules = list(policy.mlp_extractor.policy_net)
    return [*modules[::2], policy.action_net], modules[1::2]
