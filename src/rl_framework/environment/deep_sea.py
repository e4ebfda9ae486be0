"""Deep Sea, the exploration task that no amount of dithering solves (Osband et al. 2019, from its description)."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework.errors import ArgumentError

__all__ = ["DeepSea"]

_CELL = 16
"""Pixels of a cell's edge in a picture."""

_WATER, _BOTTOM, _DIVER, _TREASURE = (38, 84, 124), (24, 54, 82), (255, 209, 102), (6, 214, 160)


class DeepSea(gymnasium.Env[NDArray[np.float32], np.int64]):
    """A diver sinks through `size * size` cells, a row a step, and drifts one column to the left or to the right.

    It starts at the top left. Only who goes right in every one of the `size` steps is at the treasure at the end, which
    pays 1; each step to the right costs `0.01 / size`, so that the best return is 0.99, and whoever does not know of
    the treasure learns to avoid the right. A policy that tries at random finds it once in `2 ** size` episodes. Which
    of the two actions goes right differs from cell to cell, so that nothing can be learned about cells that were never
    seen.

    Observations have shape `(size * size,)`: 1 at the cell of the diver, 0 elsewhere, and 0 everywhere at the end.
    Every episode has `size` steps and terminates. Nothing is random but which actions go right, and that is the same in
    all environments with the same `mapping_seed`.

    The task is "Deep Sea" of Osband et al., "Deep Exploration via Randomized Value Functions" (2019, arXiv:1703.07608),
    with the rewards of "Behaviour Suite for Reinforcement Learning" (bsuite, 2020, arXiv:1908.03568), deterministic.
    Registered with gymnasium: after `import rl_framework.environment`, "rl_framework/DeepSea-v0" is an id like any
    other.

    Args:
        size: How many rows and columns, from 2.
        mapping_seed: Decides which action goes right in which cell; None: action 1 does everywhere.
        render_mode: "rgb_array", "ansi" or None.

    Raises:
        ArgumentError: `size` is below 2, or there is no such render mode.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # as in all of gymnasium's own
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
    }

    def __init__(self, size: int = 10, mapping_seed: int | None = 0, render_mode: str | None = None) -> None:
        if size < 2:
            raise ArgumentError("size", size, "a sea has at least 2 rows")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ArgumentError("render_mode", render_mode, "not known", f"Known: {self.metadata['render_modes']}.")
        self.size = size
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (size * size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.right_actions = np.ones((size, size), np.int64)
        if mapping_seed is not None:
            self.right_actions = np.random.default_rng(mapping_seed).integers(2, size=(size, size))
        self._row = self._column = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts at the top left; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self._row = self._column = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Sinks a row; see `gymnasium.Env.step`."""
        if self._row == self.size:
            raise gymnasium.error.ResetNeeded("the diver is at the bottom: call `reset()` first")
        reward = 0.0
        if int(action) == self.right_actions[self._row, self._column]:
            # There is no way to this column but by going right from the first step on.
            reward = float(self._column == self.size - 1) - 0.01 / self.size
            self._column += 1
        else:
            self._column = max(self._column - 1, 0)
        self._row += 1
        return self._observation(), reward, self._row == self.size, False, {}

    def render(self) -> Any:
        """Returns a picture `(height, width, 3)`, uint8, or text."""
        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            places = np.full((self.size + 1, self.size + 1), ".")
            places[self.size, self.size] = "$"
            places[self._row, self._column] = "O"
            return "".join("".join(row) + "\n" for row in places)
        cells = np.full((self.size + 1, self.size + 1, 3), _WATER, np.uint8)
        cells[self.size] = _BOTTOM
        cells[self.size, self.size] = _TREASURE
        cells[self._row, self._column] = _DIVER
        return cells.repeat(_CELL, axis=0).repeat(_CELL, axis=1)

    def _observation(self) -> NDArray[np.float32]:
        observation = np.zeros((self.size, self.size), np.float32)
        if self._row < self.size:
            observation[self._row, self._column] = 1.0
        return observation.reshape(-1)
