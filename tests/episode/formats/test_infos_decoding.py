"""Infos as jsonpickle writes them are decoded where they are plain, and never run."""

import json

import jsonpickle
import numpy as np
import pytest

from rl_framework.episode.formats.imitation.infos import LazyInfos, decode_info


class Thing:
    def __init__(self):
        self.array = np.zeros(3)


def encoded(value):
    return json.dumps(jsonpickle.Pickler().flatten(value))


PLAIN = {
    "json": {"a": None, "b": [1, 2.5, "x", True], "c": {"d": {}}, "nan": float("nan")},
    "array": {"a": np.arange(6.0).reshape(2, 3), "bool": np.array([True, False]), "empty": np.zeros((0, 2))},
    "scalar": {"a": np.float32(0.1), "b": np.int64(-3), "c": np.bool_(True), "d": np.float64(1e300)},
    "order": {"fortran": np.asfortranarray(np.arange(6).reshape(2, 3)), "zero": np.array(3.0)},
    "tuple": {"a": (1, (2, np.ones(2))), "b": [(np.zeros(1),)]},
    "again": (lambda array: {"a": array, "l": [1, [2]], "b": array, "c": np.ones(3), "d": [np.float64(2)]})(np.ones(2)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_come_back_as_they_were(name):
    decoded = decode_info(encoded(PLAIN[name]))
    np.testing.assert_equal(decoded, PLAIN[name])
    for key, value in PLAIN[name].items():
        if isinstance(value, np.ndarray | np.generic):
            assert (type(decoded[key]), decoded[key].dtype) == (type(value), value.dtype)


def test_foreign_byte_order():
    array = np.arange(3, dtype=">i4")
    np.testing.assert_array_equal(decode_info(encoded({"a": array}))["a"], array)


def test_what_numpy_1_wrote_is_read():
    text = encoded({"a": np.arange(3.0), "b": np.float32(2)}).replace("numpy._core", "numpy.core")
    np.testing.assert_equal(decode_info(text), {"a": np.arange(3.0), "b": np.float32(2)})


@pytest.mark.parametrize(
    "value",
    [Thing(), {1, 2}, Thing, np.array(["text"]), np.array([{}], object), np.dtype("f4"), [Thing()], np.array([1j])],
    ids=["object", "set", "class", "texts", "objects", "dtype", "nested", "complex"],
)
def test_the_rest_stays_text_and_spoils_nothing(value):
    decoded = decode_info(encoded({"before": np.ones(2), "it": value, "after": 3}))
    assert isinstance(decoded["it"], str)
    assert "py/" in decoded["it"]
    assert decoded["after"] == 3
    np.testing.assert_array_equal(decoded["before"], np.ones(2))


def test_no_reference_is_followed_after_something_unknown():
    # How many objects lie inside it cannot be told, and one number off is another type of the same size.
    decoded = decode_info(encoded({"a": np.ones(2), "it": Thing(), "b": np.arange(2), "c": np.arange(3)}))
    np.testing.assert_array_equal(decoded["a"], np.ones(2))
    np.testing.assert_array_equal(decoded["b"], np.arange(2))
    assert isinstance(decoded["c"], str)  # its type is written as a reference to that of b
    assert decode_info(encoded({"b": np.arange(2), "c": np.arange(3)}))["c"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "",
        "[1, 2]",
        "3",
        '{"py/object": "subprocess.Popen"}',
        '{"py/reduce": [{"py/function": "os.mkdir"}, {"py/tuple": ["canary"]}]}',
        "[" * 100_000,
        '{"a": ' * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        b"\xff\xfe\x00{",
        b'{"a": "\xc3"}',
    ],
    ids=["words", "empty", "list", "number", "object", "call", "deep", "deep-dict", "long", "bytes", "broken-utf8"],
)
def test_what_is_no_info_stays_text(text):
    decoded = decode_info(text)
    assert list(decoded) == ["undecoded"]
    assert isinstance(decoded["undecoded"], str)


def array_text(shape, data, dtype="f8", function="numpy._core.multiarray._reconstruct"):
    kind = {"py/reduce": [{"py/type": "numpy.dtype"}, {"py/tuple": [dtype, False, True]},
                          {"py/tuple": [3, "<", None, None, None, -1, -1, 0]}]}  # fmt: skip
    state = {"py/tuple": [1, {"py/tuple": shape}, kind, False, {"py/b64": data}]}
    return json.dumps({"a": {"py/reduce": [{"py/function": function}, {"py/tuple": []}, state]}})


def test_the_forgery_would_be_an_array():
    assert decode_info(array_text([1], "AAAAAAAA8D8="))["a"].tolist() == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        array_text([2], "AAAAAAAA8D8="),
        array_text([10**12], "AAAAAAAA8D8="),
        array_text([-1], "AAAAAAAA8D8="),
        array_text([0, 10**30], ""),
        array_text([1] * 40, "AAAAAAAA8D8="),
        array_text(["1"], "AAAAAAAA8D8="),
        array_text([1], "!"),
        array_text([1], "AAAAAAAA8D8=", dtype="O"),
        array_text([1], "AAAAAAAA8D8=", dtype="O8"),
        array_text([1], "AAAAAAAA8D8=", function="os.system"),
        array_text([1], "AAAAAAAA8D8=", function="numpy.core.multiarray._reconstructs"),
        '{"a": {"py/id": 0}}',
        '{"a": {"py/id": 7}}',
        '{"a": {"py/id": -1}}',
        '{"a": {"py/id": true}}',
        '{"a": {"py/reduce": []}}',
        '{"a": {"py/reduce": {}}}',
        '{"a": {"py/tuple": 3}}',
        '{"a": {"py/repr": "os/os.mkdir(\'canary\')"}}',
        '{"a": {"py/tuple": [], "py/reduce": []}}',
    ],
)
def test_malformed_values_stay_text(text):
    decoded = decode_info(text)
    assert list(decoded) == ["a"]
    assert isinstance(decoded["a"], str)


def test_lazy_infos_decode_what_is_asked_for():
    asked = []

    def text(index):
        asked.append(index)
        return b'{"i": %d}' % index

    infos = LazyInfos(4, text)
    assert len(infos) == 4
    assert infos[-1] == {"i": 3}
    assert asked == [3]
    assert infos[1:3] == [{"i": 1}, {"i": 2}]
    assert [info["i"] for info in infos] == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        infos[4]
