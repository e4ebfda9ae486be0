"""Training gives the weights that Stable-Baselines3 alone gives, to the last bit."""

from copy import deepcopy

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, Sampled, same, train, weights

from rl_framework import StableBaselinesAgent

STEPS = 96


def learn(algorithm, parameters, environment, n_environments=2, policy="MlpPolicy", seed=7, **normalize):
    vec_env = make_vec_env(environment, n_environments)
    if normalize:
        vec_env = VecNormalize(vec_env, gamma=parameters.get("gamma", 0.99), **normalize)
    # The library writes into the dictionaries that it is given.
    model = getattr(stable_baselines3, algorithm.upper())(policy, vec_env, seed=seed, **deepcopy(parameters))
    return model.learn(STEPS)


def agent_like(algorithm, parameters, environment, n_environments=2, seed=7, **arguments):
    agent = StableBaselinesAgent(algorithm, parameters, **arguments)
    return train(agent, environment, STEPS, n_environments=n_environments, seed=seed)


@pytest.mark.parametrize("n_environments", [1, 3])
@pytest.mark.parametrize("algorithm", PARAMETERS)
def test_the_same_weights(algorithm, n_environments):
    parameters, environment = PARAMETERS[algorithm], ENVIRONMENTS[algorithm]
    plain = learn(algorithm, parameters, environment, n_environments)
    agent = agent_like(algorithm, parameters, environment, n_environments)
    assert same(weights(agent), weights(plain))
    assert agent.num_timesteps == plain.num_timesteps
    assert agent.algorithm._n_updates == plain._n_updates > 0


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_the_same_weights_with_gsde(algorithm):
    parameters = PARAMETERS[algorithm] | {"use_sde": True, "sde_sample_freq": 4}
    plain = learn(algorithm, parameters, "Pendulum-v1")
    assert same(weights(agent_like(algorithm, parameters, "Pendulum-v1")), weights(plain))


@pytest.mark.parametrize(
    "normalize",
    [
        {"norm_obs": True, "norm_reward": True},
        {"norm_obs": True, "norm_reward": False},
        {"norm_obs": False, "norm_reward": True},
    ],
)
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_the_same_weights_with_normalisation(algorithm, normalize):
    parameters, environment = PARAMETERS[algorithm] | {"gamma": 0.9}, ENVIRONMENTS[algorithm]
    plain = learn(algorithm, parameters, environment, **normalize)
    agent = agent_like(
        algorithm,
        parameters,
        environment,
        normalize_observations=normalize["norm_obs"],
        normalize_rewards=normalize["norm_reward"],
    )
    assert same(weights(agent), weights(plain))
    statistics = plain.get_vec_normalize_env()
    assert agent.normaliser.reward[:2] == (statistics.ret_rms.mean, statistics.ret_rms.var)
    if normalize["norm_obs"]:
        mean, variance, count = agent.normaliser.observation[""]
        assert np.array_equal(mean, statistics.obs_rms.mean)
        assert np.array_equal(variance, statistics.obs_rms.var)
        assert count == statistics.obs_rms.count
        observation = np.random.default_rng(0).normal(size=(5, *plain.observation_space.shape)).astype(np.float32)
        assert np.array_equal(agent.normaliser.normalise(observation), statistics.normalize_obs(observation))


def test_a_schedule_as_data_is_the_librarys():
    data = PARAMETERS["ppo"] | {"learning_rate": {"type": "linear", "start": 3e-3, "end": 1e-4, "end_fraction": 0.7}}
    objects = data | {"learning_rate": LinearSchedule(3e-3, 1e-4, 0.7)}
    assert same(weights(agent_like("ppo", data, "CartPole-v1")), weights(learn("ppo", objects, "CartPole-v1")))


def test_noise_as_data_is_the_librarys():
    data = PARAMETERS["td3"] | {"action_noise": {"type": "normal", "sigma": 0.1}}
    objects = data | {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))}
    assert same(weights(agent_like("td3", data, "Pendulum-v1")), weights(learn("td3", objects, "Pendulum-v1")))
    own = agent_like("td3", objects | {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))}, "Pendulum-v1")
    assert same(weights(own), weights(agent_like("td3", data, "Pendulum-v1")))


@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Discrete(3)}), "MultiInputPolicy"),
        (spaces.Discrete(5), "MlpPolicy"),
        (spaces.MultiBinary(3), "MlpPolicy"),
    ],
)
def test_the_policy_that_is_chosen_is_the_one_a_reader_of_the_manual_would_choose(space, policy):
    plain = learn("ppo", PARAMETERS["ppo"], lambda: Sampled(space), policy=policy)
    assert same(weights(agent_like("ppo", PARAMETERS["ppo"], lambda: Sampled(space))), weights(plain))


def test_a_vec_env_of_the_user_is_trained_on_as_it_is():
    plain = learn("ppo", PARAMETERS["ppo"], "CartPole-v1")
    agent = StableBaselinesAgent("ppo", PARAMETERS["ppo"])
    train(agent, make_vec_env("CartPole-v1", 2), STEPS, seed=7)
    assert same(weights(agent), weights(plain))


def test_a_list_of_environments_and_a_vector_environment_give_the_same():
    plain = weights(learn("ppo", PARAMETERS["ppo"], "CartPole-v1"))
    sources = [
        [gymnasium.make("CartPole-v1"), gymnasium.make("CartPole-v1")],
        gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"),
    ]
    for source in sources:
        agent = train(StableBaselinesAgent("ppo", PARAMETERS["ppo"]), source, STEPS, seed=7)
        assert same(weights(agent), plain)
