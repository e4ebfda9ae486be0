"""Whether episodes fit spaces and hold numbers that can be learned from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.episode import Episode
from rl_framework.episode.observation_tree import leaf_name, leaves
from rl_framework.errors import EpisodeDataError, UnsupportedSpaceError, shorten

__all__ = ["check_array", "check_episode", "check_spaces", "space_leaves"]

_LEAVES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
# Actions that were computed in another precision, or scaled back and forth, lie this far outside their bounds.
_TOLERANCE = 1e-5


def space_leaves(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the spaces of the arrays of an observation, with the keys that lead to them.

    Raises:
        UnsupportedSpaceError: A part is of a kind that episodes do not hold.
    """
    if isinstance(space, spaces.Dict) and space.spaces:
        for key, part in space.spaces.items():
            if not isinstance(key, str):
                raise UnsupportedSpaceError("observation_space", space, f"the key {key!r} is no string")
            yield from space_leaves(part, (*path, key))
    elif isinstance(space, _LEAVES):
        yield path, space
    else:
        raise UnsupportedSpaceError(
            "observation_space" if path == () else f"observation_space{list(path)}",
            space,
            "episodes hold Box, Discrete, MultiDiscrete and MultiBinary observations, and (nested) Dict of these",
            "Flatten it, for example with gymnasium.wrappers.FlattenObservation.",
        )


def check_spaces(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
    """Checks that episodes can hold observations and actions of these spaces.

    Raises:
        UnsupportedSpaceError: They cannot.
    """
    for _ in space_leaves(observation_space):
        pass
    if not isinstance(action_space, _LEAVES):
        raise UnsupportedSpaceError(
            "action_space", action_space, "episodes hold Box, Discrete, MultiDiscrete and MultiBinary actions"
        )


def check_episode(
    episode: Episode, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], where: str
) -> None:
    """Checks that an episode fits its spaces and that its numbers are finite.

    Observations outside the bounds of a `Box` are accepted, because many environments state bounds that they do not
    keep; actions are not, beyond rounding.

    Args:
        episode: The episode.
        observation_space: Space of one observation.
        action_space: Space of one action.
        where: What the episode is called in an error, such as `"episode 3"`.

    Raises:
        EpisodeDataError: It does not fit; the message names the array and the row.
    """
    arrays = dict(leaves(episode.observations))
    parts = dict(space_leaves(observation_space))
    if arrays.keys() != parts.keys():
        raise EpisodeDataError(
            f"{where}: it has {_names(arrays)}, but the observation space {shorten(observation_space)} "
            f"has {_names(parts)}"
        )
    for path, part in parts.items():
        check_array(arrays[path], part, f"{where}: {leaf_name(path)}", in_bounds=not isinstance(part, spaces.Box))
    check_array(episode.actions, action_space, f"{where}: actions", in_bounds=True)
    _check_rewards(episode.rewards, where)


def check_array(array: NDArray[Any], space: Any, name: str, *, in_bounds: bool) -> None:
    """Checks that the rows of an array are finite and have the shape of a space.

    Args:
        array: Shape `(n, *shape)`.
        space: A Box, Discrete, MultiDiscrete or MultiBinary space.
        name: What the array is called in an error.
        in_bounds: Whether the rows have to lie in the space.

    Raises:
        EpisodeDataError: They do not; the message names the row.
    """
    if array.shape[1:] != space.shape:
        raise EpisodeDataError(f"{name} has rows of the shape {array.shape[1:]}, not {space.shape} as in {space}")
    if array.dtype.kind == "f":
        if not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind != "f":
            raise EpisodeDataError(f"{name} holds {array.dtype}, but {shorten(space)} has whole numbers")
        if not _all_finite(array):
            row = _first_row(~np.isfinite(array))
            raise EpisodeDataError(f"{name}[{row}] is not finite: {shorten(array[row])}")
    if in_bounds:
        outside = _outside(array, space)
        if outside is not None and outside.any():
            row = _first_row(outside)
            raise EpisodeDataError(f"{name}[{row}] is {shorten(array[row])}, outside {shorten(space)}")


def _outside(array: NDArray[Any], space: Any) -> NDArray[np.bool_] | None:
    if isinstance(space, spaces.Discrete):
        return _beyond(array, int(space.start), int(space.start) + int(space.n) - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return _beyond(array, space.start, space.start + space.nvec - 1)
    if isinstance(space, spaces.MultiBinary):
        return None if array.dtype == bool else _beyond(array, 0, 1)
    low, high = space.low, space.high
    if array.dtype.kind == "f":
        if not (space.bounded_below.any() or space.bounded_above.any()):
            return None
        margin = _TOLERANCE * np.maximum(1.0, np.maximum(_magnitude(low), _magnitude(high)))
        low, high = low - margin, high + margin
    return _beyond(array, low, high)


def _beyond(array: NDArray[Any], low: Any, high: Any) -> NDArray[np.bool_]:
    if array.dtype == bool:
        array = array.view(np.uint8)
    return np.asarray((array < low) | (array > high))


def _magnitude(bound: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isfinite(bound), np.abs(bound), 0.0)


def _all_finite(array: NDArray[Any]) -> bool:
    # The sum is finite if all are, and costs no array of flags; it may also overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64))) or bool(np.isfinite(array).all())


def _check_rewards(rewards: NDArray[Any], where: str) -> None:
    if _all_finite(rewards):
        return
    unknown = np.isnan(rewards)
    if not unknown.all():
        row = _first_row(~np.isfinite(rewards))
        raise EpisodeDataError(
            f"{where}: rewards[{row}] is {rewards[row]}. Rewards are finite, or all of an episode are NaN because they "
            "are not known"
        )


def _first_row(flags: NDArray[np.bool_]) -> int:
    return int(np.argmax(flags.reshape(len(flags), -1).any(axis=1)))


def _names(paths: Any) -> str:
    return ", ".join(map(leaf_name, paths))
