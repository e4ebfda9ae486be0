"""A second `train` goes on where the first one ended, in the same process or after loading."""

from copy import deepcopy

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.agent.samples import PARAMETERS, Sampled, make, same, train, trained, weights

from rl_framework import ArgumentError, load_agent
from rl_framework.training import Callback


class LearningRates(Callback):
    def __init__(self):
        self.seen = []

    def on_update(self, event, training):
        if "train/learning_rate" in event.metrics:
            self.seen.append(event.metrics["train/learning_rate"])


class FirstObservations(Sampled):
    """Notes the seed of its stream at each reset."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.log.append(observation)
        return observation, info


def adam_steps(agent):
    optimizer = agent.algorithm.policy.optimizer
    return {int(state["step"]) for state in optimizer.state_dict()["state"].values()}


def test_counters_optimizer_and_networks_stay():
    agent = trained("ppo")
    algorithm, updates = agent.algorithm, adam_steps(agent)
    before = weights(agent)
    train(agent)
    assert agent.algorithm is algorithm
    assert agent.num_timesteps == 96
    assert algorithm._n_updates == 12
    assert adam_steps(agent) == {2 * updates.pop()}
    assert not same(weights(agent), before)


def test_the_replay_buffer_stays():
    agent = trained("dqn")
    buffer = agent.algorithm.replay_buffer
    first = buffer.observations[:48].copy()
    train(agent)
    assert agent.algorithm.replay_buffer is buffer
    assert buffer.size() == 96
    assert np.array_equal(buffer.observations[:48], first)
    assert agent.algorithm._n_calls == 96


def test_the_normaliser_stays():
    agent = trained("ppo", normalize_observations=True, normalize_rewards=True)
    train(agent)
    assert agent.normaliser.observation[""][2] == pytest.approx(96 + 2, abs=1)  # each call resets once


def test_scaled_rewards_alone_can_be_continued(tmp_path):
    agent = trained("ppo", normalize_rewards=True)
    count = agent.normaliser.reward[2]
    train(agent)
    assert agent.normaliser.reward[2] == pytest.approx(2 * count, abs=1)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    train(loaded)
    assert loaded.normaliser.reward[2] == pytest.approx(3 * count, abs=1)


def test_a_schedule_reaches_its_end_in_each_call():
    agent = make("ppo", {"learning_rate": {"type": "linear", "start": 1.0, "end": 0.0}})
    first, second = LearningRates(), LearningRates()
    train(agent, total_timesteps=64, callbacks=[first])
    train(agent, total_timesteps=64, callbacks=[second])
    assert first.seen[0] == pytest.approx(0.75)
    assert first.seen[-1] == second.seen[-1] == 0
    # As in the library, progress counts from the very beginning.
    assert second.seen[0] == pytest.approx(1 - 80 / 128)


def test_two_calls_equal_two_calls_of_the_library():
    plain = PPO("MlpPolicy", make_vec_env("CartPole-v1", 2), seed=3, **deepcopy(PARAMETERS["ppo"]))
    plain.learn(64)
    plain._last_obs = None  # the library goes on inside the open episodes; a new call here begins new ones
    plain.learn(64, reset_num_timesteps=False)
    environments = make_vec_env("CartPole-v1", 2)
    agent = make("ppo")
    train(agent, environments, 64, seed=3)
    train(agent, environments, 64)
    assert same(weights(agent), weights(plain))
    assert agent.num_timesteps == plain.num_timesteps


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("counts", [(1, 1), (2, 4)])
def test_continuing_is_reproducible_too(algorithm, counts):
    if algorithm == "dqn":
        counts = (2, 2)

    def run():
        agent = make(algorithm)
        train(agent, n_environments=counts[0], seed=4)
        return weights(train(agent, n_environments=counts[1]))

    assert same(run(), run())


def test_environments_made_for_a_later_call_are_not_those_of_the_first_over_again():
    log = []

    def factory():
        environment = FirstObservations(length=16)
        environment.log = log
        return environment

    agent = make()
    train(agent, factory, 16, seed=1)
    train(agent, factory, 16)
    train(agent, factory, 16)
    train(load_agent(agent.save_to_file("agent.zip")), factory, 16)
    assert len({tuple(observation) for observation in log}) == len(log) > 4


def test_a_loaded_agent_does_not_meet_the_first_episodes_over_again_in_the_callers_environment(tmp_path):
    environment = FirstObservations(length=16)
    environment.log = []
    agent = train(make(), environment, 16, seed=1)
    train(load_agent(agent.save_to_file(tmp_path / "agent.zip")), environment, 16)
    assert len({tuple(observation) for observation in environment.log}) == len(environment.log)


def test_a_training_that_ended_before_its_first_step_is_continued_reproducibly():
    class Stop(Callback):
        def on_training_start(self, event, training):
            raise KeyboardInterrupt

    def run():
        agent = make()
        with pytest.raises(KeyboardInterrupt):
            train(agent, seed=1, callbacks=[Stop()])
        assert agent.num_timesteps == 0
        return weights(train(agent))

    assert same(run(), run())


def test_a_seed_begins_new_random_streams():
    agent, other = trained(seed=1), trained(seed=1)
    train(agent, seed=2)
    train(other, seed=2)
    assert same(weights(agent), weights(other))
    assert agent.seed == 2


def test_ppo_goes_on_with_another_number_of_environments():
    agent = trained("ppo")
    updates, before = adam_steps(agent), weights(agent)
    train(agent, n_environments=4, total_timesteps=64)
    assert agent.algorithm.n_envs == 4
    assert agent.num_timesteps == 48 + 64
    assert adam_steps(agent) == {updates.pop() + 2 * 64 // 8}
    assert not same(weights(agent), before)


def test_moving_to_another_number_of_environments_changes_no_weight_by_itself():
    class Stop(Callback):
        def on_training_start(self, event, training):
            self.weights = weights(training.agent)
            training.stop("seen enough")

    agent, stop = trained("sac"), Stop()
    agent.algorithm.replay_buffer.reset()
    before = weights(agent)
    train(agent, "Pendulum-v1", n_environments=3, callbacks=[stop])
    assert same(stop.weights, before)


def test_a_filled_replay_buffer_cannot_change_its_number_of_environments():
    agent = trained("dqn")
    with pytest.raises(ArgumentError, match="Go on with 1 environment"):
        train(agent, n_environments=2)
    assert train(agent).num_timesteps == 96


@pytest.mark.parametrize("algorithm", PARAMETERS)
def test_a_loaded_agent_goes_on_from_its_weights_and_step_counter(algorithm, tmp_path):
    class First(Callback):
        def on_training_start(self, event, training):
            self.timestep, self.total, self.weights = event.timestep, event.total_timesteps, weights(training.agent)

    agent, first = trained(algorithm), First()
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    environment = "Pendulum-v1" if agent.observation_space.shape == (3,) else "CartPole-v1"
    train(loaded, environment, callbacks=[first])
    assert first.timestep == 48
    assert first.total == loaded.num_timesteps == 96
    first.weights.pop("log_ent_coef", None)
    assert {key: value.tolist() for key, value in first.weights.items()} == {
        key: value.tolist() for key, value in weights(agent).items() if key != "log_ent_coef"
    }


def test_a_loaded_agent_trains_with_the_buffers_its_parameters_ask_for(tmp_path):
    for algorithm in ("ppo", "dqn"):
        loaded = load_agent(trained(algorithm).save_to_file(tmp_path / "agent.zip"))
        assert getattr(loaded.algorithm, "buffer_size", 200) == 200
        train(loaded)
        buffer = loaded.algorithm.rollout_buffer if algorithm == "ppo" else loaded.algorithm.replay_buffer
        assert buffer.buffer_size == (16 if algorithm == "ppo" else 200)


def test_parameters_can_be_changed_while_loading(tmp_path):
    path = trained("ppo").save_to_file(tmp_path / "agent.zip")
    rates = LearningRates()
    for load in (load_agent, make("ppo").load_from_file):
        loaded = load(path, algorithm_parameters={"learning_rate": 0.125, "n_steps": 32})
        train(loaded, callbacks=[rates], total_timesteps=32)
        assert loaded.algorithm.n_steps == 32
        assert loaded.algorithm_parameters["batch_size"] == 8
    assert rates.seen == [0.125, 0.125]


def test_a_parameter_that_is_wrong_is_the_callers_mistake_and_not_the_bundles(tmp_path):
    path = trained("ppo").save_to_file(tmp_path / "agent.zip")
    wrong = [{"learning_rte": 1.0}, {"policy_kwargs": {"net_arch": [9]}}, {"policy": "NoPolicy"}, {"batch_size": 0}]
    for parameters in wrong:
        with pytest.raises(ArgumentError, match="algorithm_parameters"):
            load_agent(path, algorithm_parameters=parameters)


def test_what_belongs_to_the_session_stays_when_an_agent_is_loaded(tmp_path):
    path = trained("ppo").save_to_file(tmp_path / "agent.zip")
    agent = make("ppo", {"device": "cpu", "tensorboard_log": str(tmp_path / "logs")})
    agent.load_from_file(path)
    assert agent.algorithm.tensorboard_log == str(tmp_path / "logs")


def test_an_agent_of_normalised_environments_is_not_trained_on_bare_ones(tmp_path):
    environments = VecNormalize(DummyVecEnv([Sampled]))
    agent = train(make(), environments)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for one in (agent, loaded):
        with pytest.raises(ArgumentError, match="VecNormalize"):
            train(one, Sampled)
        train(one, environments)
