"""Metrics files as columns, read so that neither their size nor their damage ends a report.

`rl_framework.training.metrics.read_metrics` refuses a file with a damaged line, as training must. Whoever looks at a
run wants to see the rest of it, and to be told.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["MetricsFile", "Series", "read_series"]

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 24
_MOST_METRICS = 1_000
_MOST_TIMESTEPS = 1 << 63


@dataclass(frozen=True, eq=False)
class Series:
    """One metric, where it is a finite number, in the order of the timesteps.

    Attributes:
        timesteps: int64, shape `(n,)`, never falling.
        values: float64, shape `(n,)`.
    """

    timesteps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass
class MetricsFile:
    """What a metrics file holds.

    Attributes:
        series: By the name of the metric, in the order of their first appearance; each has at least one value.
        last_timestep: The largest.
        seconds: From the first record to the last.
        problems: Sentences about what could not be read.
    """

    series: dict[str, Series] = field(default_factory=dict)
    last_timestep: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class _Columns:
    """Collects the numbers of the lines."""

    def __init__(self) -> None:
        self.columns: dict[str, tuple[array[int], array[float]]] = {}
        self.times: list[float] = []
        self.last_timestep = 0
        self.n_left_out = 0

    def add(self, line: bytes) -> None:
        """Takes one line.

        Raises:
            ValueError: It is damaged. Whatever else is wrong with it is one too.
        """
        try:
            record = json.loads(line.decode())  # it would guess the encoding of every line
            timestep, metrics = record["timestep"], record["metrics"]
            if not 0 <= timestep < _MOST_TIMESTEPS or not isinstance(timestep, int):
                raise ValueError("the timestep is no integer of at least 0")
            for name, value in metrics.items():
                self._add(name, timestep, math.nan if value is None else value)
            self._note_time(record.get("time"))
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(str(error)) from error
        self.last_timestep = max(self.last_timestep, timestep)

    def _add(self, name: str, timestep: int, value: float) -> None:
        column = self.columns.get(name)
        if column is None:
            if len(self.columns) >= _MOST_METRICS:
                self.n_left_out += 1
                return
            column = self.columns[name] = (array("q"), array("d"))
        # The value first: it may be no number.
        column[1].append(value)
        column[0].append(timestep)

    def _note_time(self, time: Any) -> None:
        if isinstance(time, int | float) and math.isfinite(time):
            self.times = [*(self.times[:1] or [time]), time]


def read_series(path: Path) -> MetricsFile:
    """Reads a metrics file in parts, also while it is being written.

    Args:
        path: The file.

    Returns:
        Its numbers. Lines that are damaged are left out, and counted in `problems`, where a last line that was cut by
        a kill has a sentence of its own; so has a file that cannot be read.
    """
    found, columns = MetricsFile(), _Columns()
    damaged: list[int] = []
    try:
        with path.open("rb") as file:
            for number, line, is_whole in _lines(file):
                try:
                    if line.strip():
                        columns.add(line)
                except ValueError:
                    if is_whole:
                        damaged.append(number)
                    else:
                        found.problems.append(f"{path.name}: the last line was cut while it was written.")
    except OSError as error:
        found.problems.append(f"{path.name} cannot be read: {error.strerror or error}.")
    if damaged:
        lines = f"line {damaged[0]} is" if len(damaged) == 1 else f"{len(damaged):,} lines are"
        place = "" if len(damaged) == 1 else f", the first of them line {damaged[0]:,}"
        found.problems.append(f"{path.name}: {lines} damaged and left out{place}.")
    if columns.n_left_out:
        found.problems.append(f"{path.name}: only the first {_MOST_METRICS:,} metrics are read.")
    for name, (timesteps, values) in columns.columns.items():
        series = _ordered(np.frombuffer(timesteps, dtype=np.int64), np.frombuffer(values, dtype=np.float64))
        if len(series.values):
            found.series[name] = series
    found.last_timestep = columns.last_timestep
    found.seconds = max(0.0, columns.times[-1] - columns.times[0]) if columns.times else 0.0
    return found


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Yields number, content and whether a line break ended it; one that is far too long comes as what is no JSON."""
    number, rest, is_too_long = 1, b"", False
    while chunk := file.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield number, b"too long" if is_too_long else line, True
            number, is_too_long = number + 1, False
        if len(rest) > _LONGEST_LINE:
            rest, is_too_long = b"", True
    if rest or is_too_long:
        yield number, b"too long" if is_too_long else rest, False


def _ordered(timesteps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> Series:
    finite = np.isfinite(values)
    timesteps, values = timesteps[finite], values[finite]
    if (np.diff(timesteps) < 0).any():
        order = np.argsort(timesteps, kind="stable")
        timesteps, values = timesteps[order], values[order]
    return Series(timesteps, values)
