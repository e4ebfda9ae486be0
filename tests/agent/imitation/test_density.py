"""Density estimation rewards what is common with the expert, and is a training by reinforcement in all other ways."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms.density import DensityAlgorithm, DensityType
from tests.agent.hostile import refused, setting
from tests.agent.imitation.demonstrations import demonstrations
from tests.agent.imitation.forging import forged
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import OFF_POLICY, PARAMETERS, Sampled, same

from rl_framework import ImitationAgent, load_agent
from rl_framework.agent.imitation.library.density_model import DENSITY_TYPES
from rl_framework.agent.imitation.relabelled import RelabelledEnvironments
from rl_framework.environment.door import open_environments
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, BundleError, NotTrainedError, UnknownNameError

PPO = {"algorithm_class": "ppo", "algorithm_parameters": PARAMETERS["ppo"]}
FREE = {"rl_algo": PPO, "allow_variable_horizon": True}


def short():
    return gymnasium.make("CartPole-v1", max_episode_steps=20)


def train(agent, environments=short, total_timesteps=64, episodes=None, **arguments):
    episodes = demonstrations(3, max_episode_steps=20) if episodes is None else episodes
    arguments = {"seed": 3, "n_environments": 2, "progress_bar": False, **arguments}
    return agent.train(episodes, environments, total_timesteps, **arguments)


def make(**parameters):
    return ImitationAgent("density", {**FREE, **parameters})


def weights(agent):
    return {name: tensor.numpy().copy() for name, tensor in agent.learner.inner.algorithm.policy.state_dict().items()}


def transitions(count=12, seed=0):
    rng = np.random.default_rng(seed)
    observations, following = rng.normal(size=(2, count, 4)).astype(np.float32) / 10
    return observations, rng.integers(0, 2, count), following


# The reward


@pytest.mark.parametrize("density_type", DENSITY_TYPES)
@pytest.mark.parametrize("stationary", [True, False], ids=["stationary", "by time"])
def test_the_reward_is_the_librarys_to_the_last_bit(density_type, stationary):
    agent = train(make(density_type=density_type, is_stationary=stationary, kernel_bandwidth=0.3))
    observations, actions, following = transitions()
    ended, times = np.zeros(12, np.bool_), np.arange(12)
    ours = agent.learner.model(observations, actions, following, ended, times)
    theirs = agent.algorithm(observations, actions, following, ended, times)
    np.testing.assert_array_equal(agent.learner.reward(observations, actions, following, times), ours)
    assert isinstance(agent.algorithm, DensityAlgorithm)
    np.testing.assert_array_equal(ours, theirs)
    assert len(set(ours.tolist())) > 6


def test_what_the_expert_did_is_rewarded_more_than_what_it_did_not():
    model = train(make()).learner.model
    common = demonstrations(1, max_episode_steps=20)[0]
    count = len(common)
    arguments = np.zeros(count, np.bool_), np.arange(count)
    shown = model(common.observations[:-1], common.actions, common.observations[1:], *arguments)
    other = model(common.observations[:-1] + 1, common.actions, common.observations[1:], *arguments)
    assert shown.min() > other.max()


def test_environments_pay_the_reward_and_tell_of_their_own():
    batch = open_environments(short, 3, None, "sync", "environments")
    seen = []

    def reward(observations, actions, following, ended, times):
        seen.append((observations.copy(), actions.copy(), following.copy(), ended.copy(), times.copy()))
        return 10.0 + np.arange(3)

    relabelled = RelabelledEnvironments(batch, reward, allow_variable_horizon=True)
    before, _ = relabelled.reset_slots(0)
    lengths = np.zeros(3, np.int64)
    ends = 0
    for _ in range(45):
        step = relabelled.step_slots(np.zeros(3, np.int64))
        np.testing.assert_array_equal(step.rewards, [10, 11, 12])
        observations, _, following, ended, times = seen[-1]
        np.testing.assert_array_equal(observations, before)
        np.testing.assert_array_equal(times, lengths)
        np.testing.assert_array_equal(ended, step.terminated | step.truncated)
        lengths += 1
        for slot in range(3):
            shown = step.final_observations[slot] if ended[slot] else step.observations[slot]
            np.testing.assert_array_equal(following[slot], shown)
            if ended[slot]:
                assert step.infos[slot]["episode"]["r"] == lengths[slot] == step.infos[slot]["episode"]["l"]
                assert relabelled.replaced_returns[ends] == (10 + slot) * lengths[slot]
                lengths[slot], ends = 0, ends + 1
        before = step.observations
    assert ends > 5


def test_episodes_of_different_lengths_are_refused_unless_allowed():
    with pytest.raises(ArgumentError, match="different lengths"):
        train(make(allow_variable_horizon=False), "CartPole-v1", total_timesteps=200)
    train(make(allow_variable_horizon=False), Sampled, episodes=sampled())


def sampled(count=2):
    return EpisodeSequence.collect("random", Sampled(), count, seed=0)


def test_longer_episodes_than_the_experts_are_told_of():
    with pytest.raises(ArgumentError, match="longer than those of the expert"):
        train(make(is_stationary=False), lambda: Sampled(length=15), episodes=sampled())


@pytest.mark.parametrize("kind", ["dict", "box"])
def test_all_kinds_of_spaces(kind):
    box = spaces.Box(-1, 1, (2,), np.float32)
    observed = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(3)}) if kind == "dict" else None
    world = lambda: Sampled(observed, box)  # noqa: E731
    agent = train(make(), world, episodes=EpisodeSequence.collect("random", world(), 2, seed=0))
    assert agent.num_timesteps == 64


# The training


def test_events_tell_the_true_return_and_the_mean_of_the_replaced_one():
    log = Recorder()
    train(make(), total_timesteps=160, callbacks=[log])
    ended = [event for event in log.events if len(event) == 4]
    assert ended
    assert all(event[2] == event[3] for event in ended)  # CartPole pays 1 a step
    told = [event[2].get("rollout/ep_rew_wrapped_mean", 0.0) for event in log.events if len(event) == 3]
    assert any(value < 0 for value in told)


def test_the_agent_inside_may_normalise_both():
    inner = {**PPO, "normalize_observations": True, "normalize_rewards": True}
    agent = train(make(rl_algo=inner))
    assert agent.learner.inner.normaliser is not None


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(PPO, id="on-policy"),
        pytest.param({**PPO, "normalize_observations": True, "normalize_rewards": True}, id="normalised"),
        pytest.param({"algorithm_class": "dqn", "algorithm_parameters": OFF_POLICY}, id="off-policy"),
    ],
)
def test_a_resumed_training_is_the_same_to_the_last_bit(inner, tmp_path):
    runs = []
    for arguments in ({}, {"checkpoint_every": 40, "checkpoint_directory": tmp_path}):
        log = Recorder()
        agent = train(make(rl_algo=inner), total_timesteps=160, callbacks=[log], **arguments)
        runs.append((agent, log.events))
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 160
    log, resumed = Recorder(), make(rl_algo=inner)
    train(resumed, total_timesteps=160, callbacks=[log], resume_from=path, seed=None)
    (plain, events), (watched, watched_events) = runs
    assert same(weights(plain), weights(watched))
    assert watched_events == events
    assert same(weights(plain), weights(resumed))
    later = [event for event in events if event[0] > timestep]
    assert [event for event in log.events if event[0] > timestep] == later
    assert later


def test_it_goes_on_where_it_ended():
    agent = train(make())
    before = weights(agent)
    train(agent, seed=None)
    assert agent.num_timesteps == 128
    assert not same(before, weights(agent))


def test_resuming_needs_as_many_environments(tmp_path):
    train(make(), checkpoint_every=32, checkpoint_directory=tmp_path)
    with pytest.raises(ArgumentError, match="n_environments"):
        train(make(), n_environments=3, resume_from=tmp_path, seed=None, total_timesteps=160)


# Parameters


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        pytest.param({"density_typ": 1}, UnknownNameError, "density_type", id="misspelled"),
        pytest.param({"density_type": "state"}, UnknownNameError, "state_density", id="unknown type"),
        pytest.param({"kernel": "gausian"}, UnknownNameError, "gaussian", id="unknown kernel"),
        pytest.param({"kernel_bandwidth": 0}, ArgumentError, "above 0", id="no bandwidth"),
        pytest.param({"is_stationary": "no"}, ArgumentError, "True or False", id="no bool"),
        pytest.param({"venv": 1}, ArgumentError, "training_environments", id="of the framework"),
        pytest.param({"rl_algo": {"algorithm_class": "pppo"}}, UnknownNameError, "ppo", id="unknown algorithm"),
    ],
)
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, error, match):
    with pytest.raises(error, match=match):
        ImitationAgent("density", parameters)


def test_it_needs_episodes_and_environments():
    with pytest.raises(ArgumentError, match="episode_sequence"):
        make().train(None, "CartPole-v1", 10)
    with pytest.raises(ArgumentError, match="training_environments"):
        make().train(demonstrations(1), total_timesteps=10)
    with pytest.raises(NotTrainedError):
        _ = make().learner.model


def test_the_description_is_json():
    described = make(density_type=DensityType.STATE_DENSITY).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["algorithm_parameters"]["density_type"] == "state_density"


# On disk


@pytest.mark.parametrize("stationary", [True, False], ids=["stationary", "by time"])
def test_a_saved_agent_acts_and_rewards_the_same(stationary, tmp_path):
    agent = train(make(is_stationary=stationary))
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    observations, actions, following = transitions()
    np.testing.assert_array_equal(loaded.choose_action(observations), agent.choose_action(observations))
    arguments = (observations, actions, following, np.zeros(12, np.bool_), np.arange(12))
    np.testing.assert_array_equal(loaded.learner.model(*arguments), agent.learner.model(*arguments))
    train(loaded)
    assert loaded.num_timesteps == 128


def test_hostile_bundles_are_refused(tmp_path):
    agent = train(make())

    def fresh():
        return agent.save_to_file(tmp_path / "agent.zip")

    def arrays(**changes):
        return {"learned/density.npz": lambda stored: stored.update(changes)}

    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "kernel", "eval")}))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "is_stationary", False)}))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "density_type", "state_density")}))
    refused(forged(fresh(), drop=["learned/density.npz"]))
    refused(forged(fresh(), array_changes=arrays(rows=np.full((60, 6), np.nan))))
    refused(forged(fresh(), array_changes=arrays(rows=np.zeros((60, 2)))))
    refused(forged(fresh(), array_changes=arrays(times=np.zeros(60, np.int64))))
    refused(forged(fresh(), array_changes=arrays(times=np.full(59, -1))))


def test_a_hostile_checkpoint_is_refused(tmp_path):
    train(make(), checkpoint_every=32, checkpoint_directory=tmp_path)
    change = {"training_state/density_state.npz": lambda arrays: arrays.update(sums=np.zeros(7))}
    path = forged(oldest(tmp_path)[1], array_changes=change)
    with pytest.raises(BundleError):
        train(make(), total_timesteps=160, resume_from=path, seed=None)
