"""DAgger collects as the imitation library does, keeps what it collected, and can be interrupted between rounds."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from imitation.algorithms import dagger
from imitation.data import rollout
from tests.agent.hostile import refused, setting
from tests.agent.imitation.demonstrations import demonstrations
from tests.agent.imitation.forging import forged
from tests.agent.reinforcement.matrix_toys import PARAMETERS, Masked, Picture
from tests.agent.reinforcement.resume_cases import Recorder, oldest
from tests.agent.samples import Sampled, same, trained

from rl_framework import Callback, ImitationAgent, StableBaselinesAgent, load_agent
from rl_framework.agent.imitation.interactive.collection import EpisodeCollection, interactive
from rl_framework.agent.imitation.interactive.expert import ExpertPolicy
from rl_framework.agent.imitation.library.episode_arrays import episodes_from_arrays, episodes_to_arrays
from rl_framework.environment.door import open_environments
from rl_framework.environment.sb3 import export_to_vec_env
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.episode.recording.actors import actor_for
from rl_framework.errors import ArgumentError, BundleError, SpaceMismatchError, UnknownNameError

CLONING = {"policy": {"type": "MlpPolicy", "net_arch": [8]}, "batch_size": 16}
SMALL = {
    "bc_trainer": CLONING,
    "beta_schedule": {"type": "linear", "rampdown_rounds": 2},
    "rollout_round_min_episodes": 2,
    "rollout_round_min_timesteps": 30,
    "bc_train_kwargs": {"n_epochs": 1, "log_interval": 10},
}


def controller(observations):
    """Keeps the poles up; takes a batch."""
    return (observations @ np.array([0.1, 0.1, 3.0, 1.0]) > 0).astype(np.int64)


def short(limit=20):
    return gymnasium.make("CartPole-v1", max_episode_steps=limit)


def make(expert=controller, **parameters):
    return ImitationAgent("dagger", {**SMALL, "expert_policy": expert, **parameters})


def train(agent, environments=short, total_timesteps=150, episodes=None, **arguments):
    arguments = {"seed": 3, "n_environments": 2, "progress_bar": False, **arguments}
    return agent.train(episodes, environments, total_timesteps, **arguments)


def weights(agent):
    return {name: tensor.numpy().copy() for name, tensor in agent.learner.policy.state_dict().items()}


def arrays_of(agent):
    return episodes_to_arrays(list(agent.learner.demonstrations))


class Rounds(Recorder):
    def __init__(self):
        super().__init__()
        self.rounds = []

    def on_update(self, event, training):
        super().on_update(event, training)
        if "dagger/round" in event.metrics:
            self.rounds.append(dict(event.metrics))


# What is collected


def test_an_episode_is_what_the_librarys_collector_makes_of_it(tmp_path):
    robot = trained("ppo", seed=4).algorithm.policy
    act = lambda observations: robot.predict(observations, deterministic=True)[0]  # noqa: E731

    def fresh():
        batch = open_environments([short], None, None, "sync", "environments")
        return batch, actor_for(controller, batch, 0)

    batch, expert = fresh()
    own = EpisodeCollection(batch, interactive(batch, expert, act, 0.5, np.random.default_rng(5)), 1)
    own.run(7, lambda step: True)

    batch, expert = fresh()
    vec_env = export_to_vec_env(batch)
    vec_env.seed(7)
    collector = dagger.InteractiveTrajectoryCollector(vec_env, act, 0.5, tmp_path, np.random.default_rng(5))
    policy = ExpertPolicy(expert, vec_env.observation_space, vec_env.action_space)
    until = rollout.make_min_episodes(1)
    (theirs,) = rollout.generate_trajectories(policy, collector, until, collector.rng, deterministic_policy=True)

    (ours,) = own.episodes
    assert len(ours) > 5
    np.testing.assert_array_equal(ours.observations, theirs.obs)
    np.testing.assert_array_equal(ours.actions, theirs.acts)
    np.testing.assert_array_equal(ours.rewards, theirs.rews)


def test_recorded_actions_are_the_experts_wherever_the_learner_went():
    always_left = lambda observations: np.zeros(len(observations), dtype=np.int64)  # noqa: E731
    batch = open_environments(short, 3, None, "sync", "environments")
    expert = actor_for(controller, batch, 0)
    collection = EpisodeCollection(batch, interactive(batch, expert, always_left, 0.0, np.random.default_rng(0)), 40, 4)
    collection.run(0, lambda step: True)
    assert len(collection.episodes) >= 4
    for episode in collection.episodes:
        np.testing.assert_array_equal(episode.actions, controller(episode.observations[:-1]))
        assert episode.actions.any()  # and the learner always did the other thing
        assert episode.observations[-1][1] < -1.0
        assert episode.terminated


def test_a_round_ends_as_the_librarys_does():
    agent = make(beta_schedule={"type": "linear", "rampdown_rounds": 1000}, rollout_round_min_episodes=5)
    train(agent, total_timesteps=1, n_environments=3)
    # Episodes of the expert have 20 steps each: 5 episodes need two from each environment.
    assert agent.num_timesteps == 3 * 40
    assert len(agent.learner.demonstrations) == 6
    assert agent.algorithm.round_num == 1


def test_given_episodes_come_first_and_all_are_learned_from():
    given, rounds = demonstrations(2, max_episode_steps=30), Rounds()
    agent = train(make(), total_timesteps=100, episodes=given, callbacks=[rounds])
    demonstrated = agent.learner.demonstrations
    np.testing.assert_array_equal(demonstrated[1].observations, given[1].observations)
    assert rounds.rounds[-1]["dagger/n_transitions"] == demonstrated.n_transitions
    assert demonstrated.n_transitions == given.n_transitions + sum(map(len, demonstrated[2:]))
    before = len(demonstrated)
    train(agent, total_timesteps=1, episodes=given)
    assert len(agent.learner.demonstrations) > before


# What is told


def test_events_tell_of_rounds_and_episodes():
    log = Rounds()
    agent = train(make(), total_timesteps=200, callbacks=[log], validation_episode_sequence=demonstrations(1))
    assert [metrics["dagger/round"] for metrics in log.rounds] == list(map(float, range(agent.algorithm.round_num)))
    assert [metrics["dagger/beta"] for metrics in log.rounds][:3] == [1.0, 0.5, 0.0]
    ended = [event for event in log.events if len(event) == 4]
    assert log.rounds[0]["dagger/mean_episode_reward"] == 20.0
    assert len(ended) == sum(metrics["dagger/round_episode_count"] for metrics in log.rounds)
    assert sum(metrics["dagger/round_timestep_count"] for metrics in log.rounds) == agent.num_timesteps
    assert {"bc/loss", "bc/neglogp", "validation/accuracy"} <= set(log.rounds[0])


def test_a_callback_stops_it_in_the_middle_of_a_round_and_nothing_finished_is_lost():
    class Stop(Callback):
        def on_episode_end(self, event, training):
            training.stop("enough")

    agent = train(make(), callbacks=[Stop()], n_environments=1)
    assert agent.num_timesteps == 20
    assert len(agent.learner.demonstrations) == 1
    assert agent.algorithm.round_num == 0
    train(agent, total_timesteps=50, n_environments=1)
    assert agent.algorithm.round_num > 0


def test_the_same_seed_is_the_same_training():
    one, other = train(make()), train(make())
    assert same(weights(one), weights(other))
    assert same(arrays_of(one), arrays_of(other))
    assert not same(weights(one), weights(train(make(), seed=4)))


def test_the_wrapped_object_is_the_librarys():
    agent = train(make())
    assert type(agent.algorithm) is dagger.SimpleDAggerTrainer
    assert agent.algorithm.policy is agent.learner.policy
    assert agent.algorithm.bc_trainer.optimizer.state  # the one that is used


# Experts


def test_an_agent_that_normalises_is_an_expert(tmp_path):
    expert = trained("ppo", normalize_observations=True)
    path = expert.save_to_file(tmp_path / "expert.zip")
    by_path, by_agent, by_model = (train(make(which)) for which in (path, expert, str(path)))
    assert same(weights(by_path), weights(by_agent))
    assert same(weights(by_path), weights(by_model))
    for episode in by_agent.learner.demonstrations:
        actions = [expert.choose_action(observation) for observation in episode.observations[:-1]]
        np.testing.assert_array_equal(episode.actions, actions)


def test_a_model_and_a_policy_of_the_library_are_experts():
    model = trained("ppo").algorithm
    assert same(weights(train(make(model))), weights(train(make(model.policy))))


def test_a_recurrent_expert_is_told_where_episodes_begin():
    expert = StableBaselinesAgent("recurrent_ppo", PARAMETERS["recurrent_ppo"])
    expert.train("CartPole-v1", 40, seed=0, progress_bar=False)
    agent = train(make(expert), n_environments=3)
    for episode in agent.learner.demonstrations:
        state, start = None, True
        for observation, action in zip(episode.observations[:-1], episode.actions, strict=True):
            expected, state = expert.choose_action(observation, state=state, episode_start=start)
            assert action == expected
            start = False


def test_an_expert_with_action_masks_is_given_them():
    expert = StableBaselinesAgent("maskable_ppo", PARAMETERS["maskable_ppo"])
    expert.train(lambda: Masked(length=7), 40, seed=0, progress_bar=False)
    agent = train(make(expert), lambda: Masked(length=7))
    assert len(agent.learner.demonstrations) > 0


@pytest.mark.parametrize("kind", ["dict", "image", "box"])
def test_all_kinds_of_spaces(kind):
    box = spaces.Box(-1, 1, (2,), np.float32)
    environment = {
        "dict": lambda: Sampled(spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(3)}), box),
        "image": lambda: Picture((36, 36, 1), spaces.Discrete(3)),
        "box": lambda: Sampled(action_space=box),
    }[kind]
    policy = {"image": {"type": "CnnPolicy", "features_extractor_kwargs": {"features_dim": 4}}}.get(kind)
    agent = train(make("random", bc_trainer={"batch_size": 8, **({"policy": policy} if policy else {})}), environment)
    assert agent.algorithm.round_num > 1
    back = episodes_from_arrays(arrays_of(agent), agent.observation_space)
    assert same(episodes_to_arrays(back), arrays_of(agent))


def test_an_expert_for_other_spaces_is_refused():
    with pytest.raises(SpaceMismatchError):
        train(make(trained("sac")))


def test_without_an_expert_it_says_what_to_give():
    with pytest.raises(ArgumentError, match="It is not saved with this agent"):
        train(ImitationAgent("dagger", SMALL))
    with pytest.raises(ArgumentError, match="is a class"):
        train(make(StableBaselinesAgent))


# Parameters


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        pytest.param({"expert_polcy": 1}, UnknownNameError, "expert_policy", id="misspelled"),
        pytest.param({"scratch_dir": "x"}, ArgumentError, "checkpoints", id="scratch folder"),
        pytest.param({"expert_trajs": []}, ArgumentError, "episode_sequence", id="episodes"),
        pytest.param({"bc_trainer": {"batch_siz": 1}}, UnknownNameError, "batch_size", id="misspelled inside"),
        pytest.param({"bc_trainer": 3}, ArgumentError, "dictionary", id="no parameters"),
        pytest.param({"beta_schedule": {"type": "linea"}}, UnknownNameError, "linear", id="unknown schedule"),
        pytest.param(
            {"beta_schedule": {"type": "exponential", "decay_probability": 2}}, ArgumentError, "at most 1", id="decay"
        ),
        pytest.param({"beta_schedule": lambda number: 1.0}, ArgumentError, "Describe it", id="function"),
        pytest.param({"rollout_round_min_episodes": 0}, ArgumentError, "at least 1", id="no episodes"),
        pytest.param({"bc_train_kwargs": {"progress_bar": 1}}, UnknownNameError, "n_epochs", id="of the library"),
        pytest.param({"bc_train_kwargs": {"n_epochs": 1, "n_batches": 1}}, ArgumentError, "one of them", id="both"),
    ],
)
def test_wrong_parameters_are_found_when_the_agent_is_made(parameters, error, match):
    with pytest.raises(error, match=match):
        ImitationAgent("dagger", parameters)


def test_the_librarys_schedule_objects_are_taken_as_data():
    agent = ImitationAgent(dagger.SimpleDAggerTrainer, {"beta_schedule": dagger.ExponentialBetaSchedule(0.5)})
    assert agent.describe()["algorithm_parameters"] == {
        "beta_schedule": {"type": "exponential", "decay_probability": 0.5}
    }


def test_the_description_is_json_without_the_expert():
    described = make(bc_trainer={**CLONING, "device": "cpu"}).describe()
    assert json.loads(json.dumps(described)) == described
    assert "expert_policy" not in described["algorithm_parameters"]
    assert "device" not in json.dumps(described)


# On disk


def test_a_saved_agent_acts_the_same_without_the_expert(tmp_path):
    agent = train(make())
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.choose_action(observations), agent.choose_action(observations))
    assert same(weights(loaded), weights(agent))
    with pytest.raises(ArgumentError, match="give it again"):
        train(loaded)
    again = ImitationAgent("dagger", {"expert_policy": controller}).load_from_file(tmp_path / "agent.zip")
    train(again)
    assert again.algorithm.round_num > agent.algorithm.round_num


def test_it_goes_on_by_reinforcement():
    agent = train(make())
    further = StableBaselinesAgent.from_agent(agent, algorithm_parameters={"n_steps": 16, "batch_size": 8})
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(further.choose_action(observations), agent.choose_action(observations))
    further.train("CartPole-v1", 32, seed=0, progress_bar=False)


@pytest.mark.parametrize("given", [False, True], ids=["from nothing", "with episodes"])
def test_a_resumed_training_is_the_same_to_the_last_bit(given, tmp_path):
    episodes = demonstrations(2, max_episode_steps=30) if given else None
    runs = []
    for arguments in ({}, {"checkpoint_every": 60, "checkpoint_directory": tmp_path}):
        log = Recorder()
        runs.append((train(make(), episodes=episodes, callbacks=[log], **arguments), log.events))
    timestep, path = oldest(tmp_path)
    assert 0 < timestep < 150
    resumed, log = make(), Recorder()
    train(resumed, episodes=episodes, callbacks=[log], resume_from=path, seed=None)
    (plain, events), (watched, watched_events) = runs
    assert same(weights(plain), weights(watched))
    assert watched_events == events
    assert same(weights(plain), weights(resumed))
    assert same(arrays_of(plain), arrays_of(resumed))
    assert resumed.algorithm.round_num == plain.algorithm.round_num
    later = [event for event in events if event[0] > timestep]
    assert [event for event in log.events if event[0] > timestep] == later
    assert later


def test_a_training_goes_on_from_a_checkpoint_of_its_very_beginning(tmp_path):
    plain = train(make())
    train(make(), total_timesteps=1, checkpoint_every=1, checkpoint_directory=tmp_path)
    agent = train(make(), total_timesteps=150, resume_from=oldest(tmp_path)[1], seed=None)
    assert same(weights(agent), weights(plain))


def test_resuming_needs_the_same_expert(tmp_path):
    train(make(trained("ppo")), checkpoint_every=60, checkpoint_directory=tmp_path)
    with pytest.raises(ArgumentError, match="give it again"):
        train(ImitationAgent("dagger", SMALL), resume_from=tmp_path, seed=None, total_timesteps=400)
    with pytest.raises(ArgumentError, match="is not the expert of the checkpoint"):
        train(make(trained("ppo", seed=1)), resume_from=tmp_path, seed=None, total_timesteps=400)


def test_nothing_is_written_beside_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    train(make())
    assert list(tmp_path.iterdir()) == []


def test_hostile_bundles_are_refused(tmp_path):
    agent = train(make())

    def fresh():
        return agent.save_to_file(tmp_path / "agent.zip")

    inside = ("algorithm_parameters", "bc_trainer", "policy")
    refused(forged(fresh(), {"config.json": setting(*inside, "net_arch", [1 << 30, 1 << 30])}))
    refused(forged(fresh(), {"config.json": setting(*inside, {"type": "os.system"})}))
    refused(forged(fresh(), {"config.json": setting("algorithm_parameters", "beta_schedule", {"type": "eval"})}))
    refused(forged(fresh(), {"learned/progress.json": setting("round", -1)}))
    refused(forged(fresh(), {"learned/progress.json": setting("round", "1")}))
    refused(forged(fresh(), drop=["learned/policy.safetensors"]))
    path = forged(fresh(), {"config.json": setting("algorithm_parameters", "expert_policy", "/etc/passwd")})
    with pytest.raises(ArgumentError, match="asks an expert"):  # the file does not choose the expert
        train(load_agent(path))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda arrays: arrays.update(lengths=arrays["lengths"] + 1), id="lengths"),
        pytest.param(lambda arrays: arrays.update(actions=arrays["actions"] + 7), id="actions"),
        pytest.param(lambda arrays: arrays.pop("rewards"), id="missing"),
        pytest.param(lambda arrays: arrays.update(terminated=np.zeros(1)), id="flags"),
    ],
)
def test_hostile_demonstrations_in_a_checkpoint_are_refused(change, tmp_path):
    train(make(), checkpoint_every=60, checkpoint_directory=tmp_path)
    path = forged(oldest(tmp_path)[1], array_changes={"training_state/demonstrations.npz": change})
    with pytest.raises(BundleError):
        train(make(), resume_from=path, seed=None)


def test_episodes_survive_as_arrays():
    episodes = [
        Episode({"b": np.zeros((3, 2)), "a": {"x": np.arange(3)}}, np.ones(2), np.ones(2), True, False),
        Episode({"b": np.ones((2, 2)), "a": {"x": np.arange(2)}}, np.zeros(1), np.zeros(1), False, True),
    ]
    space = spaces.Dict({"b": spaces.Box(0, 1, (2,)), "a": spaces.Dict({"x": spaces.Discrete(3)})})
    back = episodes_from_arrays(episodes_to_arrays(episodes), space)
    assert [(len(one), one.terminated, one.truncated) for one in back] == [(2, True, False), (1, False, True)]
    np.testing.assert_array_equal(back[0].observations["a"]["x"], np.arange(3))
    np.testing.assert_array_equal(back[1].observations["b"], np.ones((2, 2)))
    assert episodes_from_arrays({}, space) == []
    assert isinstance(EpisodeSequence.from_episodes(back, space), EpisodeSequence)
