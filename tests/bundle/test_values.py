"""Parameters come back exactly, what cannot be saved says how it can, and a crafted value makes no object."""

import functools
import json
import math
import re
import subprocess
import sys
from collections import OrderedDict, namedtuple
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.her import HerReplayBuffer

from rl_framework import registry
from rl_framework.bundle import decode_value, encode_value, register_value_type, values
from rl_framework.errors import ArgumentError, BundleError, UnsavableError


def _label(value):
    """Names a test without the memory addresses of its values, which differ between test processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def through_json(value):
    return json.loads(json.dumps(encode_value(value, "parameters"), allow_nan=False))


def round_trip(value):
    return decode_value(through_json(value))


def same(left, right):
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray | np.generic):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, float):
        return np.float64(left).tobytes() == np.float64(right).tobytes() or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=False)
        return len(left) == len(right) and all(same(a, b) and same(c, d) for (a, c), (b, d) in pairs)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -(2**70), 10**3000, 0.1, 1e-310, -0.0, math.nan, math.inf, -math.inf, "", "é\n\ud800",
        "$class",
        [], (), {}, [1, (2.0, "x", [None])], {"a": {"b": (1,)}},
        {"b": 1, "a": 2}, {1: "one", None: 2, (1, 2): 3, "x": 4}, {True: 1},
        {"$class": "activation/tanh"}, {"$float": "inf"}, {"a": 1, "$b": 2}, {"$dict": [["a", 1]]},
        np.float32(0.1), np.float64(0.1), np.float16(math.inf), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True),
        np.array(1.5), np.zeros((0, 3), np.int16), np.arange(6).reshape(2, 3), np.array([True, False]),
        np.array([[math.nan, math.inf], [-0.0, 0.0]]), np.full((3, 2), 0.1, np.float32), np.array([0.0, -0.0]),
        np.arange(3, dtype=">i4"), np.arange(10)[::-2], np.broadcast_to(np.float32(1), (2, 2)),
        np.dtype("float32"), np.dtype(">i2"), np.float32, np.bool_, torch.float32, torch.bfloat16, torch.bool,
        torch.device("cpu"), torch.device("cuda:1"), Path("a/b"),
    ],
    ids=lambda value: _label(value)[:40],
)  # fmt: skip
def test_values_come_back_exactly(value):
    assert same(round_trip(value), value)


def test_plain_parameters_are_plain_json():
    value = {"gamma": 0.99, "learning_rate": {"end": 0, "start": 3e-4, "type": "linear"}, "n_steps": 128}
    assert encode_value(value, "parameters") == value


def test_an_ordered_dict_comes_back_as_a_dict_in_its_order():
    assert list(round_trip(OrderedDict(b=1, a=2)).items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (torch.nn.Tanh, "activation/tanh"), (torch.nn.LeakyReLU, "activation/leaky_relu"),
        (torch.nn.ReLU, "activation/relu"),
        (torch.optim.Adam, "optimizer/adam"), (torch.optim.AdamW, "optimizer/adamw"),
        (RMSpropTFLike, "optimizer/rmsprop_tf_like"), (NatureCNN, "features_extractor/nature_cnn"),
        (FlattenExtractor, "features_extractor/flatten"), (CombinedExtractor, "features_extractor/combined"),
        (HerReplayBuffer, "replay_buffer/her"), (NStepReplayBuffer, "replay_buffer/n_step"),
        (ReplayBuffer, "replay_buffer/replay_buffer"),
    ],
)  # fmt: skip
def test_classes_are_saved_by_name(value, name):
    assert through_json({"cls": value}) == {"cls": {"$class": name}}
    assert round_trip(value) is value


@pytest.mark.parametrize("names", ["activations", "optimizers", "features_extractors", "replay_buffers"])
def test_every_name_leads_to_a_class(names):
    entries = getattr(registry, names)
    assert len(entries) > 2
    for name in entries:
        assert isinstance(entries.get(name), type)


def test_naming_them_imports_neither_library():
    code = "import sys, rl_framework.bundle.allowed; assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Swish(torch.nn.Module):
    pass


class MyExtractor(BaseFeaturesExtractor):
    pass


class MyPolicy(ActorCriticPolicy):
    pass


class MyOptimizer(torch.optim.Adam):
    pass


class MyBuffer(ReplayBuffer):
    pass


class Other:
    pass


def decay(progress):
    return progress


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (Swish, "rl_framework.register_activation('swish', Swish)"),
        (MyExtractor, "rl_framework.register_features_extractor('my_extractor', MyExtractor)"),
        (MyPolicy, "rl_framework.register_policy('my_policy', MyPolicy)"),
        (MyOptimizer, "rl_framework.register_optimizer('my_optimizer', MyOptimizer)"),
        (MyBuffer, "rl_framework.register_replay_buffer('my_buffer', MyBuffer)"),
        (decay, "rl_framework.register_schedule('decay', decay)"),
        (lambda progress: progress, "{'type': 'linear', 'start': 3e-4, 'end': 0}"),
        (functools.partial(torch.nn.LeakyReLU, 0.2), "subclass of LeakyReLU"),
        (Swish(), "Give the class: Swish"),
        (Other, "register_policy"),
        (Other(), "Other"),
        (len, "schedule"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (np.array([object()]), "object"),
        (np.array(["text"]), "<U4"),
        (np.zeros(200_000), "too large"),
        (namedtuple("Point", "x")(1), "Point"),
    ],
    ids=lambda value: _label(value)[:40],
)  # fmt: skip
def test_what_has_no_name_says_where_it_is_and_what_to_do(value, remedy):
    with pytest.raises(UnsavableError) as caught:
        encode_value({"policy_kwargs": {"parts": [1, value]}}, "algorithm_parameters")
    assert caught.value.argument == "algorithm_parameters['policy_kwargs']['parts'][1]"
    assert remedy in str(caught.value)


def test_an_integer_that_python_could_not_read_back_is_unsavable():
    with pytest.raises(UnsavableError, match="too large"):
        encode_value(10**9000, "parameters")


def test_following_the_advice_makes_it_savable(monkeypatch):
    monkeypatch.setattr(registry.activations, "_entries", dict(registry.activations._entries))
    monkeypatch.setattr(registry.schedules, "_entries", dict(registry.schedules._entries))
    registry.register_activation("swish", Swish)
    registry.register_schedule("decay", decay)
    assert round_trip((Swish, decay)) == (Swish, decay)


def test_a_list_that_contains_itself_is_unsavable():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(UnsavableError, match="deep"):
        encode_value(cycle, "parameters")


def test_what_is_nested_as_deep_as_allowed_comes_back():
    value = 1
    for _ in range(values.MAXIMUM_DEPTH - 1):
        value = {2: value}
    data = through_json(value)
    assert same(decode_value(data), value)
    with pytest.raises(UnsavableError):
        encode_value([value], "parameters")
    with pytest.raises(BundleError):
        decode_value([data])


@pytest.fixture
def no_value_types(monkeypatch):
    monkeypatch.setattr(values, "_registered", {})


class Noise:
    def __init__(self, sigma):
        self.sigma = sigma


@pytest.mark.parametrize("cls", [Noise, f"{Noise.__module__}:Noise"])
def test_a_registered_type_is_saved_by_its_data(no_value_types, cls):
    register_value_type("action_noise", cls, lambda noise: noise.sigma, Noise)
    register_value_type("action_noise", cls, lambda noise: noise.sigma, Noise)
    data = through_json([Noise(np.array([0.1, 0.2]))])
    assert set(data[0]) == {"$action_noise"}
    assert np.array_equal(decode_value(data)[0].sigma, [0.1, 0.2])
    with pytest.raises(UnsavableError, match=r"parameters\[0\]"):
        encode_value([Noise(object())], "parameters")
    with pytest.raises(ArgumentError, match="taken"):
        register_value_type("action_noise", Other, vars, Other)


def test_a_registered_type_that_fails_on_its_data_is_a_bundle_error(no_value_types):
    register_value_type("noise", Noise, vars, lambda data: Noise(**data))
    with pytest.raises(BundleError, match="malformed"):
        decode_value({"$noise": {"sigma": 1, "other": 2}})
    for tag in ("class", "Noise", "$noise", ""):
        with pytest.raises(ArgumentError):
            register_value_type(tag, Other, vars, Other)


def deep(levels):
    data = 1
    for _ in range(levels):
        data = [data]
    return data


@pytest.mark.parametrize(
    "data",
    [
        {"$class": "os:system"}, {"$class": "os.system"}, {"$class": "activation/os:system"},
        {"$class": "activation/torch.nn:Tanh"}, {"$class": "activation/unheard_of"},
        {"$class": "agent/stable_baselines"},
        {"$class": "connector/x"}, {"$class": ""}, {"$class": "/"}, {"$class": 3}, {"$class": ["activation/tanh"]},
        {"$class": "activation/../tanh"}, {"$unknown": 1}, {"$": 1}, {"$class": "activation/tanh", "x": 1},
        {"$float": "1.5"}, {"$float": 1}, {"$float": []}, {"$tuple": 1}, {"$tuple": {"a": 1}}, {"$dict": [["a"]]},
        {"$dict": [["a", 1], ["a", 2]]}, {"$dict": [[[], 1]]}, {"$dict": {"a": 1}}, {"$dict": 1}, {"$path": 1},
        {"$path": "a\0b"}, {"$device": "cuda:0; x"}, {"$device": "nowhere"}, {"$device": 1}, {"$torch_dtype": "save"},
        {"$torch_dtype": "float99"}, {"$torch_dtype": "_dynamo"}, {"$torch_dtype": "half"}, {"$torch_dtype": 1},
        {"$dtype": "object"},
        {"$dtype": "|O"}, {"$dtype": "<U9999999"}, {"$dtype": [["a", "<f8"]]}, {"$scalar_type": "object_"},
        {"$scalar_type": []}, {"$scalar": {"dtype": "<f8", "value": "1"}}, {"$scalar": {"dtype": "|i1", "value": 300}},
        {"$scalar": {"dtype": "<i8", "value": 1.5}}, {"$scalar": {"dtype": "|b1", "value": 1}}, {"$scalar": 1},
        {"$scalar": {"dtype": "<f4", "value": 1e300}}, {"$array": {"dtype": "<f8", "shape": [10**12], "values": 0.0}},
        {"$array": {"dtype": "<f8", "shape": [0, 10**12], "values": []}}, {"$array": []},
        {"$array": {"dtype": "<f8", "shape": [-1], "values": []}},
        {"$array": {"dtype": "<f8", "shape": [2], "values": [1.0]}},
        {"$array": {"dtype": "|O", "shape": [1], "values": [{}]}},
        {"$array": {"dtype": "<f8", "shape": [1] * 40, "values": 1}},
        {"$array": {"dtype": "<f8", "shape": [1], "values": [[1.0]]}},
        {"$array": {"dtype": "<f8", "shape": [1], "values": None}},
        {"$array": {"dtype": "<f8", "shape": [True], "values": [1.0]}}, {1: 2}, deep(100), deep(900), (1,), object(),
    ],
    ids=lambda data: _label(data)[:60],
)  # fmt: skip
def test_malformed_data_is_a_bundle_error(data):
    with pytest.raises(BundleError):
        decode_value(data)


def test_an_unknown_class_suggests_the_nearest():
    with pytest.raises(BundleError, match=r"activation/leakyrelu.*leaky_relu"):
        decode_value({"$class": "activation/leakyrelu"})


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.text() | st.integers() | st.tuples(st.integers()) | st.sampled_from(["$class", "$dict", "$tuple"])
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(nested)
def test_any_nesting_comes_back(value):
    assert same(round_trip(value), value)


json_data = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*values._DECODERS, "dtype", "shape", "values", "value"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(json_data)
def test_any_json_decodes_or_is_a_bundle_error(data):
    with suppress(BundleError):
        decode_value(data)
