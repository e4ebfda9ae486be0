"""Observation and action spaces as JSON data.

Every space is an object with its `type` and the arguments that make it. Arrays (bounds, counts) are written as by
`encode_array`: a uniform one takes a single number, whatever its shape.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_framework.errors import BundleError, UnsavableError
from rl_framework.json_arrays import decode_array, encode_array

__all__ = ["decode_space", "encode_space"]

MAXIMUM_DEPTH = 16
# In a space and all that it contains. gymnasium allocates some 20 bytes for each element of a box, and a file of a few
# bytes can ask for this many.
MAXIMUM_ELEMENTS = 1 << 25
MAXIMUM_SPACES = 10_000

_SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple and Text"


class _Allowance:
    # Counts what a space would allocate before it does.
    def __init__(self) -> None:
        self.elements = MAXIMUM_ELEMENTS
        self.spaces = MAXIMUM_SPACES

    def take(self, elements: int) -> None:
        self.elements -= elements
        self.spaces -= 1
        if self.elements < 0 or self.spaces < 0:
            raise _TooLargeError(f"has more than {MAXIMUM_ELEMENTS} elements or {MAXIMUM_SPACES} parts")


class _TooLargeError(Exception):
    pass


# Encoding


def encode_space(space: spaces.Space[Any], argument: str = "space") -> dict[str, Any]:
    """Turns a space into JSON data from which `decode_space` makes an equal one.

    Args:
        space: The space.
        argument: What to call it in an error, such as `"observation_space"`.

    Raises:
        UnsavableError: It is, or contains, a space of another kind than those supported, or is too large.
    """
    try:
        return _encode(space, argument, MAXIMUM_DEPTH, _Allowance())
    except _TooLargeError as error:
        raise UnsavableError(argument, space, f"{error} and cannot be saved") from error


def _encode(space: Any, argument: str, depth: int, allowance: _Allowance) -> dict[str, Any]:
    if depth <= 0:
        raise UnsavableError(argument, space, f"is nested more than {MAXIMUM_DEPTH} deep and cannot be saved")
    if isinstance(space, spaces.Dict):
        allowance.take(0)
        for key in space.spaces:
            if type(key) is not str:
                raise UnsavableError(argument, space, f"the key {key!r} is no string and cannot be saved")
        parts = [
            [key, _encode(part, f"{argument}[{key!r}]", depth - 1, allowance)] for key, part in space.spaces.items()
        ]
        return {"type": "dict", "spaces": parts}
    if isinstance(space, spaces.Tuple):
        allowance.take(0)
        items = [_encode(part, f"{argument}[{i}]", depth - 1, allowance) for i, part in enumerate(space.spaces)]
        return {"type": "tuple", "spaces": items}
    if isinstance(space, spaces.Box):
        allowance.take(math.prod(max(size, 1) for size in space.shape))
        return _encode_box(space, argument)
    if isinstance(space, spaces.Discrete):
        allowance.take(1)
        return {"type": "discrete", "n": int(space.n), "start": int(space.start), "dtype": np.dtype(space.dtype).str}
    if isinstance(space, spaces.MultiDiscrete):
        allowance.take(2 * math.prod(max(size, 1) for size in space.shape))
        return {"type": "multi_discrete", "nvec": encode_array(space.nvec), "start": encode_array(space.start)}
    if isinstance(space, spaces.MultiBinary):
        allowance.take(math.prod(space.shape))
        n = int(space.n) if np.ndim(space.n) == 0 else [int(size) for size in space.shape]
        return {"type": "multi_binary", "n": n}
    if isinstance(space, spaces.Text):
        allowance.take(len(space.character_list))
        characters = "".join(space.character_list)
        if len(characters) != len(space.character_list):
            raise UnsavableError(argument, space, "its character set holds something other than single characters")
        lengths = {"min_length": space.min_length, "max_length": space.max_length}
        return {"type": "text", **lengths, "characters": characters}
    raise UnsavableError(
        argument, space, f"a space of type {type(space).__name__} cannot be saved", f"Supported are {_SUPPORTED}."
    )


def _encode_box(space: spaces.Box, argument: str) -> dict[str, Any]:
    if np.dtype(space.dtype).itemsize > 8 or np.isnan(space.low).any() or np.isnan(space.high).any():
        raise UnsavableError(argument, space, "a box of this type, or with a bound that is NaN, cannot be saved")
    data = {"type": "box", "low": encode_array(space.low), "high": encode_array(space.high)}
    # An integer box that was made with an infinite bound has the least or greatest integer as its bound, and knows
    # only by these masks that it has none. Sampling depends on it.
    if not np.array_equal(space.bounded_below, space.low > -np.inf):
        data["bounded_below"] = encode_array(space.bounded_below)
    if not np.array_equal(space.bounded_above, space.high < np.inf):
        data["bounded_above"] = encode_array(space.bounded_above)
    return data


# Decoding


def decode_space(data: Any) -> spaces.Space[Any]:
    """Makes the space that `encode_space` was given.

    Args:
        data: JSON data, possibly from somebody else's file.

    Raises:
        BundleError: The data is malformed, or asks for a space that is too large.
    """
    try:
        return _decode(data, MAXIMUM_DEPTH, _Allowance())
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"a saved space is malformed: {type(error).__name__}: {error}") from error


def _decode(data: Any, depth: int, allowance: _Allowance) -> spaces.Space[Any]:
    if depth <= 0:
        raise BundleError(f"a saved space is nested more than {MAXIMUM_DEPTH} deep")
    if not isinstance(data, dict):
        raise BundleError("a saved space is no JSON object")
    kind = data.get("type")
    if kind == "dict":
        allowance.take(0)
        return _decode_dict(_fields(data, "spaces")[0], depth, allowance)
    if kind == "tuple":
        allowance.take(0)
        return spaces.Tuple([_decode(part, depth - 1, allowance) for part in _list(_fields(data, "spaces")[0])])
    if kind == "box":
        return _decode_box(data, allowance)
    if kind == "discrete":
        allowance.take(1)
        n, start, dtype = _fields(data, "n", "start", "dtype")
        # An array of the numbers refuses other types and what they cannot hold.
        numbers = decode_array({"dtype": dtype, "shape": [2], "values": [n, start]}, 2)
        _require(numbers.dtype.kind in "iu" and n > 0, "a discrete space needs a positive integer")
        return spaces.Discrete(n, start=start, dtype=numbers.dtype)
    if kind == "multi_discrete":
        nvec, start = (_bounded_array(part, allowance) for part in _fields(data, "nvec", "start"))
        _require(nvec.dtype.kind in "iu" and nvec.dtype == start.dtype and nvec.shape == start.shape, "arrays differ")
        _require(bool((nvec > 0).all()), "a count is not positive")
        return spaces.MultiDiscrete(nvec, dtype=nvec.dtype, start=start)
    if kind == "multi_binary":
        (n,) = _fields(data, "n")
        sizes = n if isinstance(n, list) else [n]
        _require(len(sizes) <= 32 and all(type(size) is int and size > 0 for size in sizes), "sizes are not positive")
        allowance.take(math.prod(sizes))
        return spaces.MultiBinary(n)
    if kind == "text":
        return _decode_text(data, allowance)
    raise BundleError(f"a saved space has the type {str(kind)[:40]!r}; known are {_SUPPORTED}")


def _decode_dict(parts: Any, depth: int, allowance: _Allowance) -> spaces.Dict:
    decoded: OrderedDict[str, spaces.Space[Any]] = OrderedDict()
    for key, part in _list(parts):
        _require(isinstance(key, str) and key not in decoded, "a key is no string or occurs twice")
        decoded[key] = _decode(part, depth - 1, allowance)
    # gymnasium sorts the keys of any other dict.
    return spaces.Dict(decoded)


def _decode_box(data: dict[str, Any], allowance: _Allowance) -> spaces.Box:
    masks = [name for name in ("bounded_below", "bounded_above") if name in data]
    fields = _fields(data, "low", "high", *masks)
    _require(all(field["shape"] == fields[0]["shape"] for field in fields), "the shapes of its bounds differ")
    low = _bounded_array(fields[0], allowance)
    high, *flags = (decode_array(field, MAXIMUM_ELEMENTS) for field in fields[1:])
    _require(low.dtype == high.dtype, "the types of its bounds differ")
    space = spaces.Box(low, high, dtype=low.dtype)
    for name, flag in zip(masks, flags, strict=True):
        _require(low.dtype.kind == "i" and flag.dtype == bool, "a mask does not fit")
        setattr(space, name, flag)
    return space


def _decode_text(data: dict[str, Any], allowance: _Allowance) -> spaces.Text:
    least, most, characters = _fields(data, "min_length", "max_length", "characters")
    _require(isinstance(characters, str) and len(set(characters)) == len(characters), "its characters are malformed")
    _require(
        type(least) is int and type(most) is int and 0 <= least <= most <= MAXIMUM_ELEMENTS, "its lengths are no range"
    )
    allowance.take(len(characters))
    return spaces.Text(most, min_length=least, charset=characters)


def _bounded_array(data: Any, allowance: _Allowance) -> np.ndarray[Any, Any]:
    shape = _list(data["shape"])
    _require(all(type(size) is int and size >= 0 for size in shape), "a shape is malformed")
    allowance.take(math.prod(max(size, 1) for size in shape))
    return decode_array(data, MAXIMUM_ELEMENTS)


def _fields(data: dict[str, Any], *names: str) -> list[Any]:
    _require(data.keys() == {"type", *names}, f"a {data['type']} space needs {', '.join(names)}")
    return [data[name] for name in names]


def _list(data: Any) -> list[Any]:
    _require(isinstance(data, list), "something else stands where a list should be")
    return data


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise BundleError(f"a saved space is malformed: {problem}")
