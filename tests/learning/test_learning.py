"""Learning is tested by learning: a return that is reached, in the default run with one seed and a lower bar."""

from __future__ import annotations

from typing import Any

import pytest

from rl_framework import StableBaselinesAgent
from rl_framework.evaluation import EvaluationResult
from rl_framework.training import Callback, Evaluated, PeriodicEvaluation, Training

# Hyperparameters of RL Baselines3 Zoo (hyperparams/*.yml), where they are not the library's own.
CARTPOLE: dict[str, dict[str, Any]] = {
    "ppo": {
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 20,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "ent_coef": 0.0,
        "learning_rate": {"type": "linear", "start": 1e-3, "end": 0.0},
        "clip_range": {"type": "linear", "start": 0.2, "end": 0.0},
    },
    "a2c": {"ent_coef": 0.0, "learning_rate": {"type": "linear", "start": 7e-4, "end": 0.0}},
    "dqn": {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
        "policy_kwargs": {"net_arch": [256, 256]},
    },
}
PENDULUM: dict[str, dict[str, Any]] = {
    "sac": {"learning_rate": 1e-3},
    "td3": {"learning_rate": 1e-3, "learning_starts": 1_000, "action_noise": {"type": "normal", "sigma": 0.1}},
}


class StopWhenSolved(Callback):
    """DQN forgets what it can: its last policy of a fixed number of steps is a matter of luck (19 to 500)."""

    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        if event.result.mean >= 490:
            training.stop("solved")


def _learn(
    algorithm: str, parameters: dict[str, Any], environment: str, steps: int, n_environments: int, seed: int
) -> EvaluationResult:
    agent = StableBaselinesAgent(algorithm, parameters)
    callbacks: list[Callback] = []
    if algorithm == "dqn":
        callbacks = [PeriodicEvaluation(environment, 2_560, 20, deterministic=True), StopWhenSolved()]
    agent.train(environment, steps, n_environments, callbacks=callbacks, seed=seed, progress_bar=False)
    return agent.evaluate(environment, 30, deterministic=True, seed=1_000 + seed)


def test_ppo_learns_to_balance() -> None:
    """Ten seeds reached 384 to 500; with the falling rates of 100,000 steps, a fifth of those is a matter of luck."""
    quick = {"n_steps": 64, "n_epochs": 10, "gae_lambda": 0.9, "learning_rate": 3e-3, "clip_range": 0.2}
    result = _learn("ppo", {**CARTPOLE["ppo"], **quick}, "CartPole-v1", 20_000, 8, seed=0)
    assert result.mean >= 195


def test_sac_learns_to_swing_up() -> None:
    small = {**PENDULUM["sac"], "policy_kwargs": {"net_arch": [64, 64]}, "batch_size": 128, "buffer_size": 10_000}
    agent = StableBaselinesAgent("sac", small)
    agent.train("Pendulum-v1", 150, seed=0, progress_bar=False)
    before = agent.evaluate("Pendulum-v1", 30, deterministic=True, seed=1)
    agent.train("Pendulum-v1", 3_000, progress_bar=False)
    after = agent.evaluate("Pendulum-v1", 30, deterministic=True, seed=1)
    assert after.mean > before.mean + 500
    assert after.confidence_interval()[0] > before.confidence_interval()[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("algorithm", "steps", "n_environments"), [("ppo", 100_000, 8), ("a2c", 500_000, 8), ("dqn", 100_000, 1)]
)
def test_cartpole_is_solved(algorithm: str, steps: int, n_environments: int, seed: int) -> None:
    result = _learn(algorithm, CARTPOLE[algorithm], "CartPole-v1", steps, n_environments, seed)
    assert result.mean >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_pendulum_is_solved(algorithm: str, seed: int) -> None:
    result = _learn(algorithm, PENDULUM[algorithm], "Pendulum-v1", 10_000, 1, seed)
    assert result.mean > -250
