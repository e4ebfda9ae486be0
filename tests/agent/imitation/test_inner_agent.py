"""The agent inside an imitation algorithm: from data, to data, and an object that is trained in place."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO
from tests.agent.imitation.demonstrations import demonstrations
from tests.agent.samples import PARAMETERS, same, trained, weights

from rl_framework import FeaturesExtractor, ImitationAgent, StableBaselinesAgent, load_agent
from rl_framework.agent.imitation.inner_agent import (
    describe_inner_agent,
    inner_agent,
    inner_data_from_file,
    local_inner_data,
)
from rl_framework.bundle import decode_value
from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.registry import features_extractors

PPO_DATA = {"algorithm_class": "ppo", "algorithm_parameters": {**PARAMETERS["ppo"], "device": "cpu"}}
SMALL = {"demo_batch_size": 16, "allow_variable_horizon": True}


class Scaled(FeaturesExtractor):
    def preprocess(self, observations):
        return observations * np.float32(2)


if "test_inner_agent_scaled" not in features_extractors:
    features_extractors.register("test_inner_agent_scaled", Scaled)


@pytest.mark.parametrize(
    "value",
    ["ppo", PPO, {"algorithm_class": PPO}, {"algorithm_class": "PPO"}, None],
    ids=["name", "class", "class in data", "name in data", "nothing"],
)
def test_an_agent_is_made_of_what_users_have(value):
    assert inner_agent(value, "gen_algo").algorithm_class is PPO


def test_an_agent_is_used_as_it_is():
    agent = StableBaselinesAgent("dqn")
    assert inner_agent(agent, "gen_algo") is agent


def test_nothing_stands_for_the_default():
    made = inner_agent(None, "gen_algo", {"algorithm_class": "dqn", "algorithm_parameters": {"gamma": 0.5}})
    assert made.algorithm_parameters == {"gamma": 0.5}


def test_unknown_keys_are_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"gen_algo.*algorithm_parameters"):
        inner_agent({"algorithm_class": "ppo", "parameters": {}}, "gen_algo")
    with pytest.raises(UnknownNameError, match="'ppo'"):
        inner_agent("poo", "gen_algo")
    with pytest.raises(ArgumentError, match="which algorithm"):
        inner_agent({"algorithm_parameters": {}}, "gen_algo")
    with pytest.raises(ArgumentError, match="StableBaselinesAgent"):
        inner_agent(3, "gen_algo")
    with pytest.raises(ArgumentError, match=r"StableBaselinesAgent\.from_agent"):
        inner_agent(ImitationAgent("bc"), "gen_algo")


def test_the_description_makes_an_agent_alike():
    agent = inner_agent(
        {
            "algorithm_class": PPO,
            "algorithm_parameters": {"policy_kwargs": {"net_arch": (4, 4)}, "learning_rate": {"type": "constant",
                                                                                             "value": 1.0}},
            "features_extractor": Scaled(),
        },
        "gen_algo",
    )  # fmt: skip
    described = describe_inner_agent(agent)
    again = inner_agent(decode_value(described), "gen_algo")
    assert describe_inner_agent(again) == described
    assert again.algorithm_parameters["policy_kwargs"]["net_arch"] == (4, 4)
    assert isinstance(again.features_extractor, Scaled)


def test_what_belongs_to_a_machine_is_not_described_and_not_taken_from_a_file():
    agent = inner_agent(PPO_DATA, "gen_algo")
    assert "device" not in describe_inner_agent(agent)["algorithm_parameters"]
    assert local_inner_data(agent) == {"algorithm_parameters": {"device": "cpu"}}
    from_file = inner_data_from_file(PPO_DATA, None)
    assert "device" not in from_file["algorithm_parameters"]
    assert inner_data_from_file(PPO_DATA, {"algorithm_parameters": {"gamma": 0.5}})["algorithm_parameters"] == {
        **PARAMETERS["ppo"],
        "gamma": 0.5,
    }
    assert inner_data_from_file(PPO_DATA, "dqn") == "dqn"


def test_the_users_agent_is_trained_in_place_and_resumed_in_place(tmp_path):
    robot = trained("ppo", seed=4)
    before, timesteps = weights(robot), robot.num_timesteps
    agent = ImitationAgent("gail", {**SMALL, "gen_algo": robot})
    arguments = {"n_environments": 2, "progress_bar": False}
    agent.train(demonstrations(), "CartPole-v1", 64, seed=5, checkpoint_every=32, checkpoint_directory=tmp_path,
                **arguments)  # fmt: skip
    assert agent.learner.inner is robot
    assert robot.num_timesteps == agent.num_timesteps == timesteps + 64
    assert not same(weights(robot), before)

    another = trained("ppo", seed=4)
    resumed = ImitationAgent("gail", {**SMALL, "gen_algo": another})
    oldest = sorted(tmp_path.glob("*.zip"))[0]
    resumed.train(demonstrations(), "CartPole-v1", 64, resume_from=oldest, **arguments)
    assert resumed.learner.inner is another
    assert same(weights(another), weights(robot))


def test_the_users_agent_goes_on_by_itself():
    robot = StableBaselinesAgent("ppo", PARAMETERS["ppo"])
    arguments = {"n_environments": 2, "progress_bar": False}
    ImitationAgent("gail", {**SMALL, "gen_algo": robot}).train(demonstrations(), "CartPole-v1", 32, seed=1, **arguments)
    robot.train("CartPole-v1", 32, **arguments)
    assert robot.num_timesteps == 64


def test_single_values_of_the_agent_inside_can_be_changed_on_loading(tmp_path):
    agent = ImitationAgent("gail", {**SMALL, "gen_algo": PPO_DATA})
    agent.train(demonstrations(), "CartPole-v1", 32, n_environments=2, seed=1, progress_bar=False)
    path = agent.save_to_file(tmp_path / "agent.zip")
    loaded = load_agent(path)
    assert "device" not in loaded.learner.inner.algorithm_parameters
    changed = ImitationAgent("gail").load_from_file(path, {"gen_algo": {"algorithm_parameters": {"gamma": 0.5}}})
    assert changed.learner.inner.algorithm.gamma == 0.5
    assert same(weights(changed.learner.inner), weights(loaded.learner.inner))
    with pytest.raises(ArgumentError, match="does not take them"):
        ImitationAgent("gail").load_from_file(path, {"gen_algo": "dqn"})


def test_seeds_and_normalisers_are_refused_with_what_to_do_instead():
    with pytest.raises(ArgumentError, match=r"train\(seed="):
        ImitationAgent("gail", {"gen_algo": {"algorithm_class": "ppo", "algorithm_parameters": {"seed": 1}}})
    with pytest.raises(ArgumentError, match='"features_extractor": "normalize"'):
        ImitationAgent("gail", {"gen_algo": {"algorithm_class": "ppo", "normalize_observations": True}})
    with pytest.raises(ArgumentError, match="normalize_output_layer"):
        ImitationAgent("gail", {"gen_algo": {"algorithm_class": "ppo", "normalize_rewards": True}})
