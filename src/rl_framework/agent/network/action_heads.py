"""From features to a distribution over actions, one class for each kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.agent.network.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)
from rl_framework.agent.network.initialisation import initialise_orthogonally
from rl_framework.errors import UnknownNameError, UnsupportedSpaceError

__all__ = ["ActionHead", "build_action_head"]

_GAIN = 0.01
_SMALLEST_LOG_STD, _LARGEST_LOG_STD = -20.0, 2.0


class ActionHead(nn.Module):
    """Maps features to a distribution, and its actions to those of the environment and back.

    Args:
        features_dim: Number of features.
        outputs: How many numbers the distribution is made of.
        space: Space of one action.

    Attributes:
        size: How many numbers an action is.
    """

    name: ClassVar[str]

    def __init__(self, features_dim: int, outputs: int, space: spaces.Space[Any]) -> None:
        super().__init__()
        assert space.shape is not None
        self.linear = nn.Linear(features_dim, outputs)
        initialise_orthogonally(self.linear, _GAIN)
        self.size = int(np.prod(space.shape))
        self._shape = tuple(space.shape)
        self._dtype = torch.from_numpy(np.zeros(1, space.dtype)).dtype

    def forward(self, features: Tensor) -> Any:
        """Returns the distribution for features `(rows, features_dim)`."""
        return self.of_outputs(self.linear(features))

    @abstractmethod
    def of_outputs(self, outputs: Tensor) -> Distribution:
        """Returns the distribution for what the linear layer gives."""

    @abstractmethod
    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows, *shape)` for the environment."""

    @abstractmethod
    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment as the distribution gives them."""


class CategoricalHead(ActionHead):
    """Softmax over the actions of a Discrete space."""

    name = "categorical"

    def __init__(self, features_dim: int, space: spaces.Discrete[Any]) -> None:
        super().__init__(features_dim, int(space.n), space)
        self._start = int(space.start)

    def of_outputs(self, outputs: Tensor) -> Categorical:
        """Returns the distribution for what the linear layer gives."""
        return Categorical(outputs)

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows,)` for the environment."""
        return (actions + self._start if self._start else actions).to(self._dtype)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment, counted from 0, `(rows,)`."""
        return actions.reshape(len(actions)).long() - self._start


class MultiCategoricalHead(ActionHead):
    """Softmax over each choice of a MultiDiscrete space."""

    name = "multi_categorical"
    _starts: Tensor

    def __init__(self, features_dim: int, space: spaces.MultiDiscrete) -> None:
        sizes = tuple(int(size) for size in space.nvec.flatten())
        super().__init__(features_dim, sum(sizes), space)
        self._sizes = sizes
        self.register_buffer("_starts", torch.as_tensor(space.start.flatten()).long(), persistent=False)

    def of_outputs(self, outputs: Tensor) -> MultiCategorical:
        """Returns the distribution for what the linear layer gives."""
        return MultiCategorical(outputs, self._sizes)

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows, *shape)` for the environment."""
        return (actions + self._starts).to(self._dtype).reshape(-1, *self._shape)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment, counted from 0, `(rows, size)`."""
        return actions.reshape(len(actions), self.size).long() - self._starts


class BernoulliHead(ActionHead):
    """A probability for each bit of a MultiBinary space."""

    name = "bernoulli"

    def __init__(self, features_dim: int, space: spaces.MultiBinary) -> None:
        super().__init__(features_dim, int(np.prod(space.shape)), space)

    def of_outputs(self, outputs: Tensor) -> Bernoulli:
        """Returns the distribution for what the linear layer gives."""
        return Bernoulli(outputs)

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows, *shape)` for the environment."""
        return actions.to(self._dtype).reshape(-1, *self._shape)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment, `(rows, size)`."""
        return actions.reshape(len(actions), self.size).long()


class _BoxHead(ActionHead):
    _low: Tensor
    _high: Tensor

    def __init__(self, features_dim: int, outputs: int, space: spaces.Box) -> None:
        if not np.issubdtype(space.dtype, np.floating):
            raise UnsupportedSpaceError(
                "action_space", space, "actions of a Box are real numbers here", "Use Discrete or MultiDiscrete."
            )
        super().__init__(features_dim, outputs, space)
        for name, bound in (("_low", space.low), ("_high", space.high)):
            self.register_buffer(name, torch.as_tensor(bound, dtype=torch.float32).flatten(), persistent=False)
        self._bounded = bool(np.isfinite(space.low).any() or np.isfinite(space.high).any())


class GaussianHead(_BoxHead):
    """Mean from features, and a standard deviation that is learned but does not depend on them."""

    name = "gaussian"

    def __init__(self, features_dim: int, space: spaces.Box) -> None:
        super().__init__(features_dim, int(np.prod(space.shape)), space)
        self.log_std = nn.Parameter(torch.zeros(self.size))

    def of_outputs(self, outputs: Tensor) -> Gaussian:
        """Returns the distribution for what the linear layer gives."""
        return Gaussian(outputs, self.log_std)

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows, *shape)`, clipped to the space."""
        if self._bounded:
            actions = actions.clamp(self._low, self._high)
        return actions.to(self._dtype).reshape(-1, *self._shape)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment, `(rows, size)`."""
        return actions.reshape(len(actions), self.size).float()


class SquashedGaussianHead(_BoxHead):
    """Mean and standard deviation from features; actions from -1 to 1 are stretched to the bounds of the space."""

    name = "squashed_gaussian"
    _middle: Tensor
    _half: Tensor

    def __init__(self, features_dim: int, space: spaces.Box) -> None:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UnsupportedSpaceError(
                "action_space",
                space,
                "a squashed Gaussian needs bounds on both sides of every action",
                'Give the Box finite bounds, or take distribution="gaussian".',
            )
        super().__init__(features_dim, 2 * int(np.prod(space.shape)), space)
        self.register_buffer("_middle", 0.5 * (self._low + self._high), persistent=False)
        self.register_buffer("_half", 0.5 * (self._high - self._low), persistent=False)

    def of_outputs(self, outputs: Tensor) -> SquashedGaussian:
        """Returns the distribution for what the linear layer gives."""
        mean, log_std = outputs.split(self.size, -1)
        return SquashedGaussian(mean, log_std.clamp(_SMALLEST_LOG_STD, _LARGEST_LOG_STD))

    def to_environment(self, actions: Tensor) -> Tensor:
        """Returns actions `(rows, *shape)`, stretched from -1 to 1 to the bounds of the space."""
        stretched = torch.addcmul(self._middle, actions, self._half).clamp(self._low, self._high)
        return stretched.to(self._dtype).reshape(-1, *self._shape)

    def from_environment(self, actions: Tensor) -> Tensor:
        """Returns actions of an environment, from -1 to 1, `(rows, size)`."""
        from_middle = actions.reshape(len(actions), self.size).float() - self._middle
        # An action that has only one value may be anything to the policy.
        return torch.where(self._half > 0, from_middle / self._half, 0.0).clamp(-1.0, 1.0)


_HEADS: dict[str, tuple[type[Any], type[spaces.Space[Any]]]] = {
    "categorical": (CategoricalHead, spaces.Discrete),
    "multi_categorical": (MultiCategoricalHead, spaces.MultiDiscrete),
    "bernoulli": (BernoulliHead, spaces.MultiBinary),
    "gaussian": (GaussianHead, spaces.Box),
    "squashed_gaussian": (SquashedGaussianHead, spaces.Box),
}


def build_action_head(features_dim: int, space: spaces.Space[Any], distribution: str | None = None) -> ActionHead:
    """Builds what maps features to a distribution over actions.

    Args:
        features_dim: Number of features.
        space: Space of one action.
        distribution: Its name; None: the first of those that fit the space.

    Raises:
        UnknownNameError: There is no distribution of that name.
        UnsupportedSpaceError: None fits the space, or the given one does not.
    """
    fitting = [name for name, (_, kind) in _HEADS.items() if isinstance(space, kind)]
    if not fitting:
        kinds = "Discrete, MultiDiscrete, MultiBinary and Box"
        raise UnsupportedSpaceError("action_space", space, f"policies act in {kinds}, not {type(space).__name__}")
    if distribution is not None and distribution not in _HEADS:
        raise UnknownNameError("distribution", distribution, _HEADS)
    if distribution is not None and distribution not in fitting:
        raise UnsupportedSpaceError(
            "action_space", space, f"does not fit distribution={distribution!r}", f"Take {' or '.join(fitting)}."
        )
    head: ActionHead = _HEADS[distribution or fitting[0]][0](features_dim, space)
    return head
