"""`OfflineAgent`: every algorithm of d3rlpy learns, saves, resumes and acts like any other agent."""

from __future__ import annotations

import logging
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.hostile import refused, setting
from tests.agent.imitation.forging import forged
from tests.agent.imitation.offline_samples import (
    BATCH,
    BOX,
    DISCRETE,
    VECTOR,
    Reports,
    action_space_of,
    recorded,
    small,
    trained,
)

from rl_framework import Episode, EpisodeSequence, OfflineAgent, load_agent, registry
from rl_framework.agent.imitation.offline_library.saved_state import networks_of
from rl_framework.episode.transitions import Transitions
from rl_framework.errors import (
    ArgumentError,
    BundleError,
    EpisodeDataError,
    NotTrainedError,
    UnknownNameError,
    UnsavableError,
    UnsupportedSpaceError,
)
from rl_framework.training import Callback

ALGORITHMS = sorted(registry.offline_algorithms)
OBSERVATIONS = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


def tensors_of(agent):
    return {
        f"{name}.{key}": tensor
        for name, network in networks_of(agent.algorithm).items()
        for key, tensor in network.state_dict().items()
    }


def largest_difference(one, other):
    mine, theirs = tensors_of(one), tensors_of(other)
    assert mine.keys() == theirs.keys()
    return max([float((mine[name] - theirs[name]).abs().max()) for name in mine], default=0.0)


def choices(agent, deterministic=True, observations=OBSERVATIONS):
    torch.manual_seed(0)
    np.random.seed(0)
    return agent.choose_action(observations, deterministic)


# Every algorithm


def test_every_algorithm_of_the_library_has_its_own_name():
    import d3rlpy

    bases = (d3rlpy.algos.QLearningAlgoBase, d3rlpy.algos.TransformerAlgoBase)
    classes = {c for c in vars(d3rlpy.algos).values() if isinstance(c, type) and issubclass(c, bases)} - {*bases}
    assert {registry.offline_algorithms.get(name) for name in ALGORITHMS} == classes
    for name in ALGORITHMS:
        assert getattr(d3rlpy.algos, f"{registry.offline_algorithms.get(name).__name__}Config").get_type() == name


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_interrupted_training_goes_on_to_the_same_last_bit(name, tmp_path):
    """In a fresh object, with other random states around it."""
    episodes = recorded(action_space_of(name))
    validation = recorded(action_space_of(name), count=2, seed=5)
    whole, reports = trained(name, episodes, 12, validation_episode_sequence=validation), Reports()
    checkpoints = {"checkpoint_every": 5 * BATCH, "checkpoint_directory": tmp_path}
    trained(name, episodes, 6, **checkpoints)
    (tmp_path / f"checkpoint_{6 * BATCH:012d}.zip").unlink(missing_ok=True)
    np.random.seed(1)
    torch.manual_seed(2)
    resumed = OfflineAgent(name, small(name)).train(
        episodes,
        total_timesteps=12 * BATCH,
        resume_from=tmp_path,
        progress_bar=False,
        validation_episode_sequence=validation,
        callbacks=[reports],
    )
    assert largest_difference(whole, resumed) == 0.0
    states = [agent.learner.training_members() for agent in (whole, resumed)]
    assert states[0]["offline.json"] == states[1]["offline.json"]
    moments = [state["optimizers.safetensors"] for state in states]
    assert all(torch.equal(moments[0][key], moments[1][key]) for key in moments[0])
    assert [update[:2] for update in reports.updates] == [(12 * BATCH, 12)]
    assert all(np.isfinite(value) for value in reports.updates[0][2].values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_loaded_agent_acts_the_same_to_the_last_bit(name, tmp_path):
    agent = trained(name)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert type(loaded) is OfflineAgent
    assert type(loaded.algorithm) is type(agent.algorithm)
    assert loaded.num_timesteps == agent.num_timesteps == 5 * BATCH
    for deterministic in (True, False):
        actions = choices(agent, deterministic)
        assert np.array_equal(choices(loaded, deterministic), actions)
        assert all(agent.action_space.contains(action) for action in actions)
    assert largest_difference(agent, loaded) == 0.0
    assert all(member.endswith((".json", ".safetensors", ".npz")) for member in zipfile.ZipFile("agent.zip").namelist())


@pytest.mark.parametrize("name", ["bc", "bcq", "cql", "decision_transformer", "random_policy", "sac"])
def test_discrete_actions_choose_the_discrete_variant(name):
    agent = trained(name, recorded(DISCRETE), 1, parameters={"batch_size": BATCH})
    assert type(agent.algorithm) is registry.offline_algorithms.get(f"discrete_{name}")
    assert trained(name, recorded(BOX), 1).algorithm.__class__ is registry.offline_algorithms.get(name)


def test_actions_that_an_algorithm_cannot_take_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="IQL takes Box actions only"):
        trained("iql", recorded(DISCRETE))
    with pytest.raises(UnsupportedSpaceError, match="DQN takes Discrete actions only"):
        trained("dqn", recorded(BOX))
    with pytest.raises(UnsupportedSpaceError, match="MultiDiscrete"):
        trained("cql", recorded(spaces.MultiDiscrete([2, 2])))


def test_classes_configurations_and_names_are_the_same():
    import d3rlpy

    agents = [OfflineAgent(kind, {"gamma": 0.9}) for kind in (d3rlpy.algos.CQL, d3rlpy.algos.CQLConfig, "CQL")]
    assert all(agent.algorithm_class is d3rlpy.algos.CQL for agent in agents)
    assert [agent.describe() for agent in agents] == [agents[0].describe()] * 3
    with pytest.raises(UnknownNameError, match="Did you mean 'cql'"):
        OfflineAgent("cqll")
    with pytest.raises(ArgumentError, match="is no algorithm of d3rlpy"):
        OfflineAgent(dict)


def test_an_algorithm_of_ones_own_has_to_be_registered(monkeypatch):
    import d3rlpy

    mine = type("Mine", (d3rlpy.algos.DQN,), {"__module__": __name__})
    monkeypatch.setitem(globals(), "MineConfig", d3rlpy.algos.DQNConfig)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__, SimpleNamespace(**globals())))
    with pytest.raises(ArgumentError, match=r"register_offline_algorithm\('mine', Mine\)"):
        OfflineAgent(mine)
    monkeypatch.setattr(registry.offline_algorithms, "_entries", {**registry.offline_algorithms._entries, "mine": mine})
    assert OfflineAgent("mine").describe()["algorithm"] == "mine"


# Training


def test_a_timestep_is_a_transition_that_was_learned_from():
    agent = trained("bc", updates=3)
    assert (agent.num_timesteps, agent.algorithm.grad_step) == (3 * BATCH, 3)
    agent.train(recorded(BOX), total_timesteps=BATCH + 1, progress_bar=False)
    assert (agent.num_timesteps, agent.algorithm.grad_step) == (5 * BATCH, 5)  # never half of a batch


def test_the_seed_decides_and_a_second_training_goes_on():
    one, same, other = (trained("iql", seed=seed) for seed in (0, 0, 1))
    assert largest_difference(one, same) == 0.0
    assert largest_difference(one, other) > 0
    before = {name: tensor.clone() for name, tensor in tensors_of(one).items()}
    one.train(recorded(BOX, seed=3), total_timesteps=2 * BATCH, progress_bar=False)
    after = tensors_of(one)
    assert 0 < max(float((after[name] - before[name]).abs().max()) for name in after) < 0.1


def test_losses_and_validation_are_reported(tmp_path):
    reports = Reports()
    validation = recorded(DISCRETE, count=3, seed=9)
    agent = trained(
        "cql", recorded(DISCRETE), 250, callbacks=[reports], validation_episode_sequence=validation,
        parameters=small("discrete_cql"),
    )  # fmt: skip
    assert [update[:2] for update in reports.updates] == [(n * BATCH, n) for n in (100, 200, 250)]
    last = reports.updates[-1][2]
    assert {"train/td_loss", "train/conservative_loss"} <= last.keys()
    batch = validation.transitions().all()
    accuracy = (agent.choose_action(batch.observations) == batch.actions).mean()
    assert last["validation/accuracy"] == pytest.approx(accuracy)
    assert last["validation/td_error"] > 0


def test_training_writes_no_file_and_says_nothing(capfd, caplog):
    with caplog.at_level(logging.WARNING):
        trained("iql", updates=3)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert list(Path().iterdir()) == []


def test_environments_are_evaluated_in_and_a_callback_can_stop():
    class Stop(Callback):
        evaluations = 0

        def on_evaluation(self, event, training):
            self.evaluations += 1
            assert len(event.result.returns) == 2

        def on_step(self, training):
            if training.timestep >= 8 * BATCH:
                training.stop("enough")

    stop = Stop()
    environment = gymnasium.make("CartPole-v1")
    episodes = recorded(environment.action_space, environment.observation_space)
    agent = OfflineAgent("dqn", small("dqn"))
    agent.train(
        episodes,
        total_timesteps=99 * BATCH,
        evaluate_every=4 * BATCH,
        evaluation_environment="CartPole-v1",
        n_eval_episodes=2,
        callbacks=[stop],
        progress_bar=False,
    )
    assert agent.num_timesteps == 8 * BATCH
    assert stop.evaluations == 2
    assert len(agent.evaluate("CartPole-v1", 3, seed=0).returns) == 3


def test_episodes_without_rewards_are_for_cloning_only():
    known = recorded(BOX)
    episodes = EpisodeSequence.from_episodes(
        [Episode(e.observations, e.actions, np.full(len(e), np.nan), True, False) for e in known], VECTOR, BOX
    )
    with pytest.raises(ArgumentError, match="rewards are not known, and IQL learns from them"):
        trained("iql", episodes)
    assert trained("bc", episodes).num_timesteps == 5 * BATCH


def test_damaged_episodes_are_refused(monkeypatch):
    """What is read from a mapped file was not looked at when it was opened."""
    episodes, gather = recorded(BOX), Transitions.gather

    def damaged(self, indices):
        batch = gather(self, indices)
        batch.observations[3, 1] = np.nan
        return batch

    monkeypatch.setattr(Transitions, "gather", damaged)
    with pytest.raises(EpisodeDataError, match="observations of the episodes hold NaN"):
        trained("iql", episodes)


def test_the_policy_is_none_that_could_be_exported():
    with pytest.raises(ArgumentError, match=r"d3rlpy's.*save_policy"):
        OfflineAgent("cql").save_as_onnx("agent.onnx")


def test_an_agent_that_was_not_trained_says_so():
    agent = OfflineAgent("cql")
    with pytest.raises(NotTrainedError):
        agent.choose_action(OBSERVATIONS)
    with pytest.raises(NotTrainedError):
        agent.save_to_file("agent.zip")
    with pytest.raises(ArgumentError, match="episode_sequence"):
        agent.train(None, progress_bar=False)


# Observations and actions


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (12, 10, 3), np.uint8),
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([3, 4]),
        spaces.MultiBinary(3),
        spaces.Dict({"place": spaces.Box(-1, 1, (2, 2), np.float32), "room": spaces.Discrete(4)}),
    ],
    ids=["image", "discrete", "multi_discrete", "multi_binary", "dict"],
)
def test_observations_of_every_kind_are_learned_from(space, tmp_path):
    episodes = recorded(DISCRETE, space, count=2)
    pixels = {"encoder_factory": {"type": "pixel", "filters": [[4, 3, 2]], "feature_size": 8}}
    agent = trained("dqn", episodes, parameters=small("dqn", **(pixels if len(space.shape or ()) == 3 else {})))
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    observations = episodes.transitions().gather(np.arange(6)).observations
    assert np.array_equal(choices(agent, observations=observations), choices(loaded, observations=observations))
    if len(space.shape or ()) == 3:
        channels_first = observations.transpose(0, 3, 1, 2)
        values = [agent.learner.observation_form(images) for images in (observations, channels_first)]
        assert np.array_equal(*values)
        assert agent.algorithm.observation_scaler.get_type() == "pixel"


def test_images_in_a_dictionary_are_refused():
    space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    with pytest.raises(UnsupportedSpaceError, match="d3rlpy takes vectors and images only"):
        trained("dqn", recorded(DISCRETE, space, count=1))
    with pytest.raises(UnsupportedSpaceError, match="PRDC of d3rlpy takes no images"):
        trained("prdc", recorded(BOX, space["camera"], count=1), 1)


def test_actions_are_scaled_from_their_bounds_and_stay_within():
    agent = trained("td3_plus_bc", updates=30)
    scaler = agent.algorithm.action_scaler
    assert (scaler.minimum.tolist(), scaler.maximum.tolist()) == ([-2.0, -2.0], [2.0, 2.0])
    assert np.abs(choices(agent, observations=1e6 * OBSERVATIONS)).max() == pytest.approx(2.0)
    assert trained("td3_plus_bc", parameters=small("td3_plus_bc", action_scaler=None)).algorithm.action_scaler is None


def test_discrete_actions_may_begin_elsewhere():
    space = spaces.Discrete(3, start=5)
    agent = trained("bc", recorded(space), updates=50, parameters=small("discrete_bc"))
    assert set(choices(agent)) <= {5, 6, 7}


# Parameters


def test_objects_names_and_data_describe_the_same_network():
    from d3rlpy.models.encoders import VectorEncoderFactory
    from d3rlpy.optimizers import AdamFactory

    forms = (
        (VectorEncoderFactory([8]), AdamFactory(weight_decay=0.1)),
        ({"type": "vector", "hidden_units": [8]}, {"type": "adam", "weight_decay": 0.1}),
        ({"type": "vector", "params": {"hidden_units": [8]}}, {"type": "adam", "params": {"weight_decay": 0.1}}),
    )
    agents = [
        trained("dqn", parameters={"batch_size": BATCH, "encoder_factory": encoder, "optim_factory": optimizer})
        for encoder, optimizer in forms
    ]
    assert largest_difference(agents[0], agents[1]) == largest_difference(agents[0], agents[2]) == 0.0
    assert OfflineAgent("dqn", {"q_func_factory": "qr"}).learner.parameters == {"q_func_factory": "qr"}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
        ({"batch_size": "many"}, r"\['batch_size'\]='many': must be of type int"),
        ({"batch_size": None}, "cannot be None"),
        ({"batch_size": 0}, "must be from 1"),
        ({"gamma": float("nan")}, "must be finite"),
        ({"encoder_factory": "vectr"}, "Did you mean 'vector'"),
        ({"encoder_factory": {"hidden_units": [8]}}, 'with "type"'),
        ({"encoder_factory": {"type": "vector", "units": [8]}}, "Did you mean 'hidden_units'"),
        ({"encoder_factory": {"type": "vector", "hidden_units": 8}}, "must be a list"),
        ({"optim_factory": {"type": "adam", "betas": [0.9]}}, "must have 2 entries"),
        ({"target_return": 3.0}, "not known"),
        ({"device": "abacus"}, "device"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_parameters_are_found_at_once(parameters, problem):
    with pytest.raises(ArgumentError, match=problem):
        OfflineAgent("dqn", parameters)


def test_parameters_of_either_variant_are_taken_where_they_fit():
    assert OfflineAgent("cql", {"alpha": 2.0}).learner.parameters == {"alpha": 2.0}
    with pytest.raises(UnknownNameError, match="CQLConfig"):
        OfflineAgent("cql", {"alpha": 2.0, "conservative_weight": 1.0})
    with pytest.raises(UnknownNameError, match="alpha"):
        trained("cql", recorded(BOX), parameters={"alpha": 2.0})


def test_an_object_without_a_name_is_refused_before_training():
    import dataclasses

    from d3rlpy.models.encoders import VectorEncoderFactory

    @dataclasses.dataclass
    class Mine(VectorEncoderFactory):
        pass

    with pytest.raises(UnsavableError, match="Mine has no name in d3rlpy"):
        OfflineAgent("dqn", {"encoder_factory": Mine()})


def test_statistics_of_scalers_are_saved_with_the_agent(tmp_path):
    parameters = small("iql", observation_scaler="standard", action_scaler="min_max", reward_scaler="return")
    agent = trained("iql", parameters=parameters)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for name, fields in (
        ("observation_scaler", ("mean", "std")),
        ("action_scaler", ("minimum", "maximum")),
        ("reward_scaler", ("return_min", "return_max")),
    ):
        for field in fields:
            values = [getattr(getattr(each.algorithm, name), field) for each in (agent, loaded)]
            assert np.array_equal(*values)
    assert np.array_equal(choices(agent), choices(loaded))


def test_parameters_can_be_changed_while_loading(tmp_path):
    path = trained("cql").save_to_file(tmp_path / "agent.zip")
    assert load_agent(path, {"batch_size": 5}).algorithm.batch_size == 5
    with pytest.raises(ArgumentError, match="algorithm_parameters"):
        load_agent(path, {"critic_encoder_factory": {"type": "vector", "hidden_units": [9]}})
    with pytest.raises(BundleError, match="holds CQL, this agent is IQL"):
        OfflineAgent("iql").load_from_file(path)
    assert OfflineAgent("cql").load_from_file(path).num_timesteps == 5 * BATCH


# Somebody else's files


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("config.json", setting("algorithm", "os:system")),
        ("config.json", setting("algorithm", "ppo")),
        ("config.json", setting("algorithm_parameters", "critic_encoder_factory", {"type": "os.system"})),
        ("config.json", setting("algorithm_parameters", "critic_encoder_factory", "hidden_units", [1 << 40])),
        ("config.json", setting("algorithm_parameters", "critic_encoder_factory", "hidden_units", [8] * 9999)),
        ("config.json", setting("algorithm_parameters", "n_critics", 1 << 40)),
        ("config.json", setting("algorithm_parameters", "batch_size", 1 << 40)),
        ("config.json", setting("algorithm_parameters", "n_action_samples", 1 << 40)),
        ("config.json", setting("algorithm_parameters", "actor_learning_rate", {"$float": "nan"})),
        ("config.json", setting("algorithm_parameters", "observation_scaler", "standard")),
        ("config.json", setting("num_timesteps", -1)),
        ("learned/learned.json", setting("n_updates", -1)),
        ("learned/learned.json", setting("target_return", "much")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_forged_configurations_are_refused(member, change, tmp_path):
    path = trained("cql").save_to_file(tmp_path / "agent.zip")
    refused(forged(path, {member: change}))


def test_a_forged_context_is_refused_before_it_is_reserved(tmp_path):
    path = trained("decision_transformer").save_to_file(tmp_path / "agent.zip")
    change = setting("algorithm_parameters", "context_size", 1 << 20)
    assert "context_size" in str(refused(forged(path, {"config.json": change})))


def test_a_file_does_not_choose_the_device(tmp_path):
    path = trained("cql").save_to_file(tmp_path / "agent.zip")
    forged(path, {"config.json": setting("algorithm_parameters", "device", "abacus")})
    assert load_agent(path).num_timesteps == 5 * BATCH


@pytest.mark.parametrize("drop", ["config.json", "learned/networks.safetensors", "learned/scalers.npz"])
def test_missing_members_are_refused(drop, tmp_path):
    refused(forged(trained("cql").save_to_file(tmp_path / "agent.zip"), drop=[drop]))


@pytest.mark.parametrize(
    "change",
    [
        setting("n_losses", -1),
        setting("optimizers", {}),
        setting("optimizers", "actor_optim", "schedule", {"last_epoch": 1 << 70}),
        setting("optimizers", "actor_optim", "optimizer", "groups", []),
        setting("losses", "loss", "much"),
    ],
    ids=["n_losses", "no_optimizers", "schedule", "groups", "losses"],
)
def test_forged_checkpoints_are_refused(change, tmp_path):
    trained("cql", checkpoint_every=BATCH, checkpoint_directory=tmp_path)
    path = max(tmp_path.glob("checkpoint_*.zip"))
    forged(path, {"training_state/offline.json": change})
    with pytest.raises(BundleError):
        trained("cql", updates=9, seed=None, resume_from=path)


def test_schedules_go_on_where_they_were(tmp_path):
    schedule = {"type": "adam", "lr_scheduler_factory": {"type": "cosine_annealing", "T_max": 20}}
    parameters = small("dqn", optim_factory=schedule)
    whole = trained("dqn", updates=9, parameters=parameters)
    trained("dqn", updates=4, parameters=parameters, checkpoint_every=4 * BATCH, checkpoint_directory=tmp_path)
    resumed = trained("dqn", updates=9, seed=None, parameters=parameters, resume_from=tmp_path)
    assert largest_difference(whole, resumed) == 0.0
    rates = [agent.algorithm.impl.modules.optim.optim.param_groups[0]["lr"] for agent in (whole, resumed)]
    assert rates[0] == rates[1] < 6.25e-5


def test_other_episodes_are_no_resumption(tmp_path):
    trained("cql", checkpoint_every=4 * BATCH, checkpoint_directory=tmp_path)
    with pytest.raises(ArgumentError, match="is not what the checkpoint was trained on"):
        trained("cql", recorded(BOX, seed=7), updates=9, seed=None, resume_from=tmp_path)


def test_the_librarys_own_file_is_no_bundle(tmp_path):
    agent = trained("dqn")
    agent.algorithm.save(str(tmp_path / "agent.d3"))  # a pickle
    refused(tmp_path / "agent.d3")
    assert (tmp_path / "agent.d3").read_bytes().startswith(b"\x80")
