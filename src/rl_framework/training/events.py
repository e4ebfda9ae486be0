"""What happens while an agent trains, as data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_framework.environment.batched.step_metrics import EPISODE_METRICS_KEY
from rl_framework.evaluation.result import EvaluationResult

__all__ = [
    "CheckpointSaved",
    "EpisodeEnded",
    "Evaluated",
    "Event",
    "RolloutEnded",
    "TrainingEnded",
    "TrainingFailed",
    "TrainingStarted",
    "Updated",
    "Validated",
    "VideoRecorded",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        timestep: Environment steps the agent has been trained on so far, over all slots and all calls of `train`.
        time: Unix time in seconds.
        metrics: Numbers to track, by names such as "train/loss".
        histograms: Samples whose distribution is to be tracked, by names such as "rollout/action": NumPy arrays of
            one axis.
    """

    timestep: int
    time: float = field(default_factory=time.time)
    metrics: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Event):
    """Training is about to begin.

    Attributes:
        total_timesteps: The value of `timestep` at which training will end.
        record: What is trained, on what, with which seeds, versions and automatic choices; JSON-able.
        resumed: Whether an interrupted training goes on; what was recorded after `timestep` will happen once more.
    """

    total_timesteps: int
    record: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class RolloutEnded(Event):
    """Some environment steps were collected and learning from them comes next.

    Some of these events, about two thousand timesteps apart, tell which actions were taken; see
    `rl_framework.training.action_distribution`.
    """


@dataclass(frozen=True, kw_only=True)
class Updated(Event):
    """The algorithm reported on its updates (losses, learning rate, its own rolling statistics).

    Attributes:
        n_updates: Gradient updates, in the algorithm's own count.
    """

    n_updates: int


@dataclass(frozen=True, kw_only=True)
class EpisodeEnded(Event):
    """An episode of a training environment ended.

    Attributes:
        episode_return: Undiscounted sum of rewards, before reward wrappers and normalisation.
        length: Steps.
        slot: Which slot of the batch it ran in.
        info: The environment's last info.
    """

    episode_return: float
    length: int
    slot: int
    info: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_info(cls, timestep: int, slot: int, info: Mapping[str, Any]) -> EpisodeEnded:
        """Makes the event of the last info of an episode, whose entry "episode" has the return and the length.

        What the environment told in `info["step_metric_<name>"]` is in the metrics `episode/<name>` (the mean over
        the steps that told it), `episode/<name>_sum` and `episode/<name>_last`.
        """
        episode_return, length = float(info["episode"]["r"]), int(info["episode"]["l"])
        told = {f"episode/{name}": value for name, value in info.get(EPISODE_METRICS_KEY, {}).items()}
        # Last, so that no environment can pass something else off as the return.
        metrics = {**told, "episode/return": episode_return, "episode/length": float(length)}
        return cls(
            timestep=timestep, metrics=metrics, episode_return=episode_return, length=length, slot=slot, info=info
        )


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """The agent was evaluated in between."""

    result: EvaluationResult


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """The agent was compared with recorded episodes that it does not learn from."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is on disk."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class VideoRecorded(Event):
    """A video of the agent at work is on disk.

    Attributes:
        path: The file, which stays where it is.
        name: What it shows, such as "replay".
    """

    path: Path
    name: str = "replay"


@dataclass(frozen=True, kw_only=True)
class TrainingEnded(Event):
    """Training is over.

    Attributes:
        interrupted: Whether the user interrupted it.
        stop_reason: Why a callback stopped it early, or None.
    """

    interrupted: bool = False
    stop_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingFailed(Event):
    """Training ended with an exception, which goes on to the caller after everybody has been told."""

    error: BaseException
