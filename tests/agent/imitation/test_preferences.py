"""Preference comparisons: what is compared, by whom, what is learned from it, and that nothing of it is lost."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms import preference_comparisons as library
from tests.agent.hostile import refused, setting
from tests.agent.imitation.demonstrations import demonstrations, episodes_in_parts, in_parts
from tests.agent.imitation.forging import forged
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import OFF_POLICY, PARAMETERS, same

from rl_framework import ImitationAgent, load_agent
from rl_framework.agent.imitation.preference.trajectories import Exploration, TrajectoryRecord, enough
from rl_framework.environment.door import open_environments
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError

PPO = {"algorithm_class": "ppo", "algorithm_parameters": PARAMETERS["ppo"]}
ENSEMBLE = {"type": "ensemble", "member": {"type": "basic", "hid_sizes": [4]}, "n_members": 2}
SMALL = {
    "rl_algo": PPO,
    "reward_model": {"type": "basic", "hid_sizes": [8], "normalize_input_layer": "running_norm"},
    "num_iterations": 2,
    "total_comparisons": 12,
    "fragment_length": 5,
    "initial_comparison_frac": 0.3,
    "initial_epoch_multiplier": 2,
    "allow_variable_horizon": True,
}


def short():
    return gymnasium.make("CartPole-v1", max_episode_steps=20)


def make(**parameters):
    return ImitationAgent("preference_comparisons", {**SMALL, **parameters})


def train(agent, environments=short, total_timesteps=120, episodes=None, **arguments):
    arguments = {"seed": 3, "n_environments": 2, "progress_bar": False, **arguments}
    return agent.train(episodes, environments, total_timesteps, **arguments)


def weights(agent):
    policy = {name: tensor.numpy().copy() for name, tensor in agent.learner.inner.algorithm.policy.state_dict().items()}
    reward = agent.learner._reward_net.state_dict()
    return policy | {f"reward {name}": tensor.numpy().copy() for name, tensor in reward.items()}


def transitions(count=12, seed=0):
    rng = np.random.default_rng(seed)
    observations, following = rng.normal(size=(2, count, 4)).astype(np.float32) / 10
    return observations, rng.integers(0, 2, count), following, np.zeros(count, np.bool_)


# What is compared and learned


class Compass(gymnasium.Env):
    """Pays what the observation says, whatever is done."""

    def __init__(self):
        self.observation_space, self.action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)

    def _observe(self):
        self.now = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.now

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return self._observe(), {}

    def step(self, action):
        reward = float(self.now[0])
        self.left -= 1
        return self._observe(), reward, False, self.left == 0, {}


def test_the_reward_that_is_learned_orders_as_the_true_one():
    agent = make(
        total_comparisons=60,
        initial_comparison_frac=0.8,
        initial_epoch_multiplier=25,
        preference_gatherer={"type": "synthetic", "temperature": 0},
        reward_trainer={"type": "basic", "lr": 1e-2},
        allow_variable_horizon=False,
    )
    train(agent, Compass)
    observations = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    actions = np.zeros(200, np.int64)
    rewards = agent.learner.reward(observations, actions, observations, actions > 0)
    assert np.corrcoef(rewards, observations[:, 0])[0, 1] > 0.8
    assert len(agent.algorithm.dataset) == 60


def test_as_many_comparisons_as_the_librarys_schedule_says():
    asked = []

    def prefer(pairs):
        asked.append(len(pairs))
        assert all(isinstance(one, library.TrajectoryWithRew) and len(one) == 5 for pair in pairs for one in pair)
        return np.ones(len(pairs))

    agent = train(make(preference_gatherer=prefer, query_schedule="constant", total_comparisons=21, num_iterations=3))
    assert asked == [6, 5, 5, 5]
    assert type(agent.algorithm) is library.PreferenceComparisons
    assert agent.algorithm._iteration == 4
    assert 120 <= agent.num_timesteps <= 120 + 32


@pytest.mark.parametrize("answer", [np.ones(1), np.array([2.0] * 3), np.array([np.nan] * 3)], ids=["few", "2", "nan"])
def test_answers_that_are_no_probabilities_are_refused(answer):
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        train(make(preference_gatherer=lambda pairs: answer))


def test_the_agent_learns_from_the_reward_that_was_learned():
    agent = make()
    paid = []
    log = Recorder()
    train(agent, total_timesteps=60, callbacks=[log])
    relabelled = agent.learner._relabelled
    observations = relabelled.batch.latest_observations
    paid = relabelled._reward(observations, np.zeros(2, np.int64), observations, np.zeros(2, np.bool_), np.zeros(2))
    assert paid.shape == (2,)
    ended = [event for event in log.events if len(event) == 4]
    assert ended
    assert all(event[2] == event[3] for event in ended)  # what is told is the true return


def test_events_tell_of_the_reward_model_and_of_the_agent():
    log = Recorder()
    train(make(), callbacks=[log])
    metrics = [event[2] for event in log.events if len(event) == 3]
    last = [found for found in metrics if "preferences/n_comparisons" in found]
    assert [found["preferences/n_comparisons"] for found in last][-1] == 12
    assert all("reward/final/train/accuracy" in found for found in last)
    assert any("agent/train/loss" in found or "train/loss" in found for found in metrics)
    assert not any("epoch-" in name for found in metrics for name in found)


def short_in_parts():
    return in_parts(max_episode_steps=20)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"reward_model": ENSEMBLE, "fragmenter": "active"}],
    ids=["random fragments", "an ensemble and active fragments"],
)
def test_a_dict_is_what_its_parts_are_behind_one_another(parameters):
    plain = train(make(**parameters), episodes=demonstrations(2))
    agent = train(make(**parameters), short_in_parts, episodes=episodes_in_parts())
    assert isinstance(agent.learner.inner.algorithm.observation_space, spaces.Dict)
    assert same(weights(plain), weights(agent))
    flat, other = (found.transitions().gather(np.arange(9)) for found in (demonstrations(2), episodes_in_parts()))
    np.testing.assert_array_equal(
        agent.learner.reward(other.observations, other.actions, other.next_observations, other.terminated),
        plain.learner.reward(flat.observations, flat.actions, flat.next_observations, flat.terminated),
    )


def test_a_regularizer_keeps_the_weights_small():
    strong = {"type": "lp", "p": 2, "initial_lambda": 10.0}
    plain = train(make(), total_timesteps=40)
    agent = train(make(reward_trainer={"type": "basic", "regularizer_factory": strong}), total_timesteps=40)
    sizes = [sum(abs(part).sum() for name, part in weights(one).items() if "dense" in name) for one in (plain, agent)]
    assert sizes[1] < sizes[0]


def test_a_regularizer_that_cannot_be_is_told():
    def described(**changed):
        data = {"type": "lp", "p": 2, "initial_lambda": 0.1, **changed}
        return make(reward_trainer={"type": "basic", "regularizer_factory": data})

    with pytest.raises(UnknownNameError, match="weight_decay"):
        described(type="decay")
    with pytest.raises(ArgumentError, match="scaling_factor and tolerable_interval"):
        described(lambda_updater={"scaling_factor": 0.5})
    with pytest.raises(ArgumentError, match="does not say initial_lambda"):
        make(reward_trainer={"type": "basic", "regularizer_factory": {"type": "weight_decay"}})
    with pytest.raises(ArgumentError, match="updater"):
        train(described(val_split=0.5))
    with pytest.raises(ArgumentError, match="3 comparisons, too few"):
        train(described(val_split=0.1, lambda_updater={"scaling_factor": 0.5, "tolerable_interval": [0.9, 1.5]}))


def test_who_prefers_sees_the_dicts():
    seen = []

    def prefer(pairs):
        seen.extend(one for pair in pairs for one in pair)
        return np.ones(len(pairs))

    train(make(preference_gatherer=prefer), short_in_parts)
    assert seen
    assert all({key: part.shape for key, part in one.obs.items()} == {"cart": (6, 2), "pole": (6, 2)} for one in seen)


def test_nothing_is_left_in_the_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    agent = train(make(reward_model=ENSEMBLE, fragmenter="active"), total_timesteps=40)
    train(agent, total_timesteps=40, seed=None)
    train(make(preference_gatherer=lambda pairs: np.ones(len(pairs))), total_timesteps=40)
    assert list(tmp_path.iterdir()) == []


# Where fragments come from


def test_recorded_episodes_alone_can_be_compared():
    seen = []

    def prefer(pairs):
        seen.extend(one for pair in pairs for one in pair)
        return np.ones(len(pairs))

    episodes = demonstrations(3, max_episode_steps=30)
    shown = np.concatenate([episode.observations for episode in episodes])
    parameters = {"trajectory_generator": "dataset", "total_comparisons": 4, "preference_gatherer": prefer}
    agent = train(make(**parameters), episodes=episodes)
    assert all((shown == one.obs[0]).all(axis=1).any() for one in seen)
    assert agent.num_timesteps >= 120  # and still it learned to act
    with pytest.raises(ArgumentError, match="compares recorded episodes"):
        train(make(trajectory_generator="dataset"))
    with pytest.raises(ArgumentError, match="are needed for the fragments"):
        train(make(trajectory_generator="dataset"), episodes=demonstrations(1, max_episode_steps=10))


def test_recorded_episodes_join_the_first_comparisons():
    seen = []

    def prefer(pairs):
        seen.append([one for pair in pairs for one in pair])
        return np.ones(len(pairs))

    episodes = demonstrations(3, max_episode_steps=100)
    train(make(preference_gatherer=prefer), episodes=episodes)
    shown = np.concatenate([episode.observations for episode in episodes])
    recorded = [sum((shown == one.obs[0]).all(axis=1).any() for one in fragments) for fragments in seen]
    assert recorded[0] > 0
    assert recorded[1:] == [0, 0]


def test_episodes_without_rewards_need_a_gatherer_of_ones_own():
    without = [
        Episode(episode.observations, episode.actions, np.full(len(episode), np.nan), False, True)
        for episode in demonstrations(2, max_episode_steps=20)
    ]
    given = demonstrations(2, max_episode_steps=20)
    episodes = EpisodeSequence.from_episodes(without, given.observation_space, given.action_space)
    with pytest.raises(ArgumentError, match="rewards are not known"):
        train(make(), episodes=episodes)
    train(make(preference_gatherer=lambda pairs: np.ones(len(pairs))), episodes=episodes, total_timesteps=40)


def test_the_latest_episodes_of_the_agent_come_first():
    record, batch = TrajectoryRecord(), open_environments(short, 2, None, "sync", "environments")
    observations, _ = batch.reset_slots(0)
    for _ in range(50):
        step = batch.step_slots(np.ones(2, np.int64))
        record.watch(batch, observations, np.ones(2, np.int64), step)
        observations = step.observations
    arrays = record.to_arrays()
    other = TrajectoryRecord()
    other.from_arrays(arrays, batch.single_observation_space, 2)
    assert same(other.to_arrays(), arrays)
    finished = record.take()
    assert len(finished) > 4
    assert record.take() == []
    assert [len(episode) for episode in enough(finished[::-1], 12)] == [len(one) for one in finished[::-1]][:2]


def test_exploration_is_at_random_at_times():
    batch = open_environments(short, 2, None, "sync", "environments")

    class Left:
        def predict(self, observations, state=None, starts=None, deterministic=True):
            assert not deterministic
            return np.zeros(len(observations), np.int64), state

    def share(random_prob):
        explore = Exploration(Left(), batch, np.random.default_rng(0), 0.5, random_prob)
        observations, _ = batch.reset_slots(0)
        return np.mean([explore(observations, None, np.zeros(2, np.bool_))[1].mean() for _ in range(400)])

    assert share(0.0) == 0.0
    assert 0.4 < share(1.0) < 0.6
    assert 0.15 < share(0.5) < 0.35


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"trajectory_generator": {"type": "agent", "exploration_frac": 0.4}}, id="exploration"),
        pytest.param(
            {"reward_model": ENSEMBLE, "fragmenter": "active", "reward_trainer": {"type": "ensemble", "epochs": 2}},
            id="ensemble, active",
        ),
        pytest.param({"reward_model": {"type": "add_std", "base": ENSEMBLE}}, id="ensemble with deviation"),
        pytest.param({"comparison_queue_size": 8, "query_schedule": "inverse_quadratic"}, id="queue"),
        pytest.param({"rl_algo": {"algorithm_class": "dqn", "algorithm_parameters": OFF_POLICY}}, id="off-policy"),
        pytest.param({"reward_trainer": {"preference_model": {"noise_prob": 0.1, "threshold": 20}}}, id="model"),
        pytest.param(
            {"reward_trainer": {"regularizer_factory": {"type": "weight_decay", "initial_lambda": 0.1}}}, id="decay"
        ),
    ],
)
def test_the_options_of_the_library(parameters):
    if "reward_trainer" in parameters:
        parameters = {**parameters, "reward_trainer": {"type": "basic", **parameters["reward_trainer"]}}
    agent = train(make(**parameters))
    assert np.isfinite(agent.learner.reward(*transitions())).all()


# On disk


CASES = {
    "on-policy, exploration": {"trajectory_generator": {"type": "agent", "exploration_frac": 0.4}},
    "normalised, ensemble": {
        "rl_algo": {**PPO, "normalize_observations": True, "normalize_rewards": True},
        "reward_model": ENSEMBLE,
    },
    "off-policy": {"rl_algo": {"algorithm_class": "dqn", "algorithm_parameters": OFF_POLICY}},
    "a dict": {"trajectory_generator": {"type": "agent", "exploration_frac": 0.4}},
    "regularized": {
        "reward_trainer": {
            "type": "ensemble",
            "regularizer_factory": {
                "type": "lp",
                "p": 2,
                "initial_lambda": 0.1,
                "lambda_updater": {"scaling_factor": 0.5, "tolerable_interval": (0.0, 0.1)},
                "val_split": 0.4,
            },
        },
        "reward_model": ENSEMBLE,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_training_is_the_same_to_the_last_bit(case, tmp_path):
    runs = []
    environments = short_in_parts if case == "a dict" else short
    for arguments in ({}, {"checkpoint_every": 30, "checkpoint_directory": tmp_path}):
        log = Recorder()
        runs.append((train(make(**CASES[case]), environments, callbacks=[log], **arguments), log.events))
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 120
    log, resumed = Recorder(), make(**CASES[case])
    train(resumed, environments, callbacks=[log], resume_from=path, seed=None)
    (plain, events), (watched, watched_events) = runs
    assert same(weights(plain), weights(watched))
    assert watched_events == events
    assert same(weights(plain), weights(resumed))
    assert resumed.num_timesteps == plain.num_timesteps
    later = [event for event in events if event[0] > timestep]
    assert [event for event in log.events if event[0] > timestep] == later
    assert later


def test_it_goes_on_where_it_ended(tmp_path):
    agent = train(make())
    train(agent, seed=None)
    assert len(agent.algorithm.dataset) == 24
    assert agent.num_timesteps >= 240


def test_a_saved_agent_acts_and_rewards_the_same(tmp_path):
    agent = train(make())
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    np.testing.assert_array_equal(loaded.choose_action(transitions()[0]), agent.choose_action(transitions()[0]))
    np.testing.assert_array_equal(loaded.learner.reward(*transitions()), agent.learner.reward(*transitions()))
    train(loaded, total_timesteps=50)


def test_a_gatherer_of_ones_own_is_not_saved_and_asked_for_again(tmp_path):
    def prefer(pairs):
        return np.ones(len(pairs))

    agent = train(make(preference_gatherer=prefer), checkpoint_every=40, checkpoint_directory=tmp_path / "checkpoints")
    described = agent.describe()
    assert json.loads(json.dumps(described)) == described
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    with pytest.raises(ArgumentError, match="Give it again"):
        train(loaded)
    train(make(preference_gatherer=prefer).load_from_file(tmp_path / "agent.zip"), total_timesteps=40)
    train(make(preference_gatherer=prefer), resume_from=tmp_path / "checkpoints", seed=None)


def test_hostile_bundles_are_refused(tmp_path):
    agent = train(make(), total_timesteps=40)

    def fresh():
        return agent.save_to_file(tmp_path / "agent.zip")

    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "reward_model", "hid_sizes", [1 << 40])}))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "reward_model", "type", "os.system")}))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "fragmenter", {"type": "eval"})}))
    refused(forged(fresh(), drop=["learned/reward_model.safetensors"]))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            {"comparisons.npz": lambda arrays: arrays.update(preferences=arrays["preferences"] + 1)}, id="preferences"
        ),
        pytest.param({"comparisons.npz": lambda arrays: arrays.pop("lengths")}, id="no lengths"),
        pytest.param(
            {"comparisons.npz": lambda arrays: arrays.update(actions=np.zeros((len(arrays["actions"]), 9)))},
            id="actions",
        ),
        pytest.param({"trajectories.npz": lambda arrays: arrays.update(slots=np.array([7]))}, id="slots"),
    ],
)
def test_hostile_comparisons_in_a_checkpoint_are_refused(change, tmp_path):
    train(make(), checkpoint_every=40, checkpoint_directory=tmp_path)
    changes = {f"training_state/{name}": what for name, what in change.items()}
    path = forged(oldest(tmp_path)[1], array_changes=changes)
    with pytest.raises(BundleError):
        train(make(), resume_from=path, seed=None)


# Parameters


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        pytest.param({"num_iteration": 1}, UnknownNameError, "num_iterations", id="misspelled"),
        pytest.param({"num_iterations": 0}, ArgumentError, "at least 1", id="no iterations"),
        pytest.param({"fragmenter": "actve"}, UnknownNameError, "active", id="fragmenter"),
        pytest.param({"fragmenter": {"type": "random", "warning": 1}}, UnknownNameError, "warning_threshold", id="arg"),
        pytest.param({"reward_trainer": library}, ArgumentError, "is an object", id="object"),
        pytest.param({"query_schedule": "linear"}, UnknownNameError, "hyperbolic", id="schedule"),
        pytest.param({"rng": 1}, ArgumentError, "seed", id="of the framework"),
        pytest.param({"reward_model": {"type": "basc"}}, UnknownNameError, "basic", id="reward model"),
        pytest.param({"initial_comparison_frac": 2}, ArgumentError, "from 0 to 1", id="fraction"),
    ],
)
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, error, match):
    with pytest.raises(error, match=match):
        ImitationAgent("preference_comparisons", parameters)


def test_what_cannot_be_is_told():
    with pytest.raises(ArgumentError, match="the longest episode has"):
        train(make(fragment_length=100))
    with pytest.raises(ArgumentError, match="ensemble"):
        train(make(fragmenter="active"))
    with pytest.raises(ArgumentError, match="cannot train this reward_model"):
        train(make(reward_trainer="ensemble"))
    with pytest.raises(ArgumentError, match="different lengths"):
        train(make(allow_variable_horizon=False))
