"""Reward networks as data: every kind is built, described and found again; nothing else gets in."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from imitation.rewards import reward_nets
from imitation.util import networks

from rl_framework import registry
from rl_framework.agent.imitation.reward_networks import (
    build_reward_network,
    reward_network_data,
)
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError, UnsavableError

VECTOR, ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(2)
LAST, FIRST = spaces.Box(0, 255, (8, 9, 3), np.uint8), spaces.Box(0, 255, (3, 8, 9), np.uint8)
BASIC = {"type": "basic", "hid_sizes": [4]}
KINDS = {
    "basic": (BASIC | {"use_next_state": True, "use_done": True, "activation": "tanh", "dropout_prob": 0.1},
              reward_nets.BasicRewardNet, VECTOR),
    "basic, normalised input": (BASIC | {"normalize_input_layer": "running_norm"}, reward_nets.BasicRewardNet, VECTOR),
    "basic, normalised output": (BASIC | {"normalize_output_layer": "ema_norm"}, reward_nets.NormalizedRewardNet,
                                 VECTOR),
    "basic_shaped": ({"type": "basic_shaped", "reward_hid_sizes": [4], "potential_hid_sizes": (4,)},
                     reward_nets.BasicShapedRewardNet, VECTOR),
    "cnn, channels last": ({"type": "cnn", "hid_channels": [4]}, reward_nets.CnnRewardNet, LAST),
    "cnn, channels first": ({"type": "cnn", "hid_channels": [4], "use_done": True}, reward_nets.CnnRewardNet, FIRST),
    "shaped": ({"type": "shaped", "base": BASIC, "potential": {"type": "mlp", "hid_sizes": [4], "activation": "elu"},
                "discount_factor": 0.9}, reward_nets.ShapedRewardNet, VECTOR),
    "shaped cnn": ({"type": "shaped", "base": {"type": "cnn", "hid_channels": [4]}, "potential": "cnn",
                    "discount_factor": 0.9}, reward_nets.ShapedRewardNet, FIRST),
    "ensemble of members": ({"type": "ensemble", "members": [BASIC, {"type": "basic", "hid_sizes": [2]}]},
                            reward_nets.RewardEnsemble, VECTOR),
    "add_std": ({"type": "add_std", "default_alpha": 0.5, "base": {"type": "ensemble", "member": BASIC,
                 "n_members": 3}}, reward_nets.AddSTDRewardWrapper, VECTOR),
    "normalized": ({"type": "normalized", "base": BASIC, "normalize_output_layer": "running_norm"},
                   reward_nets.NormalizedRewardNet, VECTOR),
}  # fmt: skip


class OwnRewardNet(reward_nets.RewardNet):
    def __init__(self, observation_space, action_space, scale=1.0):
        super().__init__(observation_space, action_space)
        self.weight = torch.nn.Parameter(torch.full((1,), scale))

    def forward(self, state, action, next_state, done):
        return self.weight * state.flatten(1).sum(1)


if "test_reward_networks_own" not in registry.reward_networks:
    registry.register_reward_network("test_reward_networks_own", OwnRewardNet)


def inputs(space, count=5):
    space, actions = gymnasium.vector.utils.batch_space(space, count), gymnasium.vector.utils.batch_space(
        ACTIONS, count
    )  # fmt: skip
    for one in (space, actions):
        one.seed(1)
    return space.sample(), actions.sample(), space.sample(), np.zeros(count, dtype=np.bool_)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_built_again_alike_from_its_data_and_its_tensors(kind):
    given, expected, space = KINDS[kind]
    data = reward_network_data(given)
    assert reward_network_data(data) == data
    network = build_reward_network(data, space, ACTIONS)
    assert type(network) is expected
    again = build_reward_network(data, space, ACTIONS)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    check_tensors(tensors, again.state_dict(), "reward_net.safetensors")
    again.load_state_dict(tensors)
    arguments = inputs(space)
    rewards = [each.predict_processed(*arguments, update_stats=False) for each in (network, again)]
    assert rewards[0].shape == (5,)
    np.testing.assert_array_equal(rewards[0], rewards[1])


def test_arguments_arrive():
    network = build_reward_network(reward_network_data(KINDS["basic"][0]), VECTOR, ACTIONS)
    layers = list(network.mlp)
    assert layers[0].in_features == 3 + 2 + 3 + 1
    assert isinstance(layers[1], torch.nn.Tanh)
    assert isinstance(layers[2], torch.nn.Dropout)
    shaped = build_reward_network(reward_network_data(KINDS["shaped"][0]), VECTOR, ACTIONS)
    assert shaped.discount_factor == 0.9
    ensemble = build_reward_network(reward_network_data(KINDS["add_std"][0]), VECTOR, ACTIONS)
    assert ensemble.base.num_members == 3
    assert ensemble.default_alpha == 0.5


def test_classes_become_names():
    given = {
        "type": reward_nets.BasicRewardNet,
        "activation": torch.nn.ELU,
        "normalize_input_layer": networks.RunningNorm,
        "normalize_output_layer": None,
    }
    assert reward_network_data(given) == {
        "type": "basic",
        "activation": "elu",
        "normalize_input_layer": "running_norm",
        "normalize_output_layer": None,
    }
    assert reward_network_data("basic") == {"type": "basic"}
    assert reward_network_data(OwnRewardNet) == {"type": "test_reward_networks_own"}


def test_a_class_of_ones_own_is_used_by_its_name():
    data = reward_network_data({"type": "test_reward_networks_own", "scale": 2.0})
    network = build_reward_network(data, VECTOR, ACTIONS)
    arguments = inputs(VECTOR)
    np.testing.assert_allclose(network.predict(*arguments), 2 * arguments[0].sum(1), rtol=1e-5)
    with pytest.raises(UnknownNameError, match="scale"):
        reward_network_data({"type": "test_reward_networks_own", "scales": 2.0})


def test_what_could_not_be_saved_is_refused():
    with pytest.raises(UnsavableError, match="register_reward_network"):
        reward_network_data(reward_nets.BasicRewardNet(VECTOR, ACTIONS))

    class Nameless(OwnRewardNet):
        pass

    with pytest.raises(UnsavableError, match=r"register_reward_network\('nameless', Nameless\)"):
        reward_network_data({"type": Nameless})


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"type": "bsaic"}, "'basic'"),
        ({"type": "basic", "hid_size": [3]}, "'hid_sizes'"),
        ({"type": "basic", "in_size": 3}, "in_size"),
        ({"type": "basic", "activation": "tan"}, "'tanh'"),
        ({"type": "basic", "normalize_input_layer": "norm"}, "running_norm"),
        ({"type": "shaped", "base": {"type": "basic", "hid": 1}, "potential": "mlp"}, "base"),
        ({"type": "shaped", "base": BASIC, "potential": "mpl"}, "mlp"),
        ({"type": "ensemble"}, "n_members"),
        ({"hid_sizes": [3]}, "is no reward network"),
        (3, "is no reward network"),
    ],
    ids=["type", "argument", "chosen by the framework", "activation", "normaliser", "base", "potential", "no members",
         "no type", "a number"],
)  # fmt: skip
def test_mistakes_are_named(given, match):
    with pytest.raises(ArgumentError, match=match):
        reward_network_data(given)


def test_networks_inside_of_one_another_have_an_end():
    data = BASIC
    for _ in range(20):
        data = {"type": "normalized", "base": data, "normalize_output_layer": "running_norm"}
    with pytest.raises(ArgumentError, match="deep"):
        reward_network_data(data)


@pytest.mark.parametrize(
    "data",
    [{"type": "cnn"}, {"type": "basic", "hid_sizes": ["a"]}, {"type": "basic", "hid_sizes": 3},
     {"type": "ensemble", "member": BASIC, "n_members": 1}, {"type": "shaped", "base": BASIC, "potential": "mlp"}],
    ids=["no image", "a word", "no list", "one member", "no discount"],
)  # fmt: skip
def test_what_cannot_be_built_says_so(data):
    with pytest.raises(ArgumentError, match="cannot be built"):
        build_reward_network(reward_network_data(data), VECTOR, ACTIONS)


def test_tensors_that_do_not_fit_are_refused():
    network = build_reward_network(reward_network_data(BASIC), VECTOR, ACTIONS)
    tensors = dict(network.state_dict())
    name = next(iter(tensors))
    for changed in (
        {key: value for key, value in tensors.items() if key != name},
        tensors | {"more": torch.zeros(1)},
        tensors | {name: tensors[name][:1]},
        tensors | {name: tensors[name].double()},
    ):
        with pytest.raises(BundleError, match=r"reward_net\.safetensors"):
            check_tensors(changed, network.state_dict(), "reward_net.safetensors")
