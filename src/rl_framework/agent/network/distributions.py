"""Distributions over actions, light enough to be made in every step.

Rows are the leading axis; what belongs to one action is summed over. Nothing but the given generator is drawn from,
so that a resumed training draws the same. Everything but `sample` can be traced by `torch.compile` and differentiated
by `torch.func`. For the numbers, see `torch.distributions`: they are the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Bernoulli", "Categorical", "Distribution", "Gaussian", "MultiCategorical", "SquashedGaussian"]

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_LOG_2 = math.log(2)


class Distribution(ABC):
    """What a policy says about the actions of a batch of observations."""

    @abstractmethod
    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns a random action for every row; without gradient.

        Args:
            generator: The only source of random numbers, on the device of the distribution; None: torch's own.
        """

    @abstractmethod
    def mode(self) -> Tensor:
        """Returns the most probable action of every row."""

    @abstractmethod
    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probability (or log-density) of an action for every row, `(rows,)`."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Returns the entropy of every row in nats, `(rows,)`."""

    @abstractmethod
    def kl(self, other: Any) -> Tensor:
        """Returns the Kullback-Leibler divergence of every row from this to another of the same kind, `(rows,)`."""


class Categorical(Distribution):
    """One of several actions; actions are `(rows,)`, int64.

    Args:
        logits: Shape `(rows, n_actions)`; need not be normalised.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self._log_probs: Tensor | None = None

    @property
    def log_probs(self) -> Tensor:
        """Shape `(rows, n_actions)`: the log-probability of every action."""
        if self._log_probs is None:
            self._log_probs = self.logits.log_softmax(-1)
        return self._log_probs

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns random actions: whose exponential clock rings first, as fast as its probability."""
        return _race(self.logits, generator).argmax(-1)

    def mode(self) -> Tensor:
        """Returns the most probable action of every row."""
        return self.logits.argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probability of an action for every row."""
        return self.log_probs.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy of every row."""
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """Returns the divergence of every row."""
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(-1)


class MultiCategorical(Distribution):
    """Several independent choices; actions are `(rows, len(sizes))`, int64.

    Args:
        logits: Shape `(rows, sum(sizes))`.
        sizes: Number of actions of each choice.
    """

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        self.logits = logits
        self.sizes = sizes
        self._choices: list[Categorical] | None = None

    @property
    def choices(self) -> list[Categorical]:
        """The distribution of each choice."""
        if self._choices is None:
            self._choices = [Categorical(part) for part in self.logits.split(self.sizes, -1)]
        return self._choices

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns random actions, all choices of which are drawn at once."""
        race = _race(self.logits, generator)
        return torch.stack([part.argmax(-1) for part in race.split(self.sizes, -1)], -1)

    def mode(self) -> Tensor:
        """Returns the most probable action of every row."""
        return torch.stack([choice.mode() for choice in self.choices], -1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probability of an action for every row."""
        pairs = zip(self.choices, actions.unbind(-1), strict=True)
        return torch.stack([choice.log_prob(action) for choice, action in pairs], -1).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy of every row."""
        return torch.stack([choice.entropy() for choice in self.choices], -1).sum(-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Returns the divergence of every row."""
        pairs = zip(self.choices, other.choices, strict=True)
        return torch.stack([mine.kl(theirs) for mine, theirs in pairs], -1).sum(-1)


class Bernoulli(Distribution):
    """Independent bits; actions are `(rows, n_bits)`, int64.

    Args:
        logits: Shape `(rows, n_bits)`: log-odds of each being 1.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns random actions."""
        return (_uniform(self.logits, generator) < self.logits.sigmoid()).long()

    def mode(self) -> Tensor:
        """Returns the most probable action of every row."""
        return (self.logits > 0).long()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-probability of an action for every row."""
        return -_bit_cross_entropy(self.logits, actions.to(self.logits.dtype)).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy of every row."""
        return _bit_cross_entropy(self.logits, self.logits.sigmoid()).sum(-1)

    def kl(self, other: Bernoulli) -> Tensor:
        """Returns the divergence of every row."""
        mine = self.logits.sigmoid()
        return (_bit_cross_entropy(other.logits, mine) - _bit_cross_entropy(self.logits, mine)).sum(-1)


class Gaussian(Distribution):
    """Independent normal distributions; actions are `(rows, n)`, float32, and unbounded.

    Args:
        mean: Shape `(rows, n)`.
        log_std: Logarithm of the standard deviation, shape `(rows, n)`, or `(n,)` for all rows alike.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns random actions."""
        return self.rsample(_normal(self.mean, generator)).detach()

    def rsample(self, noise: Tensor) -> Tensor:
        """Returns actions through which gradients flow.

        Args:
            noise: Shape `(rows, n)`: drawn from a standard normal distribution.
        """
        return torch.addcmul(self.mean, self.log_std.exp(), noise)

    def rsample_with_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what `rsample` does, and its log-density, `(rows,)`."""
        return self.rsample(noise), self._density_of_noise(noise)

    def mode(self) -> Tensor:
        """Returns the most probable action of every row."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-density of an action for every row."""
        return self._density_of_noise((actions - self.mean) / self.log_std.exp())

    def entropy(self) -> Tensor:
        """Returns the entropy of every row."""
        return (self.log_std + (0.5 + _HALF_LOG_2_PI)).expand_as(self.mean).sum(-1)

    def kl(self, other: Gaussian) -> Tensor:
        """Returns the divergence of every row."""
        ratio = (2 * (self.log_std - other.log_std)).exp()
        distance = ((self.mean - other.mean) / other.log_std.exp()).square()
        return (0.5 * (ratio + distance - 1) + other.log_std - self.log_std).sum(-1)

    def _density_of_noise(self, noise: Tensor) -> Tensor:
        return (-0.5 * noise.square() - self.log_std - _HALF_LOG_2_PI).sum(-1)


class SquashedGaussian(Distribution):
    """Normal distributions put through tanh; actions are `(rows, n)`, float32, from -1 to 1.

    As in soft actor-critic (Haarnoja et al. 2018, appendix C).

    Args:
        mean: Before tanh, shape `(rows, n)`.
        log_std: Before tanh, shape `(rows, n)`, or `(n,)` for all rows alike.
    """

    # An action that tanh rounds to 1 has no way back.
    _LARGEST = 1 - torch.finfo(torch.float32).eps

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.normal = Gaussian(mean, log_std)

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Returns random actions."""
        return self.normal.sample(generator).tanh()

    def rsample(self, noise: Tensor) -> Tensor:
        """Returns actions through which gradients flow; see `Gaussian.rsample`."""
        return self.normal.rsample(noise).tanh()

    def rsample_with_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what `rsample` does, and its log-density, `(rows,)`: more exact than by `log_prob`."""
        before, density = self.normal.rsample_with_log_prob(noise)
        return before.tanh(), density - _log_slope_of_tanh(before).sum(-1)

    def mode(self) -> Tensor:
        """Returns tanh of the mean."""
        return self.normal.mean.tanh()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Returns the log-density of an action for every row."""
        before = actions.clamp(-self._LARGEST, self._LARGEST).atanh()
        return self.normal.log_prob(before) - _log_slope_of_tanh(before).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy of every row, by Gauss-Hermite quadrature, since it has no closed form."""
        mean, std = self.normal.mean.unsqueeze(-1), self.normal.log_std.exp().unsqueeze(-1)
        nodes, weights = (mean.new_tensor(values) for values in _QUADRATURE)
        slopes = _log_slope_of_tanh(mean + std * nodes) @ weights
        return self.normal.entropy() + slopes.sum(-1)

    def kl(self, other: SquashedGaussian) -> Tensor:
        """Returns the divergence of every row, which tanh does not change."""
        return self.normal.kl(other.normal)


def _race(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    # The argmax of logits minus the logarithm of exponential noise is distributed as their softmax.
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return logits - noise.log_()


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _bit_cross_entropy(logits: Tensor, bits: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, bits, reduction="none")


def _log_slope_of_tanh(values: Tensor) -> Tensor:
    # log(1 - tanh(x)^2), without the cancellation in 1 - tanh(x)^2 for large x.
    return 2 * (_LOG_2 - values - functional.softplus(-2 * values))


def _quadrature(count: int) -> tuple[list[float], list[float]]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes.tolist(), (weights / weights.sum()).tolist()


_QUADRATURE = _quadrature(32)
