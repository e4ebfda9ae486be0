"""The exporter is `DummyVecEnv` over `Monitor` to the last bit; a `VecEnv` of the caller stays the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.wrappers import TimeLimit, TransformReward
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)
from tests.environment.toys import Counter, DictWorld, ImageWorld

from rl_framework.agent.reinforcement import StableBaselinesAgent
from rl_framework.environment import open_environments
from rl_framework.environment.sb3 import ExportedVecEnv, SpacesOnlyVecEnv, VecEnvSlots, export_to_vec_env
from rl_framework.errors import ArgumentError, NotTrainedError
from rl_framework.training import Callback

SMALL = {"policy": "MlpPolicy", "n_steps": 8, "batch_size": 16, "policy_kwargs": {"net_arch": [4]}}


def _cartpole() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1", max_episode_steps=25)


def _pendulum() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("Pendulum-v1", max_episode_steps=7)


def _ended_and_cut() -> gymnasium.Env[Any, Any]:
    """Terminated and truncated in the same step, of which the library counts the first."""
    return TimeLimit(Counter(lengths=(4,)), 4)


def _stream(vec_env: VecEnv, steps: int) -> Iterator[Any]:
    vec_env.seed(11)
    yield vec_env.reset()
    yield list(vec_env.reset_infos)
    vec_env.action_space.seed(2)
    for _ in range(steps):
        actions = np.stack([vec_env.action_space.sample() for _ in range(vec_env.num_envs)])
        yield from vec_env.step(actions)
        yield list(vec_env.reset_infos)
    yield vec_env.reset()  # without seeds, which are used once


def _assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(theirs, dict):
        assert isinstance(ours, dict)
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            if where.endswith("/episode"):
                if key != "t":  # the library rounds
                    assert ours[key] == pytest.approx(theirs[key], abs=1e-6), where
            else:
                _assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _assert_same(one, other, f"{where}[{index}]")
    elif isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs), where
    elif "terminal_observation" in where:
        assert ours == theirs, where
    else:
        assert type(ours) is type(theirs), where
        assert ours == theirs, where


WORLDS = {
    "cartpole": (_cartpole, 60),
    "pendulum": (_pendulum, 24),
    "ended and cut": (_ended_and_cut, 10),
    "dict": (DictWorld, 40),
    "image": (ImageWorld, 20),
}


@pytest.mark.parametrize("name", WORLDS)
def test_streams_are_those_of_the_library(name: str) -> None:
    make, steps = WORLDS[name]
    theirs = DummyVecEnv([lambda: Monitor(make())] * 3)
    # Infos are compared when all steps are made: what was handed out must not have changed since.
    ours = export_to_vec_env(open_environments(make, 3))
    assert isinstance(ours, ExportedVecEnv)
    given, expected = list(_stream(ours, steps)), list(_stream(theirs, steps))
    assert len(given) == 3 + 5 * steps
    for index, (one, other) in enumerate(zip(given, expected, strict=True)):
        _assert_same(one, other, f"{index}:")
    infos = [info for step in given[5::5] for info in step]
    ended = [info for info in infos if "terminal_observation" in info]
    assert len(ended) > 3
    assert all("episode" in info for info in ended)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert given[3].dtype == np.float32
    ours.close()


def test_processes_give_the_same_stream() -> None:
    inside = export_to_vec_env(open_environments(_cartpole, 2))
    # A factory of this module would make each process import torch.
    batch = open_environments("CartPole-v1", 2, {"max_episode_steps": 25}, vectorization="subprocess")
    outside = export_to_vec_env(batch)
    given, expected = list(_stream(outside, 60)), list(_stream(inside, 60))
    for one, other in zip(given, expected, strict=True):
        _assert_same(one, other)
    assert batch.environment_id == "CartPole-v1"
    assert outside.has_attr("reset")
    assert not outside.has_attr("nothing_of_that_name")
    assert outside.get_attr("gravity") == [9.8, 9.8]
    assert outside.env_is_wrapped(TimeLimit) == [True, True]
    assert outside.env_is_wrapped(TransformReward, 0) == [False]
    outside.set_attr("gravity", 1.0, indices=1)
    assert outside.get_attr("gravity") == [9.8, 1.0]
    outside.close()


def test_processes_give_the_same_dictionaries() -> None:
    inside = export_to_vec_env(open_environments(DictWorld, 2))
    outside = export_to_vec_env(open_environments(DictWorld, 2, vectorization="subprocess"))
    for one, other in zip(list(_stream(outside, 30)), list(_stream(inside, 30)), strict=True):
        _assert_same(one, other)
    outside.close()


def test_attributes_and_methods_of_the_environments() -> None:
    vec_env = export_to_vec_env(open_environments([Counter(1.0), TransformReward(Counter(2.0), float)]))
    assert vec_env.get_attr("number") == [1.0, 2.0]
    assert vec_env.get_attr("number", 1) == vec_env.get_attr("number", [1]) == [2.0]
    assert vec_env.env_method("add", 10, other=1) == [12.0, 13.0]
    assert vec_env.env_method("add", 10, indices=[1]) == [12.0]
    assert [add(1) for add in vec_env.get_attr("add")] == [2.0, 3.0]
    vec_env.set_attr("number", 5.0, indices=1)
    assert vec_env.get_attr("number") == [1.0, 5.0]
    assert vec_env.env_method("add", 1) == [2.0, 6.0], "the attribute is set where it is used"
    vec_env.set_attr("brand_new", 3)
    assert vec_env.get_attr("brand_new") == [3, 3]
    assert vec_env.has_attr("potential")
    assert not vec_env.has_attr("nothing_of_that_name")
    assert vec_env.env_is_wrapped(Monitor) == [True, True]
    assert vec_env.env_is_wrapped(TransformReward) == [False, True]
    assert vec_env.env_is_wrapped(TransformReward, indices=[1]) == [True]
    vec_env.reset()
    assert vec_env.get_attr("resets") == [1, 1], "reading an attribute calls nothing"


def test_seeds_and_options_are_used_once() -> None:
    environments = [Counter(), Counter()]
    vec_env = export_to_vec_env(open_environments(environments))
    assert vec_env.seed(8) == [8, 9]
    vec_env.set_options({"hard": True})
    vec_env.reset()
    assert [environment.options for environment in environments] == [{"hard": True}] * 2
    assert [environment.np_random_seed for environment in environments] == [8, 9]
    vec_env.reset()
    assert [environment.options for environment in environments] == [None] * 2
    vec_env.set_options([{"hard": True}, {"hard": False}])
    with pytest.raises(ArgumentError, match="differ between slots"):
        vec_env.reset()


def test_pictures() -> None:
    vec_env = export_to_vec_env(open_environments([Counter(float(n), render_mode="rgb_array") for n in range(1, 4)]))
    assert vec_env.render_mode == "rgb_array"
    vec_env.reset()
    assert [image[0, 0, 0] for image in vec_env.get_images()] == [1, 2, 3]
    tiled = vec_env.render("rgb_array")
    assert tiled is not None
    assert tiled.shape == (8, 12, 3)
    assert export_to_vec_env(open_environments(Counter)).render_mode is None


def test_the_learners_action_space_is_its_own() -> None:
    environment = Counter()
    vec_env = export_to_vec_env(open_environments(environment))
    environment.action_space.seed(3)
    expected = [environment.action_space.sample() for _ in range(9)]
    environment.action_space.seed(3)
    vec_env.action_space.seed(99)
    [vec_env.action_space.sample() for _ in range(9)]
    assert [environment.action_space.sample() for _ in range(9)] == expected


def test_an_episode_without_final_observation_has_no_terminal_observation() -> None:
    """`VecNormalize` would fail on an entry that is None."""
    vec_env = export_to_vec_env(open_environments(Counter(lengths=(1,))))
    batch = vec_env.batch  # type: ignore[attr-defined]
    step_slots = batch.step_slots

    def forget(actions: Any) -> Any:
        step = step_slots(actions)
        step.final_observations = {}
        return step

    batch.step_slots = forget
    normalized = VecNormalize(vec_env)
    normalized.reset()
    _, _, dones, infos = normalized.step(np.zeros(1, np.int64))
    assert dones[0]
    assert "terminal_observation" not in infos[0]


def test_the_librarys_wrappers_and_evaluation_work_on_it() -> None:
    vec_env = export_to_vec_env(open_environments(_cartpole, 3))
    wrapped = VecFrameStack(VecNormalize(VecCheckNan(vec_env, raise_exception=True)), 2)
    model = A2C("MlpPolicy", wrapped, policy_kwargs={"net_arch": [4]}, seed=1, device="cpu").learn(60)
    assert len(model.ep_info_buffer or []) > 0
    returns, lengths = evaluate_policy(model, wrapped, n_eval_episodes=5, return_episode_rewards=True)
    assert [float(length) for length in lengths] == returns  # type: ignore[union-attr]
    dicts = VecExtractDictObs(export_to_vec_env(open_environments(DictWorld, 2)), "position")
    assert dicts.reset().shape == (2, 2)
    for _ in range(30):
        *_, dones, infos = dicts.step(np.zeros((2, 2), np.int64))
        assert all(info["terminal_observation"].shape == (2,) for info, done in zip(infos, dones, strict=True) if done)


def test_training_is_that_of_the_library() -> None:
    kwargs: Any = {"seed": 3, "n_steps": 16, "batch_size": 16, "n_epochs": 2, "device": "cpu"}
    plain = PPO("MlpPolicy", DummyVecEnv([lambda: Monitor(_cartpole())] * 2), **kwargs).learn(96)
    ours = PPO("MlpPolicy", export_to_vec_env(open_environments(_cartpole, 2)), **kwargs).learn(96)
    weights = zip(plain.policy.parameters(), ours.policy.parameters(), strict=True)
    assert all((one == other).all() for one, other in weights)
    assert [info["r"] for info in plain.ep_info_buffer or []] == [info["r"] for info in ours.ep_info_buffer or []]


@pytest.mark.parametrize(("asked", "value"), [("auto", "sync"), ("sync", "sync"), ("native", "native")])
def test_how_the_environments_are_run_is_recorded(asked: str, value: str) -> None:
    records: list[Any] = []

    class Listening(Callback):
        def on_training_start(self, event: Any, training: Any) -> None:
            records.append(event.record["choices"]["vectorization"])

    agent = StableBaselinesAgent(PPO, SMALL)
    arguments: Any = {"vectorization": asked, "callbacks": [Listening()], "progress_bar": False}
    agent.train("CartPole-v1", 16, n_environments=2, **arguments)
    assert [record["value"] for record in records] == [value]
    assert records[0]["reason"]


# A VecEnv that the caller brings


class Watched(DummyVecEnv):
    """Notes whether it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


@pytest.mark.parametrize("wrap", [None, VecMonitor, partial(VecFrameStack, n_stack=2), VecNormalize])
def test_a_vec_env_is_handed_through(wrap: Any) -> None:
    inner = Watched([_cartpole] * 2)
    vec_env = inner if wrap is None else wrap(inner)
    batch = open_environments(vec_env)
    assert isinstance(batch, VecEnvSlots)
    assert export_to_vec_env(batch) is vec_env
    batch.close()
    agent = StableBaselinesAgent(PPO, SMALL)
    for total in (16, 32):
        agent.train(training_environments=vec_env, total_timesteps=16, seed=1, progress_bar=False)
        assert agent.algorithm.get_env() is vec_env
        assert agent.num_timesteps == total
    assert inner.closed == 0
    vec_env.reset()
    vec_env.step(np.zeros(2, np.int64))


def test_a_vec_env_as_slots() -> None:
    vec_env = DummyVecEnv([lambda: Monitor(_ended_and_cut()), lambda: Monitor(TimeLimit(Counter(2.0), 2))])
    batch = open_environments(vec_env)
    observations, infos = batch.reset_slots(5, {"hard": True})
    assert observations.tolist() == [[0, 0, 0], [2, 0, 0]]
    assert [info["t"] for info in infos] == [0, 0]
    assert [environment.unwrapped.options for environment in vec_env.envs] == [{"hard": True}] * 2
    assert [environment.unwrapped.np_random_seed for environment in vec_env.envs] == [5, 6]
    steps = [batch.step_slots(np.zeros(2, np.int64)) for _ in range(4)]
    assert [step.terminated.tolist() for step in steps] == [[False, False]] * 3 + [[True, False]]
    assert [step.truncated.tolist() for step in steps] == [[False, False], [False, True]] * 2
    assert [step.rewards.tolist() for step in steps] == [[1, 1], [2, 2], [3, 1], [4, 2]]
    finals = [{slot: final.tolist() for slot, final in step.final_observations.items()} for step in steps]
    assert finals == [{}, {1: [2, 0, 2]}, {}, {0: [0, 0, 4], 1: [2, 1, 2]}]
    assert steps[3].observations.tolist() == [[0, 1, 0], [2, 2, 0]]
    assert [(info["episode"]["r"], info["episode"]["l"]) for info in steps[3].infos] == [(10.0, 4), (3.0, 2)]
    assert batch.call_slots("add", 1) == [1.0, 3.0]
    assert batch.get_slots("number", [1]) == [2.0]
    batch.set_slots("t", 0)
    batch.close()


def _normalized(wrap: Any = None, **kwargs: Any) -> tuple[VecNormalize, VecEnv]:
    inner: VecEnv = DummyVecEnv([lambda: Monitor(Counter(1.0, (4,))), lambda: Monitor(Counter(2.0, (3,)))])
    normalized = VecNormalize(inner, **kwargs)
    normalized.reset()
    for _ in range(20):
        normalized.step(np.zeros(2, np.int64))
    return normalized, normalized if wrap is None else wrap(normalized)


def _statistics(normalized: VecNormalize) -> list[float]:
    rms: Any = normalized.obs_rms
    return [*rms.mean, *rms.var, rms.count, normalized.ret_rms.mean, normalized.ret_rms.var, normalized.ret_rms.count]


@pytest.mark.parametrize(
    "wrap", [None, partial(VecFrameStack, n_stack=2), VecMonitor], ids=["outer", "stack", "monitor"]
)
@pytest.mark.filterwarnings("ignore:The environment is already wrapped with a `Monitor`")
def test_normalisation_is_frozen_and_rewards_are_original(wrap: Any) -> None:
    normalized, vec_env = _normalized(wrap, clip_obs=1000.0)
    before = _statistics(normalized)
    batch = open_environments(vec_env)
    batch.reset_slots()
    for _ in range(8):
        step = batch.step_slots(np.zeros(2, np.int64))
        assert all(reward == int(reward) for reward in step.rewards)
        for index, info in enumerate(step.infos):
            if "episode" in info:
                assert info["episode"]["r"] == (10.0, 6.0)[index]
                assert info["episode"]["l"] == (4, 3)[index]
        if wrap is None:  # the agent normalises by itself
            assert all(value == int(value) for value in step.observations.ravel())
            for final in step.final_observations.values():
                assert final == pytest.approx(np.round(final), abs=1e-3)
        assert step.observations in batch.observation_space
    assert _statistics(normalized) == before
    assert normalized.training
    batch.close()


def test_frozen_also_when_a_step_fails() -> None:
    normalized = VecNormalize(DummyVecEnv([partial(Counter, fails_at=(0, 1))]))
    batch = open_environments(normalized)
    batch.reset_slots()
    with pytest.raises(ValueError, match="the toy broke"):
        batch.step_slots(np.zeros(1, np.int64))
    assert normalized.training


def test_frame_stack_under_normalisation() -> None:
    vec_env = VecNormalize(VecFrameStack(DummyVecEnv([Counter]), 2))
    batch = open_environments(vec_env)
    assert batch.single_observation_space.shape == (6,)
    assert batch.reset_slots()[0].tolist() == [[0, 0, 0, 0, 0, 0]]
    assert batch.step_slots(np.zeros(1, np.int64)).observations.tolist() == [[0, 0, 0, 0, 0, 1]]
    assert batch.step_slots(np.zeros(1, np.int64)).observations.tolist() == [[0, 0, 1, 0, 0, 2]]


def test_spaces_without_environments() -> None:
    vec_env = SpacesOnlyVecEnv(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), 3)
    A2C("MlpPolicy", vec_env)
    for forbidden in (vec_env.reset, partial(vec_env.step, np.zeros(3))):
        with pytest.raises(NotTrainedError):
            forbidden()
    vec_env.close()


def test_absent_slots_of_a_native_environment_are_exported_as_plain_steps() -> None:
    """The library must not see the end of an episode, nor an observation of one, where nobody acted."""
    vec_env: Any = export_to_vec_env(open_environments(CartPoleVectorEnv(3, max_episode_steps=6)))
    vec_env.seed(0)
    vec_env.reset()
    for _ in range(30):
        present = vec_env.batch.present.copy()
        _, rewards, dones, infos = vec_env.step(np.array([0, 1, 0]))
        assert vec_env.acted.tolist() == present.tolist()
        assert rewards[~present].tolist() == [0.0] * int((~present).sum())
        for done, info, here in zip(dones, infos, present, strict=True):
            assert done == ("terminal_observation" in info) == ("episode" in info)
            assert here or not done
