"""The JSON Schema accepts what the reader accepts, and refuses what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
import yaml

from rl_framework.experiment import Experiment
from rl_framework.experiment.agents import AGENT, make_agent
from rl_framework.experiment.schema import parameters_schema

RIGHT: dict[str, Any] = yaml.safe_load(
    """
base: [ppo/CartPole-v1, mine.yaml]
name: walker
seeds: [0, 1]
agent:
  type: stable_baselines
  algorithm: ppo
  parameters: {n_steps: 64, learning_rate: {type: linear, start: 0.001}, policy_kwargs: {net_arch: [8]}}
environment: {id: CartPole-v1, n_environments: 4, wrappers: [atari, {type: time_limit, max_episode_steps: 9}]}
training: {total_timesteps: 1000, checkpoint_every: auto, keep_last: null}
evaluation: {deterministic: true}
video: {overlay: {show: [return]}}
connectors: [{type: tensorboard}, {type: huggingface, repository_id: me/walker, token: "${HF_TOKEN}"}]
"""
)
WRONG = {
    "seeds": "x",
    "sed": 1,
    "agent.normalise": True,
    "agent.algorithm": "pppo",
    "agent.parameters.n_stps": 8,
    "agent.parameters.n_steps": 0,
    "agent.parameters.gamma": 1.5,
    "agent.parameters.learning_rate": "fast",
    "environment.n_environments": 0,
    "environment.wrappers": ["time_limit"],
    "training.total_timesteps": "many",
    "training.keep_last": 0,
    "connectors": [{"type": "huggingface"}],
    "video.overlay.place": "above",
}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = Experiment.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_what_is_right_is_accepted(validator: Any) -> None:
    assert list(validator.iter_errors(RIGHT)) == []
    others = [
        {"type": "composed", "parts": ["ppo", {"type": "ppo", "n_steps": 8}]},
        {"type": "multi", "groups": {"a": {"type": "stable_baselines", "algorithm": "dqn"}}},
        {"type": "imitation", "algorithm": "bc", "parameters": {"batch_size": 32}},
        {"type": "offline", "algorithm": "cql", "parameters": {"alpha": 1.0}},
        {"type": "custom", "algorithm": "q_learning", "parameters": {"learning_rate": 0.1}},
        {"algorithm": "ppo"},
    ]
    for agent in others:
        assert list(validator.iter_errors({**RIGHT, "agent": agent})) == []


def test_what_is_wrong_is_refused(validator: Any) -> None:
    for key, value in WRONG.items():
        data = copy.deepcopy(RIGHT)
        *above, last = key.split(".")
        inner = data
        for part in above:
            inner = inner[part]
        inner[last] = value
        assert list(validator.iter_errors(data)), f"{key}={value!r} is accepted"


def test_keys_have_descriptions_types_and_ranges() -> None:
    agent = make_agent(AGENT.section("stable_baselines").model_validate({"type": "stable_baselines"}))
    parameters = parameters_schema(agent)["properties"]
    gamma = {"default": 0.99, "maximum": 1, "minimum": 0, "title": "Gamma", "type": "number"}
    assert parameters["gamma"] == {**gamma, "description": "Discount factor"}
    assert parameters["n_epochs"]["type"] == "integer"
    assert {"type": "number"} in parameters["learning_rate"]["anyOf"]
