"""Charts as plain data in the form of Plotly."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.report.page.charts import Box, Chart, Line
from rl_framework.report.page.texts import clean, shortened

__all__ = ["figure_of"]

_LONGEST_TICK = 22
_MOST_DOTS = 40
_ROW, _MARGINS = 30, 90
_WIDE, _NARROW, _COMPONENT = 420, 260, 180


def figure_of(chart: Chart) -> dict[str, Any]:
    """Returns a chart as JSON-able data: `data`, `layout`, and what the page's script does with them.

    Colours are numbers of groups, which the script looks up, since they depend on the reader's colour scheme. Texts
    are escaped: Plotly reads some HTML in them.
    """
    if chart.boxes:
        traces = _boxes(chart.boxes)
        height = _MARGINS + _ROW * len(chart.boxes)
    else:
        traces = [trace for line in chart.lines for trace in _traces(line)]
        height = _WIDE if chart.is_wide else _NARROW if chart.frames_per_second is None else _COMPONENT
    x_axis: dict[str, Any] = {"title": {"text": _text(chart.x_title)}}
    y_axis: dict[str, Any] = {"title": {"text": _text(shortened(chart.y_title, 40))}}
    if chart.boxes:
        y_axis |= {"autorange": "reversed", "type": "category", "tickmode": "linear", "dtick": 1}
    else:
        if chart.x_title == "timesteps":
            x_axis["rangemode"] = "tozero"
        if chart.y_range is not None:
            y_axis["range"] = list(chart.y_range)
        if max(np.nanmax(np.abs(line.y)) for line in chart.lines) < 1:
            y_axis["exponentformat"] = "e"  # not 300μ for a learning rate of 3e-4
    return {
        "data": traces,
        "layout": {"height": height, "xaxis": x_axis, "yaxis": y_axis},
        "fps": chart.frames_per_second,
    }


def _text(text: str) -> str:
    return html.escape(clean(text), quote=False)


def _traces(line: Line) -> list[dict[str, Any]]:
    name = _text(shortened(line.name, 40))
    is_dots = line.role == "points"
    few = len(line.y) <= _MOST_DOTS
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers" if is_dots else "lines+markers" if few else "lines",
        "name": name,
        "x": _encoded(line.x),
        "y": _encoded(line.y),
        "color": line.color,
        "role": line.role,
        # Constant: whatever a name holds, it is no template.
        "hovertemplate": "%{y:.4g}",
    }
    if line.role == "single":
        trace |= {"hoverinfo": "skip", "hovertemplate": None, "mode": "lines"}
    if line.ends is None:
        return [trace]
    low, high = line.ends
    if is_dots:
        above, below = _encoded(high - line.y), _encoded(line.y - low)
        return [{**trace, "error_y": {"type": "data", "symmetric": False, "array": above, "arrayminus": below}}]
    edge = {"type": "scatter", "mode": "lines", "x": trace["x"], "color": line.color, "hoverinfo": "skip", "name": name}
    return [
        {**edge, "y": _encoded(low), "role": "edge"},
        {**edge, "y": _encoded(high), "role": "band", "fill": "tonexty"},
        trace,
    ]


def _boxes(boxes: Sequence[Box]) -> list[dict[str, Any]]:
    labels = _distinct([shortened(box.name, _LONGEST_TICK) for box in boxes])
    return [
        {
            "type": "box",
            "name": _text(label),
            "x": _encoded(box.values),
            "orientation": "h",
            "boxmean": True,
            "boxpoints": "all" if len(box.values) <= _MOST_DOTS * 5 else "outliers",
            "jitter": 0.6,
            "pointpos": 0,
            "color": box.color,
            "role": "box",
        }
        for label, box in zip(labels, boxes, strict=True)
    ]


def _distinct(labels: Sequence[str]) -> list[str]:
    """Numbers labels that have become the same by shortening: boxes of one name would lie on each other."""
    counts: dict[str, int] = {}
    distinct = []
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
        distinct.append(label if counts[label] == 1 else f"{label} ({counts[label]})")
    return distinct


def _encoded(values: npt.NDArray[Any]) -> dict[str, str]:
    """Returns numbers as Plotly's typed arrays, which are short, fast, and may hold NaN."""
    whole = values.dtype.kind in "iu" and (len(values) == 0 or np.abs(values).max() < 1 << 31)
    array = values.astype("<i4" if whole else "<f8")
    return {"dtype": "i4" if whole else "f8", "bdata": base64.b64encode(array.tobytes()).decode()}
