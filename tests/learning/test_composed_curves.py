"""PPO made of parts learns as Stable-Baselines3's does: the curves, not only the losses.

Compared is the interquartile mean, over five seeds, of the mean return of the training episodes that ended in the last
fifth of the training, in which both have learned what they are going to: on the way up, a seed that is late by a few
rollouts would decide. "Within 5 %" is of the distance between acting at random and solving the task.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from rl_framework import Callback, ComposedAgent, RLAgent, StableBaselinesAgent
from rl_framework.agent.reinforcement.parts import PPO
from rl_framework.evaluation.statistics import interquartile_mean
from rl_framework.training import EpisodeEnded, Training

logger = logging.getLogger(__name__)

SEEDS = range(5)
FIFTHS = 5
# Hyperparameters near those of the RL Baselines3 Zoo; between which returns everything happens (by chance, solved).
CASES: dict[str, dict[str, Any]] = {
    "CartPole-v1": {
        "steps": 60_000,
        "n": 8,
        "scores": (20.0, 500.0),
        "parameters": {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gae_lambda": 0.8, "gamma": 0.98},
        "learning_rate": 1e-3,
    },
    "Pendulum-v1": {
        "steps": 120_000,
        "n": 4,
        "scores": (-1200.0, -150.0),
        "parameters": {"n_steps": 1024, "batch_size": 64, "n_epochs": 10, "gamma": 0.9},
        "learning_rate": 1e-3,
    },
    # With rewards as they are, the value's gradients leave the policy little of the limit to the norm of both.
    "LunarLander-v3": {
        "steps": 600_000,
        "n": 16,
        "scores": (-200.0, 250.0),
        "parameters": {
            "n_steps": 256,
            "batch_size": 256,
            "n_epochs": 10,
            "gae_lambda": 0.98,
            "gamma": 0.995,
            "ent_coef": 0.01,
        },
        "learning_rate": {"type": "linear", "start": 8e-4, "end": 0},
        "normalize_rewards": True,
    },
}


class Returns(Callback):
    """Keeps when each episode ended, and with which return."""

    def __init__(self) -> None:
        self.timesteps: list[int] = []
        self.returns: list[float] = []

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        self.timesteps.append(event.timestep)
        self.returns.append(event.episode_return)


def made(of: str, case: dict[str, Any]) -> RLAgent:
    parameters, rate = case["parameters"], case["learning_rate"]
    normalize = {"normalize_rewards": case.get("normalize_rewards", False)}
    if of == "parts":
        return ComposedAgent([PPO(**parameters)], learning_rate=rate, **normalize)
    return StableBaselinesAgent("ppo", {**parameters, "learning_rate": rate}, **normalize)


def curve_of(agent: RLAgent, environment: str, case: dict[str, Any], seed: int) -> list[float]:
    """Returns the mean return of the episodes that ended in each fifth of the training."""
    noted = Returns()
    agent.train(environment, case["steps"], case["n"], seed=seed, callbacks=[noted], progress_bar=False)
    part = np.minimum(np.array(noted.timesteps) * FIFTHS // case["steps"], FIFTHS - 1)
    returns = np.array(noted.returns)
    return [float(returns[part == index].mean()) for index in range(FIFTHS)]


@pytest.mark.slow
@pytest.mark.parametrize("environment", CASES)
def test_the_curves_are_equivalent(environment: str) -> None:
    case = CASES[environment]
    means = {}
    for of in ("parts", "library"):
        curves = [curve_of(made(of, case), environment, case, seed) for seed in SEEDS]
        means[of] = [interquartile_mean(np.array(part)) for part in zip(*curves, strict=True)]
        # Seen with --log-cli-level=INFO.
        logger.info("%s, PPO of the %s, by fifth of the training: %s", environment, of, np.round(means[of], 1))
    low, high = case["scores"]
    assert means["library"][-1] > low + 0.8 * (high - low)  # there is something to be equal to
    assert abs(means["parts"][-1] - means["library"][-1]) < 0.05 * (high - low)
