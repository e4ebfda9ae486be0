"""Wrappers are named, checked, put around every single environment, and taken off again."""

from __future__ import annotations

from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.wrappers import GrayscaleObservation
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.environment.toys import Crowd, CrowdAdapter, DictWorld, ImageWorld

from rl_framework import registry
from rl_framework.environment import open_environments, wrap_environment
from rl_framework.environment.wrappers import check_wrappers, wrappers_around
from rl_framework.errors import ArgumentError, EnvironmentSourceError, MissingExtraError, UnknownNameError

ATARI = pytest.mark.skipif(not all(map(find_spec, ("ale_py", "cv2"))), reason="the extra atari is not installed")
MINIGRID = pytest.mark.skipif(find_spec("minigrid") is None, reason="the extra minigrid is not installed")
CV2 = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")
STACK = {"type": "frame_stack", "stack_size": 4}


class Picture(gymnasium.Env):
    """Draws the number of the step into every pixel."""

    def __init__(self, shape=(10, 8, 3), action_space=None):
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = action_space or spaces.Discrete(2)
        self.closed = False
        self.taken = []

    def _draw(self):
        return np.full(self.observation_space.shape, self.t, np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 1
        return self._draw(), {}

    def step(self, action):
        self.t += 1
        self.taken.append(action)
        return self._draw(), 3.0, self.t == 6, False, {}

    def close(self):
        self.closed = True


class Fails(gymnasium.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        raise ValueError("as always")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry.wrappers, "_entries", dict(registry.wrappers._entries))


def observed(wrappers, environment=None, steps=0):
    """The last observation of one environment in the door, and its space."""
    batch = open_environments(Picture() if environment is None else environment, wrappers=wrappers)
    observation, _ = batch.reset_slots(0)
    for _ in range(steps):
        observation = batch.step_slots(batch.action_space.sample()).observations
    batch.close()
    assert observation[0] in batch.single_observation_space
    return observation[0]


@pytest.mark.parametrize(
    ("wrappers", "shape"),
    [
        pytest.param(["grayscale"], (10, 8), id="grayscale"),
        pytest.param([{"type": "grayscale", "keep_dim": True}], (10, 8, 1), id="grayscale with a channel"),
        pytest.param([{"type": "resize", "shape": (5, 4)}], (5, 4, 3), id="resize", marks=CV2),
        pytest.param(["flatten_observation"], (240,), id="flatten"),
        pytest.param(["grayscale", STACK], (4, 10, 8), id="stacked gray images"),
        pytest.param([STACK], (10, 8, 12), id="stacked colour images"),
        pytest.param([{"type": "max_and_skip", "skip": 2}], (10, 8, 3), id="max and skip"),
    ],
)
def test_observations_have_the_shape_that_was_asked_for(wrappers, shape):
    assert observed(wrappers, steps=2).shape == shape


def test_stacked_images_have_the_newest_frame_last():
    stacked = observed([STACK], steps=2)
    assert stacked[0, 0].tolist() == [1] * 6 + [2] * 3 + [3] * 3
    assert observed(["grayscale", STACK], steps=2)[:, 0, 0].tolist() == [1, 1, 2, 3]
    zeros = observed([{**STACK, "padding_type": "zero"}], steps=1)
    assert zeros[0, 0].tolist() == [0] * 6 + [1] * 3 + [2] * 3


def test_dictionaries_are_flattened():
    flat = observed(["flatten_observation"], DictWorld())
    assert flat.ndim == 1


def test_they_are_put_on_in_the_order_of_the_list_the_innermost_first():
    clipped_first = wrap_environment(Picture(), ["reward_clip", {"type": "reward_scale", "scale": 2}])
    scaled_first = wrap_environment(Picture(), [{"type": "reward_scale", "scale": 0.1}, "reward_clip"])
    rewards = []
    for environment in (clipped_first, scaled_first):
        environment.reset()
        rewards.append(environment.step(0)[1])
    assert rewards == [2.0, pytest.approx(0.3)]


def test_returns_are_told_before_rewards_are_changed():
    batch = open_environments(Picture(), wrappers=["reward_clip", {"type": "reward_scale", "scale": 0.5}])
    batch.reset_slots(0)
    steps = [batch.step_slots(np.array([0])) for _ in range(5)]
    assert [float(step.rewards[0]) for step in steps] == [0.5] * 5
    assert steps[-1].infos[0]["episode"]["r"] == 15.0


def test_rewards_of_hindsight_are_changed_alike():
    class Goal(Picture):
        def compute_reward(self, achieved, desired, info):
            return -np.abs(achieved - desired)

    environment = wrap_environment(Goal(), [{"type": "reward_scale", "scale": 2}, "reward_clip"])
    compute = environment.get_wrapper_attr("compute_reward")
    assert compute(np.array([1.0, 1.0]), np.array([1.25, 9.0]), None).tolist() == [-0.5, -1.0]
    with pytest.raises(AttributeError):
        wrap_environment(Picture(), ["reward_clip"]).get_wrapper_attr("compute_reward")


def test_actions_are_rescaled_to_lists_and_numbers():
    space = spaces.Box(np.array([0, 10], np.float32), np.array([2, 30], np.float32))
    for bounds in ({}, {"min_action": [-1, -1], "max_action": [1.0, 1.0]}):
        inner = Picture(action_space=space)
        environment = wrap_environment(inner, [{"type": "action_rescale", **bounds}])
        assert environment.action_space == spaces.Box(-1, 1, (2,), np.float32)
        environment.reset()
        environment.step(np.array([-1, 0.5], np.float32))
        assert inner.taken[0].tolist() == [0.0, 25.0]


def test_sticky_actions_follow_from_the_seed():
    def taken(seed):
        inner = Picture()
        environment = wrap_environment(inner, [{"type": "sticky_actions", "repeat_action_probability": 0.5}])
        for _ in range(10):
            environment.reset(seed=seed)
            for t in range(5):
                environment.step(t % 2)
        return inner.taken

    assert taken(3) == taken(3)
    assert taken(3) != taken(4)
    assert taken(3) != [0, 1, 0, 1, 0] * 10


def test_time_limit_truncates():
    batch = open_environments(Picture(), wrappers=[{"type": "time_limit", "max_episode_steps": 2}])
    batch.reset_slots(0)
    batch.step_slots(np.array([0]))
    step = batch.step_slots(np.array([0]))
    assert step.truncated[0]
    assert not step.terminated[0]


def test_every_environment_is_wrapped_also_in_processes():
    found = []
    for vectorization in ("sync", "subprocess"):
        batch = open_environments(
            "CartPole-v1", 2, vectorization=vectorization, wrappers=["sticky_actions", {**STACK, "stack_size": 2}]
        )
        observations, _ = batch.reset_slots(5)
        rows = [observations.copy()]
        for t in range(12):
            rows.append(batch.step_slots(np.array([t % 2, 1])).observations.copy())
        batch.close()
        found.append(np.array(rows))
    assert found[0].shape == (13, 2, 2, 4)
    assert (found[0] == found[1]).all()


def test_an_environment_of_the_caller_stays_as_it_was():
    mine = GrayscaleObservation(Picture())
    inner = mine.env
    batch = open_environments(mine, wrappers=[STACK, "reward_clip"])
    batch.reset_slots(0)
    batch.step_slots(np.array([1]))
    batch.close()
    assert mine.env is inner
    assert not inner.closed
    assert wrappers_around(mine) is None
    assert mine.reset()[0].shape == (10, 8)
    assert mine.step(0)[1] == 3.0


def test_a_pair_with_a_stub_is_compared_behind_its_wrappers():
    batch = open_environments((Picture(), Picture), 2, wrappers=["grayscale"])
    assert batch.single_observation_space.shape == (10, 8)
    batch.close()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(lambda: CartPoleVectorEnv(2), "vectorized already", id="vector environment"),
        pytest.param(lambda: DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), "vectorized already", id="VecEnv"),
        pytest.param(Crowd, "several slots", id="several slots"),
        pytest.param(lambda: Crowd, "several slots", id="factory of several slots"),
    ],
)
def test_what_is_not_single_is_refused(make, problem, monkeypatch):
    monkeypatch.setattr(registry.environment_adapters, "_entries", dict(registry.environment_adapters._entries))
    registry.register_environment_adapter("crowd", CrowdAdapter)
    source = make()
    with pytest.raises(ArgumentError, match=rf"wrappers=.*{problem}"):
        open_environments(source, wrappers=["time_aware"])


def test_native_vectorization_is_refused():
    with pytest.raises(ArgumentError, match=r'wrappers=.*native.*Use "sync"'):
        open_environments("CartPole-v1", vectorization="native", wrappers=["time_aware"])


@pytest.mark.parametrize(
    ("wrappers", "problem"),
    [
        (["frame_stack"], r"wrappers\[0\].*'frame_stack'.*stack_size.*It takes stack_size, padding_type"),
        (["grayscale", {"type": "frame_stack", "stack": 3}], r"wrappers\[1\].*'frame_stack'.*'stack'"),
        ([{"type": "frame_stack", "stack_size": 0}], r"'frame_stack'.*greater than zero"),
        ([{"type": "frame_stack", "stack_size": 10**9}], "at most 1000"),
        ([{"type": "reward_scale", "scale": 0}], "not 0"),
        ([{"type": "reward_clip", "min_reward": 2, "max_reward": 1}], "'reward_clip'"),
        ([{"type": "sticky_actions", "repeat_action_probability": 1.5}], r"'sticky_actions'.*interval"),
        (["action_rescale"], "'action_rescale'.*no Box"),
        (["flatten_observation", "grayscale"], r"wrappers\[1\].*'grayscale' cannot be put around.*AssertionError"),
        ([{"type": "atari", "training": True}], "not for a specification"),
        ([{"frame_stack": 4}], 'needs a "type"'),
        ([{"type": "time_limit", "max_episode_steps": {"type": "x"}}], r"\['max_episode_steps'\].*no plain data"),
        ([{"type": "reward_scale", "scale": float("nan")}], "no plain data"),
        ([3], "is no wrapper"),
        ([Fails], "has no registered name.*register_wrapper"),
        ("grayscale", "must be a list"),
        ({"type": "grayscale"}, "must be a list"),
    ],
    ids=str,
)
def test_mistakes_are_named(wrappers, problem):
    with pytest.raises(ArgumentError, match=problem):
        open_environments(Picture, wrappers=wrappers)


def test_unknown_names_suggest_near_ones():
    with pytest.raises(UnknownNameError, match=r"wrappers\[0\].*'frame_stack'"):
        check_wrappers(["framestack"])


def test_resizing_too_far_is_refused():
    if find_spec("cv2") is None:
        with pytest.raises(MissingExtraError, match="atari"):
            observed([{"type": "resize", "shape": [10**6, 10**6]}])
    else:
        with pytest.raises(ArgumentError, match="at most 4096"):
            observed([{"type": "resize", "shape": [10**6, 10**6]}])


def test_own_wrappers_join_by_name_and_may_be_given_as_classes():
    class Renamed(gymnasium.ObservationWrapper):
        def __init__(self, env, offset: int = 1):
            super().__init__(env)
            self.offset = offset

        def observation(self, observation):
            return observation + np.uint8(self.offset)

    registry.register_wrapper("Renamed", Renamed)
    assert check_wrappers([Renamed]) == [{"type": "renamed"}]
    assert observed([Renamed]).max() == 2
    assert observed([{"type": "renamed", "offset": np.int64(6)}]).max() == 7


@pytest.mark.parametrize("given", ["class", "object"])
def test_what_cannot_be_wrapped_is_closed_if_it_was_made_here(given):
    registry.register_wrapper("fails", Fails)
    made = []

    def make():
        made.append(Picture())
        return made[-1]

    mine = Picture()
    with pytest.raises(ArgumentError, match="as always"):
        open_environments(make if given == "class" else mine, wrappers=["grayscale", "fails"])
    assert not mine.closed
    assert [each.closed for each in made] == ([True] if given == "class" else [])


def test_wrapping_twice_is_wrapping_once():
    environment = wrap_environment(Picture(), ["grayscale", STACK])
    assert wrappers_around(environment) == [{"type": "grayscale"}, STACK]
    assert wrap_environment(environment, ["grayscale", STACK]) is environment
    assert observed(["grayscale", STACK], environment).shape == (4, 10, 8)
    with pytest.raises(EnvironmentSourceError, match=r"has the wrappers.*already"):
        wrap_environment(environment, ["grayscale"])


def test_no_wrappers_are_no_change():
    environment = Picture()
    assert wrap_environment(environment, None) is environment
    assert wrap_environment(environment, []) is environment


def test_the_atari_wrapper_refuses_what_is_no_game():
    error = ArgumentError if find_spec("ale_py") and find_spec("cv2") else MissingExtraError
    with pytest.raises(error, match=r"atari|Atari"):
        open_environments(ImageWorld, wrappers=["atari"])


@ATARI
def test_atari_games_become_84_by_84_whatever_their_own_frame_skip():
    frames = []
    for identifier in ("ALE/Pong-v5", "PongNoFrameskip-v4"):
        batch = open_environments(identifier, wrappers=["atari", STACK])
        assert batch.single_observation_space == spaces.Box(0, 255, (4, 84, 84), np.uint8)
        _, (info,) = batch.reset_slots(1)
        step = batch.step_slots(np.array([0]))
        frames.append(step.infos[0]["frame_number"] - info["frame_number"])
        batch.close()
    assert frames == [4, 4]


@ATARI
def test_a_game_of_the_caller_keeps_its_frame_skip():
    import ale_py

    gymnasium.register_envs(ale_py)
    mine = gymnasium.make("ALE/Pong-v5")
    environment = wrap_environment(mine, ["atari"])
    environment.reset(seed=0)
    environment.step(0)
    assert mine.unwrapped._frameskip == 4
    before = mine.step(0)[-1]["frame_number"]
    assert mine.step(0)[-1]["frame_number"] - before == 4


@ATARI
def test_lives_are_episodes_in_training_only():
    specification = [{"type": "atari", "terminal_on_life_loss": True, "fire_reset": True, "noop_max": 0}]
    lives = {}
    for training in (True, False):
        batch = open_environments("BreakoutNoFrameskip-v4", wrappers=specification, training=training)
        batch.reset_slots(0)
        ends = []
        for _ in range(400):
            step = batch.step_slots(np.array([1]))
            if step.terminated[0]:
                ends.append(step.infos[0]["lives"])
            if 0 in ends:
                break
        batch.close()
        lives[training] = ends
    assert lives == {True: [4, 3, 2, 1, 0], False: [0]}


@MINIGRID
@pytest.mark.parametrize(
    ("wrappers", "shape"),
    [
        (["minigrid_image"], (7, 7, 3)),
        (["minigrid_image", "flatten_observation"], (147,)),
        (["minigrid_rgb"], (56, 56, 3)),
        ([{"type": "minigrid_rgb", "tile_size": 4, "fully_observable": True}], (20, 20, 3)),
        (["minigrid_flat"], (2835,)),
    ],
    ids=str,
)
def test_minigrid_is_shown_without_its_text(wrappers, shape):
    observation = observed(wrappers, "MiniGrid-Empty-5x5-v0", steps=1)
    assert observation.shape == shape
    assert observation.dtype == np.uint8
