"""Infos of steps as lines of JSON, and back without running anything.

Numbers, strings, booleans, None, lists, and dicts whose keys are strings that do not start with `$` stand for
themselves. Anything else is an object with one key, its tag:

| tag | value |
|---|---|
| `$float` | `"nan"`, `"inf"` or `"-inf"` |
| `$tuple` | list of the items |
| `$dict` | list of `[key, value]` pairs |
| `$scalar`, `$array` | a NumPy scalar or array: `dtype`, `base64` (of its bytes), an array also `shape` |
| `$text` | what cannot be stored, as `repr` shows it |
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.storage.npy import is_storable
from rl_framework.errors import EpisodeDataError, shorten
from rl_framework.json_arrays import decode_float, encode_float

__all__ = ["StoredInfos", "decode_info", "encode_info"]

_MAXIMUM_DEPTH = 30
_INTEGER_BITS = 10_000  # Python reads no decimal number of more than 4,300 digits
_TEXT_LENGTH = 10_000


def encode_info(info: Mapping[str, Any], unknown: list[Any]) -> bytes:
    """Turns the info of a step into a line of JSON.

    Args:
        info: The info.
        unknown: Values that cannot be stored, and were kept as text, are appended to it.

    Returns:
        UTF-8, with the line feed at its end.
    """
    if not info:
        return b"{}\n"
    data = _encode(dict(info), unknown, _MAXIMUM_DEPTH)
    return json.dumps(data, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _encode(value: Any, unknown: list[Any], depth: int) -> Any:
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int and value.bit_length() <= _INTEGER_BITS:
        return value
    if kind is float:
        return encode_float(value)
    if depth > 0:
        if kind is list:
            return [_encode(item, unknown, depth - 1) for item in value]
        if kind is tuple:
            return {"$tuple": [_encode(item, unknown, depth - 1) for item in value]}
        if isinstance(value, Mapping):
            return _encode_mapping(value, unknown, depth)
    if isinstance(value, np.ndarray | np.generic) and is_storable(_little(value.dtype).str, [1]):
        content = {
            "dtype": _little(value.dtype).str,
            "base64": base64.b64encode(np.asarray(value, _little(value.dtype), order="C").tobytes()).decode(),
        }
        if isinstance(value, np.generic):
            return {"$scalar": content}
        if not isinstance(value, np.ma.MaskedArray):
            return {"$array": {**content, "shape": list(value.shape)}}
    if isinstance(value, str):
        return str(value)
    unknown.append(value)
    return {"$text": _text(value)}


def _text(value: Any) -> str:
    try:
        return repr(value)[:_TEXT_LENGTH]
    except Exception as error:  # noqa: BLE001 - whatever the value's own class raises
        return f"<{type(value).__name__}, which repr() cannot show: {error}>"


def _encode_mapping(value: Mapping[Any, Any], unknown: list[Any], depth: int) -> Any:
    parts = {key: _encode(item, unknown, depth - 1) for key, item in value.items()}
    if all(type(key) is str and not key.startswith("$") for key in parts):
        return parts
    return {"$dict": [[_encode(key, unknown, depth - 1), part] for key, part in parts.items()]}


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def decode_info(line: bytes) -> dict[str, Any]:
    """Makes the info that `encode_info` was given; what it kept as text comes back as a string.

    Raises:
        EpisodeDataError: The line is something else.
    """
    if line == b"{}\n":
        return {}
    try:
        info = _decode(json.loads(line.decode(), parse_constant=_refuse), _MAXIMUM_DEPTH + 1)
    except EpisodeDataError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EpisodeDataError(f"it is malformed: {type(error).__name__}: {shorten(str(error))}") from error
    if not isinstance(info, dict):
        raise EpisodeDataError(f"it is a {type(info).__name__}, not an object")
    return info


def _refuse(constant: str) -> None:
    raise EpisodeDataError(f"it holds {constant}, which is no JSON")


def _decode(data: Any, depth: int) -> Any:
    if depth < 0:
        raise EpisodeDataError("it is nested too deep")
    if isinstance(data, list):
        return [_decode(item, depth - 1) for item in data]
    if not isinstance(data, dict):
        return data
    if not any(key.startswith("$") for key in data):
        return {key: _decode(item, depth - 1) for key, item in data.items()}
    ((tag, content),) = data.items()
    if tag == "$float":
        return decode_float(content)
    if tag == "$text" and isinstance(content, str):
        return content
    if tag == "$tuple":
        return tuple(_decode(item, depth - 1) for item in content)
    if tag == "$dict":
        return {_decode(key, depth - 1): _decode(item, depth - 1) for key, item in content}
    if tag in ("$scalar", "$array"):
        return _decode_array(content, tag == "$scalar")
    raise EpisodeDataError(f"it has the unknown tag {shorten(tag)}")


def _decode_array(content: dict[str, Any], scalar: bool) -> Any:
    shape = [] if scalar else content["shape"]
    if not is_storable(content["dtype"], [1, *shape]):
        raise EpisodeDataError("it holds a malformed array")
    # The bytes are there before anything is made of them, and a size that differs from them is refused.
    array = np.frombuffer(bytearray(base64.b64decode(content["base64"], validate=True)), content["dtype"])
    return array.reshape(shape)[()] if scalar else array.reshape(shape)


class StoredInfos(Sequence[Mapping[str, Any]]):
    """The infos of one episode, each decoded when it is asked for.

    Args:
        text: All infos of the data set, one a line.
        offsets: Shape `(T + 1,)`: where the lines of this episode begin, and where the last one ends.
        where: The file and the episode, for an error.
    """

    def __init__(self, text: Any, offsets: NDArray[np.int64], where: str) -> None:
        self._text = text
        self._offsets = offsets
        self._where = where

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        """Decodes the info of a step, or of several.

        Raises:
            EpisodeDataError: The line is damaged.
        """
        steps = range(len(self))[index]
        if isinstance(steps, range):
            return [self[step] for step in steps]
        start, end = self._offsets[steps : steps + 2].tolist()
        if not 0 <= start < end <= len(self._text):
            raise EpisodeDataError(f"{self._where}: step {steps} has no line: bytes {start} to {end}")
        try:
            return decode_info(self._text[start:end])
        except EpisodeDataError as error:
            raise EpisodeDataError(f"{self._where}: step {steps}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"<{len(self)} infos of {self._where}>"
