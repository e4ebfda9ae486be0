"""NumPy numbers and arrays as JSON data, exactly, and back without trusting it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from rl_framework.errors import BundleError

__all__ = [
    "decode_array",
    "decode_dtype",
    "decode_float",
    "decode_numbers",
    "encode_array",
    "encode_float",
    "encode_number",
    "is_plain_dtype",
]

# Of up to eight bytes, because a larger float does not survive the way through a Python float.
_DTYPE = re.compile(r"[<>|](b1|i[1248]|u[1248]|f[248])")
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def is_plain_dtype(dtype: np.dtype[Any]) -> bool:
    """Tells whether arrays of this type can be JSON data: bools, integers and floats of up to eight bytes."""
    return _DTYPE.fullmatch(dtype.str) is not None


def encode_float(value: float) -> Any:
    """Returns the number, or an object with the tag `$float` for one that JSON does not have."""
    return value if math.isfinite(value) else {"$float": str(value)}


def encode_number(number: Any) -> Any:
    """Turns a Python bool, int or float into JSON data."""
    return encode_float(number) if isinstance(number, float) else number


def encode_array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Turns an array of bools, integers or floats of up to eight bytes into JSON data.

    Returns:
        `dtype`, `shape`, and `values`: a flat list, or one number if all elements have the same bits.
    """
    flat = np.ravel(array, order="C")
    bits = flat.view(np.uint8).reshape(flat.size, flat.itemsize)
    uniform = flat.size > 1 and bool((bits == bits[0]).all())
    values = encode_number(flat[0].item()) if uniform else [encode_number(number) for number in flat.tolist()]
    return {"dtype": array.dtype.str, "shape": list(array.shape), "values": values}


def decode_array(content: Any, maximum_items: int) -> np.ndarray[Any, Any]:
    """Makes the array that `encode_array` was given.

    Args:
        content: JSON data, possibly from somebody else's file.
        maximum_items: How many elements it may have.

    Raises:
        BundleError: It is malformed or too large. Malformed data may raise other exceptions too.
    """
    if content.keys() != {"dtype", "shape", "values"}:
        raise BundleError("a saved array is malformed")
    dtype = decode_dtype(content["dtype"])
    shape, values = content["shape"], content["values"]
    if not isinstance(shape, list):
        raise BundleError("a saved value has something else where a list should be")
    if len(shape) > 32 or not all(type(size) is int and size >= 0 for size in shape):
        raise BundleError("a saved array has a malformed shape")
    # Sizes next to a zero count as well: NumPy overflows on them.
    if math.prod(max(size, 1) for size in shape) > maximum_items:
        raise BundleError(f"a saved array has a shape of more than {maximum_items} elements")
    count = math.prod(shape)
    if not isinstance(values, list):
        return np.full(shape, decode_numbers([values], dtype)[0], dtype)
    if len(values) != count:
        raise BundleError(f"a saved array has {len(values)} values for {count} places")
    return decode_numbers(values, dtype).reshape(shape)


def decode_numbers(values: list[Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Makes a flat array of numbers that `encode_number` returned.

    Raises:
        BundleError: They are not of this type. Malformed data may raise other exceptions too.
    """
    accepted = {"b": (bool,), "i": (int,), "u": (int,), "f": (float, int)}[dtype.kind]
    numbers = [decode_float(value["$float"]) if isinstance(value, dict) else value for value in values]
    if not all(type(number) in accepted for number in numbers):
        raise BundleError(f"a saved array of {dtype} holds something else")
    with np.errstate(over="raise"):
        return np.array(numbers, dtype)


def decode_float(content: Any) -> float:
    """Makes the number that the tag `$float` stands for; anything unknown raises a `KeyError`."""
    return _NON_FINITE[content]


def decode_dtype(content: Any) -> np.dtype[Any]:
    """Makes a type of which `is_plain_dtype` is true.

    Raises:
        BundleError: It is another one.
    """
    if not isinstance(content, str) or not _DTYPE.fullmatch(content):
        raise BundleError(f"a saved value has the NumPy type {str(content)[:40]!r}, which is not allowed")
    return np.dtype(content)
