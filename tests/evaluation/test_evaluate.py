from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.environment import open_environments
from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.evaluation import EvaluationResult, evaluate_policy


class Countdown(gymnasium.Env[Any, Any]):
    """An episode of a fixed length per environment that pays its length at the end, so that bias is visible."""

    def __init__(self, length: int) -> None:
        self.observation_space = spaces.Box(0, 1, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length = length
        self.resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = self.length
        self.resets += 1
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.zeros(1, np.float32), float(self.length) * (self.left == 0), self.left == 0, False, {}


class Random:
    """A policy that draws from every global generator."""

    def predict(
        self, observations: Any, state: Any = None, episode_starts: Any = None, deterministic: bool = True
    ) -> Any:
        draws = np.random.rand(len(observations)) + random.random() + torch.rand(len(observations)).numpy()
        return (draws > 1.5).astype(np.int64), state


class Remembering:
    """A recurrent policy that notes what it is told about episode starts."""

    def __init__(self) -> None:
        self.starts: list[list[bool]] = []
        self.states: list[Any] = []

    def predict(
        self, observations: Any, state: Any = None, episode_starts: Any = None, deterministic: bool = True
    ) -> Any:
        self.starts.append(episode_starts.tolist())
        self.states.append(state)
        return np.zeros(len(observations), np.int64), (state or 0) + 1


def _evaluate(environments: Any, n_eval_episodes: int, policy: Any = None, **kwargs: Any) -> EvaluationResult:
    batch = open_environments(environments)
    try:
        return evaluate_policy(policy or Random(), batch, n_eval_episodes, **kwargs)
    finally:
        batch.close()


@pytest.mark.parametrize(("n_eval_episodes", "expected"), [(4, [2, 50, 2, 50]), (5, [2, 2, 2, 50, 50]), (1, [2])])
def test_every_environment_has_a_fixed_quota(n_eval_episodes: int, expected: list[int]) -> None:
    """Counting whatever ends first would give 25 short episodes for each long one."""
    result = _evaluate([Countdown(2), Countdown(50)], n_eval_episodes)
    assert sorted(result.returns.tolist()) == sorted(float(length) for length in expected)
    assert result.lengths.tolist() == result.returns.tolist()


def test_more_environments_than_episodes() -> None:
    assert _evaluate([Countdown(3), Countdown(4), Countdown(5)], 2).n_episodes == 2


def test_same_seed_same_result() -> None:
    first, again, other = (_evaluate(["CartPole-v1"] * 3, 10, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first.returns.tolist() != other.returns.tolist()


def test_a_used_environment_gives_the_same_result_with_the_same_seed() -> None:
    environment = gymnasium.make("CartPole-v1")
    first = _evaluate(environment, 5, seed=5)
    environment.reset(seed=99)
    environment.step(0)
    assert _evaluate(environment, 5, seed=5) == first


def test_without_a_seed_one_is_drawn_and_told() -> None:
    result = _evaluate(["CartPole-v1"] * 2, 6)
    assert result.seed is not None
    assert _evaluate(["CartPole-v1"] * 2, 6, seed=result.seed) == result
    assert _evaluate(["CartPole-v1"] * 2, 6).seed != result.seed


def test_the_global_generators_are_put_back() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    _evaluate(["CartPole-v1"] * 2, 3, seed=0)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_returns_are_undiscounted_and_before_reward_wrappers() -> None:
    raw = Countdown(4)
    wrapped = gymnasium.wrappers.TransformReward(
        gymnasium.wrappers.NormalizeReward(raw), lambda reward: reward * 100 - 7
    )
    assert _evaluate(wrapped, 3).returns.tolist() == [4.0] * 3


def test_recurrent_policies_are_told_where_episodes_start() -> None:
    policy = Remembering()
    _evaluate([Countdown(2), Countdown(3)], 4, policy)
    assert policy.starts[0] == [True, True]
    assert policy.starts[1:6] == [[False, False], [True, False], [False, True], [True, False], [False, False]]
    assert policy.states[:3] == [None, 1, 2]


@pytest.mark.parametrize("n_eval_episodes", [0, -1, 1.5, True, None])
def test_the_number_of_episodes_is_checked(n_eval_episodes: Any) -> None:
    environment = Countdown(1)
    with pytest.raises(ArgumentError, match=f"n_eval_episodes={n_eval_episodes}: must be an integer of at least 1"):
        _evaluate(environment, n_eval_episodes)
    assert environment.resets == 0


def test_a_slot_that_stays_empty_is_an_error_and_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.environment.acting._PATIENCE", 20)
    batch = open_environments([Countdown(5), Countdown(5)])
    original = batch._step

    def leave(actions: Any) -> Any:
        step = original(actions)
        step.acted = step.present = batch.present = np.array([True, False])
        return step

    monkeypatch.setattr(batch, "_step", leave)
    with pytest.raises(RLFrameworkError, match="slot 1 has been empty"):
        evaluate_policy(Random(), batch, 4)
