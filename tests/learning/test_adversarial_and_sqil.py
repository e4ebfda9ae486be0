"""GAIL and SQIL learn to balance from the episodes that come with the clone; AIRL where episodes have one length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from tests.agent.imitation.demonstrations import balance, episode_of

from rl_framework import EpisodeSequence, ImitationAgent
from rl_framework.evaluation import EvaluationResult
from rl_framework.training import Callback, Evaluated, PeriodicEvaluation, Training

EXPERT = Path(__file__).parents[2] / "data" / "cartpole_expert"
GAIL: dict[str, Any] = {
    "allow_variable_horizon": True,
    "demo_batch_size": 256,
    "n_disc_updates_per_round": 4,
    "gen_replay_buffer_capacity": 2048,
    "reward_net": {"type": "basic", "normalize_input_layer": "running_norm"},
    "gen_algo": {
        "algorithm_class": "ppo",
        "algorithm_parameters": {
            "n_steps": 128,
            "batch_size": 256,
            "n_epochs": 10,
            "learning_rate": 1e-3,
            "gamma": 0.98,
            "ent_coef": 0.0,
        },
    },
}
SQIL: dict[str, Any] = {
    "rl_kwargs": {
        "learning_starts": 500,
        "learning_rate": 1e-3,
        "batch_size": 128,
        "gamma": 0.97,
        "buffer_size": 20_000,
        "train_freq": 4,
        "target_update_interval": 500,
        "exploration_fraction": 0.2,
    }
}

AIRL: dict[str, Any] = {
    "demo_batch_size": 256,
    "n_disc_updates_per_round": 8,
    "gen_replay_buffer_capacity": 16_384,
    "disc_opt_kwargs": {"lr": 3e-3},
    "gen_algo": GAIL["gen_algo"],
}


class StaysDown(gymnasium.Wrapper):
    """CartPole whose episodes all have 200 steps: a pole that fell lies there, and nothing is earned any more.

    A reward that AIRL learns can be negative, so that where falling ended the episode, falling would be worth it.
    """

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1").unwrapped)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._steps, self._fell = 0, False
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> Any:
        self._steps += 1
        if not self._fell:
            self._observation, _, self._fell, _, _ = self.env.step(action)
        return self._observation, float(not self._fell), False, self._steps >= 200, {}


class StopWhenSolved(Callback):
    """Like DQN in `test_learning`, SQIL forgets what it can: its last policy is a matter of luck (276 to 488)."""

    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        if event.result.mean >= 490:
            training.stop("solved")


def _learn(
    algorithm: str,
    parameters: dict[str, Any],
    steps: int,
    n_environments: int,
    seed: int,
    callbacks: Sequence[Callback] = (),
) -> EvaluationResult:
    agent = ImitationAgent(algorithm, parameters)
    expert = EpisodeSequence.load(EXPERT)
    agent.train(
        expert,
        "CartPole-v1",
        steps,
        n_environments=n_environments,
        callbacks=callbacks,
        seed=seed,
        progress_bar=False,
    )
    return agent.evaluate("CartPole-v1", 20, deterministic=True, seed=1_000 + seed)


def test_gail_learns_to_balance() -> None:
    assert _learn("gail", GAIL, 20_480, 8, seed=0).mean > 300


def test_sqil_learns_to_balance() -> None:
    assert _learn("sqil", SQIL, 8_000, 1, seed=0).mean > 100  # random actions: 22


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gail_balances_as_well_as_the_expert(seed: int) -> None:
    assert _learn("gail", GAIL, 40_960, 8, seed).mean >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sqil_balances_as_well_as_the_expert(seed: int) -> None:
    stopping = [PeriodicEvaluation("CartPole-v1", 2_000, 20, deterministic=True), StopWhenSolved()]
    assert _learn("sqil", SQIL, 20_000, 1, seed, stopping).mean >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_airl_learns_to_balance(seed: int) -> None:
    """It is far from the expert's 200 by then, and far from the 22 of random actions."""
    environment = StaysDown()
    expert = EpisodeSequence.from_episodes(
        [episode_of(environment, balance, episode) for episode in range(10)],
        environment.observation_space,
        environment.action_space,
    )
    agent = ImitationAgent("airl", AIRL)
    agent.train(expert, StaysDown, 102_400, n_environments=8, seed=seed, progress_bar=False)
    assert agent.evaluate(StaysDown, 20, deterministic=True, seed=1_000 + seed).mean > 60
