"""TensorBoard event files."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework import registry
from rl_framework.connector.base import Connector
from rl_framework.errors import MissingExtraError, RecordingError, require_extra
from rl_framework.report.recording.ffmpeg import make_preview

__all__ = ["TensorBoardConnector"]

logger = logging.getLogger(__name__)

_BINS = 64


class TensorBoardConnector(Connector):
    """Writes metrics, histograms and videos for TensorBoard; look at them with `tensorboard --logdir DIRECTORY`.

    TensorBoard shows pictures and no videos: of an .mp4 it gets the first ten seconds as an animated .gif, under
    "Images". The whole video stays where it is.

    Args:
        directory: Where the event files go. Given the same one, a resumed training goes on with the same curves.

    Raises:
        MissingExtraError: The extra "tensorboard" is not installed.
    """

    def __init__(self, directory: str | Path) -> None:
        require_extra("tensorboard", "TensorBoardConnector", "tensorboard")
        self.directory = Path(directory)
        self._writer: Any = None
        self._purge_step: int | None = None

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory), purge_step=self._purge_step)
            self._purge_step = None
        return self._writer

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Adds one point to each scalar."""
        writer = self._open()
        for name, value in metrics.items():
            writer.add_scalar(name, value, timestep, walltime=time)

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Adds one distribution to each histogram."""
        writer = self._open()
        for name, samples in histograms.items():
            values = np.asarray(samples, dtype=np.float64).reshape(-1)
            values = values[np.isfinite(values)]
            if len(values):
                writer.add_histogram(name, values, timestep, bins=_BINS, walltime=time)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Adds a video as an animated picture."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        try:
            content = _as_gif(path)
        except (OSError, RecordingError, MissingExtraError) as error:
            # The video itself is whole; a training does not end for want of a picture of it.
            logger.error("%s cannot be shown in TensorBoard: %s", path, error)
            return
        # A .gif begins with its name, six bytes, and its width and height.
        width, height = int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        summary = Summary(value=[Summary.Value(tag=f"video/{name}", image=image)])
        self._open()._get_file_writer().add_summary(summary, timestep)

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Adds the record as text."""
        self._open().add_text("record", f"```json\n{json.dumps(record, indent=2)}\n```")

    def discard_after(self, timestep: int) -> None:
        """Begins another event file, which lets readers pass over the points after the timestep in older ones."""
        self.close()
        self._purge_step = timestep + 1

    def flush(self) -> None:
        """Writes what is buffered."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Closes the event file; the next number begins another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _as_gif(path: Path) -> bytes:
    if path.suffix.lower() == ".gif":
        return path.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        return make_preview(path, Path(directory) / "preview.gif").read_bytes()


registry.connectors.register("tensorboard", TensorBoardConnector)
