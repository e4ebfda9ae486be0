"""The metrics file: what a training run measured, one JSON object a line.

    {"timestep": 2048, "time": 1767225600.25, "metrics": {"episode/return": 23.0, "episode/length": 23}}

`timestep` counts environment steps over all environments, `time` is in seconds since 1970-01-01 UTC. A value that is
not finite is written as null, since JSON knows neither NaN nor infinity, and is read back as NaN.

Histograms are in a file of their own, whose records have one further entry,

    {..., "metrics": {}, "histograms": {"rollout/action": {"low": 0.0, "high": 1.0, "counts": [512, 1536]}}}

where `counts` counts the samples in as many equal parts of the range from `low` to `high`: at most 64, however many
samples there were.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time as clock
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.whole_file import written_whole

__all__ = [
    "MetricsRecord",
    "MetricsWriter",
    "discard_after",
    "histogram",
    "read_histograms",
    "read_metrics",
    "series",
]

_logger = logging.getLogger(__name__)

_MOST_TIMESTEPS = 1 << 63
_MOST_PARTS = 64


@dataclass(frozen=True)
class MetricsRecord:
    """One line of the metrics file.

    Attributes:
        timestep: Environment steps so far, over all environments.
        time: Seconds since 1970-01-01 UTC.
        metrics: Values by name, such as "episode/return"; NaN stands for a value that was not finite.
    """

    timestep: int
    time: float
    metrics: dict[str, float]


class MetricsWriter:
    """Appends records to a metrics file, each as one whole line that is handed to the operating system at once.

    An existing file is continued. If its last line was cut (the run that wrote it was killed), that line is removed
    first, so that it cannot damage the one that follows.

    Args:
        path: The file; missing folders are created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _mend_last_line(self.path)
        # Without Python's buffer, of which one cannot know what is left after a write that failed.
        self._file = self.path.open("ab", buffering=0)
        self._pending = bytearray()

    def write(
        self,
        timestep: int,
        metrics: Mapping[str, Any],
        time: float | None = None,
        histograms: Mapping[str, Any] | None = None,
    ) -> None:
        """Appends one record.

        Args:
            timestep: Environment steps so far, over all environments.
            metrics: Numbers by name: Python or NumPy numbers, or arrays and tensors of one element.
            time: Seconds since 1970-01-01 UTC; None: now.
            histograms: Samples by name, arrays of numbers; see `histogram`.

        Raises:
            ArgumentError: The timestep is no integer of at least 0, or a value is no number.
            OSError: The disk is full or not writable. The record is kept and written together with the next one.
        """
        if isinstance(timestep, bool) or timestep < 0 or timestep != int(timestep):
            raise ArgumentError("timestep", timestep, "must be an integer of at least 0")
        record: dict[str, Any] = {
            "timestep": int(timestep),
            "time": clock.time() if time is None else _as_json_number("time", time),
            "metrics": {str(name): _as_json_number(name, value) for name, value in metrics.items()},
        }
        if histograms:
            record["histograms"] = {str(name): histogram(samples) for name, samples in histograms.items()}
        self._pending += json.dumps(record, allow_nan=False).encode() + b"\n"
        self._write_pending()

    def _write_pending(self) -> None:
        while self._pending:
            del self._pending[: self._file.write(self._pending)]

    def close(self) -> None:
        """Brings what was written to the disk and closes the file; once is enough, more does no harm.

        Raises:
            OSError: The disk is full or not writable. The file is still open then.
        """
        if not self._file.closed:
            self._write_pending()
            os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: str | os.PathLike[str]) -> list[MetricsRecord]:
    """Reads a metrics file, also while it is being written.

    A last line that was cut by a kill is left out, and a warning is logged.

    Args:
        path: The file.

    Returns:
        The records, in the order in which they were written.

    Raises:
        ArgumentError: There is no such file, or a line other than a cut last one is damaged.
    """
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArgumentError("path", str(path), "there is no such metrics file") from error
    lines = content.split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(_parse(line))
        except ValueError as error:
            # Only the last line has no line break after it, and only while it is not whole.
            if number == len(lines):
                _logger.warning("%s: line %d was cut while it was written; it is left out", path, number)
                continue
            raise ArgumentError(
                "path",
                str(path),
                f"line {number} is damaged: {error}",
                "Remove the line; the others can still be read.",
            ) from error
    return records


def discard_after(path: str | os.PathLike[str], timestep: int) -> int:
    """Takes out the records after a timestep, from which an interrupted training goes on and will write them again.

    They are not thrown away but moved to the end of `<name>.discarded.jsonl` beside the file. A kill in between leaves
    the file as it was.

    Args:
        path: The metrics file; one that is missing has no such records.
        timestep: Of the last records to keep.

    Returns:
        How many records were taken out.

    Raises:
        ArgumentError: A line is damaged.
    """
    path = Path(path)
    if not path.exists():
        return 0
    _mend_last_line(path)
    kept: list[bytes] = []
    discarded: list[bytes] = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            later = bool(line.strip()) and _parse(line).timestep > timestep
        except ValueError as error:
            raise ArgumentError("path", str(path), f"line {number} is damaged: {error}", "Remove the line.") from error
        (discarded if later else kept).append(line)
    if not discarded:
        return 0
    with path.with_suffix(".discarded.jsonl").open("ab") as aside:
        aside.writelines(discarded)
        aside.flush()
        os.fsync(aside.fileno())
    with written_whole(path) as temporary:
        temporary.write_bytes(b"".join(kept))
    return len(discarded)


def histogram(samples: Any) -> dict[str, Any]:
    """Counts samples in equal parts of their range, as JSON-able data.

    Args:
        samples: An array of numbers; those that are not finite are left out.

    Returns:
        `low` and `high`, the ends of the range, and `counts`, at most 64 and fewer of few samples. Integers that are
        not too many have a part each, whose middle they are.
    """
    values = np.asarray(samples, dtype=np.float64).reshape(-1)
    values = values[np.isfinite(values)]
    if not len(values):
        return {"low": 0.0, "high": 0.0, "counts": []}
    low, high = float(values.min()), float(values.max())
    parts = min(_MOST_PARTS, 2 * math.isqrt(len(values)))
    are_integers = np.asarray(samples).dtype.kind in "iub"
    if are_integers and high - low < _MOST_PARTS:
        low, high, parts = low - 0.5, high + 0.5, int(high - low) + 1
    elif high - low <= 0 or not math.isfinite(high - low):
        parts = 1
    with np.errstate(over="ignore", invalid="ignore"):
        indices = np.zeros(len(values)) if parts == 1 else (values - low) / (high - low) * parts
    counts = np.bincount(np.minimum(indices.astype(np.int64), parts - 1), minlength=parts)
    return {"low": low, "high": high, "counts": counts.tolist()}


def read_histograms(path: str | os.PathLike[str]) -> list[tuple[int, str, dict[str, Any]]]:
    """Reads a file of histograms, also while it is being written.

    Returns:
        Timestep, name and `low`, `high` and `counts` of each, in the order in which they were written.

    Raises:
        ArgumentError: There is no such file, or a line other than a cut last one is damaged.
    """
    read_metrics(path)  # says what is wrong with it
    found = []
    for line in Path(path).read_bytes().split(b"\n")[:-1]:
        if line.strip():
            record = json.loads(line)
            histograms = record.get("histograms")
            if isinstance(histograms, dict):
                found += [(record["timestep"], name, dict(counted)) for name, counted in histograms.items()]
    return found


def series(records: Iterable[MetricsRecord], name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Returns one metric as two arrays.

    Args:
        records: As `read_metrics` gives them.
        name: The metric, such as "episode/return".

    Returns:
        Timesteps, int64, and values, float64, both of shape `(n,)`, where n counts the records that hold the metric
        (0 if none does). A value that was not finite is NaN.
    """
    found = [(record.timestep, record.metrics[name]) for record in records if name in record.metrics]
    timesteps = np.array([timestep for timestep, _ in found], dtype=np.int64)
    return timesteps, np.array([value for _, value in found], dtype=np.float64)


def _as_json_number(name: str, value: Any) -> int | float | None:
    number = value
    if hasattr(value, "item"):
        # NumPy and torch scalars become Python numbers, without an import of torch.
        try:
            number = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ArgumentError("metrics", {name: value}, "a metric must be a single number") from error
    if not isinstance(number, int | float):
        raise ArgumentError("metrics", {name: value}, "a metric must be a number")
    try:
        finite = math.isfinite(number)
    except OverflowError:
        finite = False
    if not finite:
        return None
    return int(number) if isinstance(number, int) else number


def _parse(line: bytes) -> MetricsRecord:
    """Reads one line.

    Raises:
        ValueError: It is not what `MetricsWriter` writes.
    """
    try:
        record = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    timestep, seconds, metrics = record.get("timestep"), record.get("time"), record.get("metrics")
    if not isinstance(timestep, int) or isinstance(timestep, bool) or not 0 <= timestep < _MOST_TIMESTEPS:
        raise ValueError("'timestep' is no integer of at least 0")
    if not isinstance(metrics, dict):
        raise ValueError("'metrics' is no object")
    return MetricsRecord(
        timestep,
        _parse_number("time", seconds),
        {name: _parse_number(name, value) for name, value in metrics.items()},
    )


def _parse_number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name!r} is no number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name!r} is too large") from error


def _mend_last_line(path: Path) -> None:
    """Makes the file end with a line break: the last line gets one if it is whole, and is removed if it was cut."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        position = size
        while position > 0 and b"\n" not in tail:
            step = min(position, 1 << 16)
            position -= step
            file.seek(position)
            tail = file.read(step) + tail
        last_line = tail[tail.rfind(b"\n") + 1 :]
        if not last_line:
            return
        try:
            _parse(last_line)
        except ValueError:
            _logger.warning("%s: the last line was cut while it was written; it is removed", path)
            file.truncate(size - len(last_line))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
