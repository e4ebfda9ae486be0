"""Spaces guessed from recorded numbers, for data that does not say its spaces, and spaces of joined data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.checks import space_leaves
from rl_framework.episode.observation_tree import ObservationTree, leaf_name
from rl_framework.errors import EpisodeDataError, SpaceMismatchError, shorten

__all__ = ["infer_action_space", "infer_observation_space", "infer_spaces", "joined_space"]


def infer_spaces(
    observations: ObservationTree, actions: NDArray[Any]
) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Guesses the spaces that recorded observations and actions are from.

    | numbers | observation | action |
    |---|---|---|
    | float | `Box(-inf, inf)` | `Box(-inf, inf)` |
    | uint8 with a shape | `Box(0, 255)` | `MultiDiscrete` |
    | other integers with a shape | `Box` over all of their type | `MultiDiscrete`, each `max + 1` |
    | one integer | `Discrete(max + 1)` | `Discrete(max + 1)` |
    | bool | `Discrete(2)`, with a shape `MultiBinary` | the same |

    A dict of observations gives a `Dict` space. Data cannot show bounds that were not reached, nor actions that were
    not taken: give the spaces where you know them.

    Args:
        observations: Shape `(n, *shape)`, or a dict of such arrays.
        actions: Shape `(n, *shape)`.

    Returns:
        The space of one observation and of one action.

    Raises:
        EpisodeDataError: Integers are negative where counts are needed.
    """
    return infer_observation_space(observations), infer_action_space(actions)


def infer_observation_space(observations: ObservationTree) -> gymnasium.Space[Any]:
    """Guesses the space of one observation; see `infer_spaces`."""
    return _observation_space(observations, ())


def infer_action_space(actions: NDArray[Any]) -> gymnasium.Space[Any]:
    """Guesses the space of one action; see `infer_spaces`."""
    return _space(actions, "actions", "action_space", counts=True)


def _observation_space(tree: Any, path: tuple[str, ...]) -> gymnasium.Space[Any]:
    if isinstance(tree, Mapping):
        # Given as a list, the order of the keys is kept.
        return spaces.Dict([(key, _observation_space(part, (*path, key))) for key, part in tree.items()])
    return _space(tree, leaf_name(path), "observation_space", counts=False)


def _space(array: NDArray[Any], name: str, argument: str, *, counts: bool) -> gymnasium.Space[Any]:
    shape, dtype = array.shape[1:], array.dtype
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape, dtype.type)
    if dtype.kind == "b":
        return spaces.MultiBinary(shape) if shape else spaces.Discrete(2)
    if shape and not counts:
        limits = np.iinfo(dtype)
        return spaces.Box(limits.min, limits.max, shape, dtype.type)
    if array.size and array.min() < 0:
        row = int(np.argmax((array.reshape(len(array), -1) < 0).any(axis=1)))
        raise EpisodeDataError(
            f"{name}[{row}] is {shorten(array[row])}: integers were taken for choices that are counted from 0. "
            f"Give {argument} to say what they are"
        )
    most = array.max(axis=0)
    if not shape:
        return spaces.Discrete(int(most) + 1)
    return spaces.MultiDiscrete(most.astype(np.int64) + 1)


def joined_space(
    argument: str,
    one: gymnasium.Space[Any],
    one_is_inferred: bool,
    other: gymnasium.Space[Any],
    other_is_inferred: bool,
) -> gymnasium.Space[Any]:
    """Returns the space of two data sets together.

    A space that was stated counts for more than one that was guessed, and guessed counts grow to the larger one.

    Args:
        argument: `"observation_space"` or `"action_space"`, for the error.
        one: Space of the first.
        one_is_inferred: Whether it was guessed.
        other: Space of the second.
        other_is_inferred: Whether it was guessed.

    Raises:
        SpaceMismatchError: They cannot be of one environment; the message names the difference.
    """
    if one == other:
        return other if one_is_inferred else one
    if type(one) is type(other) and (one_is_inferred or other_is_inferred):
        joined = _joined(one, one_is_inferred, other, other_is_inferred)
        if joined is not None:
            return joined
    raise SpaceMismatchError(argument, other, f"differs from that of the episodes before it: {_difference(one, other)}")


def _joined(one: Any, one_is_inferred: bool, other: Any, other_is_inferred: bool) -> Any:
    """Returns the space of both, or None if there is none."""
    both = one_is_inferred and other_is_inferred
    stated, guessed = (other, one) if one_is_inferred else (one, other)
    if isinstance(one, spaces.Dict):
        if list(one.spaces) != list(other.spaces):
            return None
        parts = [(key, _joined_part(one[key], one_is_inferred, other[key], other_is_inferred)) for key in one.spaces]
        return None if any(part is None for _, part in parts) else spaces.Dict(parts)
    if isinstance(one, spaces.Discrete):
        if both:
            return one if one.n >= other.n else other
        return stated if guessed.n <= stated.start + stated.n else None
    if isinstance(one, spaces.MultiDiscrete) and one.shape == other.shape:
        if both:
            return spaces.MultiDiscrete(np.maximum(one.nvec, other.nvec))
        return stated if (guessed.nvec <= stated.start + stated.nvec).all() else None
    if isinstance(one, spaces.Box) and one.shape == other.shape and one.dtype == other.dtype:
        return stated
    return None


def _joined_part(one: Any, one_is_inferred: bool, other: Any, other_is_inferred: bool) -> Any:
    if one == other:
        return one
    return _joined(one, one_is_inferred, other, other_is_inferred) if type(one) is type(other) else None


def _difference(one: gymnasium.Space[Any], other: gymnasium.Space[Any]) -> str:
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        mine, theirs = dict(space_leaves(one)), dict(space_leaves(other))
        for path in [*mine, *(path for path in theirs if path not in mine)]:
            here, there = mine.get(path), theirs.get(path)
            if here != there:
                name = leaf_name(path)
                return f"{name} is {shorten(there) if there else 'missing'}, not {shorten(here) if here else 'there'}"
    return f"{shorten(other)} is not {shorten(one)}"
