"""A reward that nobody finds by chance: PPO alone does not learn of it, with a reward for what is new it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rl_framework import Callback, ComposedAgent, EvaluationResult, compare
from rl_framework.agent.reinforcement.parts import A2C, ICM, PPO, RND, Part, SelfImitation
from rl_framework.training import EpisodeEnded, Training


def _explored(size: int, steps: int, seed: int, *curiosity: Part) -> EvaluationResult:
    # Rollouts of two episodes of 16 environments.
    ppo = PPO(n_steps=2 * size, batch_size=256, n_epochs=4, ent_coef=0.01)
    agent = ComposedAgent([ppo, *curiosity], learning_rate=1e-3)
    sea: dict[str, Any] = {"environment_kwargs": {"size": size}}
    agent.train("rl_framework/DeepSea-v0", steps, 16, seed=seed, progress_bar=False, **sea)
    return agent.evaluate("rl_framework/DeepSea-v0", 10, deterministic=True, seed=1_000 + seed, **sea)


# A random policy needs 4,096 episodes on average; 30,000 steps are 2,500, in which PPO learns to do without.


@pytest.mark.parametrize("curiosity", [RND, lambda: ICM(weight=0.1, hidden_size=64)], ids=["rnd", "icm"])
def test_curiosity_finds_the_treasure(curiosity: Callable[[], Part]) -> None:
    assert _explored(12, 30_000, 0, curiosity()).mean > 0.9


def test_ppo_alone_does_not_find_it_in_as_many_steps() -> None:
    assert _explored(12, 30_000, 0).mean < 0.1


class _Returns(Callback):
    def __init__(self) -> None:
        self.returns: list[float] = []

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        self.returns.append(event.episode_return)


@pytest.mark.parametrize("again", [False, True], ids=["alone", "self-imitation"])
def test_self_imitation_does_again_what_was_found_once(again: bool) -> None:
    """Of six seeds A2C alone needed 16,000 to 24,000 steps, with self-imitation 9,500 to 11,500."""
    parts: list[Part] = [SelfImitation(weight=1.0, batch_size=256)] if again else []
    agent = ComposedAgent([A2C(n_steps=8, ent_coef=0.01), *parts], learning_rate=1e-3)
    noted = _Returns()
    sea: dict[str, Any] = {"environment_kwargs": {"size": 8}}
    agent.train("rl_framework/DeepSea-v0", 13_500, 16, seed=0, progress_bar=False, callbacks=[noted], **sea)
    assert (np.mean(noted.returns[-100:]) > 0.9) == again


@pytest.mark.slow
def test_five_of_five_find_it_in_a_deeper_sea() -> None:
    """A random policy needs a million episodes on average; 160,000 steps are 8,000."""
    curious = [_explored(20, 160_000, seed, RND()) for seed in range(5)]
    alone = [_explored(20, 160_000, seed) for seed in range(5)]
    assert min(result.mean for result in curious) > 0.9
    assert max(result.mean for result in alone) < 0.1
    comparison = compare(curious, alone, names=("PPO with RND", "PPO"))
    assert comparison.verdict == "a_better"
    assert comparison.probability_of_improvement > 0.95
