"""Connectors: where metrics, models and videos go and come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.errors import ConnectorError
from rl_framework.training import (
    Callback,
    CheckpointSaved,
    Event,
    Training,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
    VideoRecorded,
)

__all__ = ["Connector"]


class Connector(Callback, ABC):
    """A tracker (it listens to training), a store (agents can be uploaded to it), or both.

    A tracker implements `log_metrics`; every tracker receives the same names from the same events. A store
    overrides `upload` and `download`.
    """

    @property
    def keeps_agents(self) -> bool:
        """Whether agents can be uploaded to it."""
        return type(self).upload is not Connector.upload

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Records numbers.

        Args:
            metrics: Numbers by name, such as "episode/return", "evaluation/mean_return" or "train/loss".
            timestep: Environment steps so far.
            time: Unix time in seconds at which they were measured.
        """

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Records what is being trained, on what, with which seeds, versions and automatic choices."""

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Takes note of a checkpoint on disk."""

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Records how samples are distributed.

        Args:
            histograms: Samples by name: NumPy arrays of one axis.
            timestep: Environment steps so far.
            time: Unix time in seconds at which they were taken.
        """

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Takes note of a video on disk."""

    def discard_after(self, timestep: int) -> None:
        """Forgets, or marks as out of date, what was recorded after a timestep.

        An interrupted training goes on from there and will record the same once more.
        """

    def flush(self) -> None:
        """Sees to it that nothing recorded so far can be lost."""

    def close(self) -> None:
        """Ends the use of this connector."""
        self.flush()

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> Any:
        """Takes an agent; see `Agent.upload`.

        Raises:
            ConnectorError: It could not be taken, or this connector keeps no agents.
        """
        raise ConnectorError(f"{type(self).__name__} keeps no agents: upload to another one, such as LocalConnector")

    def download(self, agent: Any) -> Any:
        """Fetches a bundle and loads it into an agent; see `Agent.download`.

        Raises:
            ConnectorError: It could not be fetched, or this connector keeps no agents.
        """
        raise ConnectorError(
            f"{type(self).__name__} keeps no agents: download from another one, such as LocalConnector"
        )

    def on_event(self, event: Event, training: Training) -> None:
        """Turns events into calls of the methods above."""
        super().on_event(event, training)
        if isinstance(event, TrainingStarted):
            if event.resumed:
                self.discard_after(event.timestep)
            self.log_record(event.record)
        if event.metrics:
            self.log_metrics(event.metrics, event.timestep, event.time)
        if event.histograms:
            self.log_histograms(event.histograms, event.timestep, event.time)
        if isinstance(event, CheckpointSaved):
            self.log_checkpoint(event.path, event.timestep)
        if isinstance(event, VideoRecorded):
            self.log_video(event.path, event.name, event.timestep)
        if isinstance(event, TrainingEnded | TrainingFailed):
            self.flush()
