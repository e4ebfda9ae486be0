"""Episodes on their way into a data set: any form is taken, checked, and brought to the types of the first one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.checks import check_episode, check_spaces, space_leaves
from rl_framework.episode.episode import Episode, as_episode
from rl_framework.episode.inferred_spaces import infer_action_space, infer_observation_space
from rl_framework.episode.observation_tree import leaf_name, leaves, tree_of_leaves
from rl_framework.errors import EpisodeDataError

__all__ = ["Intake"]

_MOST = int(np.iinfo(np.int64).max)


class Intake:
    """Checks episodes one after the other.

    Arrays take the type of the given space, or, where there is none, that of the first episode. Rewards become float64.

    Args:
        observation_space: Space that observations have to fit; None: that of the first episode, with any numbers.
        action_space: The same for actions.

    Raises:
        UnsupportedSpaceError: Episodes cannot hold what is of a given space.
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any] | None = None, action_space: gymnasium.Space[Any] | None = None
    ) -> None:
        check_spaces(observation_space or spaces.Discrete(1), action_space or spaces.Discrete(1))
        self.observation_space = observation_space
        self.action_space = action_space
        self.count = 0
        self._expected: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None
        self._dtypes: dict[tuple[str, ...], np.dtype[Any]] = {}
        self._action_dtype: np.dtype[Any] = np.dtype(np.int64)

    def take(self, value: Any) -> Episode:
        """Returns the next episode, in the form in which all of them are stored.

        Args:
            value: What `as_episode` takes.

        Raises:
            EpisodeDataError: It is damaged, or does not fit the spaces or the episodes before it.
        """
        where = f"episode {self.count}"
        try:
            episode = as_episode(value)
            if self._expected is None:
                self._expected = self._expect(episode)
        except EpisodeDataError as error:
            raise EpisodeDataError(f"{where}: {error}") from error
        check_episode(episode, *self._expected, where)
        self.count += 1
        parts = dict(leaves(episode.observations))
        observations = {
            path: _cast(parts[path], dtype, f"{where}: {leaf_name(path)}", self.observation_space)
            for path, dtype in self._dtypes.items()
        }
        return Episode(
            tree_of_leaves(observations),
            _cast(episode.actions, self._action_dtype, f"{where}: actions", self.action_space),
            episode.rewards.astype(np.float64, copy=False),
            episode.terminated,
            episode.truncated,
            episode.infos,
        )

    def _expect(self, first: Episode) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        given, action_space = self.observation_space, self.action_space
        if given is None:
            self._dtypes = {path: leaf.dtype for path, leaf in leaves(first.observations)}
        else:
            self._dtypes = {path: np.dtype(part.dtype) for path, part in space_leaves(given)}
        self._action_dtype = first.actions.dtype if action_space is None else np.dtype(action_space.dtype)
        return (
            given or _without_counts(infer_observation_space(first.observations)),
            action_space or _without_counts(infer_action_space(first.actions)),
        )


def _without_counts(space: Any) -> Any:
    """Lets later episodes hold larger numbers than the first one did."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, _without_counts(part)) for key, part in space.spaces.items()])
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(_MOST)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(np.full(space.shape, _MOST))
    return space


def _cast(array: NDArray[Any], dtype: np.dtype[Any], name: str, stated: gymnasium.Space[Any] | None) -> NDArray[Any]:
    if array.dtype == dtype:
        return array
    if np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype)
    if stated is None and array.dtype.kind == "f":
        raise EpisodeDataError(
            f"{name} holds {array.dtype}, but the first episode {dtype}: convert one of them, or give the space"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        changed = array.astype(dtype)
    # Whole numbers stay what they are; floats may be rounded to the precision of the space.
    if array.dtype.kind == "f" and dtype.kind == "f":
        lost = ~np.isfinite(changed) & np.isfinite(array)
    else:
        lost = changed != array
    if lost.any():
        row = int(np.argmax(lost.reshape(len(lost), -1).any(axis=1)))
        raise EpisodeDataError(f"{name}[{row}] is {array[row]}, which {dtype} cannot hold")
    return changed
