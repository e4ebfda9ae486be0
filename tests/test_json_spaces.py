"""Spaces come back equal, with their types, bounds and order, and a crafted one allocates nothing."""

import json
import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework import json_spaces
from rl_framework.errors import BundleError, UnsavableError
from rl_framework.json_spaces import decode_space, encode_space

INTEGERS = np.array([[2, 3], [4, 5]])
SPACES = [
    spaces.Box(-1.0, 1.0, (3,)),
    spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    spaces.Box(np.array([-1, -np.inf, 0.1], np.float32), np.array([np.inf, 2, 0.3], np.float32)),
    spaces.Box(0, 255, (84, 84, 4), np.uint8),
    spaces.Box(-(2**63), 2**63 - 2, (2,), np.int64),
    spaces.Box(-np.inf, 5, (2,), np.int32),
    spaces.Box(np.array([-np.inf, 3.0]), np.array([7.0, np.inf]), dtype=np.int16),
    spaces.Box(0, 1, (2,), np.bool_),
    spaces.Box(-1, 1, (), np.float16),
    spaces.Box(0, 1, (0, 3)),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.Discrete(4, dtype=np.uint8),
    spaces.MultiDiscrete([2, 3, 4]),
    spaces.MultiDiscrete(INTEGERS, dtype=np.int32, start=INTEGERS - 4),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.MultiBinary(np.array([2, 3])),
    spaces.Text(5),
    spaces.Text(7, min_length=0, charset="zaé"),
    spaces.Tuple([]),
    spaces.Tuple((spaces.Discrete(2), spaces.Tuple((spaces.Box(0, 1, (1,)),)))),
    spaces.Dict({}),
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Dict({"seed": spaces.MultiBinary(2)})}),
]


def round_trip(space):
    return decode_space(json.loads(json.dumps(encode_space(space), allow_nan=False)))


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_spaces_come_back_and_sample_the_same(space):
    loaded = round_trip(space)
    assert type(loaded) is type(space)
    assert loaded == space
    assert loaded.dtype == space.dtype
    assert loaded.shape == space.shape
    space.seed(3)
    loaded.seed(3)
    for _ in range(5):
        assert repr(loaded.sample()) == repr(space.sample())


@pytest.mark.parametrize("space", [space for space in SPACES if isinstance(space, spaces.Box)], ids=repr)
def test_bounds_are_exact(space):
    # Boxes compare with a tolerance.
    loaded = round_trip(space)
    for name in ("low", "high", "bounded_below", "bounded_above"):
        assert getattr(loaded, name).dtype == getattr(space, name).dtype
        assert getattr(loaded, name).tobytes() == getattr(space, name).tobytes()


def test_the_order_of_keys_and_characters_is_kept():
    space = spaces.Dict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))])
    assert list(spaces.Dict({"z": space["z"], "a": space["a"]})) == ["a", "z"]
    ordered = spaces.Dict()
    ordered.spaces.update(z=space["z"], a=space["a"])
    assert list(round_trip(ordered)) == ["z", "a"]
    assert round_trip(spaces.Text(3, charset="zab")).character_list == ("z", "a", "b")


def test_uniform_bounds_are_numbers():
    text = json.dumps(encode_space(spaces.Box(0, 255, (210, 160, 3), np.uint8)))
    assert len(text) < 200


def test_other_spaces_are_unsavable_and_the_supported_are_named():
    inner = spaces.Dict({"x": spaces.Tuple((spaces.Sequence(spaces.Discrete(2)),))})
    with pytest.raises(UnsavableError, match=r"observation_space\['x'\]\[0\].*Sequence.*MultiBinary"):
        encode_space(inner, "observation_space")
    with pytest.raises(UnsavableError, match="Graph"):
        encode_space(spaces.Graph(spaces.Discrete(2), None))


def test_what_could_not_be_read_back_is_not_written():
    with pytest.raises(UnsavableError, match="elements"):
        encode_space(spaces.MultiBinary([10**5, 10**5]))
    with pytest.raises(UnsavableError, match="no string"):
        encode_space(spaces.Dict({1: spaces.Discrete(2)}))
    deep = spaces.Discrete(2)
    for _ in range(50):
        deep = spaces.Tuple((deep,))
    with pytest.raises(UnsavableError, match="deep"):
        encode_space(deep)
    nan = spaces.Box(0, 1, (2,))
    nan.low[0] = np.nan
    with pytest.raises(UnsavableError, match="NaN"):
        encode_space(nan)


def numbers(values, shape=(1,), dtype="<f4"):
    return {"dtype": dtype, "shape": list(shape), "values": values}


def box(low=None, high=None, **more):
    return {
        "type": "box",
        "low": numbers([0.0]) if low is None else low,
        "high": numbers([1.0]) if high is None else high,
    } | more


def deep(levels):
    data = {"type": "discrete", "n": 2, "start": 0, "dtype": "<i8"}
    for _ in range(levels):
        data = {"type": "tuple", "spaces": [data]}
    return data


HUGE = numbers(0.0, [10**12])
HOSTILE = [
    None, [], "box", {}, {"type": "os:system"}, {"type": ["box"]}, {"type": "box"}, box(extra=1), box(HUGE, HUGE),
    box(numbers(0.0, [1 << 20] * 32), numbers(0.0, [1 << 20] * 32)),
    box(numbers([], [0, 10**12]), numbers([], [0, 10**12])),
    box(numbers([0.0], [-1])), box(numbers([0.0], dtype="|O")), box(numbers([0.0], dtype="object")),
    box(numbers([2.0])),
    box(numbers([{"$float": "nan"}])), box(numbers(["0"])), box(numbers([0.0], dtype="<f8")),
    box(numbers([0.0, 0.0], [2])),
    box(numbers([0.0]), HUGE), box(bounded_below=numbers([True], dtype="|b1")), box(low=1, high=2),
    box(low={}, high={}),
    {"type": "discrete", "n": 0, "start": 0, "dtype": "<i8"}, {"type": "discrete", "n": -1, "start": 0, "dtype": "<i8"},
    {"type": "discrete", "n": 2.0, "start": 0, "dtype": "<i8"},
    {"type": "discrete", "n": True, "start": 0, "dtype": "<i8"},
    {"type": "discrete", "n": 300, "start": 0, "dtype": "|i1"},
    {"type": "discrete", "n": 3, "start": 0, "dtype": "<f8"},
    {"type": "discrete", "n": 3, "start": 0, "dtype": "object"},
    {"type": "discrete", "n": 10**30, "start": 0, "dtype": "<i8"},
    {"type": "multi_discrete", "nvec": numbers([2.0]), "start": numbers([0.0])},
    {"type": "multi_discrete", "nvec": numbers([0], dtype="<i8"), "start": numbers([0], dtype="<i8")},
    {"type": "multi_discrete", "nvec": numbers(2, [10**12], "<i8"), "start": numbers(0, [10**12], "<i8")},
    {"type": "multi_discrete", "nvec": numbers(2, [2], "<i8"), "start": numbers(0, [3], "<i8")},
    {"type": "multi_binary", "n": 0}, {"type": "multi_binary", "n": -1}, {"type": "multi_binary", "n": 10**12},
    {"type": "multi_binary", "n": [10**6, 10**6]}, {"type": "multi_binary", "n": "4"},
    {"type": "multi_binary", "n": True},
    {"type": "dict", "spaces": {}}, {"type": "dict", "spaces": [["a"]]}, {"type": "dict", "spaces": [[1, deep(0)]]},
    {"type": "dict", "spaces": [["a", deep(0)], ["a", deep(0)]]}, {"type": "tuple", "spaces": None}, deep(50),
    {"type": "tuple", "spaces": [deep(0)] * 20_000},
    {"type": "text", "min_length": 5, "max_length": 1, "characters": "a"},
    {"type": "text", "min_length": -1, "max_length": 1, "characters": "a"},
    {"type": "text", "min_length": 0, "max_length": 10**12, "characters": "a"},
    {"type": "text", "min_length": 0, "max_length": 1, "characters": "aa"},
    {"type": "text", "min_length": 0, "max_length": 1, "characters": ["a"]},
]  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data)[:70])
def test_malformed_data_is_a_bundle_error_and_allocates_little(data):
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            decode_space(data)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_the_parts_of_a_space_are_bounded_together(monkeypatch):
    part = spaces.Box(0, 1, (30,))
    data = encode_space(spaces.Tuple([part] * 3))
    monkeypatch.setattr(json_spaces, "MAXIMUM_ELEMENTS", 90)
    assert len(decode_space(data)) == 3
    monkeypatch.setattr(json_spaces, "MAXIMUM_ELEMENTS", 89)
    with pytest.raises(BundleError, match="elements"):
        decode_space(data)
    with pytest.raises(UnsavableError, match="elements"):
        encode_space(spaces.Tuple([part] * 3))


def test_data_nested_beyond_reason_is_a_bundle_error():
    with pytest.raises(BundleError, match="deep"):
        decode_space(deep(5_000))


leaves = st.one_of(
    st.builds(
        lambda low, width, shape, dtype: spaces.Box(low, low + width, tuple(shape), dtype),
        st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from([np.float32, np.float64, np.uint8, np.int64]),
    ),
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-9, 9)),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(spaces.MultiDiscrete),
    st.integers(1, 9).map(spaces.MultiBinary),
    st.text(min_size=1, max_size=4).map(lambda text: spaces.Text(4, charset=frozenset(text))),
)  # fmt: skip
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(spaces.Dict)
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(nested)
def test_any_space_comes_back(space):
    assert round_trip(space) == space
