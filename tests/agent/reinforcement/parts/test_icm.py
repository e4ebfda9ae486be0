"""The intrinsic curiosity module: its reward and losses by hand, for all kinds of actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.parts.written_down import built, rollout_of, set_linear
from tests.agent.samples import Sampled

from rl_framework import ArgumentError, ComposedAgent, load_agent
from rl_framework.agent.network.architectures.mlp import MLP
from rl_framework.agent.reinforcement.parts import ICM, PPO

OBSERVATIONS = np.array([[[1.0, 4.0], [2.0, -3.0]], [[0.5, 0.0], [2.5, 1.0]], [[-1.0, 2.0], [3.0, 1.5]]])
NEXT = np.array([[[0.5, 0.0], [2.5, 1.0]], [[9.0, 9.0], [3.0, 1.5]], [[3.0, 1.0], [0.0, -1.0]]])
ACTIONS = np.array([[0, 1], [1, 1], [0, 0]])
REWARDS = np.array([[1.0, 0.0], [0.0, -1.0], [0.5, 0.0]])


def by_hand(**arguments: Any) -> ICM:
    """ICM whose features are the observations, with weights that are written down."""
    part = ICM(**{"hidden_size": 1, **arguments})
    built(part)
    set_linear(part.inverse[0], [[1.0, -1.0, 0.5, 2.0]], [0.5])
    set_linear(part.inverse[2].linear, [[1.0], [-0.5]], [0.1, 0.2])
    set_linear(part.forward_model[0], [[0.5, 1.0, -1.0, 2.0]], [0.25])
    set_linear(part.forward_model[2], [[1.0], [-2.0]], [0.5, 0.0])
    return part


def errors_by_hand() -> Any:
    """Half the squared error of the forward model at each step."""
    chosen = np.eye(2)[ACTIONS]
    hidden = np.maximum(np.concatenate([OBSERVATIONS, chosen], -1) @ [0.5, 1.0, -1.0, 2.0] + 0.25, 0)[..., None]
    predicted = hidden * [1.0, -2.0] + [0.5, 0.0]
    return 0.5 * ((predicted - NEXT) ** 2).sum(-1)


def written_rollout(**arguments: Any) -> Any:
    return rollout_of(OBSERVATIONS, NEXT[-1], ACTIONS, **{"rewards": REWARDS, "next_observations": NEXT, **arguments})


def test_rewards_are_those_worked_out_by_hand() -> None:
    part, rollout = by_hand(weight=0.1), written_rollout(ended=[[False, False], [True, False], [False, False]])
    with torch.no_grad():
        part.reward(rollout)
    assert rollout["rewards"].numpy() == pytest.approx(REWARDS + 0.1 * errors_by_hand(), rel=1e-5)
    assert part.metrics()["train/curiosity_reward"] == pytest.approx(0.1 * errors_by_hand().mean(), rel=1e-5)


def test_losses_are_those_worked_out_by_hand() -> None:
    losses = by_hand(beta=0.25, loss_weight=2.0).loss(written_rollout().batch())
    hidden = np.maximum(np.concatenate([OBSERVATIONS, NEXT], -1) @ [1.0, -1.0, 0.5, 2.0] + 0.5, 0)[..., None]
    logits = hidden * [1.0, -0.5] + [0.1, 0.2]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    taken = np.take_along_axis(log_probs, ACTIONS[..., None], -1)
    assert losses["inverse"].item() == pytest.approx(2 * 0.75 * -taken.mean(), rel=1e-5)
    assert losses["forward"].item() == pytest.approx(2 * 0.25 * errors_by_hand().mean(), rel=1e-5)


def test_the_features_learn_from_both_models_and_the_policy_from_neither() -> None:
    part = ICM(hidden_size=4)
    setup = built(part, networks={"default": {"type": "mlp", "hidden_sizes": [8]}})
    for term in ("inverse", "forward"):
        part.zero_grad()
        part.loss(written_rollout().batch())[term].backward()
        assert all(parameter.grad is not None for parameter in part.trunk.parameters()), term
        assert all(parameter.grad is None for parameter in setup.policy().parameters()), term


@pytest.mark.parametrize(
    "action_space",
    [spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2), spaces.Box(-2, 2, (2,))],
    ids=["discrete", "multi_discrete", "multi_binary", "box"],
)
def test_it_takes_all_kinds_of_actions(action_space: Any) -> None:
    observation_space = spaces.Dict({"vector": spaces.Box(-1, 1, (3,)), "place": spaces.Discrete(3)})
    agent = ComposedAgent([ICM(weight=1.0, hidden_size=8), PPO(n_steps=16, batch_size=16, n_epochs=2)])
    agent.train(lambda: Sampled(observation_space, action_space), 64, 2, seed=0, progress_bar=False)
    assert agent.parts[0].metrics()["train/curiosity_reward"] > 0
    assert all(tensor.isfinite().all() for tensor in agent.composition.tensors().values())


def test_it_comes_back_from_a_file(tmp_path: Any) -> None:
    agent = ComposedAgent([PPO(n_steps=16, batch_size=16), ICM(network={"type": MLP, "hidden_sizes": [8]})])
    agent.train(Sampled, 16, 1, seed=0, progress_bar=False)
    agent.save_to_file(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    assert loaded.describe() == agent.describe()
    theirs = loaded.composition.tensors()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in agent.composition.tensors().items())


def test_mistakes_are_told() -> None:
    with pytest.raises(ArgumentError, match=r"ICM\(beta\)"):
        ICM(beta=1.5)
    with pytest.raises(ArgumentError, match="recurrent"):
        built(ICM(), networks={"icm": "gru", "default": "flatten"})
