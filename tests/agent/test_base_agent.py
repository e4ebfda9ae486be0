"""What every agent does: act, evaluate, save, load, be handed over."""

import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.agent.samples import Sampled, make, same, train, trained, weights

from rl_framework import ArgumentError, RLFrameworkError, StableBaselinesAgent, load_agent
from rl_framework.bundle import read_bundle
from rl_framework.errors import (
    BundleError,
    ConnectorError,
    EnvironmentSourceError,
    NonFiniteError,
    NotTrainedError,
    SpaceMismatchError,
    UnsavableError,
)


@pytest.fixture(scope="module")
def cart_pole():
    return trained()


def random_states():
    state = np.random.get_state()
    return random.getstate(), state[1].tolist(), state[2], torch.get_rng_state().tolist()


# Acting


def test_one_observation_of_a_discrete_agent_gives_an_int(cart_pole):
    action = cart_pole.choose_action(np.zeros(4))
    assert type(action) is int
    assert action in (0, 1)


def test_a_batch_gives_one_action_each_and_the_same_ones(cart_pole):
    batch = np.random.default_rng(0).normal(size=(7, 4))
    actions = cart_pole.choose_action(batch)
    assert actions.shape == (7,)
    assert actions.tolist() == [cart_pole.choose_action(observation) for observation in batch]
    assert actions.tolist() == cart_pole.choose_action(batch.tolist()).tolist()


def test_a_batch_of_one_stays_a_batch(cart_pole):
    assert cart_pole.choose_action(np.zeros((1, 4))).shape == (1,)


def test_a_continuous_action_lies_in_the_space():
    agent = trained("sac")
    for deterministic in (True, False):
        assert agent.action_space.contains(agent.choose_action(np.ones(3), deterministic=deterministic))


def test_a_discrete_observation_can_be_a_plain_int():
    agent = train(make(), "FrozenLake-v1")
    assert type(agent.choose_action(3)) is int
    assert agent.choose_action([1, 2, 3]).shape == (3,)


@pytest.mark.parametrize(
    "observation", [np.zeros(3), np.zeros((2, 2, 4)), np.zeros((0, 4)), 1.0, None, "text", ["a"] * 4, [None] * 4, {}]
)
def test_an_observation_of_another_kind_is_refused(cart_pole, observation):
    with pytest.raises(SpaceMismatchError, match="observation"):
        cart_pole.choose_action(observation)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_is_refused(cart_pole, number):
    with pytest.raises(ArgumentError, match="NaN or infinity"):
        cart_pole.choose_action([0, 0, number, 0])


def test_a_count_outside_its_space_is_refused():
    agent = train(make(), "FrozenLake-v1")
    for observation in (16, -1, [3, 16]):
        with pytest.raises(SpaceMismatchError, match="is not in"):
            agent.choose_action(observation)


def test_dictionaries_must_have_the_keys_of_the_space():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})
    agent = train(make(), lambda: Sampled(space))
    assert type(agent.choose_action({"a": [0.0, 0.5], "b": 2})) is int
    assert agent.choose_action({"a": np.zeros((5, 2)), "b": np.zeros(5, int)}).shape == (5,)
    for wrong in ({"a": [0, 0]}, {"a": [0, 0], "b": 1, "c": 1}, {"a": [0, 0, 0], "b": 1}, [0, 0]):
        with pytest.raises(SpaceMismatchError):
            agent.choose_action(wrong)


def test_before_training_there_is_nothing_to_act_with(tmp_path):
    agent = make()
    attempts = [
        lambda: agent.choose_action(np.zeros(4)),
        lambda: agent.evaluate("CartPole-v1", 1),
        lambda: agent.save_to_file(tmp_path / "agent.zip"),
        lambda: agent.observation_space,
        lambda: agent.action_space,
        lambda: agent.algorithm,
    ]
    for attempt in attempts:
        with pytest.raises(NotTrainedError, match=r"train\(...\)"):
            attempt()
    assert agent.num_timesteps == 0
    assert not list(tmp_path.iterdir())


# Evaluating


def test_an_evaluation_unpacks_and_tells_its_seed(cart_pole):
    result = cart_pole.evaluate("CartPole-v1", n_eval_episodes=5)
    mean, deviation = result
    assert (mean, deviation) == (result.mean, result.std)
    assert result.n_episodes == 5
    assert result.environment == "CartPole-v1"
    again = cart_pole.evaluate("CartPole-v1", n_eval_episodes=5, seed=result.seed)
    assert again.returns.tolist() == result.returns.tolist()


def test_both_spellings_mean_the_same(cart_pole):
    one = cart_pole.evaluate(evaluation_environment="CartPole-v1", n_eval_episodes=3, seed=4)
    other = cart_pole.evaluate(evaluation_environments="CartPole-v1", n_eval_episodes=3, seed=4)
    assert one.returns.tolist() == other.returns.tolist()
    with pytest.raises(ArgumentError, match="another spelling"):
        cart_pole.evaluate("CartPole-v1", evaluation_environments="CartPole-v1")


@pytest.mark.parametrize("episodes", [0, -1, 1.5, True, None, "3"])
def test_an_evaluation_needs_episodes(cart_pole, episodes):
    with pytest.raises(ArgumentError, match="n_eval_episodes"):
        cart_pole.evaluate("CartPole-v1", n_eval_episodes=episodes)


@pytest.mark.parametrize("nothing", [None, [], "NoSuchEnvironment-v0", 3])
def test_an_evaluation_needs_an_environment(cart_pole, nothing):
    with pytest.raises(EnvironmentSourceError, match="evaluation_environment"):
        cart_pole.evaluate(nothing, n_eval_episodes=1)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, 1 << 32])
def test_an_evaluation_needs_a_seed_that_is_one(cart_pole, seed):
    with pytest.raises(ArgumentError, match="seed"):
        cart_pole.evaluate("CartPole-v1", n_eval_episodes=1, seed=seed)


def test_an_environment_of_other_spaces_is_refused(cart_pole):
    with pytest.raises(SpaceMismatchError, match="observation_space"):
        cart_pole.evaluate("Pendulum-v1", n_eval_episodes=1)
    with pytest.raises(SpaceMismatchError, match="action_space"):
        cart_pole.evaluate(lambda: Sampled(cart_pole.observation_space, spaces.Discrete(5)), n_eval_episodes=1)


def test_an_environment_that_breaks_down_says_so_in_an_evaluation():
    class Broken(Sampled):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    agent = train(make(), Sampled)
    with pytest.raises(NonFiniteError, match="reward"):
        agent.evaluate(Broken, n_eval_episodes=1)


@pytest.mark.parametrize(("algorithm", "parameters"), [("ppo", {}), ("dqn", {}), ("sac", {"use_sde": True})])
def test_an_evaluation_leaves_no_trace(algorithm, parameters):
    agent = trained(algorithm, parameters)
    environment = gymnasium.make("CartPole-v1" if algorithm != "sac" else "Pendulum-v1")
    space = agent.algorithm.action_space
    before = random_states(), str(space.np_random.bit_generator.state), weights(agent), agent.num_timesteps
    agent.evaluate(environment, n_eval_episodes=2, deterministic=False, seed=3)
    after = random_states(), str(space.np_random.bit_generator.state), weights(agent), agent.num_timesteps
    assert before[:2] == after[:2]
    assert same(before[2], after[2])
    assert before[3] == after[3]


def test_an_environment_that_draws_from_the_global_generators_when_it_is_made_leaves_no_trace(cart_pole):
    def draw_and_make():
        random.random()
        np.random.random()
        torch.rand(1)
        return gymnasium.make("CartPole-v1")

    before = random_states()
    cart_pole.evaluate(draw_and_make, n_eval_episodes=1, seed=0)
    assert random_states() == before


def test_the_callers_environment_is_left_open_and_can_be_used_again():
    environment = Sampled()
    agent = train(make(), environment)
    agent.evaluate(environment, n_eval_episodes=2)
    assert not environment.closed
    environment.reset(seed=1)
    environment.step(0)
    train(agent, environment)


def test_what_evaluate_makes_it_closes():
    made = []

    def factory():
        made.append(Sampled())
        return made[-1]

    agent = train(make(), Sampled)
    agent.evaluate(factory, n_eval_episodes=3)
    assert made
    assert all(environment.closed for environment in made)


def test_an_evaluation_runs_in_a_vec_env_of_the_user(cart_pole):
    vec_env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    assert cart_pole.evaluate(vec_env, n_eval_episodes=5, seed=1).n_episodes == 5
    vec_env.reset()  # a closed one could not


# Saving and handing over


def test_a_saved_agent_tells_the_versions_it_was_made_with(cart_pole, tmp_path):
    path = cart_pole.save_to_file(tmp_path / "new" / "agent.zip")
    assert {"python", "torch", "stable-baselines3"} <= read_bundle(path).information["versions"].keys()


def test_an_agent_class_without_a_name_is_not_saved(cart_pole, tmp_path):
    class Nameless(StableBaselinesAgent):
        pass

    with pytest.raises(UnsavableError, match=r"register_agent\("):
        train(Nameless("ppo", {"n_steps": 8, "batch_size": 8})).save_to_file(tmp_path / "agent.zip")
    assert not list(tmp_path.iterdir())


def test_a_failed_load_leaves_the_agent_as_it_was(cart_pole, tmp_path):
    path = cart_pole.save_to_file(tmp_path / "agent.zip")
    path.write_bytes(path.read_bytes()[:-100])
    agent = trained(seed=5)
    before = weights(agent)
    with pytest.raises(BundleError):
        agent.load_from_file(path)
    assert same(weights(agent), before)
    assert train(agent).num_timesteps > 48


def test_an_agent_of_another_algorithm_is_not_loaded_by_mistake(cart_pole, tmp_path):
    path = cart_pole.save_to_file(tmp_path / "agent.zip")
    with pytest.raises(BundleError, match="load_agent"):
        make("dqn").load_from_file(path)


def test_a_bundle_of_another_kind_is_not_loaded(tmp_path):
    from rl_framework.bundle import write_bundle

    path = write_bundle(tmp_path / "other.zip", kind="nobody_has_this", members={})
    for load in (load_agent, make().load_from_file):
        with pytest.raises(BundleError, match="kind"):
            load(path)


def test_upload_and_download_hand_the_agent_over(cart_pole, tmp_path):
    class Shelf:
        def upload(self, agent, *, video_recording_environment=None):
            self.environment = video_recording_environment
            return agent.save_to_file(tmp_path / "shelf.zip")

        def download(self, agent):
            agent.load_from_file(tmp_path / "shelf.zip")

    shelf = Shelf()
    assert cart_pole.upload(shelf, video_recording_environment="CartPole-v1") == tmp_path / "shelf.zip"
    assert shelf.environment == "CartPole-v1"
    fetched = make().download(shelf)
    assert same(weights(fetched), weights(cart_pole))


def test_an_agent_is_handed_to_each_of_a_list_that_keeps_agents(cart_pole, tmp_path):
    from rl_framework import LocalConnector, TensorBoardConnector

    class Away:
        def upload(self, agent, *, video_recording_environment=None):
            raise ConnectorError("nobody is there")

        download = upload

    here, tracker = LocalConnector(tmp_path / "here"), TensorBoardConnector(tmp_path / "tensorboard")
    assert cart_pole.upload([tracker, here]) == [here.upload(cart_pole)]
    there = LocalConnector(tmp_path / "there")
    with pytest.raises(ConnectorError, match=r"^nobody is there$"):
        cart_pole.upload([Away(), there])
    assert (there.directory / "agent.zip").exists()
    with pytest.raises(ConnectorError, match="nobody is there; nobody is there"):
        cart_pole.upload([Away(), Away()])
    with pytest.raises(ArgumentError, match="none of them keeps agents"):
        cart_pole.upload([tracker])
    with pytest.raises(ConnectorError, match="keeps no agents"):
        cart_pole.upload(tracker)


def test_what_is_no_connector_is_refused(cart_pole):
    from rl_framework import LocalConnector

    for wrong in ("user/name", None, LocalConnector, [LocalConnector]):
        with pytest.raises(ArgumentError, match=r"connector=.*is no connector"):
            cart_pole.upload(wrong)
    with pytest.raises(ArgumentError, match=r"connector='user/name': is no connector"):
        cart_pole.download("user/name")


def test_every_refusal_is_an_error_of_this_package(cart_pole):
    with pytest.raises(RLFrameworkError):
        cart_pole.evaluate("CartPole-v1", n_eval_episodes=0)
    with pytest.raises(ValueError, match="n_eval_episodes"):
        cart_pole.evaluate("CartPole-v1", n_eval_episodes=0)
