"""Infos come back as they were, and lines of a stranger run nothing."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.episode.storage.infos import decode_info, encode_info
from rl_framework.errors import EpisodeDataError


def round_trip(info):
    unknown = []
    line = encode_info(info, unknown)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert unknown == []
    return decode_info(line)


def test_numpy_values_come_back_with_their_types():
    info = {
        "terminal_observation": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.float64(0.1),
        "flag": np.bool_(True),
        "big_endian": np.array([1, 2], ">i4"),
        "empty": np.zeros((0, 2), np.uint8),
        "no_axis": np.array(3.0),
        "nan": math.nan,
        "tuple": (1, [2, (3,)]),
        "keys": {1: "a", (1, 2): "b"},
        "$tag": {"$array": "no"},
        "text": "line\nfeed ü",
    }
    again = round_trip(info)
    assert list(again) == list(info)
    for key in ("terminal_observation", "empty", "no_axis"):
        assert again[key].dtype == info[key].dtype
        assert again[key].shape == info[key].shape
        assert np.array_equal(again[key], info[key])
    assert again["big_endian"].tolist() == [1, 2]
    assert type(again["scalar"]) is np.float64
    assert again["flag"] is np.True_ or again["flag"] == np.True_
    assert math.isnan(again["nan"])
    for key in ("tuple", "keys", "$tag", "text", "scalar"):
        assert again[key] == info[key]
    again["terminal_observation"][0] = 7  # belongs to whoever reads it


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["$array", "$x"]), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_plain_values_come_back(info):
    assert round_trip(info) == info


def test_what_cannot_be_stored_becomes_text():
    unknown = []
    line = encode_info({"object": object, "names": np.array(["a"]), "deep": nested(50), "large": 1 << 40_000}, unknown)
    assert len(unknown) == 4
    info = decode_info(line)
    assert info["object"] == "<class 'object'>"
    assert "'a'" in info["names"]


def nested(depth):
    return [nested(depth - 1)] if depth else 0


def array(**changes):
    return {"$array": {"dtype": "<f4", "base64": "AAAAAA==", "shape": [1], **changes}}


HOSTILE = {
    "no_json": b"{",
    "list": b"[]",
    "latin": b'{"a": "\xff"}',
    "py_object": b'{"$object": "os.system"}',
    "two_tags": b'{"a": {"$float": "nan", "b": 1}}',
    "float": b'{"a": {"$float": "1"}}',
    "constant": b'{"a": NaN}',
    "text": b'{"a": {"$text": 3}}',
    "unhashable": b'{"a": {"$dict": [[[], 1]]}}',
    "long_number": b'{"a": ' + b"9" * 5_000 + b"}",
    "deep": b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}",
    "very_deep": b"[" * 200_000,
    "object_array": json.dumps({"a": array(dtype="|O")}).encode(),
    "string_array": json.dumps({"a": array(dtype="<U1")}).encode(),
    "huge_array": json.dumps({"a": array(shape=[1 << 40])}).encode(),
    "negative_array": json.dumps({"a": array(shape=[-1])}).encode(),
    "no_base64": json.dumps({"a": array(base64="!")}).encode(),
    "tuple_top": b'{"$tuple": []}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_lines_are_refused(name):
    with pytest.raises(EpisodeDataError):
        decode_info(HOSTILE[name])
