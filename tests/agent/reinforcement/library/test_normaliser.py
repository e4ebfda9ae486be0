"""Statistics that belong to the agent: learned while training, frozen while acting, saved."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.agent.samples import Sampled, make, same, train, trained, weights

from rl_framework import ArgumentError, load_agent
from rl_framework.agent.reinforcement.library.normaliser import Normaliser
from rl_framework.errors import BundleError, UnsupportedSpaceError

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
FAR = spaces.Box(np.array([90, -6, 0], np.float32), np.array([110, -4, 0.5], np.float32))


def far_away():
    return Sampled(FAR)


def statistics(agent):
    return agent.normaliser.to_arrays()


def test_statistics_are_those_of_the_observations():
    agent = train(make(normalize_observations=True), far_away, 480, seed=0)
    mean, variance, count = agent.normaliser.observation[""]
    assert mean == pytest.approx([100, -5, 0.25], rel=0.1)
    assert np.sqrt(variance) == pytest.approx([20 / 12**0.5, 2 / 12**0.5, 0.5 / 12**0.5], rel=0.1)
    assert count == pytest.approx(481, abs=0.1)


def test_acting_uses_the_statistics_and_changes_nothing():
    agent = train(make("sac", normalize_observations=True), lambda: Sampled(FAR, spaces.Box(-1, 1, (1,))), seed=0)
    before = statistics(agent)
    observation = np.array([101, -5.5, 2e-4], np.float32)
    mean, variance, _ = agent.normaliser.observation[""]
    scaled = ((observation - mean) / np.sqrt(variance + 1e-8)).astype(np.float32)
    expected, _ = agent.algorithm.predict(scaled[None], deterministic=True)
    assert np.array_equal(agent.choose_action(observation), expected[0])
    agent.choose_action(np.full((50, 3), 1e6))
    assert same(statistics(agent), before)


def test_evaluating_changes_no_statistics_and_uses_them():
    agent = train(make(normalize_observations=True, normalize_rewards=True), far_away, seed=0)
    before = statistics(agent)
    results = [agent.evaluate(far_away, 4, seed=2).returns.tolist() for _ in range(2)]
    assert results[0] == results[1]
    assert same(statistics(agent), before)


def test_returns_of_an_evaluation_are_not_normalised():
    class Paying(Sampled):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 100.0, *rest

    agent = train(make(normalize_observations=True, normalize_rewards=True), Paying)
    assert agent.evaluate(Paying, 3).returns.tolist() == [1000.0] * 3


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
@pytest.mark.parametrize("rewards", [True, False])
def test_statistics_are_saved(algorithm, rewards, tmp_path):
    agent = trained(algorithm, normalize_observations=True, normalize_rewards=rewards)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert (loaded.normalize_observations, loaded.normalize_rewards) == (True, rewards)
    assert same(statistics(loaded), statistics(agent))
    observations = np.random.default_rng(0).normal(size=(20, *agent.observation_space.shape)).astype(np.float32)
    assert np.array_equal(agent.choose_action(observations), loaded.choose_action(observations))
    again = load_agent(loaded.save_to_file(tmp_path / "again.zip"))
    assert same(statistics(again), statistics(agent))


def test_training_goes_on_with_the_statistics_that_were_loaded(tmp_path):
    agent = train(make(normalize_observations=True), far_away, seed=0)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    train(loaded, far_away)
    assert loaded.normaliser.observation[""][2] == pytest.approx(2 * agent.normaliser.observation[""][2], abs=1)


def test_only_what_can_be_normalised_is():
    space = spaces.Dict(
        {"far": FAR, "image": IMAGE, "count": spaces.Discrete(3), "near": spaces.Box(0, 9, (2,), np.int16)}
    )
    agent = train(
        make("ppo", {"n_steps": 8, "n_epochs": 1}, normalize_observations=True), lambda: Sampled(space), 8, seed=0
    )
    assert set(agent.normaliser.observation) == {"far", "near"}
    space.seed(0)
    sample = space.sample()
    batch = {key: np.asarray(value)[None] for key, value in sample.items()}
    normalised = agent.normaliser.normalise(batch)
    assert normalised["image"] is batch["image"]
    assert normalised["count"] is batch["count"]
    assert abs(normalised["far"]).max() <= 10
    assert type(agent.choose_action(sample)) is int
    agent.evaluate(lambda: Sampled(space), 1)


@pytest.mark.parametrize("space", [IMAGE, spaces.Discrete(4), spaces.Dict({"a": IMAGE, "b": spaces.MultiBinary(2)})])
def test_where_there_is_nothing_to_normalise_it_is_refused(space):
    environment = Sampled(space)
    with pytest.raises(UnsupportedSpaceError, match="nothing to normalise"):
        train(make(normalize_observations=True), environment)
    assert environment.resets == 0
    train(make("ppo", {"n_steps": 8}, normalize_rewards=True), environment, 8)


def test_whole_numbers_are_not_cut_off_after_they_were_normalised():
    agent = train(make(normalize_observations=True), lambda: Sampled(spaces.Box(0, 200, (4,), np.uint8)), seed=0)
    collected = agent.algorithm.rollout_buffer.observations
    assert collected.dtype == np.float32
    assert (collected != np.round(collected)).mean() > 0.9


def test_the_order_of_a_dictionarys_keys_stays(tmp_path):
    from collections import OrderedDict

    space = spaces.Dict(OrderedDict(z=spaces.Box(0, 9, (1,), np.int16), a=spaces.Box(-1, 1, (2,))))
    agent = train(make(normalize_observations=True), lambda: Sampled(space), seed=0)
    assert list(agent.algorithm.observation_space.spaces) == ["z", "a"]
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    space.seed(0)
    observations = [space.sample() for _ in range(9)]
    assert [agent.choose_action(o) for o in observations] == [loaded.choose_action(o) for o in observations]


# A VecNormalize that the user brings


@pytest.mark.parametrize("space", [FAR, spaces.Dict({"far": FAR, "count": spaces.Discrete(3)})], ids=str)
def test_statistics_of_a_vec_normalize_become_the_agents(space, tmp_path):
    def factory():
        return Sampled(space)

    keys = ["far"] if isinstance(space, spaces.Dict) else None
    vec_env = VecNormalize(DummyVecEnv([factory] * 2), norm_obs_keys=keys, clip_obs=5.0)
    agent = train(make(), vec_env, seed=0)
    assert agent.observation_space == space
    space.seed(0)
    observation = space.sample()
    batch = {k: np.asarray(v)[None] for k, v in observation.items()} if keys else observation[None]
    expected, _ = agent.algorithm.predict(vec_env.normalize_obs(batch), deterministic=True)
    assert agent.choose_action(observation) == expected[0]

    before = vec_env.ret_rms.count
    raw = agent.evaluate(factory, 4, seed=1)
    wrapped = agent.evaluate(vec_env, 4, seed=1)
    assert raw.n_episodes == wrapped.n_episodes == 4
    assert vec_env.ret_rms.count == before
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert same(weights(loaded), weights(agent))
    assert loaded.evaluate(factory, 4, seed=1).returns.tolist() == raw.returns.tolist()
    assert loaded.choose_action(observation) == expected[0]


def test_a_vec_normalize_of_rewards_alone(tmp_path):
    agent = train(make(), VecNormalize(DummyVecEnv([lambda: Sampled(spaces.Discrete(3))]), norm_obs=False))
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.normaliser.observation == {}
    assert [agent.choose_action(o) for o in range(3)] == [loaded.choose_action(o) for o in range(3)]
    train(loaded, lambda: Sampled(spaces.Discrete(3)))


def test_an_agent_in_a_vec_normalize_acts_on_the_raw_environment():
    vec_env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    agent = train(make(), vec_env)
    assert agent.evaluate("CartPole-v1", 3).n_episodes == 3


def test_normalising_twice_is_refused():
    for asked in ("normalize_observations", "normalize_rewards"):
        with pytest.raises(ArgumentError, match="VecNormalize already"):
            train(make(**{asked: True}), VecNormalize(DummyVecEnv([Sampled])))


# Damaged statistics


def arrays(**changed):
    normaliser = Normaliser({"": (np.zeros(3), np.ones(3), 5.0)}, (0.0, 1.0, 5.0), 10.0, 1e-8)
    return {name: array for name, array in {**normaliser.to_arrays(), **changed}.items() if array is not None}


def test_arrays_are_read_back():
    normaliser = Normaliser.from_arrays(arrays(), {"": (3,)})
    assert same(normaliser.to_arrays(), arrays())
    unclipped = Normaliser.from_arrays(arrays(clip_observation=np.array(np.inf)), {"": (3,)})
    assert unclipped.normalise(np.full((1, 3), 1e6)).max() == pytest.approx(1e6)


@pytest.mark.parametrize(
    "changed",
    [
        {"mean/": np.zeros(2)},
        {"mean/": np.full(3, np.nan)},
        {"variance/": -np.ones(3)},
        {"variance/": None},
        {"count/": None},
        {"count/": np.array(np.nan)},
        {"count/": np.zeros(3)},
        {"reward": np.zeros(2)},
        {"reward": np.array([0, -1, 1.0])},
        {"reward": np.array([0, np.inf, 1.0])},
        {"reward": None},
        {"clip_observation": np.array(-1.0)},
        {"clip_observation": np.array(math.nan)},
        {"clip_observation": None},
        {"epsilon": np.array(math.nan)},
        {"epsilon": np.array(-1.0)},
        {"mean/other": np.zeros(3), "variance/other": np.ones(3), "count/other": np.array(1.0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_damaged_statistics_are_refused(changed):
    with pytest.raises(BundleError, match="damaged"):
        Normaliser.from_arrays(arrays(**changed), {"": (3,)})
