"""What a training leaves in ClearML."""

from __future__ import annotations

import logging
import math
import secrets
import sys
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.connector.clearml import sdk
from rl_framework.connector.clearml.configuration import SHORTEST_NAME, ClearMLUploadConfig
from rl_framework.connector.clearml.service import ClearMLService
from rl_framework.connector.clearml.tasks import TaskWriter, histogram_plot
from rl_framework.connector.delivery import Item
from rl_framework.connector.remote import RemoteConnector
from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.secrecy import describe_error
from rl_framework.training import Training, TrainingEnded, TrainingFailed, TrainingStarted

__all__ = ["ClearMLTracker", "named_event"]

logger = logging.getLogger(__name__)

_BINS = 50
_BUFFERED_VALUES = 500
_BUFFERED_SECONDS = 2.0


class ClearMLTracker(RemoteConnector):
    """The part of a ClearMLConnector that turns events into what the server has."""

    def __init__(
        self,
        upload_config: ClearMLUploadConfig | None,
        task: Any,
        capture_tensorboard: bool,
        spool_directory: str | Path | None,
        patience: float,
        retry: RetryPolicy | None,
    ) -> None:
        super().__init__(spool_directory=spool_directory, patience=patience, retry=retry)
        self.upload_config = upload_config or ClearMLUploadConfig()
        self._service = ClearMLService()
        self._writer = TaskWriter(self._service, self._tell_of_task)
        from clearml import Task

        self._task = task if task is not None else Task.current_task()
        adopted = None if self._task is None else sdk.adopted_task(self._task, capture_tensorboard)
        self._is_remote = sdk.remote_task_id() is not None
        if adopted is None and self._is_remote:
            adopted = {"task": sdk.remote_task_id(), "project": self.upload_config.project_name, "name": "remote"}
        self._run: dict[str, Any] = adopted or {"token": secrets.token_hex(8)}
        self._is_own = adopted is None
        self._parameters: dict[str, dict[str, str]] = {}
        self._is_opened = self._is_training = False
        self._ending = "completed"
        self._has_trained = False
        self._record_name = "record"
        self._buffer: list[tuple[str, int, float, float]] = []
        self._buffered_since = 0.0
        self._at_timestep: dict[str, tuple[int, int]] = {}
        self._has_warned_of_nan = False
        self._uploaded_model: str | None = None
        self.web_page = ""

    # Delivery

    @property
    def service(self) -> str:
        """Whom it goes to, for messages."""
        return f"ClearML at {self._service.host}"

    def destination(self) -> dict[str, Any]:
        """Returns the server's address: every process with access to it can deliver."""
        return {"service": "clearml", "host": self._service.host}

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        return self._service.explain(error)

    def deliver(self, item: Item) -> None:
        """Delivers one item."""
        data, run, writer = item.data, item.data["run"], self._writer
        task_id = writer.task_id(run)
        if item.kind == "scalars":
            writer.add_events(task_id, [_scalar_event(*scalar) for scalar in data["scalars"]])
        elif item.kind == "events":
            writer.add_events(task_id, data["events"])
        elif item.kind == "status":
            writer.set_status(task_id, data["status"], data.get("reason", ""), data.get("at"))
        elif item.kind == "parameters":
            writer.set_parameters(task_id, data["section"], data["texts"])
        elif item.kind == "code":
            writer.describe_code(task_id, data["script"])
        elif item.kind == "configuration":
            writer.set_configuration(task_id, data["name"], data["value"])
        elif item.file is None:
            raise ConnectorError(f"an item {item.kind!r} is not known, or has lost its file")
        elif item.kind == "media":
            writer.add_media(task_id, run, data["event"], item.file)
        elif item.kind == "model":
            model_id = writer.add_model(task_id, run, data["model"], item.file)
            if item.sequence < 0:  # what `upload` delivers itself
                self._uploaded_model = model_id
        else:
            writer.add_artifact(task_id, run, data["key"], data["name"], item.file)

    def _put(self, kind: str, data: Mapping[str, Any], file: Path | None = None) -> None:
        self._open()
        self.put_buffered()
        self.delivery.put(kind, {"run": self._run, **data}, file)

    def put_buffered(self) -> None:
        """Puts the numbers that were gathered, as one item."""
        if self._buffer:
            scalars, self._buffer = self._buffer, []
            self._open()
            self.delivery.put("scalars", {"run": self._run, "scalars": scalars})

    def _open(self, default_name: str | None = None) -> None:
        """Settles what the run is called and puts what was connected before; the task is made by the first item."""
        if self._is_opened:
            return
        self._is_opened = True
        config = self.upload_config
        if self._is_own:
            name = config.task_name or default_name or Path(sys.argv[0] or "training").stem
            self._run |= {
                "project": config.project_name,
                "name": name if len(name) >= SHORTEST_NAME else f"task {name}",
                "type": config.task_type,
                "tags": list(config.tags),
            }
            if config.describe_code and (script := sdk.code_description()) is not None:
                self.delivery.put("code", {"run": self._run, "script": script})
        if config.output_uri:
            self._run["output_uri"] = config.output_uri
        for section, texts in self._parameters.items():
            self.delivery.put("parameters", {"run": self._run, "section": section, "texts": texts})

    def _tell_of_task(self, task_id: str, web_page: str) -> None:
        self.web_page = web_page
        logger.info("ClearML task %s: %s", task_id, web_page)

    @property
    def task_id(self) -> str | None:
        """Id of the task, or None while there is none or the server has not been reached."""
        return self._writer.known_task_id(self._run)

    # What happens in training

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Makes the task, or goes on with it."""
        record = event.record
        what, where = record.get("algorithm") or record.get("agent"), record.get("environment")
        self._open(f"{what} on {where}" if what and where else None)
        self._is_training = self._has_trained = True
        self._record_name = f"record from timestep {event.timestep}" if event.timestep else "record"
        self._at_timestep.clear()
        if self._is_own:
            self._put("status", {"status": "started", "at": clock.time()})

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Marks the task as completed, or as stopped if the user interrupted it."""
        self._end("stopped" if event.interrupted else "completed", event.stop_reason or "")

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Marks the task as failed."""
        self._end("failed", describe_error(event.error))

    def _end(self, status: str, reason: str) -> None:
        self._is_training, self._ending = False, status
        if self._is_own:
            self._put("status", {"status": status, "reason": reason, "at": clock.time()})

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Reports scalars, with a few seconds' delay: "train/loss" is the series "loss" of the plot "train"."""
        now = clock.monotonic()
        if not self._buffer:
            self._buffered_since = now
        for name, value in metrics.items():
            number = float(value)
            if not math.isfinite(number):
                self._warn_of_nan(name, number, timestep)
                continue
            before, count = self._at_timestep.get(name, (timestep, -1))
            count = count + 1 if before == timestep else 0
            self._at_timestep[name] = (timestep, count)
            self._buffer.append((name, timestep + count, time, number))
        if len(self._buffer) >= _BUFFERED_VALUES or now - self._buffered_since > _BUFFERED_SECONDS:
            self.put_buffered()

    def _warn_of_nan(self, name: str, value: float, timestep: int) -> None:
        if not self._has_warned_of_nan:
            logger.warning("ClearML takes no NaN or infinity: %s=%s at timestep %d is left out", name, value, timestep)
        self._has_warned_of_nan = True

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Reports how samples are distributed, as plots."""
        events = []
        for name, samples in histograms.items():
            values = np.asarray(samples, dtype=np.float64).ravel()
            values = values[np.isfinite(values)]
            if len(values):
                counts, edges = np.histogram(values, bins=_BINS)
                plot = histogram_plot(name, counts.tolist(), edges.tolist())
                events.append({**named_event(name, timestep, time), "type": "plot", "plot_str": plot})
        if events:
            self._put("events", {"events": events})

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a call of `train` as a configuration object."""
        self._put("configuration", {"name": self._record_name, "value": dict(record)})

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Uploads a checkpoint as an output model."""
        if self.upload_config.upload_checkpoints:
            self._put("model", {"model": {"name": path.stem, "file_name": path.name, "iteration": timestep}}, path)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Uploads a video to the debug samples."""
        self._put("media", {"event": named_event(f"video/{name}", timestep, clock.time())}, path)

    def discard_after(self, timestep: int) -> None:
        """Does nothing: what is reported again takes the place of what was reported before."""

    def run_id(self) -> str | None:
        """Returns the mark by which this connector finds the task that it made."""
        return self._run.get("token")

    def rejoin(self, run_id: str) -> None:
        """Goes on in the task of an earlier run, if this connector makes its task by itself."""
        is_mark = len(run_id) == 16 and set(run_id) <= set("0123456789abcdef")
        if self._is_own and is_mark and not self._is_opened:
            self._run["token"] = run_id


def named_event(name: str, iteration: int, time: float) -> dict[str, Any]:
    """Returns what all events have: "train/loss" is the variant "loss" of the metric "train"."""
    metric, _, variant = name.partition("/")
    return {"metric": metric, "variant": variant or metric, "iter": iteration, "timestamp": int(time * 1000)}


def _scalar_event(name: str, iteration: int, time: float, value: float) -> dict[str, Any]:
    return {**named_event(name, iteration, time), "type": "training_stats_scalar", "value": value}
