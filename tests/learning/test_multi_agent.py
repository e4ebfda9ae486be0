"""Agents that share a world learn: to a known optimum, and by a clear margin over chance."""

from __future__ import annotations

from typing import Any

import pytest
from mpe2 import simple_spread_v3
from tests.environment.pettingzoo_toys import Rendezvous

from rl_framework import EvaluationResult, MultiAgent, StableBaselinesAgent

TOGETHER: dict[str, Any] = {
    "n_steps": 20,
    "batch_size": 160,
    "n_epochs": 5,
    "learning_rate": 0.02,
    "gamma": 0.0,  # what is right now does not depend on what was done before
    "ent_coef": 0.05,
    "policy_kwargs": {"net_arch": [16]},
}
SPREAD: dict[str, Any] = {
    "n_steps": 50,
    "batch_size": 200,
    "n_epochs": 8,
    "learning_rate": 2e-3,
    "gamma": 0.9,
    "gae_lambda": 0.9,
}


def unlike() -> Rendezvous:
    return Rendezvous(alike=False)


def test_one_policy_for_all_finds_the_best_for_the_team() -> None:
    agent = StableBaselinesAgent("ppo", TOGETHER)
    agent.train(Rendezvous, 4_800, n_environments=8, seed=0, progress_bar=False)
    result = agent.evaluate(Rendezvous, 40, deterministic=True, seed=1)
    assert result.team.returns.tolist() == [10.0] * 20
    assert all(part.mean == 5.0 for part in result.agents.values())


def test_a_policy_for_each_finds_the_best_for_the_team() -> None:
    multi = MultiAgent({"left": StableBaselinesAgent("ppo", TOGETHER), "right": StableBaselinesAgent("ppo", TOGETHER)})
    multi.train(unlike, 2_400, n_environments=8, seed=0, progress_bar=False)
    result = multi.evaluate(unlike, 20, deterministic=True, seed=1)
    assert result.returns.tolist() == [10.0] * 20
    assert multi.evaluate(unlike, 20, seed=1).mean > 8


def _spread(seed: int, timesteps: int, n_agents: int) -> tuple[EvaluationResult, EvaluationResult]:
    """Returns what the team earns by chance, and after training."""
    make, kwargs = simple_spread_v3.parallel_env, {"N": n_agents, "max_cycles": 25}
    several: dict[str, Any] = {"n_environments": 8, "environment_kwargs": kwargs}

    def team(agent: StableBaselinesAgent, deterministic: bool) -> EvaluationResult:
        result = agent.evaluate(make, 40 * n_agents, deterministic, seed=1_000 + seed, environment_kwargs=kwargs)
        return result.team

    untrained = StableBaselinesAgent("ppo", {**SPREAD, "learning_rate": 0.0, "n_steps": 2, "batch_size": 4})
    untrained.train(make, 1, seed=seed, progress_bar=False, **several)
    agent = StableBaselinesAgent("ppo", SPREAD).train(make, timesteps, seed=seed, progress_bar=False, **several)
    return team(untrained, deterministic=False), team(agent, deterministic=True)


def test_two_agents_spread() -> None:
    by_chance, trained = _spread(0, 16_000, 2)
    assert trained.mean > by_chance.mean + 8
    assert trained.confidence_interval()[0] > by_chance.confidence_interval()[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_agents_spread(seed: int) -> None:
    by_chance, trained = _spread(seed, 120_000, 3)
    assert trained.mean > by_chance.mean + 15
    assert trained.confidence_interval()[0] > by_chance.confidence_interval()[1]
