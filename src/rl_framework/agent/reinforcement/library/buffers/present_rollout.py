"""What rollout buffers of every kind do about slots that hold nobody."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from rl_framework.errors import RLFrameworkError

__all__ = ["PresentRollout", "swap_decisions"]


def swap_decisions(kept: dict[str, Any], row: dict[str, Any], decided: Any, acted: Any) -> dict[str, Any]:
    """Brings together what was decided and what came of it, where that is told in a later step.

    Args:
        kept: What those chose whose outcome is not told yet, as this function returned it.
        row: Arrays of one step, leading axis: slots. The choices of who was told now are written into them.
        decided: Shape `(n_slots,)`, bool: whose choices of this step were taken.
        acted: Shape `(n_slots,)`, bool: whose rows are transitions.

    Returns:
        What to keep until the next step.
    """
    late, early = acted & ~decided, decided & ~acted
    if late.any():
        for name, array in row.items():
            array[late] = kept[name][late]
    if early.any():
        for name, array in row.items():
            kept.setdefault(name, np.zeros_like(array))[early] = array[early]
    return kept


class PresentRollout:
    """Rows of absent slots are collected with the others, which keeps time aligned, and never learned from.

    The transition before an absence ends an episode, so that no advantage reaches across it.
    """

    vec_env: VecEnv
    buffer_size: int
    n_envs: int
    pos: int
    rewards: np.ndarray
    values: np.ndarray
    advantages: np.ndarray
    episode_starts: np.ndarray
    gamma: float
    gae_lambda: float
    generator_ready: bool

    def reset(self) -> None:
        """Empties the buffer."""
        super().reset()  # type: ignore[misc]
        self.acted = np.ones((self.buffer_size, self.n_envs), dtype=np.bool_)

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Adds a step of all slots."""
        row = self.pos
        # In environments that the user vectorized for Stable-Baselines3, everybody acts.
        acted = np.broadcast_to(getattr(self.vec_env, "acted", True), self.n_envs)
        self.acted[row] = acted
        super().add(*args, **kwargs)  # type: ignore[misc]
        decided = getattr(self.vec_env, "decided", acted)
        if decided is not acted:
            self._decisions = swap_decisions(getattr(self, "_decisions", {}), self._chosen(row), decided, acted)

    def _chosen(self, row: int) -> dict[str, Any]:
        """Returns what an agent saw and chose at the time of its decision, as views of one row of the buffer."""
        names = ("observations", "actions", "values", "log_probs", "action_masks")
        chosen: dict[str, Any] = {}
        for name in names:
            array = getattr(self, name, None)
            if isinstance(array, dict):
                chosen |= {f"{name}.{key}": part[row] for key, part in array.items()}
            elif array is not None:
                chosen[name] = array[row]
        return chosen

    def compute_returns_and_advantage(self, last_values: Any, dones: Any) -> None:
        """Estimates advantages from transition to transition of each slot, whatever lies between them."""
        if self.acted.all():
            super().compute_returns_and_advantage(last_values, dones)  # type: ignore[misc]
            return
        following = last_values.clone().cpu().numpy().flatten()
        advantage = np.zeros(self.n_envs, dtype=np.float32)
        ended = np.asarray(dones, dtype=np.float32)
        for row in reversed(range(self.buffer_size)):
            goes_on = 1.0 - ended
            surprise = self.rewards[row] + self.gamma * following * goes_on - self.values[row]
            acted = self.acted[row]
            advantage = np.where(acted, surprise + self.gamma * self.gae_lambda * goes_on * advantage, advantage)
            following = np.where(acted, self.values[row], following)
            self.advantages[row] = np.where(acted, advantage, 0.0)
            ended = self.episode_starts[row]
        self.returns = self.advantages + self.values

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
        starts = list(range(0, len(rows), size))
        if len(starts) > 1 and len(rows) - starts[-1] == 1 < size:
            starts.pop()  # a single row has no standard deviation, by which some algorithms divide
        elif len(rows) == 1:
            rows = rows.repeat(2)
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield self._get_samples(rows[start:end])  # type: ignore[attr-defined]
