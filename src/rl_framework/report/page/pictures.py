"""The charts of a page as PNG, without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.report.page.charts import Chart, Line, Section
from rl_framework.report.page.colors import LIGHT, STYLES
from rl_framework.report.page.texts import shortened
from rl_framework.whole_file import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["draw_section"]

_COLUMNS = 3
_WIDTH, _WIDE_HEIGHT, _NARROW_HEIGHT = 10.0, 4.2, 2.4
_DOTS_PER_INCH = 120
_LEFT, _LABELS, _RIGHT, _BELOW, _ABOVE = 0.75, 2.2, 0.15, 0.55, 0.35
"""Margins in inches; before boxes stand the names of runs."""
_MOST_NAMED = 12
_NAMES_BESIDE_EACH_OTHER, _NAME_HEIGHT = 4, 0.22
_DASHES = dict(zip(STYLES, ("-", "--", ":"), strict=True))


def draw_section(section: Section, path: Path) -> Path:
    """Draws the charts of a section as one PNG, 1,200 pixels wide.

    Args:
        section: The section.
        path: The picture; it appears when it is whole.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(section.charts)
    # A wide chart has room for its own legend.
    names = {} if rows[0][0].is_wide else _names(section.charts)
    is_named = 1 < len(names) <= _MOST_NAMED
    room = _NAME_HEIGHT * (1 + -(-len(names) // _NAMES_BESIDE_EACH_OTHER)) if is_named else 0.0
    height = sum(map(_height, rows)) + room
    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    if is_named:
        columns = min(len(names), _NAMES_BESIDE_EACH_OTHER)
        figure.legend(handles=_legend(names), loc="upper center", ncols=columns, fontsize=9, frameon=False)
    top = height - room
    for row in rows:
        width = _WIDTH if row[0].is_wide else _WIDTH / _COLUMNS
        top -= _height(row)
        for place, chart in enumerate(row):
            left = _LABELS if chart.boxes else _LEFT
            # By hand: a layout that measures every text takes longer than everything else together.
            x, y = place * width + left, top + _BELOW
            wide, tall = width - left - _RIGHT, _height(row) - _BELOW - _ABOVE
            _draw(figure.add_axes((x / _WIDTH, y / height, wide / _WIDTH, tall / height)), chart)
    with written_whole(path) as temporary:
        canvas.print_png(temporary)
    return path


def _rows(charts: Sequence[Chart]) -> list[list[Chart]]:
    narrow = [chart for chart in charts if not chart.is_wide]
    rows = [[chart] for chart in charts if chart.is_wide]
    return rows + [narrow[start : start + _COLUMNS] for start in range(0, len(narrow), _COLUMNS)]


def _height(row: Sequence[Chart]) -> float:
    if row[0].boxes:
        return max(1.6, min(40.0, 0.9 + 0.35 * len(row[0].boxes)))
    return _WIDE_HEIGHT if row[0].is_wide else _NARROW_HEIGHT


def _draw(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import EngFormatter

    small = 9 if chart.is_wide else 7
    for box_at, box in enumerate(chart.boxes):
        color = LIGHT[box.color % len(LIGHT)]
        drawn = axes.boxplot(
            [box.values],
            positions=[box_at],
            orientation="horizontal",
            widths=0.6,
            showmeans=True,
            meanline=True,
            patch_artist=True,
            flierprops={"markersize": 4, "markeredgecolor": color},
        )
        for part in (part for parts in drawn.values() for part in parts):
            part.set_color(color)
        for patch in drawn["boxes"]:
            patch.set_facecolor(f"{color}33")
    if chart.boxes:
        axes.set_yticks(range(len(chart.boxes)), [_plain(shortened(box.name, 30)) for box in chart.boxes])
        axes.invert_yaxis()
    for line in chart.lines:
        _draw_line(axes, line)
    axes.set_title(_plain(shortened(chart.title, 60)), fontsize=small + 2)
    axes.set_xlabel(_plain(chart.x_title), fontsize=small)
    axes.set_ylabel(_plain(shortened(chart.y_title, 40)), fontsize=small)
    axes.tick_params(labelsize=small - 1)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.x_title == "timesteps":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    if chart.y_range is not None:
        axes.set_ylim(*chart.y_range)
    names = _names([chart])
    if chart.is_wide and 1 < len(names) <= _MOST_NAMED:
        axes.legend(handles=_legend(names), fontsize=small - 1, framealpha=0.9)


def _names(charts: Sequence[Chart]) -> dict[int, str]:
    """Returns what each colour stands for: the mean of several runs where there is one."""
    lines = [line for chart in charts for line in chart.lines]
    found = {line.color: line.name for role in ("points", "mean") for line in lines if line.role == role}
    return dict(sorted(found.items()))


def _legend(names: Mapping[int, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        # Matplotlib leaves names that begin with an underscore out of the legend.
        Line2D([], [], **_look(color), linewidth=1.8, label=_plain(shortened(name, 40)).lstrip("_"))
        for color, name in names.items()
    ]


def _look(color: int) -> dict[str, Any]:
    return {"color": LIGHT[color % len(LIGHT)], "linestyle": _DASHES[STYLES[color // len(LIGHT) % len(STYLES)]]}


def _draw_line(axes: Axes, line: Line) -> None:
    look = _look(line.color)
    color = look["color"]
    if line.role == "points":
        axes.plot(line.x, line.y, "o", color=color, markersize=4)
        if line.ends is not None:
            axes.vlines(line.x, *line.ends, color=color, linewidth=1)
        return
    if line.ends is not None:
        axes.fill_between(line.x, *line.ends, color=color, alpha=0.2, linewidth=0)
    width, alpha = (0.7, 0.35) if line.role == "single" else (1.8, 1.0)
    marker = "o" if len(line.y) == 1 else None
    axes.plot(line.x, line.y, **look, linewidth=width, alpha=alpha, marker=marker)


def _plain(text: str) -> str:
    """Keeps Matplotlib from reading formulas in a text, which fail where they are none."""
    return text.replace("$", r"\$")
