from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import rl_framework
from rl_framework import registry
from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import Trunk, build_trunk
from rl_framework.agent.network.value import ValueNetwork
from rl_framework.errors import ArgumentError, RLFrameworkError

BOX = spaces.Box(-1, 1, (3,), np.float32)
DICT = spaces.Dict(image=spaces.Box(0, 255, (9, 9, 3), np.uint8), vector=BOX)
STEPS, ROWS = 6, 4


class Sum(nn.Module):
    """Adds up what it sees: features are the sums since the start of the episode."""

    def __init__(self, input_space: gymnasium.spaces.Box, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.state_size = self.features_dim = input_space.shape[0]

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = state + self.factor * x
        return state, state


class Tenfold(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(10.0))

    def forward(self, observations: Any) -> Any:
        return observations * self.factor


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.networks, "_entries", dict(registry.networks._entries))
    torch.manual_seed(0)


def _steps(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _steps(part) for key, part in space.items()}
    if space.dtype == np.uint8:
        return torch.randint(0, 256, (STEPS, ROWS, *space.shape), dtype=torch.uint8)
    return torch.randn(STEPS, ROWS, *space.shape)


def _at(observations: Any, step: int) -> Any:
    if isinstance(observations, dict):
        return {key: part[step] for key, part in observations.items()}
    return observations[step]


GRU = {"type": "gru", "hidden_size": 8, "encoder_sizes": [5], "sequence_length": 3}
NETWORKS = {
    "gru": (GRU, BOX),
    "gru_of_dict": ({"type": "gru", "hidden_size": 8}, DICT),
    "gru_of_linear": ({**GRU, "encoder_sizes": []}, BOX),
    "gru_of_encoder": ({"type": "gru", "encoder": {"type": "impala_cnn", "channels": [4], "features": 6}}, DICT),
    "users": (Sum, BOX),
    "users_of_dict": (Sum, spaces.Dict(a=BOX, b=BOX)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_unrolling_equals_step_by_step(name: str) -> None:
    """Also where episodes begin in between; and what was before a beginning has no influence on what comes after."""
    specification, space = NETWORKS[name]
    trunk = build_trunk("policy", specification, space)
    observations, state = _steps(space), torch.randn(ROWS, trunk.state_size)
    starts = torch.rand(STEPS, ROWS) < 0.3
    starts[2] = torch.tensor([True, False, True, False])
    features, last = trunk.unroll(observations, state, starts)
    assert features.shape == (STEPS, ROWS, trunk.features_dim)

    one_state = state
    for step in range(STEPS):
        one, one_state = trunk.step(_at(observations, step), one_state, starts[step])
        torch.testing.assert_close(one, features[step], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one_state, last, rtol=1e-5, atol=1e-6)

    other, _ = trunk.unroll(observations, state + 1, starts)
    same = (other == features).all(2)
    assert same[2:, [0, 2]].all()
    begun = starts.cumsum(0) > 0
    assert not same[~begun].any()
    first, _ = trunk.step(_at(observations, 0), None, None)
    begin, _ = trunk.step(_at(observations, 0), trunk.initial_state(ROWS), torch.zeros(ROWS, dtype=torch.bool))
    torch.testing.assert_close(first, begin, rtol=0, atol=0)


def test_gru_is_that_of_torch() -> None:
    trunk = build_trunk("policy", {**GRU, "encoder": "flatten", "encoder_sizes": None}, BOX)
    assert (trunk.state_size, trunk.features_dim, trunk.sequence_length) == (8, 8, 3)
    observations, state = torch.randn(ROWS, 3), torch.randn(ROWS, 8)
    expected = trunk.network.cell(observations, state)
    features, after = trunk.step(observations, state, None)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(after, expected)


def test_gradients_flow_through_time_but_not_over_a_start() -> None:
    for specification in (GRU, {"type": "mlp"}):
        trunk = build_trunk("value", specification, BOX)
        value = ValueNetwork(trunk)
        if trunk.state_size:
            observations = torch.randn(STEPS, ROWS, 3, requires_grad=True)
            starts = torch.zeros(STEPS, ROWS, dtype=torch.bool)
            starts[3, 0] = True
            features, _ = trunk.unroll(observations, trunk.initial_state(ROWS), starts)
            value.of_features(features[-1]).sum().backward()
            assert observations.grad is not None
            moved = observations.grad.abs().sum(2) > 0
            assert moved[:, 1:].all()
            assert moved[:, 0].tolist() == [False] * 3 + [True] * 3
        else:
            value.of(torch.randn(ROWS, 3)).sum().backward()
        for name, parameter in value.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_a_users_recurrent_network() -> None:
    rl_framework.register_network("sum", Sum)
    trunk = build_trunk("policy", {"type": "sum", "factor": 2.0}, BOX)
    assert (trunk.state_size, trunk.sequence_length) == (3, 16)
    policy = Policy(trunk, spaces.Discrete(2))
    state = trunk.initial_state(2)
    for starts in ([True, True], [False, True], [False, False]):
        actions, state = policy.act(torch.ones(2, 3), state, torch.tensor(starts))
        assert actions.shape == (2,)
    assert state.tolist() == [[6.0] * 3, [4.0] * 3]
    value = ValueNetwork(trunk)
    expected = value.of_features(torch.tensor([[8.0] * 3, [2.0] * 3]))
    torch.testing.assert_close(value.of(torch.ones(2, 3), (state, torch.tensor([False, True]))), expected)
    torch.testing.assert_close(value.of(torch.ones(2, 3)), value.of_features(torch.full((2, 3), 2.0)))


def test_recurrent_networks_are_not_used_without_state() -> None:
    with pytest.raises(RLFrameworkError, match=r"networks\['target'\]"):
        build_trunk("target", GRU, BOX)(torch.randn(2, 3))
    with pytest.raises(ArgumentError, match="takes_dicts"):
        build_trunk("policy", Sum, DICT)


def test_the_normaliser_is_applied_first_and_belongs_to_somebody_else() -> None:
    normaliser = Tenfold()
    trunk = build_trunk("policy", "flatten", BOX, normaliser)
    assert trunk(torch.ones(1, 3)).tolist() == [[10.0] * 3]
    assert trunk.state_dict() == {}
    target = copy.deepcopy(trunk)
    everything = copy.deepcopy(nn.ModuleDict({"normaliser": normaliser, "trunk": trunk}))
    normaliser.factor.fill_(2.0)
    assert target(torch.ones(1, 3)).tolist() == [[2.0] * 3]
    whole = everything["trunk"]
    assert isinstance(whole, Trunk)
    assert whole(torch.ones(1, 3)).tolist() == [[10.0] * 3]
    assert build_trunk("policy", Sum, BOX, normaliser).step(torch.ones(1, 3), None, None)[0].tolist() == [[2.0] * 3]
