"""Rows of tensors of which the oldest give way."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_framework.agent.reinforcement.composed.batch import rows_of
from rl_framework.episode.observation_tree import leaves, map_leaves, tree_of_leaves

__all__ = ["TransitionStore"]


class TransitionStore:
    """Keeps so many rows of several tensors (or dicts of them), by name, in one place of memory each.

    Memory is taken when the first rows come.

    Args:
        capacity: Rows to keep.
        device: Where they lie.

    Attributes:
        size: Rows that are there.
        position: Where the next row goes.
        seen: Rows that ever came.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.size = self.position = self.seen = 0
        self._tensors: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, name: str) -> Any:
        """Returns all rows of that name, `(capacity, *shape)`, those that were never written to too."""
        return self._tensors[name]

    def add(self, rows: dict[str, Any]) -> int:
        """Adds rows, the last ones of them if there are more than fit, and returns how many were given.

        Args:
            rows: Tensors (or dicts of them) by name, leading axis: rows; the same names and shapes every time.
        """
        count = len(next(leaf for _, leaf in leaves(rows)))
        if not self._tensors:
            self._tensors = {name: map_leaves(self._empty, value) for name, value in rows.items()}
        stored = min(count, self.capacity)
        at_end = min(stored, self.capacity - self.position)
        for (_, kept), (_, given) in zip(leaves(self._tensors), leaves(rows), strict=True):
            new = given[count - stored :]
            kept[self.position : self.position + at_end] = new[:at_end]
            kept[: stored - at_end] = new[at_end:]
        self.position = (self.position + stored) % self.capacity
        self.size = min(self.size + stored, self.capacity)
        self.seen += count
        return count

    def rows(self, chosen: Tensor) -> dict[str, Any]:
        """Returns some rows by name, as tensors of their own."""
        return {name: rows_of(value, chosen) for name, value in self._tensors.items()}

    def state(self) -> dict[str, Any]:
        """Returns the rows that are there, and the counters: arrays and integers by name."""
        state: dict[str, Any] = {"size": self.size, "position": self.position, "seen": self.seen}
        if self.size:
            paths = json.dumps([path for path, _ in leaves(self._tensors)])
            state["paths"] = np.frombuffer(paths.encode(), np.uint8)
            for place, (_, leaf) in enumerate(leaves(self._tensors)):
                state[f"rows/{place}"] = leaf[: self.size].cpu().numpy()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave.

        Raises:
            ValueError: It does not fit.
            KeyError: Something is missing.
        """
        size, position, seen = (int(state[name]) for name in ("size", "position", "seen"))
        full = size == self.capacity
        if not (0 <= size <= min(seen, self.capacity) and 0 <= position < self.capacity and (full or position == size)):
            raise ValueError(f"{size} of {seen} rows up to {position} do not fit into {self.capacity}")
        parts = {}
        paths = json.loads(np.asarray(state["paths"], np.uint8).tobytes()) if size else ()
        for place, path in enumerate(paths):
            filled = torch.as_tensor(state[f"rows/{place}"])
            if len(filled) != size:
                raise ValueError(f"there are {len(filled)} rows of {path} and not {size}")
            whole = parts[tuple(map(str, path))] = self._empty(filled)
            whole[:size] = filled.to(self.device)
        self._tensors = tree_of_leaves(parts)
        self.size, self.position, self.seen = size, position, seen

    def _empty(self, rows: Tensor) -> Tensor:
        return torch.empty((self.capacity, *rows.shape[1:]), dtype=rows.dtype, device=self.device)
