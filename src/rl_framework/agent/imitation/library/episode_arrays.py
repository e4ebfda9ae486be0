"""Episodes as the arrays of one member of a bundle, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode import Episode
from rl_framework.episode.observation_tree import leaves, tree_of_leaves

__all__ = ["episodes_from_arrays", "episodes_to_arrays"]

_FLAGS = ("terminated", "truncated")


def episodes_to_arrays(episodes: Sequence[Episode]) -> dict[str, NDArray[Any]]:
    """Puts episodes behind one another; their infos are left out.

    Args:
        episodes: Of one observation space.

    Returns:
        Arrays by name; none for no episodes.
    """
    if not episodes:
        return {}
    trees = [dict(leaves(episode.observations)) for episode in episodes]
    arrays = {
        f"observations/{place}": np.concatenate([tree[path] for tree in trees])
        for place, path in enumerate(sorted(trees[0]))
    }
    for name in ("actions", "rewards"):
        arrays[name] = np.concatenate([getattr(episode, name) for episode in episodes])
    for name in _FLAGS:
        arrays[name] = np.array([getattr(episode, name) for episode in episodes], dtype=np.bool_)
    arrays["lengths"] = np.array([len(episode) for episode in episodes], dtype=np.int64)
    return arrays


def episodes_from_arrays(arrays: Mapping[str, NDArray[Any]], observation_space: gymnasium.Space[Any]) -> list[Episode]:
    """Returns the episodes that `episodes_to_arrays` put behind one another.

    Args:
        arrays: From a bundle, possibly somebody else's.
        observation_space: Tells the keys of observations that are dicts.

    Raises:
        ValueError: The arrays do not fit together.
        KeyError: One is missing.
    """
    if not arrays:
        return []
    lengths = arrays["lengths"]
    if lengths.ndim != 1 or lengths.dtype != np.int64 or not lengths.size or lengths.min() < 1:
        raise ValueError("episodes have lengths that are none")
    if any(arrays[name].shape != lengths.shape or arrays[name].dtype != np.bool_ for name in _FLAGS):
        raise ValueError("episodes do not tell how they ended")
    parts = {path: arrays[f"observations/{place}"] for place, path in enumerate(sorted(_paths(observation_space)))}
    steps = int(lengths.sum())
    rows = {"actions": steps, "rewards": steps, **{name: steps + len(lengths) for name in map(str, parts)}}
    found = {name: arrays[name] for name in ("actions", "rewards")} | {str(path): part for path, part in parts.items()}
    for name, count in rows.items():
        if found[name].ndim == 0 or len(found[name]) != count:
            raise ValueError(f"{name} have the shape {found[name].shape}, {count} rows are needed")
    ends = np.cumsum(lengths)
    episodes = []
    for index, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        own, shown = slice(end - length, end), slice(end - length + index, end + index + 1)
        episodes.append(
            Episode(
                observations=tree_of_leaves({path: part[shown] for path, part in parts.items()}),
                actions=arrays["actions"][own],
                rewards=arrays["rewards"][own],
                terminated=bool(arrays["terminated"][index]),
                truncated=bool(arrays["truncated"][index]),
            )
        )
    return episodes


def _paths(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(space, spaces.Dict):
        return [found for key, part in space.spaces.items() for found in _paths(part, (*path, key))]
    return [path]
