"""Whether episodes fit spaces, and whether they are the same ones as before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.episode.observation_tree import leaves
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import ArgumentError, SpaceMismatchError

__all__ = ["as_episode_sequence", "check_episodes_fit", "could_be", "fingerprint"]

_LOOKED_AT = 1_000
"""Transitions whose values go into a fingerprint."""


def as_episode_sequence(value: Any, argument: str) -> EpisodeSequence | None:
    """Takes episodes in any of the forms that users have.

    Args:
        value: An `EpisodeSequence`, a list of episodes (see `as_episode`), the path of a data set, or None.
        argument: Name of the argument it came from, for errors.

    Raises:
        ArgumentError: It is something else, or holds no episodes.
        EpisodeDataError: The episodes are damaged.
    """
    if value is None:
        return None
    if isinstance(value, str | Path):
        value = EpisodeSequence.from_dataset(value)
    if not isinstance(value, Sequence):
        raise ArgumentError(
            argument, value, "is no sequence of episodes", "Give an EpisodeSequence or the path of one."
        )
    if not len(value):
        raise ArgumentError(argument, value, "holds no episodes", "Did a filter or a slice leave any?")
    return value if isinstance(value, EpisodeSequence) else EpisodeSequence.from_episodes(value)


def check_episodes_fit(
    episodes: EpisodeSequence,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    argument: str = "episode_sequence",
) -> None:
    """Checks that episodes were recorded where the spaces are these.

    Raises:
        SpaceMismatchError: They were not; where the data did not tell its spaces, they could not have been.
    """
    for kind, wanted in (("observation_space", observation_space), ("action_space", action_space)):
        theirs = getattr(episodes, kind)
        if theirs == wanted or (episodes.spaces_are_inferred and could_be(theirs, wanted)):
            continue
        looks = "looks like" if episodes.spaces_are_inferred else "is"
        raise SpaceMismatchError(
            argument,
            episodes,
            f"its {kind} {looks} {theirs}, and {wanted} is needed",
            f"If they are the same in fact, open the data with {kind}=... .",
        )


def could_be(guessed: gymnasium.Space[Any], true: gymnasium.Space[Any]) -> bool:
    """Tells whether data for which one space was guessed may come from another one.

    Args:
        guessed: By `infer_spaces`, which knows only the values that occur.
        true: As an environment tells it.
    """
    if isinstance(true, spaces.Dict):
        return (
            isinstance(guessed, spaces.Dict)
            and set(guessed.spaces) == set(true.spaces)
            and all(could_be(guessed.spaces[key], part) for key, part in true.spaces.items())
        )
    if guessed.shape != true.shape:
        return False
    if isinstance(true, spaces.Box):
        if not isinstance(guessed, spaces.Box):
            return np.dtype(true.dtype).kind in "iu"
        return np.dtype(guessed.dtype).kind == np.dtype(true.dtype).kind
    if isinstance(guessed, spaces.Box):
        return isinstance(true, spaces.MultiBinary) and np.dtype(guessed.dtype).kind in "biu"
    return bool(np.all(_counts(guessed) <= _counts(true)))


def _counts(space: gymnasium.Space[Any]) -> Any:
    """Returns how many values there are for each number of a discrete space, counted from 0."""
    if isinstance(space, spaces.Discrete):
        return int(space.start) + int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.start, np.int64) + np.asarray(space.nvec, np.int64)
    return np.full(space.shape or (), 2)


def fingerprint(episodes: EpisodeSequence) -> str:
    """Returns a short text that is equal for equal episodes, and almost surely different for others.

    It is made of all lengths and returns, and of up to a thousand transitions; a change of a single one among
    millions, which changes no reward, may escape it.
    """
    digest = hashlib.sha256(f"{len(episodes)} {episodes.observation_space} {episodes.action_space}".encode())
    digest.update(np.ascontiguousarray(episodes.lengths, dtype=np.int64).tobytes())
    digest.update(np.ascontiguousarray(episodes.returns, dtype=np.float64).tobytes())
    n_transitions = episodes.n_transitions
    rows = np.unique(np.linspace(0, n_transitions - 1, min(n_transitions, _LOOKED_AT)).astype(np.int64))
    batch = episodes.transitions().gather(rows)
    for tree in (batch.observations, batch.actions, batch.next_observations):
        for _, array in leaves(tree):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
