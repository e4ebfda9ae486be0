"""A run directory on this machine."""

from __future__ import annotations

import json
import logging
import shutil
import time as clock
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.connector.base import Connector
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.evaluation import EvaluationResult
from rl_framework.report import plot_learning_curve, record_video
from rl_framework.training.metrics import MetricsWriter, discard_after, read_metrics
from rl_framework.whole_file import written_whole

__all__ = ["LocalConnector"]

logger = logging.getLogger(__name__)


class LocalConnector(Connector):
    """Keeps a run in a folder of its own.

    The folder holds `record.json` (what was trained, with seeds, versions and automatic choices; one entry for each
    call of `train`), `metrics.jsonl`, `histograms.jsonl` (see `rl_framework.training.metrics`), `videos/`, and after
    `upload` also `agent.zip`, `learning_curve.png`, `evaluation.json` and `replay.mp4`.

    Args:
        directory: The folder. One that exists is continued. None: a new one under `root`, never one that exists; but
            a training that is resumed goes on in the folder that it had before.
        root: Where new folders are made.
        name: Name of a new folder; None: the time.
        video_length: Frames of the replay.

    Attributes:
        directory: The folder.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        root: str | Path = "runs",
        name: str | None = None,
        video_length: int = 500,
    ) -> None:
        self._root = None if directory is not None else Path(root)
        if directory is not None and name is not None:
            raise ArgumentError("name", name, "is for a new folder, and directory is given", "Pass one of the two.")
        if directory is None:
            self.directory = _new_directory(Path(root), name or clock.strftime("%Y-%m-%d_%H-%M-%S"))
        else:
            self.directory = Path(directory)
            self.directory.mkdir(parents=True, exist_ok=True)
        self.video_length = video_length
        self._writer: MetricsWriter | None = None
        self._histogram_writer: MetricsWriter | None = None
        self._disk_failed = False

    @property
    def metrics_path(self) -> Path:
        """The metrics file, JSON Lines; see `rl_framework.training.metrics`."""
        return self.directory / "metrics.jsonl"

    @property
    def histograms_path(self) -> Path:
        """The file of histograms, JSON Lines; see `rl_framework.training.metrics`."""
        return self.directory / "histograms.jsonl"

    @property
    def videos_directory(self) -> Path:
        """Where videos are kept; made when there is one."""
        return self.directory / "videos"

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Appends a line to the metrics file; a full disk does not end the training, and the line is kept for later."""
        if self._writer is None:
            self._writer = MetricsWriter(self.metrics_path)
        with self._enduring_full_disks(self.metrics_path):
            self._writer.write(timestep, metrics, time)

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Appends a line with at most 64 counts for each; a full disk is endured as with metrics."""
        if self._histogram_writer is None:
            self._histogram_writer = MetricsWriter(self.histograms_path)
        with self._enduring_full_disks(self.histograms_path):
            self._histogram_writer.write(timestep, {}, time, histograms)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Copies a video into the folder `videos`, unless it is there already; a full disk is logged."""
        if path.resolve().is_relative_to(self.directory.resolve()):
            return
        copy = self.videos_directory / f"{name.replace('/', '_')}_{timestep:09d}{path.suffix}"
        try:
            with written_whole(copy) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            logger.error("the video %s could not be copied to %s: %s", path, copy, error)

    @contextmanager
    def _enduring_full_disks(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._disk_failed:
                logger.error("%s cannot be written: %s. It is tried again", path, error)
            self._disk_failed = True
        else:
            self._disk_failed = False

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Adds the record of a call of `train`."""
        path = self.directory / "record.json"
        records = json.loads(path.read_text()) if path.exists() else []
        _write_json(path, [*records, dict(record)])

    def run_id(self) -> str | None:
        """Returns the name of a folder that this connector chose."""
        return None if self._root is None else self.directory.name

    def rejoin(self, run_id: str) -> None:
        """Goes on in an earlier folder under the same root, if it is still there."""
        if self._root is None or run_id in ("", ".", "..") or Path(run_id).name != run_id:
            return
        earlier, unused = self._root / run_id, self.directory
        if earlier == unused or not (earlier / "record.json").is_file():
            return
        self.flush()
        self.directory = earlier
        if not any(unused.iterdir()):
            unused.rmdir()

    def discard_after(self, timestep: int) -> None:
        """Moves the metrics and histograms after a timestep to `*.discarded.jsonl`."""
        self.flush()
        discard_after(self.metrics_path, timestep)
        discard_after(self.histograms_path, timestep)

    def log_evaluation(self, result: EvaluationResult) -> None:
        """Keeps the result of a final evaluation."""
        low, high = result.confidence_interval()
        summary = {"mean": result.mean, "std": result.std, "iqm": result.iqm, "interval_95": [low, high]}
        _write_json(self.directory / "evaluation.json", {**summary, **result.to_dict()})

    def flush(self) -> None:
        """Closes the files of metrics and histograms; the next number opens them again."""
        if self._writer is not None:
            with self._enduring_full_disks(self.metrics_path):
                self._writer.close()
                self._writer = None
        if self._histogram_writer is not None:
            with self._enduring_full_disks(self.histograms_path):
                self._histogram_writer.close()
                self._histogram_writer = None

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> Path:
        """Saves the agent, the learning curve and, given an environment, a replay.

        Args:
            agent: The agent.
            video_recording_environment: Where to film; None: no replay.

        Returns:
            The folder.

        Raises:
            ConnectorError: The folder cannot be written.
            RecordingError: The environment cannot be filmed; the agent is saved already then.
        """
        self.flush()
        try:
            agent.save_to_file(self.directory / "agent.zip")
        except OSError as error:
            raise ConnectorError(f"the agent could not be saved in {self.directory}: {error}") from error
        self._plot()
        if video_recording_environment is not None:
            path = self.directory / "replay.mp4"
            record_video(agent, video_recording_environment, path, length=self.video_length)
        return self.directory

    def download(self, agent: Any) -> Path:
        """Loads the agent that `upload` saved.

        Raises:
            ConnectorError: There is none in the folder.
        """
        path = self.directory / "agent.zip"
        if not path.exists():
            raise ConnectorError(f"there is no agent in {self.directory}: upload one first")
        agent.load_from_file(path)
        return path

    def _plot(self) -> None:
        if not self.metrics_path.exists():
            return
        records = read_metrics(self.metrics_path)
        if any("episode/return" in record.metrics for record in records):
            plot_learning_curve(records, self.directory / "learning_curve.png")


def _new_directory(root: Path, name: str) -> Path:
    number = 1
    while True:
        directory = root / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


registry.connectors.register("local", LocalConnector)
