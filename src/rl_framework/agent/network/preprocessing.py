"""From observations as environments give them to what networks take: float tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from rl_framework.errors import UnsupportedSpaceError

__all__ = [
    "flat_size",
    "is_visual",
    "joined",
    "observation_encoder",
    "one_step",
    "with_steps",
    "without_steps",
]

Encode = Callable[[Any], Tensor]


def is_visual(space: spaces.Space[Any]) -> bool:
    """Whether an observation is an image, or has one in it.

    An image is a Box with three axes that holds bytes, or numbers from 0 to 1.
    """
    if isinstance(space, spaces.Dict):
        return any(is_visual(part) for part in space.values())
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return False
    return space.dtype == np.uint8 or bool(np.all(space.low == 0) and np.all(space.high == 1))


def flat_size(space: spaces.Space[Any]) -> int:
    """Returns how many numbers an encoded observation has."""
    if isinstance(space, spaces.Dict):
        return sum(flat_size(part) for part in space.values())
    assert space.shape is not None
    return int(np.prod(space.shape))


def joined(observations: Tensor | dict[str, Tensor]) -> Tensor:
    """Returns encoded observations as vectors, `(rows, n)`; the entries of a dict one after the other."""
    if isinstance(observations, dict):
        return torch.cat([part.flatten(1) for part in observations.values()], dim=1)
    return observations.flatten(1) if observations.dim() != 2 else observations


def without_steps(observations: Any) -> Any:
    """Joins the leading axes of steps and rows of a tensor, or of each of a dict."""
    if isinstance(observations, dict):
        return {key: without_steps(part) for key, part in observations.items()}
    return observations.flatten(0, 1)


def with_steps(observations: Any, steps: int) -> Any:
    """Undoes `without_steps`."""
    if isinstance(observations, dict):
        return {key: with_steps(part, steps) for key, part in observations.items()}
    return observations.unflatten(0, (steps, -1))


def one_step(observations: Any, step: int) -> Any:
    """Returns the rows of one step of a tensor, or of each of a dict."""
    if isinstance(observations, dict):
        return {key: one_step(part, step) for key, part in observations.items()}
    return observations[step]


def observation_encoder(space: spaces.Space[Any]) -> tuple[Callable[[Any], Any], spaces.Box | spaces.Dict]:
    """Returns what makes float tensors of batched observations, and the space of one of its results.

    Boxes with three axes get the channels first (the shorter one of the first and the last axis); bytes in them are
    divided by 255. Discrete and MultiDiscrete become one-hot vectors, MultiBinary zeros and ones. Dicts stay dicts,
    without levels: the entry "camera" in the entry "left" is "left/camera".

    Args:
        space: Space of one observation.

    Returns:
        A function of batched observations (leading axis: rows), and a Box or a Dict of Boxes of float32.

    Raises:
        UnsupportedSpaceError: A part of the space cannot be a tensor.
    """
    if not isinstance(space, spaces.Dict):
        return _encoder(space, "observation_space")
    parts = {"/".join(path): (path, *_encoder(part, f"observation_space{path}")) for path, part in _leaves(space)}
    if not parts:
        raise UnsupportedSpaceError("observation_space", space, "is an empty Dict", "Give it an entry.")
    encoders = tuple((name, path, encode) for name, (path, encode, _) in parts.items())
    return partial(_encode_dict, encoders), spaces.Dict({name: box for name, (_, _, box) in parts.items()})


def _leaves(space: spaces.Dict) -> Iterator[tuple[tuple[str, ...], spaces.Space[Any]]]:
    for key, part in space.items():
        if isinstance(part, spaces.Dict):
            yield from (((key, *path), leaf) for path, leaf in _leaves(part))
        else:
            yield (key,), part


def _encoder(space: spaces.Space[Any], argument: str) -> tuple[Encode, spaces.Box]:
    if isinstance(space, spaces.Box):
        return _box_encoder(space)
    if isinstance(space, spaces.Discrete):
        encode: Encode = partial(_one_hot, size=int(space.n), start=int(space.start))
        return encode, _unit_box(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        sizes = tuple(int(size) for size in space.nvec.flatten())
        starts = tuple(int(start) for start in space.start.flatten())
        return partial(_one_hots, sizes=sizes, starts=starts), _unit_box(sum(sizes))
    if isinstance(space, spaces.MultiBinary):
        return _vector, _unit_box(int(np.prod(space.shape)))
    raise UnsupportedSpaceError(
        argument,
        space,
        f"networks take Box, Discrete, MultiDiscrete, MultiBinary and Dict, not {type(space).__name__}",
        "Wrap the environment so that it gives one of them (gymnasium.wrappers.FlattenObservation).",
    )


def _box_encoder(space: spaces.Box) -> tuple[Encode, spaces.Box]:
    shape, low, high = space.shape, space.low.astype(np.float32), space.high.astype(np.float32)
    if len(shape) != 3:
        return (_float if shape else _vector), spaces.Box(low.reshape(shape or 1), high.reshape(shape or 1))
    scale = 255.0 if space.dtype == np.uint8 else 1.0
    channels_last = shape[2] < shape[0]
    if channels_last:
        low, high = low.transpose(2, 0, 1), high.transpose(2, 0, 1)
    return partial(_image, scale=scale, channels_last=channels_last), spaces.Box(low / scale, high / scale)


def _unit_box(size: int) -> spaces.Box:
    return spaces.Box(0.0, 1.0, (size,), np.float32)


def _float(values: Tensor) -> Tensor:
    return values.float()


def _vector(values: Tensor) -> Tensor:
    # Not `len(values)`, which torch.export takes for a constant; here and below.
    return values.float().reshape(values.shape[0], -1)


def _image(values: Tensor, scale: float, channels_last: bool) -> Tensor:
    values = values.float()
    if scale != 1:
        values = values / scale
    return values.permute(0, 3, 1, 2) if channels_last else values


def _one_hot(values: Tensor, size: int, start: int) -> Tensor:
    values = values.long().reshape(-1)
    return functional.one_hot(values - start if start else values, size).float()


def _one_hots(values: Tensor, sizes: tuple[int, ...], starts: tuple[int, ...]) -> Tensor:
    columns = values.reshape(values.shape[0], -1).unbind(1)
    return torch.cat([_one_hot(*column) for column in zip(columns, sizes, starts, strict=True)], dim=1)


def _encode_dict(encoders: tuple[tuple[str, tuple[str, ...], Encode], ...], observations: Any) -> dict[str, Tensor]:
    encoded = {}
    for name, path, encode in encoders:
        value = observations
        for key in path:
            value = value[key]
        encoded[name] = encode(value)
    return encoded
