"""Cloning and DAgger learn to balance; density and preferences beat chance clearly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.agent.imitation.demonstrations import balance, demonstrations

from rl_framework import EpisodeSequence, ImitationAgent
from rl_framework.evaluation import EvaluationResult

EXPERT = Path(__file__).parents[2] / "data" / "cartpole_expert"

DAGGER: dict[str, Any] = {
    "beta_schedule": {"type": "linear", "rampdown_rounds": 4},
    "rollout_round_min_episodes": 1,
    "rollout_round_min_timesteps": 200,
    "bc_trainer": {"batch_size": 64, "optimizer_kwargs": {"lr": 3e-3}},
}
DENSITY: dict[str, Any] = {
    # Where it is: an expert who balances is hardly ever seen elsewhere.
    "density_type": "state_density",
    "kernel_bandwidth": 0.2,
    "allow_variable_horizon": True,
    "rl_algo": {
        "algorithm_class": "ppo",
        "algorithm_parameters": {
            "n_steps": 64,
            "batch_size": 128,
            "n_epochs": 8,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "learning_rate": 1e-3,
            "ent_coef": 0.0,
        },
    },
}

PREFERENCES: dict[str, Any] = {
    "num_iterations": 8,
    "total_comparisons": 300,
    "fragment_length": 20,
    "initial_epoch_multiplier": 5,
    "query_schedule": "constant",
    "preference_gatherer": {"type": "synthetic", "temperature": 0},
    "reward_trainer": {"type": "basic", "epochs": 10},
    "rl_algo": {
        "algorithm_class": "ppo",
        "algorithm_parameters": {
            "n_steps": 128,
            "batch_size": 128,
            "n_epochs": 8,
            "gamma": 0.98,
            "learning_rate": 1e-3,
            "ent_coef": 0.0,
        },
    },
}


class FallenCartPole(gymnasium.Wrapper[Any, Any, Any, Any]):
    """CartPole for 100 steps, also if the pole falls: it then lies there and pays nothing.

    CartPole itself pays 1 in every step, so that no fragment of it is better than another.
    """

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1").unwrapped)

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.steps, self.fallen = 0, False
        return self.env.reset(**arguments)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if not self.fallen:
            self.last, _, self.fallen, _, _ = self.env.step(action)
        return self.last, float(not self.fallen), False, self.steps == 100, {}


def _controller(observations: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.array([balance(observation) for observation in observations])


def _dagger(expert: Any, episodes: EpisodeSequence | None, steps: int, seed: int) -> EvaluationResult:
    agent = ImitationAgent("dagger", {**DAGGER, "expert_policy": expert})
    agent.train(episodes, "CartPole-v1", steps, n_environments=2, seed=seed, progress_bar=False)
    return agent.evaluate("CartPole-v1", 20, deterministic=True, seed=1)


def _density(seed: int) -> EvaluationResult:
    agent = ImitationAgent("density", DENSITY)
    expert = demonstrations(4, max_episode_steps=100)
    agent.train(expert, "CartPole-v1", 10_000, n_environments=8, seed=seed, progress_bar=False)
    return agent.evaluate("CartPole-v1", 20, deterministic=True, seed=1)


def test_cloning_balances_from_the_shipped_episodes() -> None:
    """Seeds 0 to 3 reached 500."""
    agent = ImitationAgent("bc", DAGGER["bc_trainer"])
    agent.train(EpisodeSequence.load(EXPERT), total_timesteps=100_000, seed=0, progress_bar=False)
    assert agent.evaluate("CartPole-v1", 20, deterministic=True, seed=1).mean >= 475


def test_dagger_balances_from_the_shipped_episodes() -> None:
    """Each of 5 seeds reached 500; about a second."""
    episodes = EpisodeSequence.load(EXPERT)[:2]
    cloned = ImitationAgent("bc", DAGGER["bc_trainer"])
    cloned.train(episodes, total_timesteps=1_000, seed=0, progress_bar=False)
    assert _dagger(_controller, episodes, 3_000, seed=0).mean >= 475
    # What the episodes alone teach in a moment is not enough: it is the expert's answers that help.
    assert cloned.evaluate("CartPole-v1", 20, deterministic=True, seed=1).mean < 475


def test_density_beats_chance() -> None:
    """Seeds 0, 1 and 2 reached 85, 95 and 101; chance has 22."""
    assert _density(seed=0).mean >= 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dagger_balances_with_every_seed(seed: int) -> None:
    assert _dagger(_controller, None, 5_000, seed).mean >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_density_beats_chance_with_every_seed(seed: int) -> None:
    assert _density(seed).mean >= 50


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_preferences_are_learned_from(seed: int) -> None:
    """The three seeds reached 98, 100 and 100 of 100; chance has 22."""
    agent = ImitationAgent("preference_comparisons", PREFERENCES)
    agent.train(None, FallenCartPole, 30_000, n_environments=8, seed=seed, progress_bar=False)
    assert agent.evaluate(FallenCartPole, 20, deterministic=True, seed=1).mean >= 80
