"""Wrappers for any environment: gymnasium's own, made from plain data, and what gymnasium does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import (
    ClipReward,
    FrameStackObservation,
    RescaleAction,
    ResizeObservation,
    StickyAction,
    TransformObservation,
)

from rl_framework.errors import ArgumentError, require_extra

__all__ = ["RewardClip", "RewardScale", "rescale_action", "resize", "stack_frames", "stick_to_actions"]

_Env = gymnasium.Env[Any, Any]

# A file may ask for any numbers; these would only fill the memory.
_MOST_FRAMES = 1_000
_LARGEST_SIDE = 4_096


def stack_frames(env: _Env, stack_size: int, padding_type: str = "reset") -> _Env:
    """Shows the last `stack_size` observations together (gymnasium's `FrameStackObservation`).

    Args:
        env: The environment.
        stack_size: How many.
        padding_type: What stands for those before the first one: "reset" (the first one itself) or "zero".

    Returns:
        Images `(height, width)` become `(stack_size, height, width)`, images `(height, width, channels)` become
        `(height, width, stack_size * channels)` with the newest last, others get a leading axis.
    """
    if isinstance(stack_size, int) and stack_size > _MOST_FRAMES:
        raise ArgumentError("stack_size", stack_size, f"must be at most {_MOST_FRAMES}")
    stacked: _Env = FrameStackObservation(env, stack_size, padding_type=padding_type)
    space = stacked.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 4:
        return stacked
    folded = spaces.Box(_channels_last(space.low), _channels_last(space.high), dtype=space.dtype)  # type: ignore[arg-type]
    return TransformObservation(stacked, _channels_last, folded)


def _channels_last(frames: Any) -> Any:
    count, height, width, channels = frames.shape
    return np.ascontiguousarray(np.moveaxis(frames, 0, 2).reshape(height, width, count * channels))


def resize(env: _Env, shape: Sequence[int]) -> _Env:
    """Resizes images to `shape`, `(height, width)` (gymnasium's `ResizeObservation`, which needs OpenCV)."""
    require_extra("atari", "the wrapper 'resize'", "cv2")
    if max(shape, default=0) > _LARGEST_SIDE:
        raise ArgumentError("shape", shape, f"must be at most {_LARGEST_SIDE} on each side")
    return ResizeObservation(env, (*shape,))  # type: ignore[arg-type] # its length is checked there


def rescale_action(
    env: _Env, min_action: float | Sequence[float] = -1.0, max_action: float | Sequence[float] = 1.0
) -> _Env:
    """Lets the agent's actions reach from `min_action` to `max_action` (gymnasium's `RescaleAction`).

    Args:
        env: An environment whose actions are a bounded `Box`.
        min_action: What stands for the lowest action, a number or one for each entry.
        max_action: What stands for the highest.
    """
    space = env.action_space
    if not isinstance(space, spaces.Box):
        raise TypeError("its actions are no Box")
    low, high = (np.broadcast_to(np.asarray(bound, space.dtype), space.shape) for bound in (min_action, max_action))
    return RescaleAction(env, low.copy(), high.copy())


def stick_to_actions(
    env: _Env, repeat_action_probability: float = 0.25, repeat_action_duration: int | Sequence[int] = 1
) -> _Env:
    """Repeats the last action with this probability (gymnasium's `StickyAction`; Machado et al. 2018).

    Args:
        env: The environment, from whose generator it draws, so that a resumed training repeats the same actions.
        repeat_action_probability: In [0, 1).
        repeat_action_duration: For how many steps, or the bounds between which that is drawn.
    """
    duration: Any = repeat_action_duration if isinstance(repeat_action_duration, int) else (*repeat_action_duration,)
    return StickyAction(env, repeat_action_probability, duration)


class RewardClip(ClipReward[Any, Any]):
    """Clips rewards (gymnasium's `ClipReward`); returns are told as they were before.

    Args:
        env: The environment.
        min_reward: The lowest; None: no limit.
        max_reward: The highest; None: no limit.
    """

    def __init__(self, env: _Env, min_reward: float | None = -1.0, max_reward: float | None = 1.0) -> None:
        super().__init__(env, min_reward, max_reward)
        self._bounds = min_reward, max_reward

    @property
    def compute_reward(self) -> Callable[..., Any]:
        """The goal environment's own, clipped like the rewards beside which hindsight puts it."""
        inner = self.env.get_wrapper_attr("compute_reward")
        return lambda *arguments: np.clip(inner(*arguments), *self._bounds)


class RewardScale(gymnasium.RewardWrapper[Any, Any], RecordConstructorArgs):
    """Multiplies rewards by a number; returns are told as they were before.

    Args:
        env: The environment.
        scale: The number, finite and not 0.
    """

    def __init__(self, env: _Env, scale: float) -> None:
        RecordConstructorArgs.__init__(self, scale=scale)
        gymnasium.RewardWrapper.__init__(self, env)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not np.isfinite(scale) or scale == 0:
            raise ArgumentError("scale", scale, "must be a finite number that is not 0")
        self.scale = float(scale)

    def reward(self, reward: SupportsFloat) -> float:
        """Returns the scaled reward."""
        return float(reward) * self.scale

    @property
    def compute_reward(self) -> Callable[..., Any]:
        """The goal environment's own, scaled like the rewards beside which hindsight puts it."""
        inner = self.env.get_wrapper_attr("compute_reward")
        return lambda *arguments: inner(*arguments) * self.scale
