from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.agent.imitation.demonstrations import demonstrations

from rl_framework import Callback, CustomAgent, ImitationAgent, StableBaselinesAgent
from rl_framework.errors import ArgumentError
from rl_framework.training import TrackNorms, Training, TrainingEnded, TrainingStarted, Updated


class Log(Callback):
    def __init__(self) -> None:
        self.events: list[Updated] = []

    def on_update(self, event: Updated, training: Any) -> None:
        if any(name.startswith("norms/") for name in event.metrics):
            self.events.append(event)


class Agent:
    """Two weights, one optimizer."""

    def __init__(self) -> None:
        self.weights = [torch.nn.Parameter(torch.tensor([3.0])), torch.nn.Parameter(torch.tensor([4.0, 0.0]))]
        self.optimizer = torch.optim.SGD(self.weights, lr=0.5)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"net": self.optimizer}

    def update(self, most: float | None = None) -> None:
        """Gradients are 6, 8 and 0."""
        self.optimizer.zero_grad()
        sum((weight**2).sum() for weight in self.weights).backward()  # type: ignore[union-attr]
        if most is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, most)
        self.optimizer.step()


def started(callback: TrackNorms, agent: Any, total: int = 10_000) -> tuple[Training, Log]:
    log = Log()
    training = Training(agent, [callback, log], seed=0)
    training.total_timesteps = total
    training.emit(TrainingStarted(timestep=0, total_timesteps=total))
    return training, log


def test_the_norms_are_those_of_the_definition() -> None:
    agent = Agent()
    training, log = started(TrackNorms(samples=1), agent)
    agent.update(most=1.0)
    training.step(5)
    (event,) = log.events
    assert event.timestep == 5
    assert event.metrics == pytest.approx(
        {
            "norms/net_gradient": 10.0,
            "norms/net_clipped_gradient": 1.0,
            "norms/net_weights": 4.5,
            "norms/net_update": 0.5,
            "norms/net_learning_rate": 0.5,
        },
        rel=1e-5,
    )
    assert event.histograms == {}


def test_so_many_steps_of_every_period_are_measured_and_told_of_together() -> None:
    agent = Agent()
    agent.optimizer.param_groups[0]["lr"] = 1e-4
    training, log = started(TrackNorms(every=100, samples=3), agent)
    for timestep in range(1, 301):
        agent.update()
        training.step(timestep)
    assert [event.timestep for event in log.events] == [3, 103, 203]
    for event in log.events:
        samples = event.histograms["norms/net_gradient"]
        assert len(samples) == 3
        assert event.metrics["norms/net_gradient"] == pytest.approx(np.mean(samples))
        assert len(set(samples)) == 3
    assert "norms/net_learning_rate" not in log.events[0].histograms


def test_what_is_not_whole_is_told_of_with_the_next_period_or_at_the_end() -> None:
    agent = Agent()
    training, log = started(TrackNorms(every=100, samples=3), agent, total=150)
    agent.update()
    training.step(50)
    assert log.events == []
    training.step(100)
    agent.update()
    training.boundary(150)
    assert [event.timestep for event in log.events] == [100, 150]


def test_the_optimizer_is_left_as_it_was() -> None:
    agent = Agent()
    training, log = started(TrackNorms(), agent)
    training.emit(TrainingEnded(timestep=1))
    assert not agent.optimizer._optimizer_step_pre_hooks
    assert not agent.optimizer._optimizer_step_post_hooks
    assert not any(weight._post_accumulate_grad_hooks for weight in agent.weights)
    agent.update()
    training.step(2000)
    assert log.events == []


@pytest.mark.parametrize("arguments", [{"every": 0}, {"samples": 0}, {"every": 1.5}, {"samples": True}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError) as caught:
        TrackNorms(**arguments)
    assert caught.value.argument in arguments


CASES: dict[str, Any] = {
    "ppo": ("CartPole-v1", {"n_steps": 32, "batch_size": 16, "n_epochs": 1}, {"policy"}),
    "sac": ("Pendulum-v1", {"learning_starts": 20, "batch_size": 32}, {"actor", "critic", "ent_coef"}),
    "dqn": ("CartPole-v1", {"learning_starts": 20}, {"policy"}),
}


@pytest.mark.parametrize("algorithm", CASES)
def test_it_watches_every_network_and_changes_no_weight(algorithm: str) -> None:
    environment, parameters, networks = CASES[algorithm]
    log, agents = Log(), []
    for callbacks in ([], [TrackNorms(every=20, samples=2), log]):
        agent = StableBaselinesAgent(algorithm, parameters)
        agent.train(environment, 64, callbacks=callbacks, seed=3, progress_bar=False)
        agents.append(agent.algorithm.policy.state_dict())
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])
    names = {name for event in log.events for name in event.metrics}
    kinds = ("gradient", "clipped_gradient", "weights", "update", "learning_rate")
    assert names == {f"norms/{network}_{kind}" for network in networks for kind in kinds}
    assert all(np.isfinite(value) and value >= 0 for event in log.events for value in event.metrics.values())
    if algorithm != "ppo":
        return
    # PPO of Stable-Baselines3 clips to 0.5.
    for event in log.events:
        assert event.metrics["norms/policy_clipped_gradient"] <= 0.5 + 1e-5
        assert event.metrics["norms/policy_gradient"] >= event.metrics["norms/policy_clipped_gradient"] - 1e-9


def test_cloning_has_norms_too() -> None:
    log, agents = Log(), []
    for callbacks in ([], [TrackNorms(every=64, samples=2), log]):
        agent = ImitationAgent("bc", {"batch_size": 32})
        agent.train(
            episode_sequence=demonstrations(), total_timesteps=320, callbacks=callbacks, seed=3, progress_bar=False
        )
        agents.append(agent.learner.policy.state_dict())
    assert all(torch.equal(agents[0][name], agents[1][name]) for name in agents[0])
    assert len(log.events) >= 4
    assert log.events[0].metrics["norms/policy_clipped_gradient"] > 0


def test_an_agent_without_optimizers_has_no_norms_and_trains() -> None:
    log = Log()
    CustomAgent("q_learning").train("FrozenLake-v1", 64, callbacks=[TrackNorms(), log], progress_bar=False)
    assert log.events == []
