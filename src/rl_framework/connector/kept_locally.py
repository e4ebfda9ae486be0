"""Stores of agents that keep what is measured in a folder on this machine until it is sent."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.local import LocalConnector
from rl_framework.connector.remote import RemoteConnector
from rl_framework.evaluation import EvaluationResult
from rl_framework.retry import RetryPolicy

__all__ = ["KeptLocallyConnector"]


class KeptLocallyConnector(RemoteConnector):
    """A store of agents elsewhere, with a `LocalConnector` beside it.

    A subclass implements `_to_write` and `_local_name`, besides what a `RemoteConnector` does.

    Args:
        directory: Folder for metrics and for uploads that are being prepared; None: a new one under `runs/`.
        spool_directory: See `RemoteConnector`.
        patience: See `RemoteConnector`.
        retry: See `RemoteConnector`.
    """

    def __init__(
        self,
        directory: str | Path | None,
        spool_directory: str | Path | None,
        patience: float,
        retry: RetryPolicy | None,
    ) -> None:
        super().__init__(spool_directory=spool_directory, patience=patience, retry=retry)
        self._directory = None if directory is None else Path(directory)
        self._local: LocalConnector | None = None
        self._evaluation: EvaluationResult | None = None

    @abstractmethod
    def _to_write(self) -> Any:
        """Returns the configuration of uploads.

        Raises:
            ArgumentError: This connector only fetches.
        """

    @abstractmethod
    def _local_name(self) -> str:
        """Returns what the folder under `runs/` is called."""

    @property
    def local(self) -> LocalConnector:
        """What keeps the metrics on this machine; made when it is first asked for."""
        if self._local is None:
            name = None if self._directory else self._local_name()
            self._local = LocalConnector(self._directory, name=name)
        return self._local

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Keeps numbers on this machine."""
        self.local.log_metrics(metrics, timestep, time)

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Keeps distributions on this machine."""
        self.local.log_histograms(histograms, timestep, time)

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record on this machine."""
        self._to_write()  # before the training, not at its end
        self._evaluation = None  # of the agent as it was before
        self.local.log_record(record)

    def log_evaluation(self, result: EvaluationResult) -> None:
        """Keeps the result of a final evaluation, which `upload` then reports instead of evaluating again."""
        self._evaluation = result
        self.local.log_evaluation(result)

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Sends a checkpoint."""
        if self._to_write().upload_checkpoints:
            super().log_checkpoint(path, timestep)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Sends a video."""
        if self._to_write().upload_checkpoints:
            super().log_video(path, name, timestep)

    def run_id(self) -> str | None:
        """Returns what a resumed training needs to go on in the same folder."""
        return self.local.run_id()

    def rejoin(self, run_id: str) -> None:
        """Goes on in an earlier folder."""
        self.local.rejoin(run_id)

    def discard_after(self, timestep: int) -> None:
        """Takes out the metrics after a timestep; checkpoints will be replaced by those of the same name."""
        self.local.discard_after(timestep)

    def flush(self) -> None:
        """Brings metrics, and what has not arrived, to the disk."""
        if self._local is not None:
            self._local.flush()
        super().flush()
