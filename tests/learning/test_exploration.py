"""A reward that nobody finds by chance: PPO alone does not learn of it, with random network distillation it does."""

from __future__ import annotations

from typing import Any

import pytest

from rl_framework import ComposedAgent, EvaluationResult, compare
from rl_framework.agent.reinforcement.parts import PPO, RND, Part

SEEDS = range(5)


def _parts(size: int, curious: bool) -> list[Part]:
    # Rollouts of two episodes of 16 environments.
    ppo = PPO(n_steps=2 * size, batch_size=256, n_epochs=4, ent_coef=0.01)
    return [ppo, RND()] if curious else [ppo]


def _explored(size: int, steps: int, curious: bool, seed: int) -> EvaluationResult:
    agent = ComposedAgent(_parts(size, curious), learning_rate=1e-3)
    sea: dict[str, Any] = {"environment_kwargs": {"size": size}}
    agent.train("rl_framework/DeepSea-v0", steps, 16, seed=seed, progress_bar=False, **sea)
    return agent.evaluate("rl_framework/DeepSea-v0", 10, deterministic=True, seed=1_000 + seed, **sea)


def test_curiosity_finds_what_ppo_alone_does_not() -> None:
    """A random policy needs 4,096 episodes on average; 30,000 steps are 2,500, in which PPO learns to do without."""
    assert _explored(12, 30_000, curious=True, seed=0).mean > 0.9
    assert _explored(12, 30_000, curious=False, seed=0).mean < 0.1


@pytest.mark.slow
def test_curiosity_solves_the_deep_sea() -> None:
    """A random policy needs a million episodes on average; 160,000 steps are 8,000."""
    curious, alone = ([_explored(20, 160_000, each, seed) for seed in SEEDS] for each in (True, False))
    assert all(result.mean > 0.9 for result in curious)
    assert all(result.mean < 0.1 for result in alone)
    comparison = compare(curious, alone, names=("PPO with RND", "PPO"))
    assert comparison.verdict == "a_better"
    assert comparison.probability_of_improvement > 0.95
