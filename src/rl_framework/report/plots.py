"""Pictures of a training run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.training.metrics import MetricsRecord, read_metrics, series
from rl_framework.whole_file import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "EPISODE_RETURN",
    "check_window",
    "draw_curve",
    "evaluation_row",
    "plot_learning_curve",
    "rolling_mean",
    "thin",
]

EPISODE_RETURN = "episode/return"
"""The metric that every finished episode leaves."""

# Told apart with any kind of colour blindness: Okabe and Ito, "Color Universal Design", 2008.
_BLUE, _VERMILION, _GREEN = "#0072B2", "#D55E00", "#009E73"
_FONT_SIZE = 11
_INCHES = (8.0, 4.5)
_DOTS_PER_INCH = 150
# Twice as many points as the picture has columns show everything that it can show.
_BINS = int(_INCHES[0] * _DOTS_PER_INCH)

# Below this many values each gets a dot: a line through a single one would not be seen.
_FEW = 10

_Timesteps = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]


def plot_learning_curve(
    records: str | os.PathLike[str] | Sequence[MetricsRecord],
    path: str | os.PathLike[str],
    *,
    metric: str = EPISODE_RETURN,
    window: int = 100,
    threshold: float | None = None,
    title: str = "Learning curve",
) -> Path:
    """Draws how a metric developed over the training, as a PNG of 1,200 by 675 pixels.

    Every value is drawn faintly (thinned where there are more than the picture can show, keeping minima and maxima)
    and their mean over the last `window` values strongly. For episode returns, evaluations during the training are
    added: their mean, and the interval around it as a bar.

    Args:
        records: The metrics file, or what `read_metrics` gave.
        path: The picture, ending with .png. Missing folders are created; it appears when it is whole.
        metric: Name of the metric.
        window: Number of values (episodes, for returns) in the rolling mean. The first ones average what there is.
        threshold: Draws a dashed line at this value, such as the return that counts as solved.
        title: Above the picture.

    Returns:
        The path.

    Raises:
        ArgumentError: There is no record, none holds the metric (or an evaluation), the path does not end with .png,
            or `window` is below 1.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ArgumentError("path", str(path), "a learning curve's name ends with .png")
    check_window(window)
    if isinstance(records, str | os.PathLike):
        records = read_metrics(records)
    if not records:
        raise ArgumentError("records", records, "there is nothing to draw", "Train first; metrics come with episodes.")
    timesteps, values = _finite(*series(records, metric))
    is_return = metric == EPISODE_RETURN
    evaluations = _evaluations(records) if is_return else _evaluations([])
    if len(values) == 0 and len(evaluations) == 0:
        names = sorted({name for record in records for name in record.metrics})
        raise ArgumentError("metric", metric, "no record holds it", f"There are: {', '.join(names) or 'none'}.")

    unit = "episode" if metric.startswith("episode/") else "value"
    label = "return (undiscounted)" if is_return else metric
    curve = draw_curve(timesteps, values, evaluations, int(window), threshold, title, label=label, unit=unit)
    with written_whole(target) as temporary:
        temporary.write_bytes(curve)
    return target


def draw_curve(
    timesteps: _Timesteps,
    values: _Values,
    evaluations: _Values,
    window: int,
    threshold: float | None,
    title: str,
    *,
    label: str = "return (undiscounted)",
    unit: str = "episode",
    dots_per_inch: int = _DOTS_PER_INCH,
) -> bytes:
    """Returns the picture of `plot_learning_curve` as a PNG of 8 by 4.5 inches.

    Args:
        timesteps: Shape `(n,)`.
        values: Shape `(n,)`, finite.
        evaluations: Timestep, mean, and both ends of the interval (NaN where unknown), shape `(m, 4)`.
        window: Number of values in the rolling mean.
        threshold: Where a dashed line is drawn, or None.
        title: Above the picture.
        label: Of the vertical axis.
        unit: What one value belongs to.
        dots_per_inch: Resolution.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot, nothing of the caller's figures or settings is touched.
    figure = Figure(figsize=_INCHES, dpi=dots_per_inch, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if len(values):
        _draw_values(axes, timesteps, values, window, unit)
    if len(evaluations):
        _draw_evaluations(axes, evaluations)
    if threshold is not None:
        axes.axhline(threshold, color=_GREEN, linestyle="--", linewidth=1.5, label=f"threshold {threshold:g}", zorder=2)
    _label(axes, label, title)
    picture = io.BytesIO()
    canvas.print_png(picture)
    return picture.getvalue()


def check_window(window: int) -> None:
    """Checks the number of values in a rolling mean.

    Raises:
        ArgumentError: It is below 1, or no integer.
    """
    if isinstance(window, bool) or window < 1 or window != int(window):
        raise ArgumentError("window", window, "must be an integer of at least 1")


def evaluation_row(timestep: int, metrics: Mapping[str, float]) -> tuple[float, float, float, float] | None:
    """Returns timestep, mean and both ends of the interval (NaN where unknown); None where nothing was evaluated."""
    mean = metrics.get("evaluation/mean_return", np.nan)
    low, high = (metrics.get(f"evaluation/{end}", np.nan) for end in ("low", "high"))
    return (float(timestep), float(mean), float(low), float(high)) if np.isfinite(mean) else None


def _finite(timesteps: _Timesteps, values: _Values) -> tuple[_Timesteps, _Values]:
    known = np.isfinite(values)
    return timesteps[known], values[known]


def _evaluations(records: Sequence[MetricsRecord]) -> _Values:
    """Returns what `evaluation_row` gives of each record that has an evaluation, shape `(n, 4)`."""
    rows = [evaluation_row(record.timestep, record.metrics) for record in records]
    return np.array([row for row in rows if row is not None], dtype=np.float64).reshape(-1, 4)


def rolling_mean(values: _Values, window: int) -> _Values:
    """Returns the mean of each value and the `window - 1` before it, or of as many as there are."""
    # Sums of deviations lose less precision than sums of values that are all large.
    center = values.mean()
    sums = np.concatenate([[0.0], np.cumsum(values - center)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts) + center, dtype=np.float64)


def thin(timesteps: _Timesteps, values: _Values, n_bins: int) -> tuple[_Timesteps, _Values]:
    """Keeps the minimum and the maximum of each of `n_bins` stretches, and the first and last value, in their order."""
    if len(values) <= 2 * n_bins:
        return timesteps, values
    edges = np.linspace(0, len(values), n_bins + 1).astype(int)
    kept = {0, len(values) - 1}
    for start, end in pairwise(edges):
        kept.add(start + int(values[start:end].argmin()))
        kept.add(start + int(values[start:end].argmax()))
    indices = np.array(sorted(kept))
    return timesteps[indices], values[indices]


def _draw_values(axes: Axes, timesteps: _Timesteps, values: _Values, window: int, unit: str) -> None:
    every_label = f"every {unit}"
    marker = "o" if len(values) < _FEW else None
    axes.plot(
        *thin(timesteps, values, _BINS),
        color=_BLUE,
        alpha=0.3,
        linewidth=0.8,
        marker=marker,
        markersize=4,
        label=every_label,
        zorder=1,
    )
    smooth = rolling_mean(values, window)
    mean_label = f"mean of the last {window} {unit}s"
    axes.plot(*thin(timesteps, smooth, _BINS), color=_BLUE, linewidth=2, label=mean_label, zorder=3)


def _draw_evaluations(axes: Axes, evaluations: _Values) -> None:
    timesteps, means, lows, highs = evaluations.T
    barred = np.isfinite(lows) & np.isfinite(highs)
    label = "evaluation, with its interval" if barred.any() else "evaluation"
    axes.vlines(timesteps[barred], lows[barred], highs[barred], color=_VERMILION, linewidth=1.5, zorder=4)
    axes.plot(timesteps, means, color=_VERMILION, marker="o", markersize=5, linestyle="none", label=label, zorder=5)


def _label(axes: Axes, value_label: str, title: str) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_title(title, fontsize=_FONT_SIZE + 2)
    axes.set_xlabel("timesteps", fontsize=_FONT_SIZE)
    axes.set_ylabel(value_label, fontsize=_FONT_SIZE)
    axes.tick_params(labelsize=_FONT_SIZE - 1)
    axes.set_xlim(0, max(axes.dataLim.x1 * 1.02, 1))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=_FONT_SIZE - 1, framealpha=0.9)
