"""Values of parameters as JSON data, exactly and without code.

Numbers, strings, None, lists, and dicts whose keys are strings are written as they are; the order of a dict is kept,
because the order of keyword arguments can be the order of a network's layers. Everything else is an object with one
key that starts with `$`, its tag:

| tag | value |
|---|---|
| `$float` | `"nan"`, `"inf"` or `"-inf"` |
| `$tuple` | list of the items |
| `$dict` | list of `[key, value]` pairs, in the order of the dict |
| `$scalar` | a NumPy scalar: `dtype` and `value` |
| `$array` | a NumPy array: `dtype`, `shape` and flat `values` |
| `$dtype`, `$scalar_type`, `$torch_dtype` | a NumPy dtype, a NumPy scalar class, a torch dtype |
| `$device`, `$path` | a `torch.device`, a `pathlib.Path` |
| `$class` | `"<registry>/<name>"`, such as `"activation/tanh"` |

and whatever `register_value_type` adds. A dict of the user whose keys start with `$` is written as `$dict`, so that no
data can pass for a tag.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rl_framework.bundle.unsavable import class_registries, unsavable
from rl_framework.errors import ArgumentError, BundleError, MissingExtraError, UnknownNameError, UnsavableError
from rl_framework.json_arrays import (
    decode_array,
    decode_dtype,
    decode_float,
    decode_numbers,
    encode_array,
    encode_float,
    encode_number,
    is_plain_dtype,
)

__all__ = ["decode_value", "encode_value", "register_value_type"]

# Each level may take three of JSON: {"$dict": [[key, ...
MAXIMUM_DEPTH = 30
MAXIMUM_ITEMS = 100_000

_SCALAR_TYPES = frozenset(
    (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    )
)
_TORCH_DTYPE = re.compile(r"bool|u?int[0-9]{1,2}|b?float[0-9]{1,2}|complex[0-9]{1,3}")
_DEVICE = re.compile(r"[a-z]{1,20}(:[0-9]{1,4})?")
_TAG = re.compile(r"[a-z][a-z0-9_]*")

_ValueType = tuple[type | str, Callable[[Any], Any], Callable[[Any], Any]]
_registered: dict[str, _ValueType] = {}


def register_value_type(
    tag: str, cls: type | str, to_data: Callable[[Any], Any], from_data: Callable[[Any], Any]
) -> None:
    """Makes objects of a class savable as parameters.

    Args:
        tag: Name of the type in files, without `$`.
        cls: The class, or its `"module:attribute"` address so that it need not be imported. Subclasses are not meant,
            because they may mean something else.
        to_data: Returns a value that `encode_value` takes: the arguments of the object, for instance.
        from_data: Makes the object from the decoded value. It is called with what a file says, so it must check it
            and must not import or run anything that the value names.

    Raises:
        ArgumentError: The tag is malformed or taken.
    """
    if not _TAG.fullmatch(str(tag)):
        raise ArgumentError("tag", tag, "has to be a lower-case name")
    taken = _registered.get(tag)
    if f"${tag}" in _DECODERS or (taken is not None and taken[0] != cls):
        raise ArgumentError("tag", tag, "is taken")
    _registered[tag] = (cls, to_data, from_data)


# Encoding


def encode_value(value: Any, argument: str) -> Any:
    """Turns a parameter into JSON data from which `decode_value` makes an equal one.

    Args:
        value: The parameter.
        argument: What to call it in an error, such as `"algorithm_parameters"`.

    Raises:
        UnsavableError: The value, or a part of it, cannot be saved; the message says where it is and what to do.
    """
    return _encode(value, argument, MAXIMUM_DEPTH)


def _encode(value: Any, argument: str, depth: int) -> Any:
    if depth <= 0:
        raise UnsavableError(argument, value, f"is nested more than {MAXIMUM_DEPTH} deep and cannot be saved")
    kind = type(value)
    # Exact types: a subclass (an enumeration, a named tuple) would come back as something else.
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return _encode_int(value, argument)
    if kind is float:
        return encode_float(value)
    if kind is list:
        return [_encode(item, f"{argument}[{index}]", depth - 1) for index, item in enumerate(value)]
    if kind is tuple:
        return {"$tuple": [_encode(item, f"{argument}[{index}]", depth - 1) for index, item in enumerate(value)]}
    if kind in (dict, OrderedDict):
        return _encode_dict(value, argument, depth)
    for tag, (cls, to_data, _) in _registered.items():
        if kind is cls or f"{kind.__module__}:{kind.__qualname__}" == cls:
            return {f"${tag}": _encode(to_data(value), argument, depth - 1)}
    if isinstance(value, np.ndarray | np.generic | np.dtype):
        return _encode_numpy(value, argument)
    return _encode_other(value, argument)


def _encode_int(value: int, argument: str) -> int:
    # Python reads no decimal number that is longer than this.
    limit = sys.int_info.default_max_str_digits
    if value.bit_length() > limit * 3:
        raise UnsavableError(argument, hex(value)[:40], "is too large an integer to be saved")
    return value


def _encode_dict(value: dict[Any, Any], argument: str, depth: int) -> Any:
    keys = list(value)
    parts = {key: _encode(item, f"{argument}[{key!r}]", depth - 1) for key, item in value.items()}
    if all(type(key) is str and not key.startswith("$") for key in keys):
        return parts
    return {"$dict": [[_encode(key, f"a key of {argument}", depth - 1), part] for key, part in parts.items()]}


def _encode_numpy(value: Any, argument: str) -> Any:
    dtype = value if isinstance(value, np.dtype) else value.dtype
    if isinstance(value, np.str_):
        return str(value)
    if not is_plain_dtype(dtype) or isinstance(value, np.ma.MaskedArray):
        raise UnsavableError(argument, value, f"NumPy's {dtype} cannot be saved", "Use a bool, integer or float type.")
    if isinstance(value, np.dtype):
        return {"$dtype": value.str}
    if isinstance(value, np.generic):
        return {"$scalar": {"dtype": dtype.str, "value": encode_number(value.item())}}
    if value.size > MAXIMUM_ITEMS:
        problem = f"an array of {value.size} numbers is too large for a parameter; at most {MAXIMUM_ITEMS} are saved"
        raise UnsavableError(argument, value, problem)
    return {"$array": encode_array(value)}


def _encode_other(value: Any, argument: str) -> Any:
    if isinstance(value, PurePath):
        return {"$path": str(value)}
    torch = sys.modules.get("torch")  # who holds an object of torch has imported it
    if torch is not None and isinstance(value, torch.device):
        return {"$device": str(value)}
    if torch is not None and isinstance(value, torch.dtype):
        return {"$torch_dtype": str(value).removeprefix("torch.")}
    if isinstance(value, type) and issubclass(value, np.generic) and value.__name__ in _SCALAR_TYPES:
        return {"$scalar_type": value.__name__}
    if callable(value):
        for kind, registry in class_registries().items():
            name = registry.name_of(value)
            if name is not None:
                return {"$class": f"{kind}/{name}"}
    raise unsavable(value, argument)


# Decoding


def decode_value(data: Any) -> Any:
    """Makes the value that `encode_value` was given.

    Only classes that have a name in a registry and types that were registered can come out of it.

    Args:
        data: JSON data, possibly from somebody else's file.

    Raises:
        BundleError: The data is malformed, or names something that is not known here.
        MissingExtraError: A class that it names belongs to an extra that is not installed.
    """
    try:
        return _decode(data, MAXIMUM_DEPTH)
    except (BundleError, MissingExtraError):
        raise
    except Exception as error:
        raise BundleError(f"a saved value is malformed: {type(error).__name__}: {error}") from error


def _decode(data: Any, depth: int) -> Any:
    if depth <= 0:
        raise BundleError(f"a saved value is nested more than {MAXIMUM_DEPTH} deep")
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return [_decode(item, depth - 1) for item in data]
    if not isinstance(data, dict):
        raise BundleError(f"a saved value is a {type(data).__name__}, which is no JSON data")
    tags = [key for key in data if not isinstance(key, str) or key.startswith("$")]
    if not tags:
        return {key: _decode(item, depth - 1) for key, item in data.items()}
    if len(data) != 1:
        raise BundleError(f"a saved value mixes the tag {str(tags[0])[:40]!r} with other keys")
    ((tag, content),) = data.items()
    if tag in _DECODERS:
        return _DECODERS[tag](content, depth)
    name = str(tag)[1:]
    if name not in _registered:
        raise BundleError(f"a saved value has the unknown type {str(tag)[:40]!r}")
    return _registered[name][2](_decode(content, depth - 1))


def _decode_float(content: Any, depth: int) -> float:
    return decode_float(content)


def _decode_tuple(content: Any, depth: int) -> tuple[Any, ...]:
    return tuple(_decode(item, depth - 1) for item in _list(content))


def _decode_dict(content: Any, depth: int) -> dict[Any, Any]:
    result = {}
    for key, value in _list(content):
        decoded = _decode(key, depth - 1)
        if decoded in result:
            raise BundleError("a saved dict has a key twice")
        result[decoded] = _decode(value, depth - 1)
    return result


def _decode_scalar(content: Any, depth: int) -> Any:
    return decode_numbers([content["value"]], decode_dtype(content["dtype"]))[0]


def _decode_dtype(content: Any, depth: int) -> np.dtype[Any]:
    return decode_dtype(content)


def _decode_array_tag(content: Any, depth: int) -> np.ndarray[Any, Any]:
    return decode_array(content, MAXIMUM_ITEMS)


def _decode_scalar_type(content: Any, depth: int) -> type:
    if content not in _SCALAR_TYPES:
        raise BundleError(f"a saved value has the NumPy type {str(content)[:40]!r}, which is not allowed")
    return np.dtype(content).type


def _decode_torch_dtype(content: Any, depth: int) -> Any:
    import torch

    # The pattern first: asking torch for some attributes imports modules.
    dtype = getattr(torch, content, None) if _TORCH_DTYPE.fullmatch(content) else None
    if not isinstance(dtype, torch.dtype):
        raise BundleError(f"torch has no type {content[:40]!r}")
    return dtype


def _decode_device(content: Any, depth: int) -> Any:
    import torch

    if not _DEVICE.fullmatch(content):
        raise BundleError(f"a saved value names the device {content[:40]!r}")
    return torch.device(content)


def _decode_path(content: Any, depth: int) -> Path:
    if not isinstance(content, str) or "\x00" in content:
        raise BundleError("a saved path is malformed")
    return Path(content)


def _decode_class(content: Any, depth: int) -> Any:
    kind, separator, name = content.partition("/")
    registries = class_registries()
    if not separator or kind not in registries:
        raise BundleError(
            f"a saved value names the class {content[:100]!r}, which is not of the form '<registry>/<name>' with a "
            f"registry out of {', '.join(registries)}"
        )
    try:
        return registries[kind].get(name)
    except UnknownNameError as error:
        raise BundleError(
            f"a saved value names the class {content[:100]!r}, which has no such name here: {error}"
        ) from error


def _list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise BundleError("a saved value has something else where a list should be")
    return content


_DECODERS: dict[str, Callable[[Any, int], Any]] = {
    "$array": _decode_array_tag,
    "$class": _decode_class,
    "$device": _decode_device,
    "$dict": _decode_dict,
    "$dtype": _decode_dtype,
    "$float": _decode_float,
    "$path": _decode_path,
    "$scalar": _decode_scalar,
    "$scalar_type": _decode_scalar_type,
    "$torch_dtype": _decode_torch_dtype,
    "$tuple": _decode_tuple,
}
