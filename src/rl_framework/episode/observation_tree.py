"""Observations that are one array, or a dict of arrays, possibly nested, as a gymnasium `Dict` space has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ObservationTree", "concatenated", "leaf_name", "leaves", "map_leaves", "stacked", "tree_of_leaves"]

ObservationTree = NDArray[Any] | dict[str, Any]
"""An array, or a dict whose values are arrays or such dicts."""

Path = tuple[str, ...]
"""The keys that lead to an array; empty where the observation is one array."""


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yields every array with the keys that lead to it, in the order of the dicts."""
    if isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from leaves(part, (*path, key))
    else:
        yield path, tree


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Applies a function to every array and keeps the dicts around them."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, part) for key, part in tree.items()}
    return function(tree)


def tree_of_leaves(parts: Mapping[Path, Any]) -> Any:
    """Puts together what `leaves` took apart."""
    if () in parts:
        return parts[()]
    tree: dict[str, Any] = {}
    for path, leaf in parts.items():
        place = tree
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = leaf
    return tree


def stacked(trees: Sequence[Any]) -> Any:
    """Puts single observations under one another: the arrays get a new leading axis."""
    return _joined(trees, np.stack)


def concatenated(trees: Sequence[Any]) -> Any:
    """Puts batches of observations behind one another, along their leading axis."""
    return _joined(trees, np.concatenate)


def _joined(trees: Sequence[Any], join: Callable[[list[Any]], NDArray[Any]]) -> Any:
    if isinstance(trees[0], Mapping):
        return {key: _joined([tree[key] for tree in trees], join) for key in trees[0]}
    return join([np.asarray(tree) for tree in trees])


def leaf_name(path: Path) -> str:
    """Names an array in an error: `observations` or `observations['camera']['left']`."""
    return "observations" + "".join(f"[{key!r}]" for key in path)
