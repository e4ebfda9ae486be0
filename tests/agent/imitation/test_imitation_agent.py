"""`ImitationAgent`: what all its algorithms share, shown by behavioural cloning."""

from __future__ import annotations

import json
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from imitation.algorithms import bc
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from tests.agent.imitation.demonstrations import demonstrations

from rl_framework import Callback, ImitationAgent, LocalConnector, StableBaselinesAgent, load_agent, reproduce
from rl_framework.agent.imitation.validation import EpisodeValidation
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.errors import (
    ArgumentError,
    BundleError,
    NotTrainedError,
    SeedConflictError,
    SpaceMismatchError,
    UnknownNameError,
    UnsavableError,
)

SMALL = {"policy": {"type": "MlpPolicy", "net_arch": [8]}, "batch_size": 16}


class Log(Callback):
    def __init__(self):
        self.updates, self.steps, self.ended = [], [], []

    def on_step(self, training):
        self.steps.append(training.timestep)

    def on_update(self, event, training):
        self.updates.append(event)

    def on_training_end(self, event, training):
        self.ended.append(event)


class StopAt(Callback):
    def __init__(self, timestep):
        self.timestep = timestep

    def on_step(self, training):
        if training.timestep >= self.timestep:
            training.stop("enough")


def cloned(total_timesteps=3_200, parameters=SMALL, seed=0, **arguments):
    agent = ImitationAgent("bc", parameters)
    return agent.train(demonstrations(), total_timesteps=total_timesteps, seed=seed, progress_bar=False, **arguments)


def difference(one, other):
    weights = [agent.learner.policy.state_dict() for agent in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    return max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])


OBSERVATIONS = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


# What it is made of


def test_a_class_and_its_name_are_the_same():
    by_class, by_name = ImitationAgent(bc.BC, SMALL), ImitationAgent("BC", SMALL)
    assert by_class.algorithm_class is by_name.algorithm_class is bc.BC
    assert by_class.describe() == by_name.describe()


def test_the_wrapped_object_is_the_librarys_and_holds_what_was_trained():
    agent = cloned()
    assert type(agent.algorithm) is bc.BC
    assert agent.algorithm.policy is agent.learner.policy
    expected, _ = agent.algorithm.policy.predict(OBSERVATIONS, deterministic=True)
    assert np.array_equal(agent.choose_action(OBSERVATIONS), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("bcc",), UnknownNameError, "'bc'"),
        (("bc", {"batch_sise": 3}), UnknownNameError, "batch_size"),
        (("bc", {"demonstrations": []}), ArgumentError, "episode_sequence"),
        (("bc", {"n_epochs": 3}), ArgumentError, "total_timesteps=n_epochs"),
        (("bc", {"log_interval": 0}), ArgumentError, "log_interval"),
        (("bc", {"policy": 3}), ArgumentError, "policy"),
        (("bc", {"batch_size": "32"}), ArgumentError, "batch_size.*integer"),
        (("bc", {"minibatch_size": 0}), ArgumentError, "minibatch_size.*at least 1"),
        (("bc", {"l2_weight": "none"}), ArgumentError, "l2_weight.*number"),
        (("bc", {"optimizer_kwargs": 1e-3}), ArgumentError, "optimizer_kwargs.*dictionary"),
        (("bc", [1]), ArgumentError, "dictionary"),
        ((dict,), ArgumentError, "no algorithm class of imitation"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_agent_is_made(arguments, error, words):
    with pytest.raises(error, match=words):
        ImitationAgent(*arguments)


def test_an_untrained_agent_says_so():
    agent = ImitationAgent("bc")
    for ask in (lambda: agent.algorithm, lambda: agent.choose_action(OBSERVATIONS), lambda: agent.action_space):
        with pytest.raises(NotTrainedError):
            ask()


def test_a_policy_without_a_registered_name_is_refused_before_training():
    class Unnamed(ActorCriticCnnPolicy):
        pass

    agent = ImitationAgent("bc", {"policy": Unnamed})
    with pytest.raises(UnsavableError, match="register_policy"):
        agent.train(demonstrations(), total_timesteps=64, progress_bar=False)


# Data


def test_spaces_come_from_the_data_and_the_agent_acts_in_the_environment():
    agent = cloned(20_000)
    environment = gymnasium.make("CartPole-v1")
    assert (agent.observation_space, agent.action_space) == (environment.observation_space, environment.action_space)
    assert agent.evaluate("CartPole-v1", n_eval_episodes=5, deterministic=True, seed=0).mean > 150


def unlabelled(n_episodes=4):
    """The same episodes without their spaces, as the imitation library keeps them."""
    return EpisodeSequence.from_episodes(list(demonstrations(n_episodes)))


def test_spaces_that_were_guessed_are_good_enough_to_act():
    agent = ImitationAgent("bc", SMALL).train(unlabelled(), total_timesteps=1_600, seed=0, progress_bar=False)
    assert agent.spaces_are_inferred
    assert agent.evaluate("CartPole-v1", n_eval_episodes=2, seed=0).returns.shape == (2,)
    with pytest.raises(SpaceMismatchError, match="looked like"):
        agent.evaluate("Pendulum-v1", n_eval_episodes=1)
    assert load_agent(agent.save_to_file("guessed.zip")).spaces_are_inferred


def test_environments_settle_what_data_could_only_guess():
    agent = ImitationAgent("bc", SMALL)
    agent.train(unlabelled(), "CartPole-v1", total_timesteps=64, seed=0, progress_bar=False)
    assert not agent.spaces_are_inferred
    assert agent.observation_space == gymnasium.make("CartPole-v1").observation_space


@pytest.mark.parametrize("form", ["list", "path"])
def test_other_forms_of_data_are_taken(form):
    data = list(demonstrations()) if form == "list" else str(demonstrations().save("data"))
    agent = ImitationAgent("bc", SMALL).train(data, total_timesteps=64, seed=0, progress_bar=False)
    assert agent.num_timesteps == 64


def test_data_of_another_environment_is_refused():
    agent = ImitationAgent("bc", SMALL)
    with pytest.raises(SpaceMismatchError, match="episode_sequence"):
        agent.train(demonstrations(), "Pendulum-v1", total_timesteps=64, progress_bar=False)
    pendulum = demonstrations(2, "Pendulum-v1", 20)
    with pytest.raises(SpaceMismatchError, match="validation_episode_sequence"):
        agent.train(demonstrations(), total_timesteps=64, validation_episode_sequence=pendulum, progress_bar=False)
    agent.train(demonstrations(), total_timesteps=64, progress_bar=False)
    with pytest.raises(SpaceMismatchError, match="episode_sequence"):
        agent.train(pendulum, total_timesteps=64, progress_bar=False)


@pytest.mark.parametrize("missing", [None, 3])
def test_episodes_are_needed(missing):
    with pytest.raises(ArgumentError, match="episode_sequence"):
        ImitationAgent("bc").train(missing, total_timesteps=64, progress_bar=False)


def test_episodes_that_a_filter_left_none_of_are_said_to_be_none():
    nothing = demonstrations().filter(minimum_return=1e9)
    with pytest.raises(ArgumentError, match=r"episode_sequence=.*holds no episodes"):
        ImitationAgent("bc").train(nothing, progress_bar=False)
    with pytest.raises(ArgumentError, match=r"validation_episode_sequence=.*holds no episodes"):
        ImitationAgent("bc").train(demonstrations(), validation_episode_sequence=nothing, progress_bar=False)


def test_continuous_and_dict_data_are_learned():
    pendulum = ImitationAgent("bc", SMALL).train(
        demonstrations(2, "Pendulum-v1", 50), total_timesteps=320, seed=0, progress_bar=False
    )
    action = pendulum.choose_action(np.zeros(3, np.float32))
    assert action.shape == (1,)
    assert pendulum.action_space.contains(action)
    generator = np.random.default_rng(0)
    episodes = [
        Episode(
            {"place": generator.normal(size=(21, 2)).astype(np.float32), "count": generator.integers(0, 3, 21)},
            generator.integers(0, 4, 20),
            np.zeros(20),
            True,
            False,
        )
        for _ in range(2)
    ]
    space = gymnasium.spaces.Dict(
        place=gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32), count=gymnasium.spaces.Discrete(3)
    )
    sequence = EpisodeSequence.from_episodes(episodes, space, gymnasium.spaces.Discrete(4))
    agent = ImitationAgent("bc", {"batch_size": 8}).train(sequence, total_timesteps=80, seed=0, progress_bar=False)
    one = {"place": np.zeros(2, np.float32), "count": 1}
    again = load_agent(agent.save_to_file("dict.zip"))
    assert agent.choose_action(one) == again.choose_action(one)
    assert agent.action_space.contains(agent.choose_action(one))


# Training


def test_the_same_seed_gives_the_same_agent():
    assert difference(cloned(), cloned()) == 0.0
    assert difference(cloned(), cloned(seed=1)) > 0.0


def test_whole_batches_are_trained_until_the_timesteps_are_reached():
    log = Log()
    assert cloned(100, callbacks=[log]).num_timesteps == 112
    assert log.steps == list(range(16, 113, 16))


def test_a_second_training_goes_on_and_differs_from_the_first_in_its_order():
    agent = cloned(1_600)
    before = {name: tensor.clone() for name, tensor in agent.learner.policy.state_dict().items()}
    log = Log()
    agent.train(demonstrations(), total_timesteps=1_600, progress_bar=False, callbacks=[log])
    assert agent.num_timesteps == 3_200
    assert log.steps[0] == 1_616
    assert any((before[name] != tensor).any() for name, tensor in agent.learner.policy.state_dict().items())
    with pytest.raises(SeedConflictError, match="seed"):
        ImitationAgent("bc", SMALL).train(demonstrations(), seed=1, resume_from=checkpoints(), progress_bar=False)


def test_metrics_come_with_those_of_the_validation_episodes():
    log = Log()
    validation = demonstrations(1, first_seed=50)
    agent = cloned(3_200, {**SMALL, "log_interval": 100}, validation_episode_sequence=validation, callbacks=[log])
    assert [event.n_updates for event in log.updates] == [1, 101]
    first, last = (event.metrics for event in log.updates)
    assert last["bc/neglogp"] < first["bc/neglogp"]
    assert 0.0 < first["validation/accuracy"] < last["validation/accuracy"] <= 1.0
    batch = validation.transitions().all()
    accuracy = float((agent.choose_action(batch.observations) == batch.actions).mean())
    # A few updates later, but the same episodes.
    assert accuracy == pytest.approx(last["validation/accuracy"], abs=0.1)


def test_algorithms_that_act_are_measured_against_validation_episodes_too(tmp_path):
    generator = {"algorithm_class": "ppo", "algorithm_parameters": {"n_steps": 64, "batch_size": 32}}
    parameters = {"gen_algo": generator, "demo_batch_size": 32, "allow_variable_horizon": True}
    validation = demonstrations(1, first_seed=50)
    connector = LocalConnector(tmp_path / "run")
    agents = [
        ImitationAgent("gail", parameters).train(
            demonstrations(),
            "CartPole-v1",
            256,
            validation_episode_sequence=episodes,
            connector=told,
            seed=0,
            progress_bar=False,
        )
        for episodes, told in ((validation, connector), (None, None))
    ]
    lines = [json.loads(line)["metrics"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = [line["validation/accuracy"] for line in lines if "validation/accuracy" in line]
    assert len(found) == 1
    assert 0.0 <= found[0] <= 1.0
    batch = validation.transitions().all()
    assert EpisodeValidation(validation).measure(agents[0])["validation/accuracy"] == pytest.approx(
        float((agents[0].choose_action(batch.observations) == batch.actions).mean())
    )
    weights = [agent.learner.inner.algorithm.policy.state_dict() for agent in agents]
    assert all((tensor == weights[1][name]).all() for name, tensor in weights[0].items())


def test_validation_changes_nothing():
    assert difference(cloned(), cloned(validation_episode_sequence=demonstrations(1, first_seed=50))) == 0.0


def test_connectors_and_evaluations_hear_of_it(tmp_path):
    connector = LocalConnector(tmp_path / "run")
    agent = cloned(
        3_200,
        connector=connector,
        evaluate_every=1_600,
        evaluation_environment="CartPole-v1",
        n_eval_episodes=2,
        checkpoint_directory=tmp_path,
    )
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in written for name in line.get("metrics", line)}
    assert {"bc/neglogp", "evaluation/mean_return"} <= names
    assert load_agent(tmp_path / "best_model.zip").observation_space == agent.observation_space


def test_a_callback_can_stop_it():
    agent = cloned(16_000, callbacks=[StopAt(160)])
    assert agent.num_timesteps == 160


def test_the_record_tells_the_data_and_nothing_of_its_place():
    agent = ImitationAgent("bc", SMALL)
    path = demonstrations().save("secret_place")
    agent.train(path, total_timesteps=64, seed=3, progress_bar=False)
    (run,) = agent.history()["runs"]
    assert run["episodes"]["n_episodes"] == 4
    assert run["episodes"]["n_transitions"] == demonstrations().n_transitions
    assert run["validation_episodes"] is None
    assert (run["algorithm"], run["seed"], run["environment"]) == ("bc", 3, None)
    assert "secret_place" not in json.dumps(run)


# Resuming


def checkpoints(folder="checkpoints", total=1_600, **arguments):
    cloned(total, checkpoint_every=400, checkpoint_directory=folder, **arguments)
    return folder


def test_resumed_equals_uninterrupted_in_the_middle_of_an_epoch(tmp_path):
    whole = cloned(3_200)
    assert difference(whole, cloned(3_200, checkpoint_every=400, checkpoint_directory=tmp_path)) == 0.0
    folder = checkpoints(tmp_path / "cut", total=1_600)
    torch.manual_seed(1234)
    resumed = ImitationAgent("bc", SMALL).train(
        demonstrations(), total_timesteps=3_200, resume_from=folder, progress_bar=False
    )
    assert resumed.num_timesteps == 3_200
    assert difference(whole, resumed) == 0.0
    # The comparison can fail: with a fresh optimizer it does.
    (newest,) = sorted((tmp_path / "cut").glob("*1600.zip"))
    loaded = load_agent(newest)
    loaded.train(demonstrations(), total_timesteps=1_600, progress_bar=False)
    assert difference(whole, loaded) > 0.0


def test_a_checkpoint_goes_on_with_the_same_episodes_and_parameters_only(tmp_path):
    folder = checkpoints(tmp_path)
    with pytest.raises(ArgumentError, match="episode_sequence"):
        ImitationAgent("bc", SMALL).train(demonstrations(3), resume_from=folder, progress_bar=False)
    with pytest.raises(ArgumentError, match="algorithm_parameters"):
        ImitationAgent("bc", {**SMALL, "batch_size": 8}).train(demonstrations(), resume_from=folder, progress_bar=False)
    saved = cloned(64).save_to_file(tmp_path / "agent.zip")
    with pytest.raises(BundleError, match="no checkpoint"):
        ImitationAgent("bc", SMALL).train(demonstrations(), resume_from=saved, progress_bar=False)


# Saving


def test_a_loaded_agent_acts_and_trains_on():
    agent = cloned()
    again = load_agent(agent.save_to_file("agent.zip"))
    assert type(again) is ImitationAgent
    assert again.num_timesteps == agent.num_timesteps
    assert again.history() == agent.history()
    for deterministic in (True, False):
        torch.manual_seed(0)
        expected = agent.choose_action(OBSERVATIONS, deterministic)
        torch.manual_seed(0)
        assert np.array_equal(again.choose_action(OBSERVATIONS, deterministic), expected)
    again.train(demonstrations(), total_timesteps=160, progress_bar=False)
    assert again.num_timesteps == agent.num_timesteps + 160
    with zipfile.ZipFile("agent.zip") as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} <= {"json", "safetensors", "npz"}


def test_a_bundle_of_another_kind_is_refused_and_leaves_the_agent_as_it_was():
    agent = cloned(64)
    other = StableBaselinesAgent("ppo", {"n_steps": 16, "batch_size": 16}).train(
        "CartPole-v1", total_timesteps=16, seed=0, progress_bar=False
    )
    before = dict(vars(agent))
    with pytest.raises(BundleError, match="load_agent"):
        agent.load_from_file(other.save_to_file("other.zip"))
    assert vars(agent) == before


def test_reproduce_says_what_a_record_does_not_hold():
    path = cloned(64).save_to_file("agent.zip")
    with pytest.raises(ArgumentError, match=r"does not hold the episodes|were"):
        reproduce(path)


# Going on by reinforcement


def test_a_cloned_policy_goes_on_as_a_reinforcement_learning_agent():
    agent = cloned(8_000, {"batch_size": 32})
    going_on = StableBaselinesAgent.from_agent(agent, algorithm_parameters={"n_steps": 64, "learning_rate": 1e-5})
    assert type(going_on.algorithm).__name__ == "PPO"
    assert np.array_equal(going_on.choose_action(OBSERVATIONS), agent.choose_action(OBSERVATIONS))
    assert going_on.num_timesteps == 0
    untouched = {name: tensor.clone() for name, tensor in agent.learner.policy.state_dict().items()}
    going_on.train("CartPole-v1", total_timesteps=128, seed=0, progress_bar=False)
    assert going_on.num_timesteps == 128
    agreement = going_on.choose_action(OBSERVATIONS) == agent.choose_action(OBSERVATIONS)
    assert agreement.mean() > 0.9  # it went on from there, and did not begin anew
    assert all((untouched[name] == tensor).all() for name, tensor in agent.learner.policy.state_dict().items())
    again = load_agent(going_on.save_to_file("going_on.zip"))
    assert np.array_equal(again.choose_action(OBSERVATIONS), going_on.choose_action(OBSERVATIONS))


def test_another_algorithm_with_the_same_networks_may_go_on():
    agent = cloned(640)
    going_on = StableBaselinesAgent.from_agent(agent, "a2c")
    assert np.array_equal(going_on.choose_action(OBSERVATIONS), agent.choose_action(OBSERVATIONS))
    with pytest.raises(ArgumentError, match="other networks"):
        StableBaselinesAgent.from_agent(agent, "dqn")
    with pytest.raises(ArgumentError, match="policy"):
        StableBaselinesAgent.from_agent(agent, "ppo", {"policy": "MlpPolicy"})
    with pytest.raises(ArgumentError, match="agent"):
        StableBaselinesAgent.from_agent(object())
    with pytest.raises(NotTrainedError):
        StableBaselinesAgent.from_agent(ImitationAgent("bc"))


def test_an_agent_of_reinforcement_learning_goes_on_with_its_statistics():
    source = StableBaselinesAgent("ppo", {"n_steps": 16, "batch_size": 16}, normalize_observations=True)
    source.train("CartPole-v1", total_timesteps=64, seed=0, progress_bar=False)
    going_on = StableBaselinesAgent.from_agent(source, algorithm_parameters={"learning_rate": 1e-4})
    assert np.array_equal(going_on.choose_action(OBSERVATIONS), source.choose_action(OBSERVATIONS))
    assert going_on.algorithm_parameters["n_steps"] == 16
    assert going_on.algorithm.learning_rate == 1e-4
    count = going_on.normaliser.observation[""][2]
    going_on.train("CartPole-v1", total_timesteps=32, seed=0, progress_bar=False)
    assert going_on.normaliser.observation[""][2] > count


def test_the_agent_inside_goes_on_with_its_own_algorithm_and_the_environments_rewards():
    generator = {"algorithm_class": "ppo", "algorithm_parameters": {"n_steps": 32, "batch_size": 32}}
    agent = ImitationAgent("gail", {"gen_algo": generator, "demo_batch_size": 32, "allow_variable_horizon": True})
    agent.train(demonstrations(), "CartPole-v1", total_timesteps=64, seed=0, progress_bar=False)
    going_on = StableBaselinesAgent.from_agent(agent)
    assert going_on.algorithm_parameters == generator["algorithm_parameters"]
    assert np.array_equal(going_on.choose_action(OBSERVATIONS), agent.choose_action(OBSERVATIONS))
    going_on.train("CartPole-v1", total_timesteps=32, seed=0, progress_bar=False)
    assert (going_on.num_timesteps, agent.num_timesteps) == (32, 64)


def test_guessed_spaces_have_to_be_settled_first():
    agent = ImitationAgent("bc", SMALL).train(unlabelled(), total_timesteps=160, seed=0, progress_bar=False)
    with pytest.raises(ArgumentError, match="environment"):
        StableBaselinesAgent.from_agent(agent)
    with pytest.raises(SpaceMismatchError):
        StableBaselinesAgent.from_agent(agent, environment="Pendulum-v1")
    going_on = StableBaselinesAgent.from_agent(agent, environment="CartPole-v1")
    assert going_on.observation_space == gymnasium.make("CartPole-v1").observation_space
    going_on.train("CartPole-v1", total_timesteps=2_048, seed=0, progress_bar=False)


# For use elsewhere


def test_a_policy_is_written_as_a_torch_program_and_acts_alike(tmp_path):
    agent = cloned(640)
    program = torch.export.load(agent.save_as_torch_export(tmp_path / "agent.pt2")).module()
    np.testing.assert_array_equal(program(torch.as_tensor(OBSERVATIONS)).numpy(), agent.choose_action(OBSERVATIONS))


@pytest.mark.parametrize(("method", "writer"), [("save_as_onnx", "programs"), ("save_for_unity", "unity")])
def test_other_forms_are_those_of_an_agent_that_acts_alike(method, writer, monkeypatch):
    """The files themselves are compared with such agents in the tests of exports."""
    agent, written = cloned(640), []
    monkeypatch.setattr(
        f"rl_framework.agent.reinforcement.export.{writer}.{method}",
        lambda *arguments, **options: written.append((*arguments, options)) or arguments[1],
    )
    assert getattr(agent, method)("agent.onnx", opset=19) == "agent.onnx"
    ((exported, path, *rest),) = written
    assert path == "agent.onnx"
    assert rest in ([19, {}], [{"opset": 19}])
    np.testing.assert_array_equal(exported.choose_action(OBSERVATIONS), agent.choose_action(OBSERVATIONS))


def test_what_cannot_be_written_says_why(tmp_path):
    agent = ImitationAgent("bc", SMALL)
    with pytest.raises(NotTrainedError):
        agent.save_as_onnx(tmp_path / "agent.onnx")
    agent.train(unlabelled(), total_timesteps=160, seed=0, progress_bar=False)
    with pytest.raises(ArgumentError, match=r"guessed.*from_agent"):
        agent.save_for_unity(tmp_path / "agent.onnx")
    assert list(tmp_path.iterdir()) == []
