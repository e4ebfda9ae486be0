from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rl_framework.agent.network.distributions import Gaussian, SquashedGaussian
from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.trunk import build_trunk
from rl_framework.errors import UnknownNameError, UnsupportedSpaceError

BOX = spaces.Box(-1, 1, (5,), np.float32)
UNEVEN = spaces.Box(np.array([[-2.0, 0.0]], np.float32), np.array([[1.0, 8.0]], np.float32))
ACTIONS: dict[str, tuple[spaces.Space[Any], str | None]] = {
    "categorical": (spaces.Discrete(4), None),
    "categorical_from_2": (spaces.Discrete(4, start=2), "categorical"),
    "multi_categorical": (spaces.MultiDiscrete([3, 2, 4]), None),
    "multi_categorical_from_1": (spaces.MultiDiscrete(np.array([[3], [2]]), start=np.array([[1], [-1]])), None),
    "bernoulli": (spaces.MultiBinary((2, 2)), None),
    "gaussian": (UNEVEN, None),
    "gaussian_64": (spaces.Box(-1, 1, (2,), np.float64), None),
    "gaussian_unbounded": (spaces.Box(-np.inf, np.inf, (2,)), None),
    "squashed_gaussian": (UNEVEN, "squashed_gaussian"),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _policy(space: spaces.Space[Any], distribution: str | None = None, network: Any = None) -> Policy:
    return Policy(build_trunk("policy", network, BOX), space, distribution)


def _torch_only(policy: Policy) -> Policy:
    other = copy.deepcopy(policy)
    other._fast = None
    return other


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_of_the_batched_space_and_come_back(name: str) -> None:
    space, distribution = ACTIONS[name]
    policy = _policy(space, distribution)
    assert name.startswith(policy.distribution_name)
    rows = 40
    with torch.no_grad():
        actions, state = policy.act(torch.randn(rows, 5), generator=torch.Generator().manual_seed(0))
    assert state is None
    assert actions.shape == ((rows,) if isinstance(space, spaces.Discrete) else (rows, policy.action_size))
    for_environment = policy.to_environment(actions)
    batched = batch_space(space, rows)
    assert for_environment.shape == batched.shape
    assert batched.contains(for_environment.numpy())
    back = policy.from_environment(for_environment)
    assert back.dtype == actions.dtype
    if "gaussian" in name and "squashed" not in name:
        actions = actions.clamp(*(torch.as_tensor(bound).float().flatten() for bound in (space.low, space.high)))
    torch.testing.assert_close(back, actions, rtol=1e-5, atol=1e-5)
    assert policy.of_features(policy.trunk(torch.randn(rows, 5))).log_prob(back).isfinite().all()


def test_squashed_actions_are_stretched_to_the_bounds() -> None:
    policy = _policy(UNEVEN, "squashed_gaussian")
    actions = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    expected = torch.tensor([[[-2.0, 0.0]], [[1.0, 8.0]], [[-0.5, 6.0]]])
    torch.testing.assert_close(policy.to_environment(actions), expected, rtol=0, atol=0)
    torch.testing.assert_close(policy.from_environment(expected), actions)
    fixed = _policy(spaces.Box(2.0, 2.0, (1,)), "squashed_gaussian")
    assert fixed.to_environment(torch.tensor([[0.3]])).item() == 2.0
    assert fixed.from_environment(torch.tensor([[2.0]])).item() == 0.0


def test_standard_deviations_are_as_in_the_literature() -> None:
    policy = _policy(UNEVEN)
    gaussian = policy.of_features(policy.trunk(torch.randn(3, 5)))
    assert isinstance(gaussian, Gaussian)
    assert gaussian.log_std.tolist() == [0.0, 0.0]
    assert gaussian.log_std.requires_grad
    policy = _policy(UNEVEN, "squashed_gaussian")
    squashed = policy.head.of_outputs(torch.tensor([[1.0, 2.0, -100.0, 100.0]]))
    assert isinstance(squashed, SquashedGaussian)
    assert squashed.normal.mean.tolist() == [[1.0, 2.0]]
    assert squashed.normal.log_std.tolist() == [[-20.0, 2.0]]


def test_deterministic_actions_are_the_mode() -> None:
    for space, distribution in ACTIONS.values():
        policy = _policy(space, distribution)
        observations = torch.randn(4, 5)
        with torch.no_grad():
            actions, _ = policy.act(observations, deterministic=True)
            torch.testing.assert_close(actions, policy.of_features(policy.trunk(observations)).mode())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("sizes", [[16, 8], [300], []], ids=["two_layers", "wide", "none"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_actions_by_numpy_are_those_of_torch(activation: str, sizes: list[int], mode: Any) -> None:
    """The same random numbers, the same means up to the last bits, and the same actions."""
    network = {"type": "mlp", "hidden_sizes": sizes, "activation": activation}
    for space in (spaces.Discrete(3), UNEVEN):
        fast = _policy(space, network=network)
        assert (fast._fast is None) == (activation == "elu" and sizes != [])
        for rows in (1, 8, 500):
            observations = torch.randn(rows, 5)
            with mode():
                actions, expected = (
                    policy.act(observations, generator=torch.Generator().manual_seed(1))[0]
                    for policy in (fast, _torch_only(fast))
                )
            torch.testing.assert_close(actions, expected, rtol=1e-5, atol=1e-6)


def test_numpy_sees_what_happens_to_the_parameters() -> None:
    policy = _policy(UNEVEN)
    observations = torch.randn(2, 5)

    def mean(of: Policy) -> torch.Tensor:
        with torch.no_grad():
            return of.act(observations, deterministic=True)[0]

    def check(of: Policy) -> torch.Tensor:
        actions = mean(of)
        torch.testing.assert_close(actions, mean(_torch_only(of)), rtol=1e-5, atol=1e-7)
        return actions

    before = check(policy)
    copies = [copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    in_place = check(policy)
    assert not torch.allclose(in_place, before)
    for other in copies:
        torch.testing.assert_close(check(other), before)
        with torch.no_grad():
            other.head.linear.bias.add_(1.0)
        torch.testing.assert_close(check(other), before + 1)
    for parameter in policy.parameters():
        parameter.data = parameter.data * 2
    moved = check(policy)
    assert not torch.allclose(moved, in_place)
    swapped = {name: torch.zeros_like(value) for name, value in policy.named_parameters()}
    policy.load_state_dict(swapped, assign=True)
    assert check(policy).tolist() == [[0.0, 0.0]] * 2


def test_acting_with_gradients_is_possible() -> None:
    policy = _policy(UNEVEN)
    actions, _ = policy.act(torch.randn(2, 5), deterministic=True)
    actions.sum().backward()
    weight = policy.trunk.network.layers[0].weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("space", "distribution", "error", "message"),
    [
        (spaces.Tuple([spaces.Discrete(2)]), None, UnsupportedSpaceError, "not Tuple"),
        (spaces.Discrete(2), "gaussian", UnsupportedSpaceError, "Take categorical"),
        (UNEVEN, "categorical", UnsupportedSpaceError, "Take gaussian or squashed_gaussian"),
        (UNEVEN, "gausian", UnknownNameError, "Did you mean 'gaussian'"),
        (spaces.Box(0, np.inf, (1,)), "squashed_gaussian", UnsupportedSpaceError, 'finite bounds.*"gaussian"'),
        (spaces.Box(0, 5, (1,), np.int64), None, UnsupportedSpaceError, "MultiDiscrete"),
    ],
    ids=["tuple", "gaussian", "categorical", "misspelt", "unbounded", "whole_numbers"],
)
def test_what_does_not_fit_is_refused(space: Any, distribution: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _policy(space, distribution)
