"""What rollout buffers of every kind do about slots that hold nobody."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from rl_framework.errors import RLFrameworkError

__all__ = ["PresentRollout"]


class PresentRollout:
    """Rows of absent slots are collected with the others, which keeps time aligned, and never learned from.

    The transition before an absence ends an episode, so that no advantage reaches across it.
    """

    vec_env: VecEnv
    buffer_size: int
    n_envs: int
    pos: int
    generator_ready: bool

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()  # type: ignore[misc]
        self.acted = np.ones((self.buffer_size, self.n_envs), dtype=np.bool_)

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Adds a step of all slots."""
        # In environments that the user vectorized for Stable-Baselines3, everybody acts.
        self.acted[self.pos] = getattr(self.vec_env, "acted", True)
        super().add(*args, **kwargs)  # type: ignore[misc]

    def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yields batches of the rows to learn from."""
        if self.acted.all():
            yield from super().get(batch_size)  # type: ignore[misc]
            return
        if not self.acted.any():
            raise RLFrameworkError(
                f"nobody was there for a whole rollout of {self.buffer_size} steps: there is nothing to learn from; "
                "raise algorithm_parameters['n_steps']"
            )
        if not self.generator_ready:
            next(super().get())  # type: ignore[misc]  # the library flattens its arrays at the first batch
        rows = np.random.permutation(np.flatnonzero(self.acted.swapaxes(0, 1).reshape(-1)))
        size = len(rows) if batch_size is None else batch_size
        for start in range(0, len(rows), size):
            yield self._get_samples(rows[start : start + size])  # type: ignore[attr-defined]
