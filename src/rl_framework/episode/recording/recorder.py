"""An episode while it goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.episode.episode import Episode
from rl_framework.episode.observation_tree import stacked
from rl_framework.errors import ArgumentError

__all__ = ["EpisodeRecorder", "check_free"]


class EpisodeRecorder:
    """Takes one step after the other. What it is given must not change afterwards.

    Args:
        observation: The first observation of the episode.
    """

    def __init__(self, observation: Any) -> None:
        self._observations = [observation]
        self._actions: list[Any] = []
        self._rewards: list[float] = []
        self._sum = 0.0
        self._infos: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._actions)

    @property
    def return_so_far(self) -> float:
        """Undiscounted sum of the rewards."""
        return self._sum

    def add(self, action: Any, reward: float, observation: Any, info: dict[str, Any]) -> None:
        """Takes one step.

        Args:
            action: What the environment received.
            reward: What it paid for it.
            observation: What the action led to; at the end of an episode the last observation of this one.
            info: What came with that observation.
        """
        self._actions.append(action)
        self._rewards.append(float(reward))
        self._sum += float(reward)
        self._observations.append(observation)
        self._infos.append(info)

    def finish(self, terminated: bool, truncated: bool) -> Episode:
        """Returns the episode; without infos, if there was nothing in any of them."""
        return Episode(
            observations=stacked(self._observations),
            actions=np.stack(self._actions),
            rewards=np.array(self._rewards),
            terminated=bool(terminated),
            truncated=bool(truncated),
            infos=self._infos if any(self._infos) else None,
        )


def check_free(path: str | os.PathLike[str] | None) -> None:
    """Checks, before anything is played, that a data set can be written to a path.

    Raises:
        ArgumentError: There is something already.
    """
    if path is None or not os.path.lexists(path):
        return
    if not Path(path).is_dir() or any(Path(path).iterdir()):
        raise ArgumentError("path", str(Path(path)), "there is something already", "Name another folder.")
