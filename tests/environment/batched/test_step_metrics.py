"""What environments tell at every step arrives at the end of every episode, whatever form they have."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from rl_framework import Callback, CustomAgent, StableBaselinesAgent
from rl_framework.environment.door import open_environments
from rl_framework.environment.preprocessed import PreprocessedEnvironments
from rl_framework.errors import ArgumentError
from rl_framework.training import EpisodeEnded


class Telling(gymnasium.Env[Any, Any]):
    """An episode has four steps; step t tells the speed 10 * t, and a collision at the third alone."""

    observation_space = spaces.Discrete(8)
    action_space = spaces.Discrete(2)

    def __init__(self, factor: float = 10.0, extra: dict[str, Any] | None = None) -> None:
        self.factor, self.extra = factor, extra or {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return 0, {"step_metric_speed": 1e9}

    def step(self, action: Any) -> Any:
        self.t += 1
        info: dict[str, Any] = {"step_metric_speed": self.factor * self.t, "t": self.t, **self.extra}
        if self.t == 3:
            info["step_metric_collision"] = True
        return self.t, 1.0, self.t == 4, False, info


EXPECTED = {
    "speed": 25.0,
    "speed_sum": 100.0,
    "speed_last": 40.0,
    "collision": 1.0,
    "collision_sum": 1.0,
    "collision_last": 1.0,
}


class AsTheyAre:
    def preprocess_space(self, observation_space: Any) -> Any:
        return observation_space

    def preprocess(self, observations: Any) -> Any:
        return observations


SOURCES: dict[str, Any] = {
    "in process": lambda: open_environments([Telling(), Telling()]),
    "subprocess": lambda: open_environments(Telling, 2, vectorization="subprocess"),
    "vector": lambda: open_environments(gymnasium.vector.SyncVectorEnv([Telling, Telling])),
    "next step": lambda: open_environments(
        gymnasium.wrappers.vector.RecordEpisodeStatistics(gymnasium.vector.SyncVectorEnv([Telling, Telling]))
    ),
    "VecEnv": lambda: open_environments(DummyVecEnv([Telling, Telling])),
    "changed rewards": lambda: open_environments(
        [gymnasium.wrappers.TransformReward(Telling(), lambda reward: 2 * reward) for _ in range(2)]
    ),
    "preprocessed": lambda: PreprocessedEnvironments(open_environments(Telling, 2), AsTheyAre()),
    "replayable": lambda: open_environments(Telling, 2, replayable=True),
}


@pytest.mark.parametrize("form", SOURCES)
def test_every_kind_of_batch_gathers_them(form: str) -> None:
    batch = SOURCES[form]()
    found: dict[int, list[Any]] = {0: [], 1: []}
    batch.reset_slots(0)
    for _ in range(14):
        step = batch.step_slots(np.zeros(2, dtype=np.int64))
        for slot in np.flatnonzero(step.acted):
            told = step.infos[slot].get("episode_metrics")
            ended = step.terminated[slot] or step.truncated[slot]
            assert (told is not None) == ended
            if ended:
                found[int(slot)].append(told)
    batch.close()
    assert len(found[0]) >= 2
    assert all(told == EXPECTED for slot in found.values() for told in slot)


def test_slots_are_kept_apart_and_a_reset_begins_anew() -> None:
    batch = open_environments([Telling(10), Telling(1)])
    batch.reset_slots(0)
    for _ in range(2):
        batch.step_slots(np.zeros(2, dtype=np.int64))
    batch.reset_slots(0)
    for _ in range(4):
        step = batch.step_slots(np.zeros(2, dtype=np.int64))
    assert [info["episode_metrics"]["speed"] for info in step.infos] == [25.0, 2.5]


def test_a_replayed_episode_has_all_of_its_steps() -> None:
    first, second = (open_environments(Telling, 2, replayable=True) for _ in range(2))
    first.reset_slots(0)
    for _ in range(3):
        first.step_slots(np.zeros(2, dtype=np.int64))
    second.reset_slots(5)
    second.step_slots(np.zeros(2, dtype=np.int64))
    second.replay_slots(first.open_episodes())
    step = second.step_slots(np.zeros(2, dtype=np.int64))
    assert [info["episode_metrics"] for info in step.infos] == [EXPECTED, EXPECTED]


def test_an_environment_that_tells_nothing_has_none() -> None:
    batch = open_environments("CartPole-v1")
    batch.reset_slots(0)
    infos = [batch.step_slots(np.zeros(1, dtype=np.int64)).infos[0] for _ in range(30)]
    assert any("episode" in info for info in infos)
    assert not any("episode_metrics" in info for info in infos)


@pytest.mark.parametrize("value", ["fast", None, [1, 2], np.zeros(2)])
def test_what_is_no_number_is_refused_by_name(value: Any) -> None:
    batch = open_environments([Telling(extra={"step_metric_mode": value})])
    batch.reset_slots(0)
    with pytest.raises(ArgumentError, match=r"info\['step_metric_mode'\].*must be a number"):
        batch.step_slots(np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.array([1.0]), np.bool_(True)])
def test_any_number_will_do_and_other_keys_are_left_alone(value: Any) -> None:
    extra = {"step_metric_a": value, 3: "not a string", "step_metrics": "no number", ("a",): None}
    batch = open_environments([Telling(extra=extra)])
    batch.reset_slots(0)
    for _ in range(4):
        step = batch.step_slots(np.zeros(1, dtype=np.int64))
    assert step.infos[0]["episode_metrics"]["a_sum"] == 4.0


def test_no_environment_passes_something_off_as_the_return() -> None:
    info = {"episode": {"r": 1.0, "l": 2}, "episode_metrics": {"return": 99.0, "speed": 3.0}}
    assert EpisodeEnded.from_info(7, 0, info).metrics == {
        "episode/return": 1.0,
        "episode/length": 2.0,
        "episode/speed": 3.0,
    }


class Log(Callback):
    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_episode_end(self, event: EpisodeEnded, training: Any) -> None:
        self.metrics.append(dict(event.metrics))


@pytest.mark.parametrize("source", ["factory", "VecEnv"])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "ars"])
def test_they_are_metrics_of_training(algorithm: str, source: str) -> None:
    if algorithm == "ars":
        pytest.importorskip("sb3_contrib")
    parameters = {"ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 1}, "dqn": {}, "ars": {"n_delta": 1}}[algorithm]
    environments = DummyVecEnv([Telling, Telling]) if source == "VecEnv" else Telling
    log = Log()
    StableBaselinesAgent(algorithm, parameters).train(
        environments, 48, n_environments=None if source == "VecEnv" else 2, callbacks=log, progress_bar=False
    )
    expected = {f"episode/{name}": value for name, value in EXPECTED.items()}
    assert len(log.metrics) >= 8
    assert all(metrics == {"episode/return": 4.0, "episode/length": 4.0, **expected} for metrics in log.metrics)


def test_they_are_metrics_of_algorithms_of_ones_own() -> None:
    log = Log()
    CustomAgent("q_learning").train(Telling, 32, n_environments=2, callbacks=log, progress_bar=False)
    assert len(log.metrics) == 8
    assert {metrics["episode/speed"] for metrics in log.metrics} == {25.0}
