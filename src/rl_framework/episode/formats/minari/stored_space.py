"""The spaces that a Minari data set states, and how they are stored."""

from __future__ import annotations

import json
import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.errors import EpisodeDataError

__all__ = ["decode_stored_space", "is_stored_as_jpeg", "without_tuples"]

_MAXIMUM_DEPTH = 16
_MAXIMUM_ELEMENTS = 1 << 25
_NUMBER_TYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
_LEAST_IMAGE_SIDE = 32


def decode_stored_space(text: Any, where: str) -> gymnasium.Space[Any]:
    """Makes a space of the JSON that Minari writes.

    Args:
        text: What the metadata say, possibly from somebody else's file.
        where: What to call it in an error.

    Raises:
        EpisodeDataError: It is malformed, or of a kind that Minari does not write.
    """
    try:
        return _decode(json.loads(text) if isinstance(text, str) else text, _MAXIMUM_DEPTH)
    except Exception as error:
        raise EpisodeDataError(f"{where} is no space that Minari writes: {type(error).__name__}: {error}") from error


def without_tuples(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Returns a space with a `Dict` in the place of each `Tuple`, with the keys "0", "1", and so on.

    Episodes hold dicts of arrays, and no tuples.
    """
    if isinstance(space, spaces.Tuple):
        return spaces.Dict([(str(index), without_tuples(part)) for index, part in enumerate(space.spaces)])
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, without_tuples(part)) for key, part in space.spaces.items()])
    return space


def is_stored_as_jpeg(space: gymnasium.Space[Any]) -> bool:
    """Tells whether Minari takes a space for images, which it stores as JPEG unless it was told not to."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) in (2, 3)
        and min(space.shape[:2]) >= _LEAST_IMAGE_SIDE
        and space.dtype == np.uint8
        and bool((space.low == 0).all())
        and bool((space.high == 255).all())
    )


def _decode(data: Any, depth: int) -> gymnasium.Space[Any]:
    if depth == 0:
        raise ValueError(f"nested more than {_MAXIMUM_DEPTH} deep")
    kind = data["type"]
    if kind == "Dict":
        # Of a plain dict gymnasium would sort the keys.
        return spaces.Dict([(str(key), _decode(part, depth - 1)) for key, part in data["subspaces"].items()])
    if kind == "Tuple":
        return spaces.Tuple([_decode(part, depth - 1) for part in data["subspaces"]])
    if kind == "Box":
        low, high = (np.array(data[name], _number_type(data["dtype"])) for name in ("low", "high"))
        return spaces.Box(low, high, tuple(data["shape"]), low.dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(_count(data["n"]), start=int(data["start"]))
    if kind == "MultiDiscrete":
        dtype = _number_type(data["dtype"]).type
        return spaces.MultiDiscrete(np.array(data["nvec"], dtype), dtype, start=np.array(data["start"], dtype))
    if kind == "MultiBinary":
        sizes = data["n"] if isinstance(data["n"], list) else [data["n"]]
        if math.prod(map(_count, sizes)) > _MAXIMUM_ELEMENTS:
            raise ValueError("too large")
        return spaces.MultiBinary(sizes if isinstance(data["n"], list) else data["n"])
    raise ValueError(f"a space of the type {str(kind)[:40]!r}")


def _number_type(name: Any) -> np.dtype[Any]:
    if name not in _NUMBER_TYPES:
        raise ValueError(f"numbers of the type {str(name)[:40]!r}")
    return np.dtype(name)


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"the count {str(value)[:40]}")
    return value
