"""MCE IRL is the library's, acts by a table of times and states, and can be saved and resumed."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from imitation.algorithms.mce_irl import MCEIRL, mce_occupancy_measures, mce_partition_fh
from imitation.rewards.reward_nets import BasicRewardNet
from seals.base_envs import ExposePOMDPStateWrapper, TabularModelMDP
from seals.diagnostics.cliff_world import CliffWorldEnv
from seals.diagnostics.random_trans import RandomTransitionEnv
from stable_baselines3.common.utils import set_random_seed
from tests.agent.hostile import refused, setting
from tests.agent.imitation.forging import forged
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import same

from rl_framework import ImitationAgent, load_agent
from rl_framework.agent.imitation.tabular.model import StateIndex, state_trajectories
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsupportedSpaceError


def cliff():
    return CliffWorldEnv(width=4, height=3, horizon=8, use_xy_obs=False)


def cliff_by_place():
    return CliffWorldEnv(width=4, height=3, horizon=8, use_xy_obs=True)


def cliff_by_state():
    return ExposePOMDPStateWrapper(cliff())


def random_world():
    return RandomTransitionEnv(
        n_states=8, n_actions=3, branch_factor=2, horizon=6, random_obs=True, obs_dim=5, generator_seed=42
    )


def decision_process():
    world = cliff()
    return TabularModelMDP(transition_matrix=world.transition_matrix, reward_matrix=world.reward_matrix, horizon=8)


class SoftExpert:
    """The best of all random ways through the states, planned with the true reward."""

    def __init__(self, world):
        self.table = mce_partition_fh(world)[2]
        self.states = StateIndex(world.observation_space, world.observation_matrix)
        self.rng = np.random.default_rng(0)

    def predict(self, observations, state=None, starts=None, deterministic=True):
        times = np.zeros(len(observations), int) if state is None else state
        times = np.where(starts, 0, times) if starts is not None else times
        chances = self.table[times, self.states(observations)]
        return np.array([self.rng.choice(len(row), p=row) for row in chances]), times + 1


def collected(make=cliff, count=60):
    return EpisodeSequence.collect(SoftExpert(make()), make, count, seed=0, n_environments=1)


SMALL = {"reward_net": {"type": "basic", "hid_sizes": [16], "use_action": False, "use_next_state": False}}


def train(agent, episodes, make=cliff, total_timesteps=60, **arguments):
    arguments = {"seed": 3, "progress_bar": False, **arguments}
    return agent.train(episodes, make, total_timesteps, **arguments)


def weights(agent):
    reward = {name: tensor.numpy().copy() for name, tensor in agent.learner._reward_net.state_dict().items()}
    return {**reward, "table": agent.learner.policy.table.copy()}


# The algorithm


@pytest.mark.parametrize("make", [cliff, random_world], ids=["cliff", "random"])
def test_it_is_the_librarys_to_the_last_bit(make):
    episodes = collected(make, 10)
    agent = train(ImitationAgent("mce_irl"), episodes, make)
    world = make()
    set_random_seed(3)
    network = BasicRewardNet(
        world.observation_space, world.action_space, hid_sizes=[256], use_action=False, use_done=False
    )
    trajectories = state_trajectories(
        episodes, StateIndex(world.observation_space, world.observation_matrix), 8 if make is cliff else 6
    )
    theirs = MCEIRL(trajectories, world, network, np.random.default_rng(0), log_interval=None)
    theirs.train(max_iter=60)
    assert type(agent.algorithm) is MCEIRL
    np.testing.assert_array_equal(agent.algorithm.demo_state_om, theirs.demo_state_om)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(agent.learner._reward_net.state_dict()[name], tensor, rtol=0, atol=0)
    np.testing.assert_array_equal(agent.learner.policy.table, theirs.policy.pi)
    np.testing.assert_array_equal(agent.algorithm.policy.pi, theirs.policy.pi)


@pytest.mark.parametrize("make", [cliff, random_world], ids=["cliff", "random"])
def test_it_visits_the_states_as_the_expert_does(make):
    world = make()
    visits = mce_occupancy_measures(world)[1]
    agent = ImitationAgent("mce_irl", {"demonstrations": visits, "linf_eps": 0.02, "optimizer_kwargs": {"lr": 0.02}})
    log = Recorder()
    train(agent, None, make, total_timesteps=1_000, callbacks=[log])
    learned = mce_occupancy_measures(world, pi=agent.learner.policy.table)[1]
    uniform = np.full_like(agent.learner.policy.table, 1 / world.action_dim)
    untrained = mce_occupancy_measures(world, pi=uniform)[1]
    assert np.abs(learned - visits).max() < 0.05 < 0.2 < np.abs(untrained - visits).max()
    assert agent.num_timesteps < 1_000  # it has converged
    assert log.events[-1][2]["mce_irl/linf_delta"] <= 0.02
    assert agent.learner.reward().shape == (world.state_dim,)


def test_what_it_learned_earns_what_the_expert_earns():
    agent = train(
        ImitationAgent("mce_irl", {"optimizer_kwargs": {"lr": 0.02}}), collected(count=60), total_timesteps=150
    )
    expert = collected(count=100).returns
    result = agent.evaluate(cliff, 100, seed=0)
    random = EpisodeSequence.collect("random", cliff, 100, seed=0).returns
    assert abs(result.mean - expert.mean()) < 0.2 * (expert.mean() - random.mean())


@pytest.mark.parametrize("make", [cliff, cliff_by_place, cliff_by_state, decision_process])
def test_all_that_an_environment_may_show(make):
    world = make()
    expert = EpisodeSequence.collect("random", make, 10, seed=0)
    agent = train(ImitationAgent("mce_irl", SMALL), expert, make, total_timesteps=5, n_environments=2)
    observation, _ = world.reset(seed=0)
    action, state = agent.choose_action(observation, state=None)
    assert world.action_space.contains(np.int64(action))
    assert state[0].tolist() == [1]
    assert len(agent.evaluate(make, 4, seed=0).returns) == 4


def test_the_policy_knows_the_time():
    agent = train(ImitationAgent("mce_irl"), collected(count=10), total_timesteps=60)
    policy, world = agent.learner.policy, cliff()
    observations = world.observation_matrix[[5, 5, 5]]
    actions, (times,) = policy.predict(observations, (np.array([0, 7, 99]),))
    assert actions.tolist() == [policy.table[time, 5].argmax() for time in (0, 7, 7)]
    assert times.tolist() == [1, 8, 100]
    _, (times,) = policy.predict(observations, (np.array([3, 3, 3]),), np.array([True, False, True]))
    assert times.tolist() == [1, 4, 1]


def test_actions_are_drawn_as_the_table_says():
    agent = train(ImitationAgent("mce_irl"), collected(), total_timesteps=20)
    policy = agent.learner.policy
    policy.action_space.seed(0)
    observations = np.repeat(cliff().observation_matrix[[5]], 20_000, axis=0)
    actions, _ = policy.predict(observations, deterministic=False)
    shares = np.bincount(actions, minlength=4) / 20_000
    np.testing.assert_allclose(shares, policy.table[0, 5], atol=0.02)


# On disk


@pytest.mark.parametrize("make", [cliff_by_place, cliff_by_state])
def test_a_saved_agent_acts_the_same(make, tmp_path):
    agent = train(ImitationAgent("mce_irl", SMALL), EpisodeSequence.collect("random", make, 5, seed=0), make)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert same(weights(loaded), weights(agent))
    results = [one.evaluate(make, 6, seed=1).returns for one in (agent, loaded)]
    np.testing.assert_array_equal(*results)
    loaded.save_to_file(tmp_path / "again.zip")
    train(loaded, EpisodeSequence.collect("random", make, 5, seed=0), make)
    assert loaded.num_timesteps == 120


def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path):
    episodes, runs = collected(count=10), []
    for arguments in ({}, {"checkpoint_every": 25, "checkpoint_directory": tmp_path}):
        runs.append(train(ImitationAgent("mce_irl", SMALL), episodes, **arguments))
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 60
    resumed = train(ImitationAgent("mce_irl", SMALL), episodes, resume_from=path, seed=None)
    assert same(weights(runs[0]), weights(runs[1]))
    assert same(weights(runs[0]), weights(resumed))


def test_it_goes_on_where_it_ended():
    episodes = collected(count=10)
    parts = train(
        train(ImitationAgent("mce_irl", SMALL), episodes, total_timesteps=30), episodes, total_timesteps=30, seed=None
    )
    whole = train(ImitationAgent("mce_irl", SMALL), episodes, total_timesteps=60)
    assert same(weights(parts), weights(whole))


def test_hostile_bundles_are_refused(tmp_path):
    agent = train(ImitationAgent("mce_irl", SMALL), collected(count=5), total_timesteps=3)

    def fresh():
        return agent.save_to_file(tmp_path / "agent.zip")

    def arrays(change):
        return {"learned/policy.npz": change}

    refused(forged(fresh(), array_changes=arrays(lambda stored: stored.update(table=stored["table"] * 2))))
    refused(forged(fresh(), array_changes=arrays(lambda stored: stored.update(table=stored["table"][:, :5]))))
    refused(forged(fresh(), array_changes=arrays(lambda stored: stored.update(table=-stored["table"]))))
    refused(forged(fresh(), array_changes=arrays(lambda stored: stored.pop("observations"))))
    refused(forged(fresh(), array_changes=arrays(lambda stored: stored.update(observations=np.zeros((12, 12))))))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "reward_net", "hid_sizes", [1 << 40])}))
    refused(forged(fresh(), drop=["learned/reward_net.safetensors"]))


def test_a_hostile_checkpoint_is_refused(tmp_path):
    episodes = collected(count=5)
    train(ImitationAgent("mce_irl", SMALL), episodes, checkpoint_every=25, checkpoint_directory=tmp_path)
    path = forged(oldest(tmp_path)[1], {"training_state/mce_irl.json": setting("parameters", [7])})
    with pytest.raises(BundleError):
        train(ImitationAgent("mce_irl", SMALL), episodes, resume_from=path, seed=None)


# What cannot be


def test_other_environments_are_refused():
    episodes = EpisodeSequence.collect("random", "CartPole-v1", 1, seed=0)
    with pytest.raises(ArgumentError, match="needs an environment whose dynamics are known"):
        train(ImitationAgent("mce_irl"), episodes, "CartPole-v1")


def test_states_that_look_alike_are_told_of():
    class Blind(CliffWorldEnv):
        def __init__(self):
            super().__init__(width=4, height=3, horizon=8, use_xy_obs=True)
            self.observation_matrix[:] = 0

    with pytest.raises(UnsupportedSpaceError, match="ExposePOMDPStateWrapper"):
        train(ImitationAgent("mce_irl"), EpisodeSequence.collect("random", Blind, 1, seed=0), Blind)


def test_episodes_have_to_be_whole():
    class Shorter(gymnasium.Wrapper):
        def step(self, action):
            *result, _, info = self.env.step(action)
            return *result, self.env.unwrapped.n_actions_taken == 3, info

    episodes = EpisodeSequence.collect("random", lambda: Shorter(cliff()), 2, seed=0)
    with pytest.raises(ArgumentError, match="has 3 steps"):
        train(ImitationAgent("mce_irl"), episodes)


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        pytest.param({"linf_ep": 1}, UnknownNameError, "linf_eps", id="misspelled"),
        pytest.param({"env": 1}, ArgumentError, "training_environments", id="of the framework"),
        pytest.param({"optimizer_cls": "adamm"}, UnknownNameError, "adam", id="optimizer"),
        pytest.param({"discount": -1}, ArgumentError, "from 0", id="discount"),
        pytest.param({"demonstrations": np.zeros((2, 2))}, ArgumentError, "visits each state", id="matrix"),
    ],
)
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, error, match):
    with pytest.raises(error, match=match):
        ImitationAgent("mce_irl", parameters)


def test_what_does_not_fit_is_told():
    with pytest.raises(ArgumentError, match="12 states"):
        train(ImitationAgent("mce_irl", {"demonstrations": np.ones(3)}), None)
    with pytest.raises(ArgumentError, match="learns from episodes"):
        train(ImitationAgent("mce_irl"), None)
    with pytest.raises(ArgumentError, match="states alone"):
        train(ImitationAgent("mce_irl", {"reward_net": "basic"}), collected(count=2))


def test_the_description_is_json():
    described = ImitationAgent("mce_irl", {"demonstrations": np.ones(12), "optimizer_cls": torch.optim.SGD}).describe()
    assert json.loads(json.dumps(described)) == described
