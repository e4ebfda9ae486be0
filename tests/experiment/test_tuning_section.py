"""What is wrong with a search space is told before anything is trained, with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl_framework.errors import ConfigurationError
from rl_framework.experiment import Tuning, load_config
from rl_framework.experiment.tuning.space import USUAL, search_space

PPO: dict[str, Any] = {"agent": {"algorithm": "ppo"}, "environment": {"id": "CartPole-v1"}}


def test_every_mistake_is_told_with_its_line() -> None:
    pytest.importorskip("optuna")
    Path("wrong.yaml").write_text(
        """\
agent: {algorithm: ppo}
environment: {id: CartPole-v1}
tuning:
  sampler: tpee
  pruner: {type: median, n_warmup: 3}
  storage: postgresql://host/name
  search:
    agent.parameters.learning_rat: {low: 1e-5, high: 1e-2}
    agent.parameters.n_steps: {low: 0.5, high: 64}
    agent.parameters.gamma: {low: 0.9, high: 1.2}
    agent.parameters.batch_size: {low: 8, high: 64, step: 0.5}
    agent.parameters.n_epochs: {low: 8}
    agent.parameters.vf_coef: {low: 1, high: 0.5}
    agent.parameters.ent_coef: {low: 0, high: 0.1, log: true}
    agent.parameters.policy_kwargs: auto
    agent.algorithm: {choices: [a2c, pp]}
    agnt.x: {choices: [1]}
    evaluation.n_episodes: {choices: [1, 2]}
    agent.parameters.clip_range: {lo: 1}
"""
    )
    with pytest.raises(ConfigurationError) as refused:
        load_config("wrong.yaml")
    told = [(each.line, each.key.removeprefix("tuning."), each.message) for each in refused.value.problems]
    expected = [
        (4, "sampler", "'tpee': not known. Did you mean 'tpe'?"),
        (5, "pruner.n_warmup", "there is no such key: did you mean 'n_warmup_steps'"),
        (6, "storage", "must be a file, or sqlite:///path"),
        (8, "search.agent.parameters.learning_rat.low", "'learning_rat': not known. Did you mean 'learning_rate'?"),
        (9, "search.agent.parameters.n_steps.low", "must be an integer, and is 0.5"),
        (10, "search.agent.parameters.gamma.high", "must be at most 1, and is 1.2"),
        (11, "search.agent.parameters.batch_size.step", "must be an integer, and is 0.5"),
        (12, "search.agent.parameters.n_epochs.high", "is needed beside the other end"),
        (13, "search.agent.parameters.vf_coef.high", "must be above low"),
        (14, "search.agent.parameters.ent_coef.low", "must be above 0 with log"),
        (15, "search.agent.parameters.policy_kwargs", "has no usual range"),
        (16, "search.agent.algorithm.choices[1]", "'pp': not known"),
        (17, "search.agnt.x", "cannot be searched"),
        (18, "search.evaluation.n_episodes", "cannot be searched"),
        (19, "search.agent.parameters.clip_range.lo", "there is no such key: did you mean 'low'"),
        (19, "search.agent.parameters.clip_range", 'must be "auto", {low: ..., high: ...} or {choices: [...]}'),
    ]
    assert [(line, key) for line, key, _ in told] == [(line, key) for line, key, _ in expected]
    for (_, key, message), (_, _, wanted) in zip(told, expected, strict=True):
        assert wanted in message, key


def test_numbers_are_what_their_key_takes() -> None:
    search = {
        "agent.parameters.learning_rate": {"low": 1e-5, "high": 1, "log": True},
        "agent.parameters.n_steps": {"low": 16.0, "high": 1e2},
        "agent.parameters.gamma": {"low": 0, "high": 1},
        "agent.parameters.batch_size": {"low": 8, "high": 64, "step": 8},
        "training.total_timesteps": {"choices": [100, 200]},
        "agent.parameters.policy_kwargs.net_arch": {"choices": [[8], [16, 16]]},
    }
    rate, steps, gamma, batch, total, network = search_space(load_config({**PPO, "tuning": {"search": search}}))
    assert (type(rate.low), type(rate.high), rate.log) == (float, float, True)
    assert (steps.low, steps.high, type(steps.low)) == (16, 100, int)
    assert (type(gamma.low), type(gamma.high)) == (float, float)
    assert batch.points() == [8, 16, 24, 32, 40, 48, 56, 64]
    assert total.choices == (100, 200)
    assert network.value("[16, 16]") == [16, 16]


@pytest.mark.parametrize("name", USUAL)
def test_usual_ranges_are_allowed_where_there_is_such_a_key(name: str) -> None:
    problems = {}
    for algorithm in ("ppo", "dqn", "sac"):
        config = {**PPO, "agent": {"algorithm": algorithm}}
        if algorithm == "sac":
            config["environment"] = {"id": "Pendulum-v1"}
        try:
            load_config({**config, "tuning": {"search": {f"agent.parameters.{name}": "auto"}}})
        except ConfigurationError as error:
            problems[algorithm] = str(error)
    if name != "weight_decay":
        assert len(problems) < 3, problems
    assert all("not known" in message for message in problems.values()), problems


def test_a_training_does_not_look_at_it() -> None:
    search = {"agent.parameters.learning_rate": "auto"}
    config = load_config({**PPO, "tuning": {"search": search}})
    assert "tuning" not in config.to_data()


def test_a_search_needs_its_section() -> None:
    pytest.importorskip("optuna")
    with pytest.raises(ConfigurationError, match="tuning: is needed, such as"):
        Tuning.from_config(PPO)
    with pytest.raises(ConfigurationError, match=r"tuning\.search: is needed"):
        Tuning.from_config({**PPO, "tuning": {}})
    with pytest.raises(ConfigurationError, match="a grid needs choices, or a step"):
        Tuning.from_config({**PPO, "tuning": {"sampler": "grid", "search": {"agent.parameters.ent_coef": "auto"}}})
