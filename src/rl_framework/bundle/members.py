"""The members of a bundle: JSON, tensors (safetensors) and arrays (npz, see `arrays.py`).

Each kind is prepared for writing, checked, and read. A check reads headers only and allocates nothing that they
declare.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from rl_framework.bundle.archive import HashingSink, RefusedError, Sink
from rl_framework.bundle.arrays import checked_arrays, write_arrays
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    import torch

__all__ = [
    "EXTENSIONS",
    "JSON_DEPTH",
    "JSON_SIZE",
    "Member",
    "check_tensors",
    "extension_of",
    "from_bytes",
    "parse_json",
    "prepare",
    "read_tensors",
    "to_json",
]

EXTENSIONS = (".json", ".safetensors", ".npz")
JSON_SIZE = 16 << 20
JSON_DEPTH = 100

# Bytes of one element, by the names that safetensors gives to what torch has.
_TENSOR_TYPES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_TORCH_TYPES = frozenset(
    (
        *("bool", "uint8", "int8", "float8_e4m3fn", "float8_e5m2", "uint16", "int16", "float16", "bfloat16"),
        *("uint32", "int32", "float32", "uint64", "int64", "float64", "complex64"),
    )
)
_METADATA = "__metadata__"
_MAXIMUM_DIMENSIONS = 64
_MAXIMUM_BYTES = 1 << 62


@dataclass(frozen=True)
class Member:
    """A member that is ready to be written.

    Attributes:
        size: Bytes.
        sha256: Hash of the bytes, in hexadecimal digits.
        write: Writes the bytes, the same at every call.
    """

    size: int
    sha256: str
    write: Callable[[Sink], None]


def extension_of(name: str) -> str | None:
    """Returns the extension of a member name if it is one that a bundle can hold."""
    return next((extension for extension in EXTENSIONS if name.endswith(extension)), None)


def prepare(name: str, value: Any) -> Member:
    """Encodes a member.

    Args:
        name: Its name; the extension decides on the encoding.
        value: A JSON value, a dict of tensors or a dict of arrays.

    Raises:
        ArgumentError: The value does not fit the extension.
    """
    argument = f"members[{name!r}]"
    extension = extension_of(name)
    if extension == ".json":
        return from_bytes(to_json(value, argument))
    if extension == ".safetensors":
        return from_bytes(_encode_tensors(value, argument))
    arrays = checked_arrays(value, argument)
    # Arrays may be a replay buffer of many gigabytes: they are encoded twice, once to hash and once to write, instead
    # of being held in memory a second time.
    return _measured(lambda sink: write_arrays(sink, arrays))


def from_bytes(data: bytes) -> Member:
    """Returns a member of these very bytes."""

    def write(sink: Sink) -> None:
        sink.write(data)

    return _measured(write)


def _measured(write: Callable[[Sink], None]) -> Member:
    sink = HashingSink()
    write(sink)
    return Member(sink.size, sink.sha256, write)


# JSON


def to_json(value: Any, argument: str, *, indent: int | None = None) -> bytes:
    """Encodes a JSON value; keys stay in their order.

    Raises:
        ArgumentError: It is no JSON value: a non-finite number, a key that is no string, a tuple, ...
    """
    _check_json_value(value, argument, JSON_DEPTH)
    try:
        data = json.dumps(value, allow_nan=False, indent=indent).encode()
    except ValueError as error:
        # Without the value: an integer too long for JSON is too long for a message too.
        raise ArgumentError(argument, type(value).__name__, f"cannot be written as JSON: {error}") from error
    if len(data) > JSON_SIZE:
        raise ArgumentError(argument, value, f"has {len(data)} bytes as JSON; at most {JSON_SIZE} are read back")
    return data


class _NotJsonError(Exception):
    # Carries the keys that lead to the value, which are put together only when something is wrong: a checkpoint's
    # state has tens of thousands of values.
    def __init__(self, value: Any, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.value, self.problem, self.remedy = value, problem, remedy
        self.keys: list[Any] = []


def _check_json_value(value: Any, argument: str, depth: int) -> None:
    try:
        _check_part(value, depth)
    except _NotJsonError as error:
        where = argument + "".join(f"[{key!r}]" for key in reversed(error.keys))
        raise ArgumentError(where, error.value, error.problem, error.remedy) from None


def _check_part(value: Any, depth: int) -> None:
    if value is None or type(value) in (str, int, bool):
        return
    if isinstance(value, dict | list):
        if depth <= 0:
            raise _NotJsonError(value, f"is nested more than {JSON_DEPTH} deep")
        key: Any = None
        is_dict = isinstance(value, dict)
        try:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if is_dict and not isinstance(key, str):
                    break
                _check_part(item, depth - 1)
            else:
                return
        except _NotJsonError as error:
            error.keys.append(key)
            raise
        raise _NotJsonError(key, "a key has to be a string")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotJsonError(value, "JSON has no such number", "Encode it with encode_value.")
    elif not isinstance(value, str | int):
        raise _NotJsonError(value, "is no JSON value", "Encode it with encode_value.")


def parse_json(data: bytes) -> Any:
    """Decodes strict JSON.

    Raises:
        RefusedError: It is too long or too deep, has a key twice, or holds NaN or infinity.
    """
    if len(data) > JSON_SIZE:
        raise RefusedError(f"{len(data)} bytes of JSON; at most {JSON_SIZE} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise RefusedError("the JSON is nested too deep") from error
    level = [value]
    for _ in range(JSON_DEPTH):
        level = [item for part in level for item in _items(part)]
        if not level:
            return value
    raise RefusedError(f"the JSON is nested more than {JSON_DEPTH} deep")


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RefusedError("the JSON has a key twice in one object")
    return result


def _refuse_constant(text: str) -> Any:
    raise RefusedError(f"the JSON holds {text}, which is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise RefusedError(f"the JSON holds the number {text[:40]}, which is too large")
    return number


# Tensors


def _encode_tensors(value: Any, argument: str) -> bytes:
    import torch
    from safetensors.torch import save

    if not isinstance(value, Mapping):
        raise ArgumentError(argument, value, "has to be a dict of tensors")
    tensors: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for key, tensor in value.items():
        where = f"{argument}[{key!r}]"
        if not isinstance(key, str) or key == _METADATA:
            raise ArgumentError(argument, key, f"a key has to be a string other than {_METADATA!r}")
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(where, tensor, "has to be a torch.Tensor")
        name = str(tensor.dtype).removeprefix("torch.")
        if tensor.layout != torch.strided or tensor.is_quantized or name not in _TORCH_TYPES:
            raise ArgumentError(where, tensor, f"a {tensor.layout} tensor of {tensor.dtype} cannot be stored")
        plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        # safetensors refuses tensors that share memory (tied weights, views): each is stored in full.
        storage = plain.untyped_storage().data_ptr()
        if storage in storages:
            plain = plain.clone()
        storages.add(plain.untyped_storage().data_ptr())
        tensors[key] = plain
    return save(tensors)


def check_tensors(stream: BinaryIO, size: int) -> None:
    """Checks the header of a safetensors file against its size.

    Raises:
        RefusedError: The header is malformed, or a tensor lies outside the file.
    """
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(size - 8, JSON_SIZE):
        raise RefusedError("its header is longer than allowed")
    header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise RefusedError("its header is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise RefusedError("its metadata is no dict of strings")
    end = 0
    for begin, stop in sorted(_offsets(name, tensor) for name, tensor in header.items()):
        if begin != end:
            raise RefusedError("its tensors overlap or leave gaps")
        end = stop
    if end != size - 8 - length:
        raise RefusedError("its tensors do not fill the file exactly")


def _offsets(name: str, tensor: Any) -> tuple[int, int]:
    if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
        raise RefusedError(f"the tensor {name[:100]!r} is malformed")
    item_size = _TENSOR_TYPES.get(tensor["dtype"]) if isinstance(tensor["dtype"], str) else None
    shape, offsets = tensor["shape"], tensor["data_offsets"]
    if item_size is None or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise RefusedError(f"the tensor {name[:100]!r} has an unknown type, shape or place")
    if offsets[1] - offsets[0] != item_size * math.prod(shape):
        raise RefusedError(f"the tensor {name[:100]!r} has another size than its shape says")
    return offsets[0], offsets[1]


def _are_sizes(values: Any) -> bool:
    # The sizes other than zero are bounded too: torch overflows on a shape such as (0, 2**63).
    if not isinstance(values, list) or len(values) > _MAXIMUM_DIMENSIONS:
        return False
    if not all(type(size) is int and size >= 0 for size in values):
        return False
    return math.prod(max(size, 1) for size in values) <= _MAXIMUM_BYTES


def read_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Decodes a safetensors file that `check_tensors` has accepted."""
    from safetensors.torch import load

    return load(data)
