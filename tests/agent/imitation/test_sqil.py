"""SQIL: half of each batch is the expert's, with a reward of 1; the rest is an off-policy algorithm as ever."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.sqil import SQIL
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.agent.hostile import refused, setting
from tests.agent.imitation.demonstrations import demonstrations, episode_of
from tests.agent.imitation.forging import forged, members_of
from tests.agent.reinforcement.matrix_toys import Picture
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import Sampled, same, weights

from rl_framework import Callback, ImitationAgent, StableBaselinesAgent, load_agent
from rl_framework.agent.imitation.library.expert_transitions import ExpertTransitions
from rl_framework.agent.imitation.library.sqil_buffer import SQILDictReplayBuffer, SQILReplayBuffer
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError, NotTrainedError, UnknownNameError

DQN = {
    "learning_starts": 20,
    "buffer_size": 100,
    "batch_size": 8,
    "train_freq": 2,
    "target_update_interval": 30,
    "policy_kwargs": {"net_arch": [8]},
    "learning_rate": {"type": "linear", "start": 1e-2, "end": 0},
}
SAC = {"learning_starts": 10, "buffer_size": 100, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}}
VECTOR = spaces.Box(-1.0, 1.0, (2,), np.float32)


def make(**parameters):
    return ImitationAgent("sqil", {"rl_kwargs": DQN, **parameters})


def train(agent, total_timesteps=160, environments="CartPole-v1", episodes=None, **arguments):
    arguments = {"seed": 3, "n_environments": 2, "progress_bar": False, **arguments}
    episodes = demonstrations(2) if episodes is None else episodes
    return agent.train(episodes, environments, total_timesteps, **arguments)


def policy_of(agent):
    return weights(agent.learner.inner)


def numbered(n_steps=6, space=VECTOR, action_space=None, key=None, terminated=True):
    """An episode in which everything says which step it is from."""
    observations = np.arange(n_steps + 1, dtype=np.float32)[:, None].repeat(2, axis=1)
    actions = np.arange(n_steps) % 2
    if action_space is not None:
        actions = np.linspace(action_space.low[0], action_space.high[0], n_steps, dtype=np.float32)[:, None]
    tree = observations if key is None else {key: observations}
    episode = Episode(tree, actions, np.full(n_steps, 7.0), terminated, not terminated)
    space = space if key is None else spaces.Dict({key: space})
    return EpisodeSequence.from_episodes([episode], space, action_space or spaces.Discrete(2))


def filled(buffer_class, episodes, own=20, **arguments):
    buffer = buffer_class(50, episodes.observation_space, episodes.action_space, "cpu", **arguments)
    shape = (1, buffer.action_dim)
    observation = np.full((1, 2), 0.5, np.float32)
    observation = {"a": observation} if isinstance(episodes.observation_space, spaces.Dict) else observation
    for _ in range(own):
        buffer.add(observation, observation, np.zeros(shape), np.array([3.0]), np.array([False]), [{}])
    buffer.set_expert(
        ExpertTransitions(episodes.transitions(), None, episodes.observation_space, episodes.action_space)
    )
    return buffer


# The buffer


@pytest.mark.parametrize("size", [8, 7, 1])
def test_half_is_the_experts_with_a_reward_of_one(size):
    buffer = filled(SQILReplayBuffer, numbered())
    np.random.seed(0)
    batch = buffer.sample(size)
    own = size // 2
    assert len(batch.rewards) == size
    assert batch.rewards.flatten().tolist() == [0.0] * own + [1.0] * (size - own)
    assert (batch.observations[:own] == 0.5).all()
    steps = batch.observations[own:, 0]
    assert (batch.next_observations[own:, 0] == steps + 1).all()
    assert (batch.actions[own:, 0] == steps % 2).all()
    assert (batch.dones[own:, 0] == (steps == 5)).all()
    assert batch.discounts is None


def test_tensors_are_those_of_the_librarys_buffer():
    episodes = numbered()
    np.random.seed(0)
    own = filled(SQILReplayBuffer, episodes).sample(8)
    library = ReplayBuffer(50, episodes.observation_space, episodes.action_space, "cpu")
    library.add(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    theirs = library.sample(8)
    for name in ("observations", "actions", "next_observations", "dones", "rewards"):
        assert getattr(own, name).dtype == getattr(theirs, name).dtype, name
        assert getattr(own, name).shape == getattr(theirs, name).shape, name


def test_the_experts_transitions_are_drawn_evenly():
    buffer = filled(SQILReplayBuffer, numbered())
    np.random.seed(0)
    drawn = torch.cat([buffer.sample(64).observations[32:, 0] for _ in range(40)]).numpy().astype(int)
    assert np.bincount(drawn, minlength=6).min() > 0.7 * len(drawn) / 6


def test_a_cut_episode_is_no_terminal_state():
    np.random.seed(0)
    assert filled(SQILReplayBuffer, numbered(terminated=False)).sample(64).dones.sum() == 0
    # The library cannot tell where next observations are not kept, and neither is it told for the expert.
    frugal = filled(SQILReplayBuffer, numbered(terminated=False), optimize_memory_usage=True)
    assert frugal.sample(64).dones[32:].sum() > 0


def test_continuous_actions_are_stored_from_minus_one_to_one():
    space = spaces.Box(-4.0, 2.0, (1,), np.float32)
    buffer = filled(SQILReplayBuffer, numbered(action_space=space))
    np.random.seed(0)
    batch = buffer.sample(64)
    steps = batch.observations[32:, 0]
    torch.testing.assert_close(batch.actions[32:, 0], 2 * steps / 5 - 1)


def test_observations_of_several_parts():
    episodes = numbered(key="a")
    batch = filled(SQILDictReplayBuffer, episodes).sample(8)
    assert set(batch.observations) == {"a"}
    assert (batch.observations["a"][:4] == 0.5).all()
    assert (batch.next_observations["a"][4:] == batch.observations["a"][4:] + 1).all()
    assert issubclass(SQILDictReplayBuffer, DictReplayBuffer)


def test_a_normaliser_changes_observations_of_both_halves_and_no_rewards():
    buffer = filled(SQILReplayBuffer, numbered())
    normalize = VecNormalize(DummyVecEnv([lambda: Sampled(VECTOR)]))
    normalize.obs_rms.mean[:], normalize.obs_rms.var[:], normalize.ret_rms.var = 0.5, 4.0, np.float64(100.0)
    batch = buffer.sample(8, normalize)
    assert (batch.observations[:4] == 0).all()
    assert batch.observations[4:].max() < 3
    assert batch.rewards.flatten().tolist() == [0.0] * 4 + [1.0] * 4


def test_a_batch_needs_an_expert():
    buffer = filled(SQILReplayBuffer, numbered())
    buffer.set_expert(None)
    with pytest.raises(NotTrainedError):
        buffer.sample(8)


# Training


def test_the_algorithm_is_the_librarys_around_our_buffer():
    agent = train(make())
    assert isinstance(agent.algorithm, SQIL)
    assert agent.algorithm.rl_algo is agent.learner.inner.algorithm
    assert agent.algorithm.policy is agent.learner.inner.algorithm.policy
    assert type(agent.algorithm.rl_algo.replay_buffer) is SQILReplayBuffer
    assert agent.algorithm.rl_algo.replay_buffer.rewards.any() == np.False_
    with pytest.raises(ArgumentError, match="episode_sequence"):
        agent.algorithm.set_demonstrations([])


def test_returns_are_the_environments():
    class Returns(Callback):
        seen = ()

        def on_episode_end(self, event, training):
            self.seen = (*self.seen, (event.episode_return, event.length))

    returns = Returns()
    train(make(), callbacks=[returns])
    assert len(returns.seen) > 2
    assert all(earned == length for earned, length in returns.seen)


def test_interrupted_is_uninterrupted(tmp_path):
    runs = []
    for arguments in ({}, {"checkpoint_every": 50, "checkpoint_directory": tmp_path}):
        recorder = Recorder()
        runs.append((train(make(), callbacks=[recorder], **arguments), recorder.events))
    timestep, path = oldest(tmp_path)
    assert 20 < timestep < 160
    recorder, resumed = Recorder(), make()
    torch.manual_seed(99)
    train(resumed, callbacks=[recorder], resume_from=path, seed=None)
    (plain, events), (saving, saving_events) = runs
    assert same(policy_of(plain), policy_of(saving))
    assert same(policy_of(plain), policy_of(resumed))
    assert events == saving_events
    assert recorder.events == [event for event in events if event[0] > timestep]
    with pytest.raises(ArgumentError, match="n_environments"):
        train(make(), resume_from=path, seed=None, n_environments=3)


def test_it_goes_on_and_is_saved(tmp_path):
    agent = train(make())
    path = agent.save_to_file(tmp_path / "agent.zip")
    assert not any(name.endswith((".pkl", ".pt", ".pth")) for name in members_of(path))
    loaded = load_agent(path)
    assert same(policy_of(agent), policy_of(loaded))
    assert loaded.num_timesteps == agent.num_timesteps == 160
    observations = demonstrations(2)[0].observations[:50]
    np.testing.assert_array_equal(agent.choose_action(observations), loaded.choose_action(observations))
    train(loaded, 40, seed=None)
    assert loaded.num_timesteps == 200
    train(agent, 40, seed=None)
    assert agent.learner.inner.algorithm.replay_buffer.size() == 50


def test_the_agent_inside_saved_by_itself_is_an_ordinary_one(tmp_path):
    agent = train(make())
    robot = load_agent(agent.learner.inner.save_to_file(tmp_path / "inner.zip"))
    assert type(robot) is StableBaselinesAgent
    assert same(weights(robot), policy_of(agent))
    robot.train("CartPole-v1", 40, n_environments=2, progress_bar=False)
    assert type(robot.algorithm.replay_buffer) is ReplayBuffer


def test_continuous_actions():
    agent = make(rl_algo_class="sac", rl_kwargs=SAC, policy="MlpPolicy")
    train(agent, 40, "Pendulum-v1", demonstrations(2, "Pendulum-v1"))
    assert agent.choose_action(np.zeros(3, dtype=np.float32)).shape == (1,)
    assert agent.describe()["algorithm_parameters"]["rl_algo_class"] == "sac"
    assert agent.describe()["algorithm_parameters"]["policy"] == "MlpPolicy"


def test_images_and_observations_of_several_parts():
    def pictures():
        return Picture((36, 40, 3), spaces.Discrete(3))

    episodes = EpisodeSequence.from_episodes(
        [episode_of(pictures(), lambda observation: 1, 0)], pictures().observation_space, pictures().action_space
    )
    small = {**DQN, "learning_starts": 4, "batch_size": 4, "policy_kwargs": {"features_extractor_kwargs":
                                                                            {"features_dim": 8}}}  # fmt: skip
    agent = train(make(rl_kwargs=small), 12, pictures, episodes)
    assert agent.learner.inner.algorithm.replay_buffer.sample(4).observations.shape == (4, 3, 36, 40)

    space = spaces.Dict({"a": VECTOR})
    agent = train(make(), 40, lambda: Sampled(space), numbered(key="a"))
    assert type(agent.learner.inner.algorithm.replay_buffer) is SQILDictReplayBuffer


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"rl_kwargs": {"replay_buffer_class": "her"}}, "replay buffer of its own"),
        ({"rl_kwargs": {"replay_buffer_kwargs": {}}}, "replay buffer of its own"),
        ({"rl_kwargs": {"n_steps": 3}}, "several steps"),
        ({"rl_kwargs": {"policy": "MlpPolicy"}}, "beside rl_kwargs"),
        ({"rl_kwargs": {"lerning_rate": 1}}, "'learning_rate'"),
        ({"rl_kwargs": {"seed": 1}}, r"train\(seed="),
        ({"rl_kwargs": 3}, "dictionary"),
        ({"rl_algo_class": "ppo", "rl_kwargs": {}}, "off-policy"),
        ({"rl_algo": "dqn"}, "'rl_algo_class'"),
        ({"venv": 3}, "training_environments"),
    ],
    ids=["buffer", "arguments of the buffer", "n-step", "policy", "name", "seed", "no dict", "on-policy",
         "not the library's name", "owned"],
)  # fmt: skip
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, match):
    with pytest.raises((ArgumentError, UnknownNameError), match=match):
        make(**parameters)


def test_single_values_can_be_changed_on_loading_and_files_do_not_choose_the_device(tmp_path):
    path = train(make(rl_kwargs={**DQN, "device": "cpu"}), 40).save_to_file(tmp_path / "agent.zip")
    changed = make(rl_kwargs={"device": "cpu"}).load_from_file(path, {"rl_kwargs": {"gamma": 0.5}})
    assert changed.learner.inner.algorithm.gamma == 0.5
    assert changed.learner.inner.algorithm_parameters["device"] == "cpu"
    change = setting("algorithm_parameters", "rl_kwargs", "device", "cuda:7")
    assert load_agent(forged(path, {"config.json": change})).learner.device.type == "cpu"


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("config.json", setting("algorithm_parameters", "rl_algo_class", "sac")),
        ("config.json", setting("algorithm_parameters", "rl_algo_class", "os:system")),
        ("config.json", setting("algorithm_parameters", "rl_kwargs", "policy_kwargs", {"net_arch": [1 << 30]})),
        ("config.json", setting("algorithm_parameters", "rl_kwargs", "replay_buffer_class", "her")),
        ("config.json", setting("num_timesteps", 10)),
        ("learned/policy/config.json", setting("algorithm", "ppo")),
    ],
    ids=["another algorithm", "a path", "a huge network", "a buffer", "a count", "another inside"],
)
def test_a_hostile_bundle_is_refused(member, change, tmp_path):
    path = train(make(), 40).save_to_file(tmp_path / "agent.zip")
    refused(forged(path, {member: change}))


def test_slots_that_can_be_empty_are_refused():
    from rl_framework.environment.door import open_environments

    agent = make()
    batch = open_environments([lambda: gymnasium.make("CartPole-v1")], None, None, "sync", "environments")
    batch.may_be_absent = True
    agent.episodes = demonstrations(2)
    with pytest.raises(ArgumentError, match="enter and leave"):
        agent.prepare(batch, 0)
    batch.close()
