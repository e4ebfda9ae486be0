"""GAIL and AIRL: the library's own updates in rounds that can be watched, stopped, resumed and saved."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.gail import GAIL
from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet
from imitation.util import logger as imitation_logger
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tests.agent.hostile import refused, setting
from tests.agent.imitation.demonstrations import demonstrations, episode_of, episodes_in_parts, in_parts
from tests.agent.imitation.forging import forged, members_of
from tests.agent.reinforcement.matrix_toys import Picture
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import Sampled, same

from rl_framework import Callback, FeaturesExtractor, ImitationAgent, load_agent
from rl_framework.agent.imitation.library.expert_transitions import ExpertTransitions
from rl_framework.agent.imitation.library.observation_rows import ObservationRows
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import (
    ArgumentError,
    BundleError,
    EpisodeDataError,
    NotTrainedError,
    UnknownNameError,
)
from rl_framework.registry import features_extractors
from rl_framework.training import EpisodeEnded, Updated

PPO_PARAMETERS = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
FALLING = {"type": "linear", "start": 1e-2, "end": 0}
GENERATOR = {"algorithm_class": "ppo", "algorithm_parameters": {**PPO_PARAMETERS, "learning_rate": FALLING}}
DQN = {
    "algorithm_class": "dqn",
    "algorithm_parameters": {
        "learning_starts": 20,
        "buffer_size": 100,
        "train_freq": 2,
        "target_update_interval": 30,
        "policy_kwargs": {"net_arch": [8]},
    },
}
SAC = {"algorithm_class": "sac", "algorithm_parameters": {"learning_starts": 10, "buffer_size": 100, "batch_size": 8,
                                                          "policy_kwargs": {"net_arch": [8]}}}  # fmt: skip
SMALL = {"demo_batch_size": 16, "n_disc_updates_per_round": 2, "allow_variable_horizon": True, "gen_algo": GENERATOR}
ROUND = 32


class Tenth(FeaturesExtractor):
    def preprocess(self, observations):
        return observations / np.float32(10)


if "test_adversarial_tenth" not in features_extractors:
    features_extractors.register("test_adversarial_tenth", Tenth)


def make(algorithm="gail", **parameters):
    return ImitationAgent(algorithm, {**SMALL, **parameters})


def train(agent, total_timesteps=4 * ROUND, environments="CartPole-v1", episodes=None, **arguments):
    arguments = {"seed": 3, "n_environments": 2, "progress_bar": False, **arguments}
    episodes = demonstrations(2) if episodes is None else episodes
    return agent.train(episodes, environments, total_timesteps, **arguments)


def tensors(agent):
    return {
        f"{index} {name}": tensor.numpy().copy()
        for index, network in enumerate(agent.learner.networks())
        for name, tensor in network.state_dict().items()
    }


class Log(Callback):
    def __init__(self):
        self.events, self.boundaries = [], []

    def on_event(self, event, training):
        self.events.append(event)

    def on_boundary(self, training):
        self.boundaries.append(training.timestep)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


# What is computed


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_a_training_is_what_the_librarys_own_loop_makes_of_the_same_batches(tmp_path, algorithm):
    trainer_class, network_class = {"gail": (GAIL, BasicRewardNet), "airl": (AIRL, BasicShapedRewardNet)}[algorithm]
    generator = {"algorithm_class": "ppo", "algorithm_parameters": PPO_PARAMETERS}
    agent = train(make(algorithm, gen_algo=generator), 3 * ROUND)

    torch.manual_seed(0)
    venv = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    generator = PPO("MlpPolicy", venv, seed=3, device="cpu", **PPO_PARAMETERS)
    network = network_class(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
    order, expert = agent.learner._order, agent.learner._expert

    def batches():
        for index in range(100):
            batch = expert.gather(order.rows(index).numpy().astype(np.int64))
            yield {
                "obs": batch.observations,
                "acts": batch.actions,
                "next_obs": batch.next_observations,
                "dones": batch.terminated | batch.truncated,
            }

    class Peeked:  # the library looks at the first batch before it begins
        def __iter__(self):
            return batches()

    trainer = trainer_class(
        demonstrations=Peeked(),
        demo_batch_size=16,
        n_disc_updates_per_round=2,
        allow_variable_horizon=True,
        venv=venv,
        gen_algo=generator,
        reward_net=network,
        custom_logger=imitation_logger.configure(tmp_path, []),
    )
    trainer.train(3 * ROUND)
    theirs = {
        f"{index} {name}": tensor.numpy()
        for index, module in enumerate((trainer.policy, network))
        for name, tensor in module.state_dict().items()
    }
    assert same(tensors(agent), theirs)


def test_the_expert_gets_the_treatment_of_the_generator():
    preprocessed = make(gen_algo={**GENERATOR, "features_extractor": Tenth()})
    train(preprocessed, ROUND)
    batch = preprocessed.learner._expert.gather(np.arange(10))
    np.testing.assert_array_equal(batch.observations, demonstrations(2)[0].observations[:10] / np.float32(10))
    assert preprocessed.algorithm._gen_replay_buffer.sample(32).obs.dtype == batch.observations.dtype == np.float32


def test_only_the_batch_is_read():
    class Counted:
        def __init__(self, transitions):
            self.transitions, self.rows = transitions, []

        def __len__(self):
            return len(self.transitions)

        def gather(self, indices):
            self.rows.append(len(indices))
            return self.transitions.gather(indices)

    agent = train(make(), ROUND)
    counted = Counted(demonstrations(2).transitions())
    agent.learner._expert._transitions = counted
    agent.learner._expert_batch(5)
    assert counted.rows == [16]


def test_actions_that_the_learner_does_not_have_are_refused():
    transitions = demonstrations(2).transitions()
    space = demonstrations(2).observation_space
    with pytest.raises(EpisodeDataError, match="not in Discrete"):
        ExpertTransitions(transitions, None, space, spaces.Discrete(1)).gather(np.arange(50))
    with pytest.raises(EpisodeDataError, match="shape"):
        ExpertTransitions(transitions, None, space, spaces.MultiDiscrete([2, 2])).gather(np.arange(5))
    with pytest.raises(EpisodeDataError, match="shape"):
        ExpertTransitions(transitions, None, spaces.Box(-1, 1, (3,)), spaces.Discrete(2)).gather(np.arange(5))


# Rounds


def test_rounds_boundaries_and_metrics(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    log = Log()
    agent = train(make(), 2 * ROUND + 1, callbacks=[log])
    assert agent.num_timesteps == 3 * ROUND  # whole rounds, at least what was asked for
    assert log.boundaries == [0, ROUND, 2 * ROUND, 3 * ROUND]
    updates = log.of(Updated)
    assert [event.timestep for event in updates] == [ROUND, 2 * ROUND, 3 * ROUND]
    assert {"gen/train/loss", "disc/loss", "disc/acc", "disc/acc_expert", "disc/entropy"} <= set(updates[0].metrics)
    assert not any("mean/" in name or "raw/" in name for name in updates[0].metrics)
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_returns_are_the_environments():
    log = Log()
    train(make(), 4 * ROUND, callbacks=[log])
    episodes = log.of(EpisodeEnded)
    assert len(episodes) > 2
    assert all(event.episode_return == event.length for event in episodes)


def test_returns_are_the_environments_where_the_user_brings_a_vec_env():
    log, venv = Log(), DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    train(make(), 4 * ROUND, venv, callbacks=[log], n_environments=None)
    episodes = log.of(EpisodeEnded)
    assert len(episodes) > 2
    assert all(event.episode_return == event.length for event in episodes)


def test_schedules_see_the_whole_training():
    log = Log()
    agent = train(make(), 4 * ROUND, callbacks=[log])
    rates = [event.metrics["gen/train/learning_rate"] for event in log.of(Updated)]
    np.testing.assert_allclose(rates, [0.0075, 0.005, 0.0025, 0.0], atol=1e-12)
    assert "_update_current_progress_remaining" not in vars(agent.learner.inner.algorithm)


def test_a_callback_stops_in_the_middle_of_a_round():
    class Stop(Callback):
        def on_step(self, training):
            if training.timestep == ROUND + 6:
                training.stop("enough")

    agent = train(make(), callbacks=[Stop()])
    assert agent.num_timesteps == ROUND + 6
    assert agent.algorithm._disc_step == 2
    train(agent, ROUND, seed=None)
    assert agent.num_timesteps == 2 * ROUND + 6


def test_callbacks_of_the_library_inside_are_called():
    class Count(BaseCallback):
        steps = 0

        def _on_step(self):
            self.steps += 1
            return True

    count = Count()
    train(make(), 2 * ROUND, callbacks=[count])
    assert count.steps == ROUND


def test_less_than_a_round_is_refused_with_the_smallest_number():
    with pytest.raises(ArgumentError, match=f"total_timesteps=31.*at least {ROUND}"):
        train(make(), ROUND - 1)


def test_episodes_of_different_lengths_are_refused_with_the_parameter_that_allows_them():
    agent = make(allow_variable_horizon=False)
    with pytest.raises(ArgumentError, match="allow_variable_horizon"):
        train(agent, 20 * ROUND)
    same_length = make(allow_variable_horizon=False)
    train(same_length, 2 * ROUND, lambda: gymnasium.make("CartPole-v1", max_episode_steps=5))
    assert same_length.algorithm._horizon == 5


def test_training_goes_on(tmp_path):
    agent = train(make(), 2 * ROUND)
    optimizer = agent.algorithm._disc_opt.state_dict()["state"][0]["step"].item()
    first, buffer = tensors(agent), agent.algorithm._gen_replay_buffer
    train(agent, ROUND, seed=None)
    assert agent.num_timesteps == 3 * ROUND
    assert agent.algorithm._gen_replay_buffer is buffer
    assert agent.algorithm._disc_opt.state_dict()["state"][0]["step"].item() == optimizer + 2
    assert agent.algorithm._disc_step == 6
    assert not same(first, tensors(agent))
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    train(loaded, ROUND, seed=None)
    assert loaded.num_timesteps == 4 * ROUND
    assert loaded.algorithm._disc_step == 8


# Where and what


def test_images_are_seen_with_the_channels_first():
    def pictures():
        return Picture((36, 40, 3), spaces.Discrete(3))

    episodes = EpisodeSequence.from_episodes(
        [episode_of(pictures(), lambda observation: 1, seed) for seed in range(3)],
        pictures().observation_space,
        pictures().action_space,
    )
    reward_net = {"type": "cnn", "hid_channels": [4]}
    parameters = {"gen_algo": {"algorithm_class": "ppo", "algorithm_parameters": {**PPO_PARAMETERS, "n_steps": 8}}}
    agent = make(demo_batch_size=8, reward_net=reward_net, **parameters)
    train(agent, 16, pictures, episodes)
    assert agent.learner._expert.gather(np.arange(2)).observations.shape == (2, 3, 36, 40)
    batch = episodes.transitions().gather(np.arange(4))
    assert agent.learner.reward(batch.observations, batch.actions, batch.next_observations, batch.terminated).shape == (
        4,
    )
    assert agent.choose_action(episodes[0].observations[0]) in (0, 1, 2)


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_continuous_actions(algorithm):
    agent = make(algorithm, gen_algo=SAC, gen_train_timesteps=ROUND)
    train(agent, 2 * ROUND, "Pendulum-v1", demonstrations(2, "Pendulum-v1"))
    assert agent.choose_action(np.zeros(3, dtype=np.float32)).shape == (1,)


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(ArgumentError, match="VecNormalize"):
        train(
            make(),
            environments=VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])),
            n_environments=None,
        )
    with pytest.raises(ArgumentError, match=r"demo_batch_size.*1000 transitions"):
        train(make(demo_batch_size=1001))
    with pytest.raises(ArgumentError, match="probabilities"):
        train(make("airl", gen_algo=DQN))


@pytest.mark.parametrize(
    ("algorithm", "generator"),
    [("gail", GENERATOR), ("airl", GENERATOR), ("gail", DQN)],
    ids=["gail", "airl", "gail with dqn"],
)
def test_a_dict_is_what_its_parts_are_behind_one_another(algorithm, generator):
    parameters = {"gen_algo": generator, "gen_train_timesteps": ROUND if generator is DQN else None}
    plain = train(make(algorithm, **parameters), 3 * ROUND)
    agent = train(make(algorithm, **parameters), 3 * ROUND, in_parts, episodes_in_parts())
    assert isinstance(agent.learner.inner.algorithm.observation_space, spaces.Dict)
    assert same(tensors(plain), tensors(agent))
    batch, flat = (found.transitions().gather(np.arange(9)) for found in (episodes_in_parts(), demonstrations(2)))
    np.testing.assert_array_equal(
        agent.learner.reward(batch.observations, batch.actions, batch.next_observations, batch.terminated),
        plain.learner.reward(flat.observations, flat.actions, flat.next_observations, flat.terminated),
    )


def test_a_training_on_dicts_is_saved_and_resumed_to_the_last_bit(tmp_path):
    arguments = {"environments": in_parts, "episodes": episodes_in_parts()}
    plain = train(make("airl"), checkpoint_every=40, checkpoint_directory=tmp_path, **arguments)
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 3 * ROUND
    resumed = train(make("airl"), resume_from=path, **{**arguments, "seed": None})
    assert same(tensors(plain), tensors(resumed))
    loaded = load_agent(plain.save_to_file(tmp_path / "agent.zip"))
    batch = episodes_in_parts().transitions().gather(np.arange(9))
    judged = (batch.observations, batch.actions, batch.next_observations, batch.terminated)
    np.testing.assert_array_equal(loaded.learner.reward(*judged), plain.learner.reward(*judged))
    np.testing.assert_array_equal(loaded.choose_action(batch.observations), plain.choose_action(batch.observations))


def test_the_parts_of_a_dict_are_shown_as_the_networks_of_a_policy_see_them_and_found_again():
    space = spaces.Dict(
        {
            "buttons": spaces.MultiBinary(3),
            "camera": spaces.Box(0, 255, (36, 40, 1), np.uint8),
            "dice": spaces.MultiDiscrete([6, 3]),
            "place": spaces.Discrete(5),
            "speed": spaces.Box(-1, 1, (2, 2), np.float32),
        }
    )
    space.seed(0)
    samples = [space.sample() for _ in range(4)]
    observations = {key: np.stack([sample[key] for sample in samples]) for key in space}
    rows = ObservationRows(space)
    shown = rows(observations)
    assert shown.shape == (4, *rows.space.shape) == (4, 3 + 36 * 40 + 9 + 5 + 4)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown[:, :3], observations["buttons"])
    np.testing.assert_allclose(shown[:, 3:1443], observations["camera"].reshape(4, -1) / 255, atol=1e-7)
    np.testing.assert_array_equal(shown[:, 1443:1449], np.eye(6)[observations["dice"][:, 0]])
    np.testing.assert_array_equal(shown[:, 1452:1457], np.eye(5)[observations["place"]])
    np.testing.assert_array_equal(rows.one(samples[2]), shown[2])
    found = rows.parts_of(torch.as_tensor(shown))
    assert found.keys() == observations.keys()
    for key, part in found.items():
        np.testing.assert_array_equal(part.numpy(), observations[key])


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_binary_actions(algorithm):
    space = spaces.MultiBinary(3)
    episodes = EpisodeSequence.collect("random", lambda: Sampled(spaces.Box(-1, 1, (2,)), space), 4, seed=0)
    agent = train(
        make(algorithm, demo_batch_size=4), 2 * ROUND, lambda: Sampled(spaces.Box(-1, 1, (2,)), space), episodes
    )
    assert agent.choose_action(np.zeros(2, np.float32)).shape == (3,)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"log_dir": "output"}, "connector"),
        ({"venv": None}, "training_environments"),
        ({"demonstrations": None}, "episode_sequence"),
        ({"demo_batch_size": 0}, "at least 1"),
        ({"demo_minibatch_size": 5}, "must divide demo_batch_size=16"),
        ({"disc_opt_cls": "adm"}, "'adam'"),
        ({"disc_opt_cls": dict}, "is no registered optimizer"),
        ({"reward_net": {"type": "ensemble", "member": {"type": "basic"}}}, "cannot be a discriminator"),
        ({"gen_algo": "recurrent_ppo"}, "cannot be a generator"),
        ({"demo_size": 3}, "'demo_batch_size'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, match):
    with pytest.raises((ArgumentError, UnknownNameError), match=match):
        make(**parameters)


def test_the_optimizer_is_the_one_that_was_asked_for():
    agent = train(make(disc_opt_cls="sgd", disc_opt_kwargs={"lr": 0.5}), ROUND)
    assert type(agent.algorithm._disc_opt) is torch.optim.SGD
    with pytest.raises(ArgumentError, match="does not take them"):
        train(make(disc_opt_kwargs={"rate": 1}))


# Resuming

CASES = {
    "gail": ("gail", {}),
    "gail, older samples and a normalised policy": (
        "gail",
        {"gen_replay_buffer_capacity": 75, "gen_algo": {**GENERATOR, "features_extractor": "normalize"}},
    ),
    "airl": ("airl", {"reward_net": {"type": "basic_shaped", "normalize_input_layer": "ema_norm",
                                     "normalize_output_layer": "running_norm"}}),
    "gail with dqn": ("gail", {"gen_algo": DQN, "gen_train_timesteps": 8, "gen_replay_buffer_capacity": 24}),
    "the environments reward": ("gail", {"debug_use_ground_truth": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_interrupted_is_uninterrupted(case, tmp_path):
    algorithm, parameters = CASES[case]
    runs = []
    for arguments in ({}, {"checkpoint_every": 40, "checkpoint_directory": tmp_path}):
        recorder = Recorder()
        runs.append((train(make(algorithm, **parameters), callbacks=[recorder], **arguments), recorder.events))
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 3 * ROUND
    recorder, resumed = Recorder(), make(algorithm, **parameters)
    torch.manual_seed(99)
    train(resumed, callbacks=[recorder], resume_from=path, seed=None)
    (plain, events), (saving, saving_events) = runs
    assert same(tensors(plain), tensors(saving))
    assert same(tensors(plain), tensors(resumed))
    assert events == saving_events
    assert recorder.events == [event for event in events if event[0] > timestep]
    assert plain.num_timesteps == resumed.num_timesteps


def test_a_checkpoint_is_resumed_with_the_same_environments_and_episodes(tmp_path):
    train(make(), checkpoint_every=ROUND, checkpoint_directory=tmp_path)
    _, path = oldest(tmp_path)
    with pytest.raises(ArgumentError, match="n_environments"):
        train(make(), resume_from=path, seed=None, n_environments=3)
    with pytest.raises(ArgumentError, match="episode_sequence"):
        train(make(), resume_from=path, seed=None, episodes=demonstrations(3))
    with pytest.raises(ArgumentError, match="algorithm_parameters="):
        train(make(demo_batch_size=8), resume_from=path, seed=None)


def test_environments_that_cannot_be_replayed_begin_anew(tmp_path):
    def venv():
        return DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)

    arguments = {"environments": venv(), "n_environments": None}
    train(make(), checkpoint_every=ROUND, checkpoint_directory=tmp_path, **arguments)
    _, path = oldest(tmp_path)
    resumed = train(make(), resume_from=path, **{**arguments, "environments": venv(), "seed": None})
    assert resumed.num_timesteps == 4 * ROUND


# On disk


@pytest.mark.parametrize("algorithm", ["gail", "airl"])
def test_a_saved_agent_acts_and_judges_alike(algorithm, tmp_path):
    agent = train(make(algorithm), 2 * ROUND)
    path = agent.save_to_file(tmp_path / "agent.zip")
    names = set(members_of(path))
    assert {"learned/reward_net.safetensors", "learned/policy/policy.safetensors"} <= names
    assert not any(name.endswith((".pkl", ".pickle", ".pt", ".pth")) for name in names)
    loaded = load_agent(path)
    assert same(tensors(agent), tensors(loaded))
    assert loaded.num_timesteps == 2 * ROUND
    batch = demonstrations(2).transitions().gather(np.arange(0, 900, 50))
    arguments = (batch.observations, batch.actions, batch.next_observations, batch.terminated)
    rewards = agent.learner.reward(*arguments)
    assert rewards.std() > 0
    np.testing.assert_array_equal(rewards, loaded.learner.reward(*arguments))
    np.testing.assert_array_equal(agent.choose_action(batch.observations), loaded.choose_action(batch.observations))
    assert (
        loaded.evaluate("CartPole-v1", 3, seed=1).returns.tolist()
        == agent.evaluate("CartPole-v1", 3, seed=1).returns.tolist()
    )


def test_the_reward_is_the_librarys_reward_test():
    agent = train(make("airl"), 2 * ROUND)
    batch = demonstrations(2).transitions().gather(np.arange(20))
    arguments = (batch.observations, batch.actions, batch.next_observations, batch.terminated)
    expected = agent.algorithm.reward_test.predict(*arguments)
    np.testing.assert_array_equal(agent.learner.reward(*arguments), expected)
    assert not np.array_equal(agent.algorithm.reward_train.predict(*arguments), expected)  # which is shaped
    with pytest.raises(NotTrainedError):
        make().learner.reward(*arguments)


def _saved(tmp_path):
    return train(make(), ROUND).save_to_file(tmp_path / "agent.zip")


HOSTILE = {
    "another network": ("config.json", setting("algorithm_parameters", "reward_net", {"type": "basic",
                                                                                   "hid_sizes": [9]})),
    "a huge network": ("config.json", setting("algorithm_parameters", "reward_net",
                                              {"type": "basic", "hid_sizes": [1 << 20, 1 << 20, 1 << 20]})),
    "a path for a class": ("config.json", setting("algorithm_parameters", "reward_net", {"type": "os:system"})),
    "a path for an optimizer": ("config.json", setting("algorithm_parameters", "disc_opt_cls", "os:system")),
    "another algorithm inside": ("config.json", setting("algorithm_parameters", "gen_algo", "algorithm_class", "dqn")),
    "another algorithm there": ("learned/policy/config.json", setting("algorithm", "dqn")),
    "another space there": ("learned/policy/config.json", setting("observation_space", {"type": "Discrete", "n": 4})),
    "another count": ("config.json", setting("num_timesteps", 7)),
    "counters that are none": ("learned/counters.json", setting("disc_step", "many")),
    "a negative counter": ("learned/counters.json", setting("global_step", -1)),
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return _saved(tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_bundle_is_refused(case, saved, tmp_path):
    member, change = HOSTILE[case]
    path = tmp_path / "agent.zip"
    path.write_bytes(saved.read_bytes())
    refused(forged(path, {member: change}))


@pytest.mark.parametrize("member", ["learned/reward_net.safetensors", "learned/counters.json"])
def test_a_bundle_with_something_missing_is_refused(member, saved, tmp_path):
    path = tmp_path / "agent.zip"
    path.write_bytes(saved.read_bytes())
    refused(forged(path, drop=[member]))


def test_a_file_does_not_choose_the_device(saved, tmp_path):
    path = tmp_path / "agent.zip"
    path.write_bytes(saved.read_bytes())
    change = setting("algorithm_parameters", "gen_algo", "algorithm_parameters", "device", "cuda:7")
    agent = load_agent(forged(path, {"config.json": change}))
    assert agent.learner.device.type == "cpu"


STATE, ARRAYS = "training_state/adversarial/state.json", "training_state/adversarial/arrays.npz"


def changing(name, change):
    def changed(arrays):
        arrays[name] = change(arrays[name])

    return changed


HOSTILE_STATES = {
    "a position outside": ({STATE: setting("idx", 10_000)}, {}),
    "a negative position": ({STATE: setting("idx", -1)}, {}),
    "a position without data": ({STATE: setting("idx", 3)}, {}),
    "more data than there is room": ({STATE: setting("n_data", 1 << 40)}, {}),
    "a horizon that is none": ({STATE: setting("horizon", "long")}, {}),
    "other rows": ({}, {ARRAYS: changing("buffer/obs", lambda array: array[:3])}),
    "other types": ({}, {ARRAYS: changing("buffer/acts", lambda array: array.astype(np.float64))}),
    "sums that are none": ({}, {ARRAYS: changing("cumulative_rewards", lambda array: array * np.nan)}),
    "returns that are none": ({}, {ARRAYS: changing("episode_rewards", lambda array: np.array([np.inf]))}),
    "another optimizer": ({STATE: setting("optimizer", "parameters", [1])}, {}),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    train(make(gen_replay_buffer_capacity=100), 2 * ROUND, checkpoint_every=ROUND, checkpoint_directory=folder)
    return oldest(folder)[1]


@pytest.mark.parametrize("case", HOSTILE_STATES)
def test_a_hostile_checkpoint_is_refused(case, checkpoint, tmp_path):
    json_changes, array_changes = HOSTILE_STATES[case]
    path = tmp_path / checkpoint.name
    path.write_bytes(checkpoint.read_bytes())
    forged(path, json_changes, array_changes)
    agent = make(gen_replay_buffer_capacity=100)
    with pytest.raises(BundleError):
        train(agent, 2 * ROUND, resume_from=path, seed=None)
    assert agent.num_timesteps == 0


def test_the_description_is_plain_data():
    agent = make(
        "airl",
        gen_algo={"algorithm_class": PPO, "algorithm_parameters": {"device": "cpu"}},
        reward_net={"type": BasicRewardNet, "hid_sizes": (4,)},
        disc_opt_cls=torch.optim.SGD,
    )
    described = json.loads(json.dumps(agent.describe()))
    assert described["algorithm"] == "airl"
    parameters = described["algorithm_parameters"]
    assert parameters["gen_algo"]["algorithm_class"] == "ppo"
    assert "device" not in parameters["gen_algo"]["algorithm_parameters"]
    assert parameters["reward_net"]["type"] == "basic"
    assert ImitationAgent("gail").describe()["algorithm_parameters"]["gen_algo"]["algorithm_class"] == "ppo"
