"""MiniGrid's observations, which hold a text, in forms that networks take.

MiniGrid's own wrappers (Chevalier-Boisvert et al. 2023) do the work.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from rl_framework.errors import ArgumentError, require_extra

__all__ = ["flat", "image", "rgb"]

_Env = gymnasium.Env[Any, Any]
_MOST_PIXELS = 64


def image(env: _Env) -> _Env:
    """Shows what the agent sees alone: shape `(7, 7, 3)`, the kind, colour and state of each field."""
    _require("minigrid_image")
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(env)


def rgb(env: _Env, tile_size: int = 8, fully_observable: bool = False) -> _Env:
    """Shows a picture alone: uint8, shape `(fields * tile_size, fields * tile_size, 3)`.

    Args:
        env: An environment of MiniGrid.
        tile_size: Pixels of a field.
        fully_observable: Whether the whole grid is shown instead of what the agent sees.
    """
    _require("minigrid_rgb")
    if not isinstance(tile_size, int) or not 1 <= tile_size <= _MOST_PIXELS:
        raise ArgumentError("tile_size", tile_size, f"must be from 1 to {_MOST_PIXELS}")
    from minigrid.wrappers import ImgObsWrapper, RGBImgObsWrapper, RGBImgPartialObsWrapper

    drawn = RGBImgObsWrapper if fully_observable else RGBImgPartialObsWrapper
    return ImgObsWrapper(drawn(env, tile_size=tile_size))


def flat(env: _Env) -> _Env:
    """Shows what the agent sees and the letters of its mission as one vector of 2835 numbers."""
    _require("minigrid_flat")
    from minigrid.wrappers import FlatObsWrapper

    return FlatObsWrapper(env)


def _require(name: str) -> None:
    require_extra("minigrid", f"the wrapper {name!r}", "minigrid")
