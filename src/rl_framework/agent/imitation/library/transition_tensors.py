"""Observations and actions of recorded transitions as the tensors that a policy takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.observation_tree import leaves, map_leaves
from rl_framework.episode.transitions import Transitions
from rl_framework.errors import ArgumentError

__all__ = ["TransitionTensors"]

_KEPT_IN_MEMORY = 64 << 20
"""Bytes up to which a data set is converted once, instead of each batch anew."""
_ROWS_AT_ONCE = 4096


class TransitionTensors:
    """Reads batches of transitions as tensors.

    A small data set is converted once and kept; of a large one only the batch is in memory.

    Args:
        transitions: Where they come from.
        observation_space: Space of the observations as the policy takes them: images with the channels first.
        action_space: Space of the actions.
        device: Where the tensors are to be.
        kept_in_memory: Bytes up to which a data set counts as small.

    Raises:
        ArgumentError: Observations or actions do not fit the spaces.
    """

    def __init__(
        self,
        transitions: Transitions,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device,
        kept_in_memory: int = _KEPT_IN_MEMORY,
    ) -> None:
        if len(transitions) == 0:
            raise ArgumentError("transitions", transitions, "there are none")
        self.device = device
        self._source = transitions
        self._observation_space = observation_space
        self._action_space = action_space
        arrays = transitions.arrays()
        # Plain arrays over the same memory: indexing a subclass such as `np.memmap` is slower.
        self._arrays = (
            None if arrays is None else (map_leaves(np.asarray, arrays.observations), np.asarray(arrays.actions))
        )
        self._kept: tuple[Any, torch.Tensor] | None = None
        first = self._read(np.zeros(1, np.int64))
        if len(transitions) * sum(part.nbytes for part in _parts(first)) <= kept_in_memory:
            self._kept = self._read_all()

    def __len__(self) -> int:
        return len(self._source)

    def gather(self, rows: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Returns observations and actions of some transitions, shapes `(B, *shape)`, on the device.

        Args:
            rows: Shape `(B,)`, integers.
        """
        if self._kept is None:
            return self._read(rows.numpy().astype(np.int64, copy=False))
        if self.device.type != "cpu":
            rows = rows.to(self.device)
        observations, actions = self._kept
        return map_leaves(lambda part: part.index_select(0, rows), observations), actions.index_select(0, rows)

    def in_order(self, batch_size: int) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yields all transitions in batches, the last of which may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.gather(torch.arange(start, min(start + batch_size, len(self))))

    def _read(self, indices: NDArray[np.int64]) -> tuple[Any, torch.Tensor]:
        if self._arrays is None:
            batch = self._source.gather(indices)
            return self._observations(batch.observations), self._actions(batch.actions)
        # Only what is needed: the next observations are as large as the observations.
        rows, observation_rows = self._source.rows(indices)
        observations = map_leaves(lambda leaf: leaf.take(observation_rows, axis=0), self._arrays[0])
        return self._observations(observations), self._actions(self._arrays[1].take(rows, axis=0))

    def _read_all(self) -> tuple[Any, torch.Tensor]:
        """Reads everything in pieces, so that nothing besides the result is large."""
        count = len(self)
        first = self._read(np.zeros(1, np.int64))
        whole = [map_leaves(lambda part: part.new_empty((count, *part.shape[1:])), tree) for tree in first]
        for start in range(0, count, _ROWS_AT_ONCE):
            indices = np.arange(start, min(start + _ROWS_AT_ONCE, count))
            for into, part in zip(_parts(whole), _parts(self._read(indices)), strict=True):
                into[start : start + len(indices)] = part
        return whole[0], whole[1]

    def _observations(self, given: Any) -> Any:
        space = self._observation_space
        if not isinstance(space, spaces.Dict):
            return _as_observations(given, space, "observations").to(self.device)
        if not isinstance(given, dict) or given.keys() != space.spaces.keys():
            found = sorted(given) if isinstance(given, dict) else "no dict"
            raise ArgumentError("transitions", found, f"observations need the keys {sorted(space.spaces)}")
        return {
            key: _as_observations(given[key], part, f"observations[{key!r}]").to(self.device)
            for key, part in space.spaces.items()
        }

    def _actions(self, given: NDArray[Any]) -> torch.Tensor:
        space, actions = self._action_space, torch.from_numpy(given)
        if actions.shape[1:] != space.shape:
            raise ArgumentError("transitions", tuple(actions.shape[1:]), f"actions need the shape {space.shape}")
        if isinstance(space, spaces.Box):
            return actions.float().flatten(1).to(self.device)
        if isinstance(space, spaces.MultiBinary):
            return actions.float().to(self.device)
        actions = actions.long()
        sizes = space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n  # type: ignore[attr-defined]
        outside = (actions < 0) | (actions >= torch.as_tensor(sizes))
        if outside.any():
            raise ArgumentError("transitions", actions[outside][0].item(), f"this action is not in {space}")
        return actions.to(self.device)


def _parts(trees: Iterable[Any]) -> list[torch.Tensor]:
    return [part for tree in trees for _, part in leaves(tree)]


def _as_observations(given: NDArray[Any], space: spaces.Space[Any], name: str) -> torch.Tensor:
    # torch can hold, but not index, the larger unsigned integers.
    tensor = torch.from_numpy(given.astype(np.int64) if given.dtype.kind == "u" and given.itemsize > 1 else given)
    shape, expected = tuple(tensor.shape[1:]), tuple(space.shape or ())
    if shape != expected and len(shape) == len(expected) == 3 and (shape[2], *shape[:2]) == expected:
        tensor = tensor.permute(0, 3, 1, 2)
    elif shape != expected:
        raise ArgumentError("transitions", shape, f"{name} need the shape {expected}")
    return tensor.float() if tensor.dtype == torch.float64 else tensor
