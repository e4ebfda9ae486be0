from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from rl_framework import BundleError, Callback, ComposedAgent, CustomAgent, StableBaselinesAgent
from rl_framework.agent.reinforcement.parts import A2C
from rl_framework.bundle import read_bundle, write_bundle
from rl_framework.training import ActionDistribution, RolloutEnded, Training


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


def test_after_a_resume_what_was_gathered_before_counts() -> None:
    before = ActionDistribution(spaces.Discrete(2), interval=4)
    assert before.gathered is None
    before.add(np.array([0, 1]))
    before.add(np.array([0]))
    after = ActionDistribution(spaces.Discrete(2), timestep=3, interval=4, gathered=before.gathered)
    after.add(np.array([1]))
    assert after.report(4)[0] == {"rollout/action_share_0": 0.5, "rollout/action_share_1": 0.5}
    assert after.gathered is None


@pytest.mark.parametrize(
    ("space", "gathered"),
    [
        (spaces.Discrete(2), np.array([0, 2])),
        (spaces.Discrete(2), np.array([[0]])),
        (spaces.Box(-1, 1, (2,)), np.zeros((4, 3))),
        (spaces.Box(-1, 1, (2,)), np.zeros((4, 2), dtype=complex)),
        (spaces.Tuple([spaces.Discrete(2)]), np.zeros(3)),
    ],
    ids=["outside", "shape", "width", "complex", "tuple"],
)
def test_what_is_no_action_of_the_space_was_not_gathered(space: Any, gathered: Any) -> None:
    with pytest.raises(ValueError, match="actions"):
        ActionDistribution(space, gathered=gathered)


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


def composed() -> ComposedAgent:
    return ComposedAgent(parts=[A2C(n_steps=50)], compiled=False)


RESUMED: dict[str, tuple[Callable[[], Any], str]] = {
    "a2c": (lambda: StableBaselinesAgent("a2c", {"n_steps": 50}), "CartPole-v1"),
    "sac": (lambda: StableBaselinesAgent("sac", {"learning_starts": 100_000}), "Pendulum-v1"),
    "tabular": (lambda: CustomAgent("q_learning"), "Taxi-v3"),
    "parts": (composed, "CartPole-v1"),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_reports_the_same(name: str, tmp_path: Path) -> None:
    make, environment = RESUMED[name]
    plain, resumed = Log(), Log()
    arguments: dict[str, Any] = {"seed": 0, "progress_bar": False}
    make().train(
        environment, 2_100, callbacks=[plain], checkpoint_every=700, checkpoint_directory=tmp_path, **arguments
    )
    first = tmp_path / "checkpoint_000000000700.zip"
    assert "training_state/actions.npz" in read_bundle(first)
    make().train(environment, 2_100, callbacks=[resumed], resume_from=first, progress_bar=False)
    (expected,), (found,) = plain.events, resumed.events
    assert (found.timestep, found.metrics) == (expected.timestep, expected.metrics)
    for key, samples in expected.histograms.items():
        np.testing.assert_array_equal(found.histograms[key], samples)


def test_damaged_actions_are_refused(tmp_path: Path) -> None:
    training = Training(None, [Log()], seed=0)
    path = write_bundle(
        tmp_path / "x.zip", kind="x", members={"training_state/actions.npz": {"actions": np.array([7])}}
    )
    training.take_members(read_bundle(path))
    with pytest.raises(BundleError, match="actions in the checkpoint are damaged"):
        training.gather_actions(spaces.Discrete(2))
