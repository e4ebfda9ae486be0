"""What a page draws, before anybody decides how: lines, bands and boxes, thinned to what a screen can show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_framework.report.component_series import RecordedComponents
from rl_framework.report.page.groups import Curve, Group, mean_over_runs
from rl_framework.report.page.series import Series
from rl_framework.report.plots import EPISODE_RETURN, rolling_mean, thin

__all__ = [
    "Box",
    "Chart",
    "Line",
    "Section",
    "component_charts",
    "metric_sections",
    "returns_chart",
]

Values = npt.NDArray[Any]

_WINDOW = 100
_WIDE_BUCKETS, _NARROW_BUCKETS = 800, 300
_MEAN_POINTS = 300
_FEW = 40
_MOST_CHARTS = 60
_MOST_RETURNS = 1_000
_ROOM = 0.5
"""Above and below the lines, as a share of their range."""
_ROOM_AROUND_ONE = 0.1
"""Above and below a line that is flat, as a share of its value."""
_ROUNDING = 1e-5
"""What equal numbers differ by after single precision and averaging, intervals of a few runs included, as a share of
their size."""

EVALUATED = "evaluation/mean_return"
_EVALUATION_ENDS = ("evaluation/low", "evaluation/high")


@dataclass(eq=False)
class Line:
    """Points in their order.

    Attributes:
        name: Of the group or the run.
        color: Number of the group.
        x: Shape `(n,)`.
        y: Shape `(n,)`; NaN is a gap.
        ends: Lower and upper end of an interval at each point, each of shape `(n,)`, or None.
        role: "mean": what is to be seen first; "single": one of several that it stands for; "points": dots.
    """

    name: str
    color: int
    x: Values
    y: Values
    ends: tuple[Values, Values] | None = None
    role: Literal["mean", "single", "points"] = "mean"


@dataclass(eq=False)
class Box:
    """The returns of one evaluation, shape `(n,)`, and the run that they are of."""

    name: str
    color: int
    values: Values


@dataclass(eq=False)
class Chart:
    """One picture.

    Attributes:
        title: Above it.
        x_title: Of the axis, with a unit.
        y_title: Of the other.
        lines: To draw, the last on top.
        boxes: To draw instead.
        alternative: What it shows, in words.
        is_wide: Whether it gets the whole width.
        frames_per_second: Of the video whose frames are the x axis; None: there is none.
    """

    title: str
    x_title: str = "timesteps"
    y_title: str = ""
    lines: list[Line] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    alternative: str = ""
    is_wide: bool = False
    frames_per_second: float | None = None

    @property
    def y_range(self) -> tuple[float, float] | None:
        """What to show of the y axis.

        The lines, where the band of a few runs is so wide that they would look flat; and some room around a number that
        does not change, such as a learning rate. None: everything.
        """
        if not self.lines:
            return None
        low, high = _extent([line.y for line in self.lines])
        ends = [(end, line.role) for line in self.lines if line.ends is not None for end in line.ends]
        lowest, highest = _extent([*(end for end, _ in ends), low, high])
        if highest - lowest <= _ROUNDING * max(abs(lowest), abs(highest)):
            room = _ROOM_AROUND_ONE * abs(high) or 1.0
            return low - room, high + room
        bands = [end for end, role in ends if role != "points"]
        room = _ROOM * (high - low)
        if not bands or room <= 0:
            return None
        lowest, highest = _extent([*bands, low, high])
        if lowest >= low - room and highest <= high + room:
            return None
        return max(low - room, lowest), min(high + room, highest)


def _extent(values: Sequence[Values | float]) -> tuple[float, float]:
    return float(min(map(np.nanmin, values))), float(max(map(np.nanmax, values)))


@dataclass(eq=False)
class Section:
    """Charts that belong together.

    Attributes:
        title: Above them.
        note: How to read them.
        charts: At least one.
    """

    title: str
    note: str
    charts: list[Chart]


_Belongs = Callable[[str], bool]
_OPTIMIZER = ("train/learning_rate", "train/n_updates", "train/clip_range", "train/ent_coef")
_SEVERAL = (
    "Faint lines are single runs, the strong one is their mean, and the band its 95 % interval (Student's t), up to "
    "where the shortest run has got. A very wide one is cut off; a double click shows all of it."
)
_SECTIONS: tuple[tuple[str, str, _Belongs], ...] = (
    (
        "Losses",
        "What the algorithm reports of its updates.",
        lambda name: name.startswith(("train/", "validation/", "loss/", "losses/")) and name not in _OPTIMIZER,
    ),
    (
        "Optimizer and gradient norms",
        "Euclidean norms of gradients, weights and updates, where the callback TrackNorms has measured them.",
        lambda name: name.startswith("norms/") or name in _OPTIMIZER,
    ),
    (
        "Episode metrics",
        f"Metrics of episodes are the mean of the last {_WINDOW} episodes.",
        lambda name: name.startswith(("episode/", "rollout/")),
    ),
    ("Other metrics", "Everything else that was measured.", lambda name: True),
)


def metric_sections(groups: Sequence[Group]) -> tuple[list[Section], list[str]]:
    """Draws everything that was measured while training.

    Args:
        groups: The runs.

    Returns:
        The sections that have something to show, and sentences about what was left out.
    """
    sections: list[Section] = []
    problems: list[str] = []
    curves = [
        chart for chart in (_metric_chart(groups, EPISODE_RETURN, is_wide=True), _evaluations_chart(groups)) if chart
    ]
    if curves:
        note = f"Returns are the mean of the last {_WINDOW} episodes; of a single run, each episode's is drawn faintly."
        sections.append(Section("Learning curves", f"{note} {_SEVERAL}" if _has_several(groups) else note, curves))
    names = dict.fromkeys(name for group in groups for run in group.runs for name in run.metrics.series)
    left = [name for name in names if name != EPISODE_RETURN and not name.startswith("evaluation/")]
    for title, note, belongs in _SECTIONS:
        chosen, left = [name for name in left if belongs(name)], [name for name in left if not belongs(name)]
        if len(chosen) > _MOST_CHARTS:
            problems.append(f"{title}: the first {_MOST_CHARTS} of {len(chosen):,} metrics are drawn.")
        charts = [chart for name in chosen[:_MOST_CHARTS] if (chart := _metric_chart(groups, name)) is not None]
        if charts:
            sections.append(Section(title, note, charts))
    return sections, problems


def returns_chart(groups: Sequence[Group]) -> Chart | None:
    """Draws how the returns of the evaluations after training are distributed."""
    boxes = [
        Box(run.name, group.number, _sample(run.result.returns))
        for group in groups
        for run in group.runs
        if run.result is not None
    ]
    if not boxes:
        return None
    results = [run.result for group in groups for run in group.runs if run.result is not None]
    told = [f"{box.name}: {result}" for box, result in zip(boxes, results, strict=True)]
    return Chart(
        "Returns of the evaluation after training",
        "return (undiscounted)",
        boxes=boxes,
        alternative=". ".join(told[:20]),
        is_wide=True,
    )


def component_charts(recorded: RecordedComponents, name: str, color: int) -> list[Chart]:
    """Draws each component of a recorded episode over the time of its video."""
    charts = []
    starts = np.flatnonzero(np.diff(recorded.episodes)) + 1
    seconds = np.arange(len(recorded.episodes)) / recorded.frames_per_second
    for label, values in recorded.values.items():
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            continue
        # A gap between two episodes, so that no line leads from the end of one to the beginning of the next.
        x, y = np.insert(seconds, starts, np.nan), np.insert(values, starts, np.nan)
        if len(y) > 2 * _WIDE_BUCKETS:
            kept, y = thin(known, values[known], _WIDE_BUCKETS)
            x = seconds[kept]
        line = Line(name, color, x, y)
        alternative = f"{label} over {seconds[-1]:.3g} seconds, {_range(values[known])}"
        charts.append(
            Chart(label, "seconds", "", [line], alternative=alternative, frames_per_second=recorded.frames_per_second)
        )
    return charts


def _has_several(groups: Sequence[Group]) -> bool:
    return any(len(group.runs) > 1 for group in groups)


def _sample(returns: Values) -> Values:
    """Keeps evenly spaced quantiles of very many returns, the smallest and the largest among them."""
    if len(returns) <= _MOST_RETURNS:
        return returns
    return np.sort(returns)[np.linspace(0, len(returns) - 1, _MOST_RETURNS).astype(np.int64)]


def _metric_chart(groups: Sequence[Group], metric: str, is_wide: bool = False) -> Chart | None:
    buckets = _WIDE_BUCKETS if is_wide else _NARROW_BUCKETS
    chart = Chart(metric, is_wide=is_wide)
    if metric == EPISODE_RETURN:
        chart.title, chart.y_title = "Return", "return (undiscounted)"
    is_of_episodes = metric.startswith("episode/")
    told: list[str] = []
    singles: list[Line] = []
    for group in groups:
        found = [(run.name, run.metrics.series[metric]) for run in group.runs if metric in run.metrics.series]
        curves = [Series(s.timesteps, rolling_mean(s.values, _WINDOW)) if is_of_episodes else s for _, s in found]
        if is_wide and len(found) == 1:
            singles.append(_line(found[0][0], group.number, found[0][1], buckets, "single"))
        mean = mean_over_runs(curves, _MEAN_POINTS)
        roles: Literal["single", "mean"] = "mean" if mean is None else "single"
        for (name, _), curve in zip(found, curves, strict=True):
            singles.append(_line(group.name if len(found) == 1 else name, group.number, curve, buckets, roles))
        if mean is not None:
            chart.lines.append(_banded(group, mean))
        told += _told(group.name, curves, mean)
    chart.lines = [*singles, *chart.lines]
    chart.alternative = f"{chart.title} over timesteps. {'. '.join(told[:12])}."
    return chart if chart.lines else None


def _line(name: str, color: int, series: Series, buckets: int, role: Literal["single", "mean"]) -> Line:
    return Line(name, color, *thin(series.timesteps, series.values, buckets), role=role)


def _banded(group: Group, curve: Curve) -> Line:
    return Line(group.name, group.number, curve.timesteps, curve.mean, (curve.low, curve.high))


def _evaluations_chart(groups: Sequence[Group]) -> Chart | None:
    chart = Chart("Evaluations during training", y_title="mean return", is_wide=True)
    told: list[str] = []
    for group in groups:
        found = [(run.name, run.metrics.series) for run in group.runs if EVALUATED in run.metrics.series]
        curves = [series[EVALUATED] for _, series in found]
        mean = mean_over_runs(curves, _MEAN_POINTS)
        for name, series in found:
            evaluated = series[EVALUATED]
            x, y = evaluated.timesteps, evaluated.values
            low, high = (series[end].values if end in series else y[:0] for end in _EVALUATION_ENDS)
            ends = (low, high) if len(low) == len(high) == len(y) else None
            if mean is not None or len(y) > _FEW * 10:  # so many bars would hide each other
                ends = None
                x, y = thin(x, y, _WIDE_BUCKETS)
            chart.lines.append(Line(name if len(found) > 1 else group.name, group.number, x, y, ends, "points"))
        if mean is not None:
            chart.lines.append(_banded(group, mean))
        told += _told(group.name, curves, mean)
    chart.alternative = f"Mean return of the evaluations during training. {'. '.join(told[:12])}."
    return chart if chart.lines else None


def _told(name: str, curves: Sequence[Series], mean: Curve | None) -> Iterator[str]:
    if mean is not None:
        last = f"{_number(mean.mean[-1])}, interval {_number(mean.low[-1])} to {_number(mean.high[-1])}"
        yield f"{name}, {len(curves)} runs: mean from {_number(mean.mean[0])} to {last}"
        return
    for curve in curves:
        values = curve.values
        yield f"{name}: from {_number(values[0])} to {_number(values[-1])}, {_range(values)}"


def _range(values: Values) -> str:
    return f"lowest {_number(values.min())}, highest {_number(values.max())}"


def _number(value: float) -> str:
    return f"{value:.4g}"
