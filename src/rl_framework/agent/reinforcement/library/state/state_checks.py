"""Whether the training state in a checkpoint fits the algorithm that it is meant for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rl_framework.bundle import decode_value

__all__ = ["check_generators", "check_learner_arrays", "check_like", "check_optimizer", "checked_counter"]

_FRACTIONS = ("exploration_rate", "_current_progress_remaining")


def check_optimizer(
    name: str,
    own: dict[str, Any],
    state: dict[int, dict[str, Any]],
    groups: list[dict[str, Any]],
    parameters: list[torch.Tensor],
) -> None:
    """Raises a ValueError if the state of an optimizer does not fit it."""
    for group, mine in zip(groups, own["param_groups"], strict=True):
        if group.keys() != mine.keys():
            raise ValueError(f"{name} has other settings")
        for key, value in group.items():
            if key != "params" and not _is_alike(value, mine[key]):
                raise ValueError(f"{name} has {key}={value!r}")
    for index, entries in state.items():
        shape = parameters[index].shape if index >= 0 else None
        for key, value in entries.items():
            number = not isinstance(value, torch.Tensor) or value.numel() == 1
            if not number and value.shape != shape:
                raise ValueError(f"{name} has {key} of shape {tuple(value.shape)} for parameter {index}")


def _is_alike(value: Any, mine: Any) -> bool:
    """Tells whether a setting of an optimizer is of the kind of the present one."""
    if isinstance(mine, tuple | list):
        return isinstance(value, tuple | list) and len(value) == len(mine) and all(map(_is_alike, value, mine))
    if isinstance(mine, bool) or mine is None:
        return isinstance(value, bool) or value is None
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def checked_counter(name: str, value: Any, own: Any) -> Any:
    """Returns a counter, or raises a ValueError if it is none."""
    if name in _FRACTIONS:
        # Progress falls below 0 when the last rollout overshoots.
        fits = isinstance(value, int | float) and (0 if name == "exploration_rate" else -1e9) <= value <= 1
    elif name == "old_count":  # ARS counts observations in a float
        fits = isinstance(value, int | float) and 0 <= value < 1 << 63
    else:
        fits = isinstance(value, int) and 0 <= value < 1 << 63
    if not fits or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r} where {own!r} was expected")
    return value


def check_like(name: str, value: torch.Tensor, own: torch.Tensor) -> None:
    """Raises a ValueError if a tensor is not like the present one."""
    if value.shape != own.shape or value.dtype != own.dtype:
        raise ValueError(f"{name} has shape {tuple(value.shape)} and type {value.dtype}")


def check_learner_arrays(name: str, found: dict[str, NDArray[Any]], vec_env: VecEnv) -> None:
    """Raises a ValueError if what the learner saw last does not fit the environments."""
    if name == "_last_episode_starts":
        expected: dict[str, Any] = {"": ((), np.dtype(np.bool_))}
    else:
        space = vec_env.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        expected = {key: (part.shape, part.dtype) for key, part in parts.items()}
    if found.keys() != expected.keys():
        raise ValueError(f"{name} has parts {sorted(found)}")
    for key, array in found.items():
        shape, dtype = expected[key]
        # A normaliser makes floats of integers.
        fits = array.dtype == dtype or (
            dtype.kind != "b" and array.dtype.kind == "f" and bool(np.isfinite(array).all())
        )
        if array.shape != (vec_env.num_envs, *shape) or not fits:
            raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}")


def check_generators(state: dict[str, Any]) -> None:
    """Raises a ValueError if a generator stands outside of its own state, where NumPy would read other memory."""
    inner = decode_value(state["action_space"])["state"]
    for position in (state["random"]["numpy"][2], inner.get("pos", 0)):
        if not isinstance(position, int) or not 0 <= position <= 624:
            raise ValueError(f"a generator stands at {position}")
