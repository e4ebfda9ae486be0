"""The infos of the imitation library's data sets, which are JSON as jsonpickle writes it.

jsonpickle's own `decode` imports and calls whatever a text names. Nothing is called here: what is plain comes back as
it was, NumPy arrays and scalars of numbers are made of their bytes, and everything else stays a text.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

__all__ = ["LazyInfos", "decode_info"]

UNDECODED = "undecoded"
"""Key of an info that is not an object of named values."""

_RECONSTRUCT = re.compile(r"numpy\._?core\.multiarray\._reconstruct")
_SCALAR = re.compile(r"numpy\._?core\.multiarray\.scalar")
_NUMBER = re.compile(r"(b1|[iu][1248]|f[248])")
_ORDER = re.compile(r"[<>=|]")
_TAG = "py/"
_MAXIMUM = 1 << 40


class _NotPlainError(Exception):
    pass


def decode_info(text: bytes | str) -> dict[str, Any]:
    """Decodes one info.

    Args:
        text: JSON, possibly from somebody else's file.

    Returns:
        The info. A value that is no plain JSON, tuple, NumPy array or NumPy scalar is its JSON as a text. If the whole
        is not an object with names, or no JSON, it is under the name `"undecoded"`.
    """
    if text in (b"{}", "{}"):
        return {}
    try:
        data = json.loads(text)
        if isinstance(data, dict) and not any(key.startswith(_TAG) for key in data):
            return _Decoder().info(data)
    except (ValueError, RecursionError):
        pass
    return {UNDECODED: text if isinstance(text, str) else text.decode("utf-8", "replace")}


class LazyInfos(Sequence[Mapping[str, Any]]):
    """The infos of one episode, decoded when they are asked for.

    Args:
        count: How many there are.
        text: Returns the JSON of one of them.
    """

    def __init__(self, count: int, text: Callable[[int], bytes]) -> None:
        self._count = count
        self._text = text

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        place = range(self._count)[index]
        return decode_info(self._text(place))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[place] for place in range(self._count))

    def __repr__(self) -> str:
        return f"LazyInfos({self._count})"


class _Decoder:
    # jsonpickle numbers objects, lists and reduced objects in the order in which they begin; `{"py/id": 2}` stands for
    # one that came before. The same dtype is written once and then referred to.
    def __init__(self) -> None:
        self._seen: list[Any] = []
        self._are_known = True

    def info(self, data: dict[str, Any]) -> dict[str, Any]:
        info: dict[str, Any] = {}
        self._number(info)
        for key, value in data.items():
            count = len(self._seen)
            try:
                info[key] = self._value(value)
            except _NotPlainError:
                info[key] = json.dumps(value)
                # How many numbers jsonpickle gave out inside is not known, so none is given out from here on.
                del self._seen[count:]
                self._are_known = False
        return info

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            items: list[Any] = []
            self._number(items)
            items.extend(self._value(item) for item in value)
            return items
        if not isinstance(value, dict):
            return value
        tags = [key for key in value if key.startswith(_TAG)]
        if not tags:
            parts: dict[str, Any] = {}
            self._number(parts)
            for key, item in value.items():
                parts[key] = self._value(item)
            return parts
        if len(value) != 1:
            raise _NotPlainError
        ((tag, content),) = value.items()
        if tag == "py/tuple" and isinstance(content, list):
            return tuple(self._value(item) for item in content)
        if tag == "py/reduce" and isinstance(content, list):
            return self._numpy(content)
        if tag == "py/id":
            return self._referred(content)
        raise _NotPlainError

    def _number(self, value: Any) -> int | None:
        if not self._are_known:
            return None
        self._seen.append(value)
        return len(self._seen) - 1

    def _referred(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._seen):
            raise _NotPlainError
        target = self._seen[number]
        # A container can hold itself; only what cannot is taken from before.
        if not isinstance(target, np.ndarray | np.generic | np.dtype):
            raise _NotPlainError
        return target

    def _numpy(self, content: list[Any]) -> Any:
        place = self._number(None)
        function = _only(content[0], "py/function") if content else None
        rest = [part for part in content[1:] if part is not None]
        if isinstance(function, str) and _RECONSTRUCT.fullmatch(function) and len(rest) == 2:
            made = self._array(rest[1])
        elif isinstance(function, str) and _SCALAR.fullmatch(function) and len(rest) == 1:
            made = self._scalar(rest[0])
        else:
            raise _NotPlainError
        if place is not None:
            self._seen[place] = made
        return made

    def _array(self, state: Any) -> Any:
        # What ndarray.__setstate__ takes: version, shape, dtype, Fortran order, bytes.
        match _only(state, "py/tuple"):
            case [1, shape, dtype, bool(fortran), data]:
                sizes, kind, content = _only(shape, "py/tuple"), self._dtype(dtype), _bytes(data)
            case _:
                raise _NotPlainError
        if not isinstance(sizes, list) or len(sizes) > 32 or not all(type(n) is int and n >= 0 for n in sizes):
            raise _NotPlainError
        # Sizes next to a zero count as well: NumPy overflows on them.
        if math.prod(sizes) * kind.itemsize != len(content) or math.prod(max(size, 1) for size in sizes) > _MAXIMUM:
            raise _NotPlainError
        return np.frombuffer(content, kind).reshape(sizes, order="F" if fortran else "C")

    def _scalar(self, arguments: Any) -> Any:
        match _only(arguments, "py/tuple"):
            case [dtype, data]:
                kind, content = self._dtype(dtype), _bytes(data)
            case _:
                raise _NotPlainError
        if len(content) != kind.itemsize:
            raise _NotPlainError
        return np.frombuffer(content, kind)[0]

    def _dtype(self, value: Any) -> np.dtype[Any]:
        if isinstance(value, dict) and "py/id" in value:
            kind = self._referred(value["py/id"])
            if not isinstance(kind, np.dtype):
                raise _NotPlainError
            return kind
        match _only(value, "py/reduce"):
            case [{"py/type": "numpy.dtype"}, {"py/tuple": [str(name), *_]}, {"py/tuple": [_, str(order), *_]}, *_]:
                if not (_NUMBER.fullmatch(name) and _ORDER.fullmatch(order)):
                    raise _NotPlainError
            case _:
                raise _NotPlainError
        kind = np.dtype(name if order in "|=" else order + name)
        self._number(kind)
        return kind


def _only(value: Any, tag: str) -> Any:
    return value[tag] if isinstance(value, dict) and value.keys() == {tag} else None


def _bytes(value: Any) -> bytes:
    text = _only(value, "py/b64")
    if not isinstance(text, str):
        raise _NotPlainError
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _NotPlainError from error
