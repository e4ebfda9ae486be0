"""How much better than expected each step of a rollout was."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["advantages_of"]


def advantages_of(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    gamma: float,
    gae_lambda: float,
    acted: Tensor | None = None,
) -> Tensor:
    """Estimates advantages by generalised advantage estimation (Schulman et al. 2016, eq. 16).

    Args:
        rewards: Shape `(n_steps, n_slots)`, like all that follow.
        values: Of the observation of each step.
        next_values: Of what followed it.
        terminated: There is nothing after the step: `next_values` does not count.
        ended: The step ended an episode: no later advantage reaches it.
        gamma: Discount factor.
        gae_lambda: 0: one-step differences; 1: whole returns.
        acted: Which rows are transitions; None: all.

    Returns:
        The advantages; 0 in rows that are no transitions. With `values` added they are the targets of the value.
    """
    surprise = rewards + gamma * next_values * ~terminated - values
    decay = gamma * gae_lambda * ~ended
    advantages = torch.empty_like(rewards)
    advantage = torch.zeros_like(rewards[0])
    if acted is None:
        for step in reversed(range(len(rewards))):
            advantage = torch.addcmul(surprise[step], decay[step], advantage)
            advantages[step] = advantage
        return advantages
    for step in reversed(range(len(rewards))):
        advantage = torch.where(acted[step], surprise[step] + decay[step] * advantage, advantage)
        advantages[step] = advantage
    return advantages * acted
