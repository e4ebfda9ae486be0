"""The open episodes of the environments, in a checkpoint and back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.bundle import decode_value, encode_value
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.replay import OpenEpisode
from rl_framework.seeding import derive_seed

__all__ = ["by_key", "can_replay", "replay_episodes", "take_episodes"]

logger = logging.getLogger(__name__)

_ARRAY_ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def take_episodes(batch: BatchedEnvironment | None, arrays: dict[str, NDArray[Any]], state: dict[str, Any]) -> None:
    """Adds to a checkpoint what the open episodes follow from, if they can be replayed.

    Args:
        batch: The environments, or None if they are not behind the door.
        arrays: Receives the actions and the observations.
        state: Receives the rest.
    """
    state["open_episodes"] = []
    latest = None if batch is None else batch.latest_observations
    parts = latest.values() if isinstance(latest, dict) else [latest]
    if (
        batch is None
        or not batch.replayable
        or not isinstance(batch.single_action_space, _ARRAY_ACTIONS)
        or not all(isinstance(part, np.ndarray) and part.dtype != object for part in parts)
    ):
        return
    episodes = batch.open_episodes()
    for index, episode in enumerate(episodes):
        state["open_episodes"].append(
            {
                "seed": episode.seed,
                "generators": encode_value(episode.generators, "generators"),
                "generators_now": encode_value(episode.generators_now, "generators"),
                "checksum": episode.checksum,
                "obstacle": episode.obstacle,
            }
        )
        arrays[f"actions/{index}"] = np.array(episode.actions)
    for key, array in by_key(latest).items():
        arrays[f"observation/{key}"] = np.asarray(array)
    _tell(batch, episodes)


def _tell(batch: BatchedEnvironment, episodes: list[OpenEpisode]) -> None:
    if getattr(batch, "_was_told_about", False):
        return
    drawn = sorted({name for episode in episodes for name in episode.draws_from})
    obstacle = next((episode.obstacle for episode in episodes if episode.obstacle is not None), None)
    name = batch.environment_id or "an environment"
    if drawn:
        logger.warning(
            "%s draws from the global generator of %s: unless a replay shows the same, its open episodes are cut "
            "on resume. Let it draw from self.np_random",
            name,
            " and ".join(drawn),
        )
    if obstacle is not None:
        logger.warning(
            "open episodes of %s cannot be resumed exactly: %s. With fresh_environments=True they can", name, obstacle
        )
    if drawn or obstacle is not None:
        batch._was_told_about = True  # type: ignore[attr-defined]


def can_replay(batch: BatchedEnvironment | None, state: dict[str, Any]) -> bool:
    """Tells whether there are episodes to replay, and environments in which to do it.

    Raises:
        ValueError: There are episodes for another number of environments.
    """
    count = len(state["open_episodes"])
    if count == 0 or batch is None or not batch.replayable:
        return False
    if count != batch.num_envs:
        raise ValueError(f"there are {count} open episodes for {batch.num_envs} environments")
    return True


def replay_episodes(
    batch: BatchedEnvironment, arrays: Mapping[str, NDArray[Any]], state: dict[str, Any], seed: int
) -> list[int]:
    """Brings the environments to where they were.

    Args:
        batch: The environments, for which `can_replay` is true.
        arrays: From the checkpoint.
        state: From the checkpoint.
        seed: For new episodes, where that fails.

    Returns:
        The slots in which it failed and a new episode began; that is logged once.

    Raises:
        ValueError: What is in the checkpoint does not fit the environments.
    """
    episodes = [
        _episode(batch, np.asarray(arrays[f"actions/{index}"]), saved)
        for index, saved in enumerate(state["open_episodes"])
    ]
    replayed = batch.replay_slots(episodes)
    now = by_key(batch.latest_observations)
    for key, array in now.items():
        saved = arrays[f"observation/{key}"]
        if saved.shape != array.shape or saved.dtype != array.dtype:
            raise ValueError(f"the observation has shape {saved.shape} and type {saved.dtype}")
    problems = {}
    for index, slot in enumerate(replayed):
        same = all(np.array_equal(array[index], arrays[f"observation/{key}"][index]) for key, array in now.items())
        if slot.problem is not None or not same:
            problems[index] = slot.problem or "it ended with another observation"
    for index in problems:
        observation = batch.restart_slot(index, derive_seed(seed, index))
        for key, array in by_key(batch.latest_observations).items():
            array[index] = observation[key] if key else observation
    if problems:
        logger.warning(
            "the open episodes of environments %s could not be replayed (%s): they were cut, and new ones begin",
            list(problems),
            "; ".join(sorted(set(problems.values()))),
        )
    return list(problems)


def _episode(batch: BatchedEnvironment, stored: NDArray[Any], saved: dict[str, Any]) -> OpenEpisode:
    space = batch.single_action_space
    finite = stored.dtype.kind in "iub" or (stored.dtype.kind == "f" and bool(np.isfinite(stored).all()))
    if len(stored) and (stored.shape[1:] != space.shape or not finite):
        raise ValueError(f"actions have shape {stored.shape} and type {stored.dtype}, and the action space is {space}")
    actions = [action[()] if action.ndim == 0 else np.array(action) for action in map(np.asarray, stored)]
    if not isinstance(space, spaces.Box) and not all(space.contains(action) for action in actions):
        raise ValueError(f"actions are outside of {space}")
    start, checksum, obstacle = saved["seed"], saved["checksum"], saved["obstacle"]
    if not isinstance(start, int | None) or not isinstance(checksum, int) or not isinstance(obstacle, str | None):
        raise TypeError("an open episode is described in a way that nobody writes")
    return OpenEpisode(
        start,
        decode_value(saved["generators"]),
        actions,
        decode_value(saved["generators_now"]),
        checksum,
        obstacle,
    )


def by_key(value: Any) -> dict[str, Any]:
    """Returns a dict of observations as it is, one observation under an empty key, and nothing for None."""
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"": value}
