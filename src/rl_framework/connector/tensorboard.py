"""TensorBoard event files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.connector.base import Connector
from rl_framework.errors import require_extra

__all__ = ["TensorBoardConnector"]


class TensorBoardConnector(Connector):
    """Writes metrics as TensorBoard scalars; look at them with `tensorboard --logdir DIRECTORY`.

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


registry.connectors.register("tensorboard", TensorBoardConnector)
