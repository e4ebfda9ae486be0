"""Normalisation of observations and rewards by what was seen so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ObservationNormaliser", "RewardNormaliser", "RunningMoments"]


class RunningMoments(nn.Module):
    """Mean and variance of everything seen so far, by the parallel formula of Chan, Golub and LeVeque (1979).

    Args:
        shape: Of one value.

    Attributes:
        mean: The mean, float64.
        variance: The variance (of the population), float64; 1 before anything was seen.
        count: How many values were seen.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def update(self, values: Tensor) -> None:
        """Takes note of values, leading axis: how many."""
        if not len(values):
            return
        values = values.detach().double()
        mean, variance = values.mean(dim=0), values.var(dim=0, correction=0)
        count = self.count + len(values)
        difference = mean - self.mean
        squares = self.variance * self.count + variance * len(values)
        squares = squares + difference.square() * self.count * len(values) / count
        self.mean.copy_(self.mean + difference * len(values) / count)
        self.variance.copy_(squares / count)
        self.count.copy_(count)

    def deviation(self, epsilon: float = 1e-8) -> Tensor:
        """Returns the standard deviation, float32; never 0."""
        return (self.variance + epsilon).sqrt().float()

    def normalise(self, values: Tensor, limit: float | None = None, epsilon: float = 1e-8) -> Tensor:
        """Returns values less their mean, divided by their deviation.

        Args:
            values: Leading axis: how many.
            limit: Results are clipped to `[-limit, limit]`.
            epsilon: Added to the variance.
        """
        normalised = (values.float() - self.mean.float()) / self.deviation(epsilon)
        return normalised if limit is None else normalised.clamp(-limit, limit)


class ObservationNormaliser(nn.Module):
    """Normalises observations by the moments of each of their numbers.

    Args:
        shapes: Shape of each observation to normalise, by key; "" for one that is no dictionary.
        limit: Results are clipped to `[-limit, limit]`.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], limit: float = 10.0) -> None:
        super().__init__()
        self.limit = limit
        self.keys = list(shapes)
        self.moments = nn.ModuleList(RunningMoments(shape) for shape in shapes.values())

    def update(self, observations: Any) -> None:
        """Takes note of observations, leading axis: rows."""
        for key, moments in zip(self.keys, self.moments, strict=True):
            moments.update(observations[key] if key else observations)  # type: ignore[operator]

    def forward(self, observations: Any) -> Any:
        """Returns the observations, normalised where they are to be."""
        for key, moments in zip(self.keys, self.moments, strict=True):
            values = moments.normalise(observations[key] if key else observations, self.limit)  # type: ignore[operator]
            observations = {**observations, key: values} if key else values
        return observations


class RewardNormaliser(nn.Module):
    """Divides rewards by the deviation of the discounted return, as Stable-Baselines3's `VecNormalize` does.

    Args:
        gamma: Discount factor.

    Attributes:
        returns: Discounted return so far of each slot, float64.
    """

    returns: Tensor

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.moments = RunningMoments()
        self.register_buffer("returns", torch.zeros(0, dtype=torch.float64), persistent=False)

    def start(self, n_slots: int) -> None:
        """Begins with new episodes in so many slots."""
        self.returns = torch.zeros(n_slots, dtype=torch.float64, device=self.returns.device)

    def update(self, rewards: Tensor, ended: Tensor, acted: Tensor | None = None) -> None:
        """Takes note of the rewards of a rollout.

        Args:
            rewards: Shape `(n_steps, n_slots)`, like all that follow.
            ended: The step ended an episode.
            acted: Which rows are transitions; None: all.
        """
        returns, seen = self.returns, []
        for step, (reward, is_last) in enumerate(zip(rewards.double(), ended, strict=True)):
            grown = returns * self.gamma + reward
            if acted is not None:
                grown = torch.where(acted[step], grown, returns)
            seen.append(grown if acted is None else grown[acted[step]])
            returns = torch.where(is_last, 0.0, grown)
        self.returns.copy_(returns)
        self.moments.update(torch.cat(seen))

    def forward(self, rewards: Tensor) -> Tensor:
        """Returns rewards as they are learned from, clipped to [-10, 10]."""
        return (rewards / self.moments.deviation()).clamp(-10.0, 10.0)
