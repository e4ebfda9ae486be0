"""The named components of a video, frame by frame, in a file beside it.

The file of `final.mp4` is `final.components.json`:

    {"version": 1, "video": "final.mp4", "video_bytes": 48213, "frames_per_second": 50.0, "episodes": [1, 1, ...],
     "components": [{"label": "hull angle", "name": "observation[0]", "values": [0.0027, -0.0014, ...]}]}

Each list has one entry a frame. A value that is no finite number (a text, nothing yet) is null. `video_bytes` tells
whether the file still belongs to the video of that name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.report.components import Component, Moment, numbers_in
from rl_framework.whole_file import written_whole

__all__ = ["ComponentSeries", "RecordedComponents", "read_component_series", "series_path"]

_VERSION = 1
_LARGEST_FILE = 64 * 1024 * 1024
_MOST_COMPONENTS = 100


def series_path(video: Path) -> Path:
    """Returns where the components of a video are."""
    return video.with_name(f"{video.stem}.components.json")


class ComponentSeries:
    """Collects the components of one environment, frame by frame.

    Args:
        components: What to collect.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = list(components)
        self._episodes: list[int] = []
        self._values: list[list[float | None]] = [[] for _ in self._components]

    def add(self, moment: Moment) -> None:
        """Takes what is known at the next frame."""
        self._episodes.append(moment.episode)
        for component, values in zip(self._components, self._values, strict=True):
            value = component.read(moment)
            numbers = [] if value is None or isinstance(value, str) else numbers_in(value, 1)
            values.append(float(f"{numbers[0]:.7g}") if numbers and math.isfinite(numbers[0]) else None)

    def write(self, video: Path, frames_per_second: float) -> Path:
        """Writes the file that belongs to a video, which is there already.

        Raises:
            OSError: The disk is full or not writable.
        """
        components = [
            {"label": component.label, "name": component.name, "values": values}
            for component, values in zip(self._components, self._values, strict=True)
        ]
        content = {
            "version": _VERSION,
            "video": video.name,
            "video_bytes": video.stat().st_size,
            "frames_per_second": float(frames_per_second),
            "episodes": self._episodes,
            "components": components,
        }
        path = series_path(video)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True, eq=False)
class RecordedComponents:
    """What `read_component_series` found.

    Attributes:
        frames_per_second: Of the video.
        values: By label, float64 of shape `(frames,)`; NaN where there was no number.
        episodes: Which episode each frame is of, int64 of shape `(frames,)`.
    """

    frames_per_second: float
    values: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    episodes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def read_component_series(video: Path) -> RecordedComponents | None:
    """Reads the components of a video.

    Returns:
        What was recorded; None: there is no such file, or it is of an earlier video of that name.

    Raises:
        ValueError: The file is damaged; the message tells how.
        OSError: It cannot be read.
    """
    path = series_path(video)
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"it has more than {_LARGEST_FILE:,} bytes")
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise ValueError(f"it is no such file of version {_VERSION}")
    if content.get("video_bytes") != video.stat().st_size:
        return None
    fps = content.get("frames_per_second")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000:
        raise ValueError("'frames_per_second' is no number from 0 to 1000")
    episodes = _numbers("episodes", content.get("episodes"))
    components = content.get("components")
    if not isinstance(components, list) or len(components) > _MOST_COMPONENTS:
        raise ValueError(f"'components' is no list of at most {_MOST_COMPONENTS}")
    values: dict[str, npt.NDArray[np.float64]] = {}
    for component in components:
        entry: Any = component if isinstance(component, dict) else {}
        label = entry.get("label")
        if not isinstance(label, str):
            raise ValueError("a component has no label")
        values[label] = _numbers(label, entry.get("values"))
        if len(values[label]) != len(episodes):
            raise ValueError(f"{label!r} has {len(values[label])} values for {len(episodes)} frames")
    return RecordedComponents(float(fps), values, np.nan_to_num(episodes).astype(np.int64))


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    if not isinstance(values, list) or not all(value is None or isinstance(value, int | float) for value in values):
        raise ValueError(f"{name!r} is no list of numbers")
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ValueError(f"{name!r} holds a number that is too large") from error
