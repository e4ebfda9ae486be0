"""A tracker that writes every number as a row of a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rl_framework import Connector


class TableConnector(Connector):
    """Appends `timestep, name, value` to a CSV file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows([timestep, name, value] for name, value in metrics.items())
