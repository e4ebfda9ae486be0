"""How wide a mask of allowed actions is, as sb3-contrib and this framework have it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["mask_width"]


def mask_width(space: gymnasium.Space[Any]) -> int:
    """Returns the length of a mask: one entry for each value of each part of an action.

    Args:
        space: Of one action.

    Returns:
        The length; 0 for spaces whose actions cannot be masked.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return 2 * int(np.prod(space.shape))
    return 0
