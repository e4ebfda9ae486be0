from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from rl_framework import Callback, CustomAgent, StableBaselinesAgent
from rl_framework.training import ActionDistribution, RolloutEnded


def test_discrete_actions_have_shares() -> None:
    gathered = ActionDistribution(spaces.Discrete(3, start=5), interval=8)
    for _ in range(2):
        gathered.add(np.array([5, 6, 6, 6]))
    assert gathered.report(7) == ({}, {})
    metrics, histograms = gathered.report(8)
    assert metrics == {
        "rollout/action_share_5": 0.25,
        "rollout/action_share_6": 0.75,
        "rollout/action_share_7": 0.0,
    }
    assert histograms["rollout/action"].tolist() == [5, 6, 6, 6] * 2
    gathered.add(np.array([7, 7, 7, 7]))
    assert gathered.report(15) == ({}, {})
    assert gathered.report(16)[0]["rollout/action_share_7"] == 1.0


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.Box(-1, 1, (2,)), [[0.5, -1.0], [-0.5, -1.0]]),
        (spaces.Box(-1, 1, (1, 2)), [[[0.5, -1.0]], [[-0.5, -1.0]]]),
        (spaces.MultiDiscrete([3, 4]), [[0, 2], [1, 2]]),
        (spaces.MultiBinary(2), [[0, 1], [1, 1]]),
    ],
    ids=["Box", "Box of two axes", "MultiDiscrete", "MultiBinary"],
)
def test_other_actions_have_means_and_deviations(space: spaces.Space[Any], actions: Any) -> None:
    gathered = ActionDistribution(space, interval=2)
    gathered.add(np.array(actions))
    metrics, histograms = gathered.report(2)
    parts = np.array(actions).reshape(2, 2)
    for part in range(2):
        assert metrics[f"rollout/action_mean_{part}"] == parts[:, part].mean()
        assert metrics[f"rollout/action_std_{part}"] == parts[:, part].std()
        np.testing.assert_array_equal(histograms[f"rollout/action_{part}"], parts[:, part])


def test_there_are_never_too_many_names() -> None:
    many = ActionDistribution(spaces.Discrete(1000), interval=1)
    many.add(np.array([7, 999]))
    metrics, histograms = many.report(1)
    assert (metrics, list(histograms)) == ({}, ["rollout/action"])
    wide = ActionDistribution(spaces.Box(-1, 1, (100,)), interval=1)
    wide.add(np.zeros((2, 100)))
    metrics, histograms = wide.report(1)
    assert (len(metrics), len(histograms)) == (32, 16)


def test_structured_actions_have_none() -> None:
    gathered = ActionDistribution(spaces.Tuple([spaces.Discrete(2)]), interval=1)
    gathered.add((np.array([1]),))
    assert gathered.report(10) == ({}, {})


def test_after_a_resume_reports_come_when_they_would_have() -> None:
    gathered = ActionDistribution(spaces.Discrete(2), timestep=1500, interval=1000)
    gathered.add(np.array([1]))
    assert gathered.report(1999) == ({}, {})
    assert gathered.report(2000)[0]


class Log(Callback):
    def __init__(self) -> None:
        self.events: list[RolloutEnded] = []

    def on_rollout_end(self, event: RolloutEnded, training: Any) -> None:
        if event.histograms:
            self.events.append(event)


CASES: dict[str, Any] = {
    "ppo": ("ppo", {"n_steps": 512, "batch_size": 1024, "n_epochs": 1}, "CartPole-v1"),
    "a2c": ("a2c", {}, "Pendulum-v1"),
    "dqn": ("dqn", {"learning_starts": 100_000}, "CartPole-v1"),
    "sac": ("sac", {"learning_starts": 100_000}, "Pendulum-v1"),
}


@pytest.mark.parametrize(
    ("case", "given"),
    [("ppo", "id"), ("a2c", "id"), ("dqn", "id"), ("sac", "id"), ("ppo", "VecEnv"), ("sac", "VecEnv")],
)
def test_training_tells_which_actions_the_environments_were_given(case: str, given: str) -> None:
    algorithm, parameters, environment = CASES[case]
    log, vec_env = Log(), given == "VecEnv"
    agent = StableBaselinesAgent(algorithm, parameters)
    source = make_vec_env(environment, 2, seed=0) if vec_env else environment
    agent.train(source, 2100, None if vec_env else 2, callbacks=log, seed=0, progress_bar=False)
    assert [event.timestep // 2000 for event in log.events] == [1]
    for event in log.events:
        if environment == "CartPole-v1":
            actions = event.histograms["rollout/action"]
            assert event.metrics["rollout/action_share_1"] == actions.mean()
        else:
            actions = event.histograms["rollout/action_0"]
            assert event.metrics["rollout/action_mean_0"] == pytest.approx(actions.mean(), abs=1e-6)
            assert np.abs(actions).max() == 2.0 if case == "a2c" else 1.5 < np.abs(actions).max() <= 2.0
    assert log.events[0].timestep == len(next(iter(log.events[0].histograms.values())))


def test_algorithms_of_ones_own_tell_it_too() -> None:
    log = Log()
    agent = CustomAgent("q_learning")
    agent.train("FrozenLake-v1", 4000, n_environments=4, callbacks=log, seed=0, progress_bar=False)
    assert [event.timestep for event in log.events] == [2000, 4000]
    assert all(sum(event.metrics.values()) == pytest.approx(1.0) for event in log.events)


def test_nothing_is_gathered_while_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("an action was noted")

    monkeypatch.setattr(ActionDistribution, "add", fail)
    parameters = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
    StableBaselinesAgent("ppo", parameters).train("CartPole-v1", 64, progress_bar=False)
    CustomAgent("q_learning").train("FrozenLake-v1", 8, progress_bar=False)
