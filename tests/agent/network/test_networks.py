from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from torch import nn

import rl_framework
from rl_framework import registry
from rl_framework.agent.network.policy import Policy
from rl_framework.agent.network.specification import describe_network, network_from_data
from rl_framework.agent.network.trunk import build_trunk
from rl_framework.agent.network.value import ValueNetwork
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsavableError

BOX = spaces.Box(-1, 1, (5,), np.float32)
IMAGE = spaces.Box(0, 255, (40, 44, 3), np.uint8)
FIRST = spaces.Box(0, 255, (3, 40, 44), np.uint8)


class MyNet(nn.Module):
    def __init__(self, input_space: gymnasium.spaces.Box, width: int = 64) -> None:
        super().__init__()
        self.layer = nn.Linear(input_space.shape[0], width)
        self.features_dim = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).relu()


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.networks, "_entries", dict(registry.networks._entries))
    torch.manual_seed(0)


def _copy(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(dict(zip(target.state_dict(), source.state_dict().values(), strict=True)))


def _weights_of(module: nn.Module) -> list[torch.Tensor]:
    return [parameter for parameter in module.parameters() if parameter.dim() > 1]


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
def test_mlp_equals_the_library(activation: str) -> None:
    """Same weights, same means and values; and the same initial weights up to the random numbers."""
    space = spaces.Box(-1, 1, (2,))
    theirs = ActorCriticPolicy(
        BOX,
        space,
        lambda _: 1e-3,
        net_arch=[32, 16],
        activation_fn=registry.activations.get(activation),
    )
    specification = {"type": "mlp", "hidden_sizes": [32, 16], "activation": activation}
    policy = Policy(build_trunk("policy", specification, BOX), space)
    value = ValueNetwork(build_trunk("value", specification, BOX))
    pairs = [
        (theirs.mlp_extractor.policy_net, policy.trunk),
        (theirs.action_net, policy.head.linear),
        (theirs.mlp_extractor.value_net, value.trunk),
        (theirs.value_net, value.head),
    ]
    for source, target in pairs:
        for their_weight, our_weight in zip(_weights_of(source), _weights_of(target), strict=True):
            torch.testing.assert_close(torch.linalg.svdvals(our_weight), torch.linalg.svdvals(their_weight))
        _copy(source, target)
    observations = torch.randn(16, 5)
    distribution = theirs.get_distribution(observations).distribution
    ours = policy.of_features(policy.trunk(observations))
    torch.testing.assert_close(ours.mean, distribution.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.log_std.exp().expand(16, 2), distribution.stddev)
    torch.testing.assert_close(value.of(observations), theirs.predict_values(observations)[:, 0], rtol=1e-6, atol=1e-6)


def test_nature_cnn_equals_the_library() -> None:
    theirs = ActorCriticCnnPolicy(FIRST, spaces.Discrete(4), lambda _: 1e-3)
    policy = Policy(build_trunk("policy", None, IMAGE), spaces.Discrete(4))
    assert policy.trunk.features_dim == 512
    _copy(theirs.features_extractor, policy.trunk)
    _copy(theirs.action_net, policy.head.linear)
    images = torch.randint(0, 256, (4, 40, 44, 3), dtype=torch.uint8)
    expected = theirs.get_distribution(images.permute(0, 3, 1, 2)).distribution.logits
    ours = policy.of_features(policy.trunk(images)).log_probs
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


def test_impala_cnn_is_that_of_the_paper() -> None:
    """15 convolutions in three sequences of 16, 32 and 32 channels, and 256 features; of any size of image."""
    trunk = build_trunk("policy", "impala_cnn", spaces.Box(0, 255, (72, 96, 3), np.uint8))
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16] * 5 + [32] * 10
    linear = trunk.network.linear[0]
    assert (linear.in_features, linear.out_features) == (32 * 9 * 12, 256)
    small = build_trunk(
        "policy", {"type": "impala_cnn", "channels": [4, 8], "features": 9}, spaces.Box(0, 1, (7, 7, 3))
    )
    features = small(torch.rand(3, 7, 7, 3))
    assert features.shape == (3, small.features_dim) == (3, 9)
    assert 0.01 < features.std() < 10


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (BOX, "MLP"),
        (IMAGE, "NatureCNN"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), "ImpalaCNN"),
        (spaces.Discrete(4), "MLP"),
        (spaces.Dict(a=BOX, b=spaces.Discrete(3)), "MLP"),
    ],
    ids=["vector", "image", "small_image", "discrete", "dict"],
)
def test_without_a_specification_the_network_suits_the_observations(space: Any, expected: str) -> None:
    assert type(build_trunk("policy", None, space).network).__name__.endswith(expected)


@pytest.mark.parametrize("name", ["mlp", "flatten", "nature_cnn", "impala_cnn"])
def test_gradients_reach_every_weight(name: str) -> None:
    trunk = build_trunk("value", name, IMAGE)
    value = ValueNetwork(trunk)
    value.of(torch.randint(0, 256, (8, 40, 44, 3), dtype=torch.uint8)).square().mean().backward()
    for parameter_name, parameter in value.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_flatten_has_no_parameters() -> None:
    trunk = build_trunk("policy", "flatten", spaces.Dict(a=BOX, b=spaces.MultiBinary(2)))
    assert list(trunk.parameters()) == []
    features = trunk({"a": torch.ones(2, 5), "b": torch.zeros(2, 2, dtype=torch.int8)})
    assert features.tolist() == [[1.0] * 5 + [0.0] * 2] * 2
    assert trunk.initial_state(2).shape == (2, 0)


def test_a_users_network_by_class_and_by_name() -> None:
    rl_framework.register_network("my_net", MyNet)
    for specification in (MyNet, "my_net", {"type": "my_net", "width": 32}, {"type": MyNet, "width": 32}):
        trunk = build_trunk("policy", specification, BOX)
        width = 32 if isinstance(specification, dict) else 64
        assert isinstance(trunk.network, MyNet)
        assert trunk(torch.randn(3, 5)).shape == (3, width)
    # Of a Dict it gets one vector.
    assert build_trunk("policy", MyNet, spaces.Dict(a=BOX, b=BOX)).network.network.layer.in_features == 10


def test_specifications_are_data() -> None:
    rl_framework.register_network("my_net", MyNet)
    gru = {"type": "gru", "hidden_size": 8, "encoder": {"type": MyNet, "width": 3}}
    for specification in (
        "mlp",
        MyNet,
        {"type": MyNet, "width": 3},
        {"type": "mlp", "hidden_sizes": (8, 9)},
        gru,
        None,
    ):
        data = json.loads(json.dumps(describe_network(specification)))
        expected, restored = (build_trunk("p", spec, BOX) for spec in (specification, network_from_data(data)))
        assert str(restored) == str(expected)
    assert describe_network(gru)["encoder"] == {"type": "my_net", "width": 3}


def test_a_network_without_a_name_cannot_be_saved() -> None:
    for specification in (MyNet, {"type": MyNet}, {"type": "gru", "encoder": MyNet}):
        with pytest.raises(UnsavableError, match=r"rl_framework.register_network\('mynet', MyNet\)"):
            describe_network(specification)


@pytest.mark.parametrize(
    "data",
    [
        "mlp",
        {"hidden_sizes": [4]},
        {"type": {"$class": "policy/x"}},
        {"type": "nobody"},
        {"type": "gru", "encoder": "x"},
    ],
    ids=["text", "no_type", "class_as_type", "unknown", "inner"],
)
def test_hostile_data_is_refused(data: Any) -> None:
    with pytest.raises(BundleError):
        network_from_data(data)


@pytest.mark.parametrize(
    ("specification", "error", "message"),
    [
        ("mpl", UnknownNameError, r"networks\['policy'\]='mpl'.*Did you mean 'mlp'"),
        ({"type": "mlp", "hiden_sizes": [3]}, UnknownNameError, "Did you mean 'hidden_sizes'"),
        ({"type": "mlp", "activation": "thanh"}, UnknownNameError, "Did you mean.*'tanh'"),
        ({"type": "mlp", "input_space": BOX}, UnknownNameError, "input_space"),
        ({"type": "mlp", "hidden_sizes": 64}, ArgumentError, r"hidden_sizes=64.*\[64, 64\]"),
        ({"type": "mlp", "hidden_sizes": [64, 0]}, ArgumentError, "above 0"),
        ({"type": "mlp", "hidden_sizes": [64, 2.5]}, ArgumentError, "whole numbers"),
        ({"type": "gru", "hidden_size": -1}, ArgumentError, "hidden_size=-1"),
        ({"type": "gru", "sequence_length": 0}, ArgumentError, "sequence_length=0"),
        ({"type": "gru", "encoder": "gru"}, ArgumentError, "recurrent itself"),
        ({"type": "gru", "encoder": "mlp", "encoder_sizes": [3]}, ArgumentError, "Pass one of the two"),
        ({"hidden_sizes": [64]}, ArgumentError, 'needs a "type"'),
        ({}, ArgumentError, 'needs a "type"'),
        (nn.Linear(5, 3), ArgumentError, "not an object"),
        (int, ArgumentError, "is no network"),
        ("nature_cnn", ArgumentError, '"mlp" for vectors'),
        ("impala_cnn", ArgumentError, '"mlp" for vectors'),
        (nn.Identity, ArgumentError, "features_dim"),
    ],
    ids=[
        "name",
        "parameter",
        "activation",
        "space",
        "no_list",
        "zero",
        "fraction",
        "negative",
        "no_sequence",
        "inner_gru",
        "two_encoders",
        "no_type",
        "empty",
        "object",
        "no_module",
        "vector_nature",
        "vector_impala",
        "no_features_dim",
    ],
)
def test_mistakes_are_explained(specification: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_trunk("policy", specification, BOX)


class Layer(nn.Module):
    """A user's network, which may be wrong."""

    def __init__(self, space: spaces.Box, inputs: int = 5, says: int = 3, memory: int = 0) -> None:
        super().__init__()
        self.layer, self.noise = nn.Linear(inputs, 3), nn.BatchNorm1d(3)
        self.features_dim, self.state_size = says, memory

    def forward(self, values: torch.Tensor, *state: torch.Tensor) -> Any:
        values = self.noise(self.layer(values))
        return (values, values) if state else values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"says": 4}, r"Layer gives \(2, 3\) for 2 rows, not features of shape \(2, 4\)"),
        ({"inputs": 6}, r"Layer fails with inputs of shape \(2, 5\): RuntimeError"),
        ({"memory": 4}, r"gives \(2, 3\) and \(2, 3\) for 2 rows, not .* and a state of shape \(2, 4\)"),
    ],
    ids=["features", "inputs", "state"],
)
def test_a_network_that_is_not_what_it_says_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build_trunk("policy", {"type": Layer, **arguments}, BOX)


def test_looking_at_a_network_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    torch.manual_seed(1)
    network = build_trunk("policy", {"type": Layer, "memory": 3}, BOX).network
    drawn = torch.rand(3)
    torch.manual_seed(1)
    Layer(BOX)
    assert torch.equal(torch.rand(3), drawn)
    assert network.training
    assert int(network.noise.num_batches_tracked) == 0  # type: ignore[union-attr, arg-type]
    torch.set_rng_state(before)


def test_images_that_are_too_small_are_explained() -> None:
    with pytest.raises(ArgumentError, match=r'at least 36 by 36.*"impala_cnn"'):
        build_trunk("policy", "nature_cnn", spaces.Box(0, 255, (7, 7, 3), np.uint8))
