"""One recorded episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.episode.observation_tree import ObservationTree, leaf_name, leaves, map_leaves, stacked
from rl_framework.errors import EpisodeDataError, shorten

__all__ = ["Episode", "as_episode", "sum_of_rewards"]

_STEP_LENGTH = 7
_NUMBERS = "biuf"


@dataclass(frozen=True, eq=False, repr=False)
class Episode:
    """What an agent saw, did and got, from the first observation to the last.

    The arrays of an episode that was read from a data set are read-only views of it: copy what you want to change.

    Attributes:
        observations: Shape `(T + 1, *shape)`: one more than actions, because the last observation, to which the last
            action led, is included. For a `Dict` space a dict of such arrays, which may hold further dicts.
        actions: Shape `(T, *shape)`, of numbers.
        rewards: Shape `(T,)`, floating; all NaN where rewards are not known.
        terminated: Whether the last step led to a terminal state.
        truncated: Whether the last step was cut by a limit of time or space. An episode with neither is a fragment of
            a longer one.
        infos: One mapping a step, or None.

    Raises:
        EpisodeDataError: The arrays do not fit together, or there is no step.
    """

    observations: ObservationTree
    actions: NDArray[Any]
    rewards: NDArray[np.floating[Any]]
    terminated: bool
    truncated: bool
    infos: Sequence[Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        observations: Any = self.observations
        if type(observations) is not np.ndarray or observations.dtype.kind not in _NUMBERS:
            object.__setattr__(self, "observations", map_leaves(_array, observations))
        actions: Any = self.actions
        if type(actions) is not np.ndarray or actions.dtype.kind not in _NUMBERS:
            object.__setattr__(self, "actions", _array(actions))
        rewards: Any = self.rewards
        if type(rewards) is not np.ndarray or rewards.dtype.kind != "f":
            object.__setattr__(self, "rewards", _floating(rewards))
        terminated: Any = self.terminated
        truncated: Any = self.truncated
        if type(terminated) is not bool or type(truncated) is not bool:
            object.__setattr__(self, "terminated", _flag("terminated", terminated))
            object.__setattr__(self, "truncated", _flag("truncated", truncated))
        _check_lengths(self)

    @classmethod
    def from_steps(cls, steps: Sequence[Sequence[Any]]) -> Episode:
        """Makes an episode of generic steps.

        Args:
            steps: Tuples `(observation, action, next_observation, reward, terminated, truncated, info)`, one a step.
                The next observation of a step has to be the observation of the step after it.

        Raises:
            EpisodeDataError: A step has another form, an episode ends before its last step, or an observation is not
                the one that the step before it led to.
        """
        steps = list(steps)
        if not steps:
            raise EpisodeDataError("an episode has no steps")
        for index, step in enumerate(steps):
            if not isinstance(step, Sequence) or isinstance(step, str) or len(step) != _STEP_LENGTH:
                raise EpisodeDataError(
                    f"step {index} is {shorten(step)}, not a tuple of observation, action, next observation, reward, "
                    "terminated, truncated and info"
                )
            if index < len(steps) - 1 and (step[4] or step[5]):
                raise EpisodeDataError(f"step {index} of {len(steps)} says that the episode ended; split it there")
            if index and not _equal(steps[index - 1][2], step[0]):
                raise EpisodeDataError(f"the observation of step {index} is not what the step before it led to")
        observations, actions, following, rewards, terminated, truncated, infos = zip(*steps, strict=True)
        return cls(
            observations=stacked([*observations, following[-1]]),
            actions=np.stack([np.asarray(action) for action in actions]),
            rewards=np.array([float(reward) for reward in rewards]),
            terminated=bool(terminated[-1]),
            truncated=bool(truncated[-1]),
            infos=[dict(info or {}) for info in infos],
        )

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards; NaN where they are not known."""
        return float(sum_of_rewards(self.rewards, np.zeros(1, np.int64))[0])

    def __repr__(self) -> str:
        end = " and ".join(name for name in ("terminated", "truncated") if getattr(self, name)) or "a fragment"
        return f"Episode({len(self)} steps, return {self.episode_return:.6g}, {end})"


def sum_of_rewards(rewards: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums rewards over consecutive episodes, in one way everywhere, so that returns are equal to the last bit.

    Args:
        rewards: Shape `(N,)`.
        starts: Shape `(E,)`: where each episode begins, the first at 0; none of them is empty.

    Returns:
        Shape `(E,)`.
    """
    return np.asarray(np.add.reduceat(rewards, starts, dtype=np.float64))


def as_episode(value: Any) -> Episode:
    """Takes an episode in any of the forms that users have.

    Args:
        value: An `Episode`; a sequence of generic steps (see `Episode.from_steps`); or a trajectory of the imitation
            library, with or without rewards. A trajectory's `terminal` does not tell a limit of time from a terminal
            state; it is read as truncated if the last info has `TimeLimit.truncated`, as terminated if not.

    Raises:
        EpisodeDataError: It is something else, or damaged.
    """
    if isinstance(value, Episode):
        return value
    if all(hasattr(value, name) for name in ("obs", "acts", "infos", "terminal")):
        return _of_trajectory(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Episode.from_steps(value)
    raise EpisodeDataError(
        f"{shorten(value)} is no episode. Give an Episode, a list of steps (observation, action, next observation, "
        "reward, terminated, truncated, info), or a trajectory of the imitation library"
    )


def _of_trajectory(trajectory: Any) -> Episode:
    observations = trajectory.obs
    # imitation keeps dict observations in a wrapper of its own.
    observations = getattr(observations, "_d", observations)
    infos = None if trajectory.infos is None else list(trajectory.infos)
    rewards = getattr(trajectory, "rews", None)
    cut = bool(trajectory.terminal and infos and infos[-1].get("TimeLimit.truncated", False))
    return Episode(
        observations=observations,
        actions=trajectory.acts,
        rewards=np.full(len(trajectory.acts), np.nan) if rewards is None else rewards,
        terminated=bool(trajectory.terminal) and not cut,
        truncated=cut,
        infos=infos,
    )


def _check_lengths(episode: Episode) -> None:
    actions, rewards, infos = episode.actions, episode.rewards, episode.infos
    length = len(actions) if actions.ndim else 0
    if length == 0:
        raise EpisodeDataError("an episode has no steps: actions is empty")
    if rewards.shape != (length,):
        raise EpisodeDataError(f"rewards has the shape {rewards.shape}; {length} actions need ({length},)")
    if type(episode.observations) is np.ndarray:
        _check_rows(episode.observations, (), length)
    else:
        empty = True
        for path, leaf in leaves(episode.observations):
            _check_rows(leaf, path, length)
            empty = False
        if empty:
            raise EpisodeDataError("observations is a dict without arrays")
    if infos is not None and len(infos) != length:
        raise EpisodeDataError(f"infos has {len(infos)} entries; {length} actions need as many")


def _check_rows(array: NDArray[Any], path: tuple[str, ...], length: int) -> None:
    if array.ndim == 0 or len(array) != length + 1:
        raise EpisodeDataError(
            f"{leaf_name(path)} has the shape {array.shape}; {length} actions need {length + 1} observations: the one "
            "before each action, and the last one"
        )


def _array(value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise EpisodeDataError(f"{shorten(value)} is no array: {error}") from error
    if array.dtype.kind not in _NUMBERS:
        raise EpisodeDataError(f"{shorten(value)} is an array of {array.dtype}, not of numbers")
    return array


def _floating(value: Any) -> NDArray[Any]:
    array = _array(value)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise EpisodeDataError(f"{name} is {shorten(value)}, not a bool: it is of the episode as a whole")
    return bool(value)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=np.asarray(one).dtype.kind == "f")
