"""Reports: from folders of runs to a page."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import rl_framework
from rl_framework.errors import ArgumentError, require_extra
from rl_framework.report.page.charts import Chart, Section, component_charts, metric_sections, returns_chart
from rl_framework.report.page.document import Document
from rl_framework.report.page.groups import Group, comparisons, group_runs, repeated_seeds
from rl_framework.report.page.pictures import draw_section
from rl_framework.report.page.runs import ReportedRun, find_runs
from rl_framework.report.page.tables import configuration_table, overview, record_table
from rl_framework.stores import refuse_address
from rl_framework.whole_file import written_whole

__all__ = ["write_report"]

_EMBEDDED_AT_MOST = 4 * 1024 * 1024
_ALL_EMBEDDED_AT_MOST = 24 * 1024 * 1024
_KINDS = {".mp4": "video/mp4", ".gif": "image/gif"}


def write_report(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    path: str | os.PathLike[str] = "report.html",
    *,
    title: str | None = None,
    png: bool = False,
) -> Path:
    """Writes a page about one or more runs: one HTML file that needs no network and nothing beside it.

    It shows learning curves (runs that differ by nothing but their seeds are one configuration: their mean, and its
    95 % interval), how the returns of the evaluations are distributed, what `compare` says of the configurations,
    losses, norms, metrics of episodes, the last video with the components of the episode that its overlay names, the
    configuration and the record of the system. Curves are thinned to what a screen can show, and keep their minima
    and maxima. A file that is damaged or still being written is read as far as it goes, and the page says so.

    A video of at most 4 MiB (24 MiB of all) becomes part of the page; to a larger one the page has a link, relative to
    itself, and says so.

    Args:
        runs: Folders of runs, of experiments with several seeds, or that hold some of these.
        path: The page, ending with .html. Missing folders are made; it appears when it is whole.
        title: Of the page; None: the names of the runs.
        png: Whether to write each section with pictures as a PNG too, beside the page: `report.losses.png`.

    Returns:
        The path.

    Raises:
        ArgumentError: A folder holds no run, there is none, the path does not end with .html, or one is an address.
        MissingExtraError: Plotly is not installed.
        OSError: The page cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("path", str(path), "a report's name ends with .html")
    require_extra("report", "reports", "plotly")
    folders = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    if not folders:
        raise ArgumentError("runs", folders, "there is no run to report on")
    for folder in folders:
        refuse_address(folder, "runs", "Copy the run to this machine first.")
    groups = group_runs(find_runs([Path(folder) for folder in folders]))
    # Plotly's own way to its script, which is part of the package.
    from plotly.offline import get_plotlyjs

    sections, problems = metric_sections(groups)
    returns = returns_chart(groups)
    if returns is not None:
        section = Section("Evaluation", _RETURNS_NOTE, [returns])
        sections.insert(1 if sections and sections[0].title == "Learning curves" else 0, section)
    document = _document(groups, sections, problems, target, title)
    with written_whole(target) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(document.parts(get_plotlyjs()))
    if png:
        for section in sections:
            name = section.title.lower().replace(" ", "-")
            draw_section(section, target.with_name(f"{target.stem}.{name}.png"))
    return target


_FIRST = ("Learning curves", "Evaluation")
_RETURNS_NOTE = (
    "Each box holds the middle half of the returns of one run's episodes; a line is the median, a dashed one the mean."
)


def _document(
    groups: Sequence[Group], sections: Sequence[Section], problems: Sequence[str], target: Path, title: str | None
) -> Document:
    runs = [run for group in groups for run in group.runs]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    names = ", ".join(group.name for group in groups[:3]) + (f" and {len(groups) - 3} more" if len(groups) > 3 else "")
    document = Document(
        title or f"Report: {names}",
        f"{_count(runs, 'run')} of {_count(groups, 'configuration')}. "
        f"Written by rl_framework {rl_framework.__version__}, {written}.",
    )
    found = [
        *problems,
        *repeated_seeds(groups),
        *(f"{run.name}: {problem}" for run in runs for problem in run.problems),
    ]
    if found:
        document.add_notes("Please note", found)
    document.begin_section("Runs")
    document.add_table("Runs", overview(groups), numbers=True)
    _add_comparison(document, groups)
    first = [section for section in sections if section.title in _FIRST]
    for section in first:
        _add_section(document, groups, section)
    _add_videos(document, groups, target)
    for section in sections:
        if section not in first:
            _add_section(document, groups, section)
    for name, made in (("Configuration", configuration_table(groups)), ("System record", record_table(groups))):
        if made is not None:
            table, marked = made
            document.begin_section(name, "Rows that differ are marked with ≠." if marked else "")
            document.add_table(name, table, marked=marked)
    return document


def _count(things: Sequence[object], name: str) -> str:
    return f"1 {name}" if len(things) == 1 else f"{len(things)} {name}s"


def _add_section(document: Document, groups: Sequence[Group], section: Section) -> None:
    document.begin_section(section.title, section.note)
    if len(groups) > 1:
        document.add_legend([group.name for group in groups])
    document.add_charts(section.charts)


def _add_comparison(document: Document, groups: Sequence[Group]) -> None:
    document.begin_section("Comparison in words")
    compared = list(comparisons(groups))
    for pair, words in compared:
        document.add_heading(pair)
        document.add_text(words)
    if compared:
        return
    if len(groups) == 1:
        document.add_text("There is one configuration, and nothing to compare it with.")
    else:
        document.add_text("Fewer than two configurations have been evaluated after training: nothing is compared.")
    for group in groups:
        for run in group.runs:
            if run.result is not None:
                document.add_text(f"{run.name}: {run.result}")


def _add_videos(document: Document, groups: Sequence[Group], target: Path) -> None:
    filmed = [(group, run) for group in groups for run in group.runs if run.video is not None]
    if not filmed:
        return
    has_series = any(run.components is not None for _, run in filmed)
    note = "Beside a video: the components that its overlay names. A click in one shows that moment."
    document.begin_section("Videos", note if has_series else _NO_COMPONENTS)
    left = _ALL_EMBEDDED_AT_MOST
    for group, run in filmed:
        document.add_heading(run.name)
        left -= _add_video(document, group, run, target, left)


_NO_COMPONENTS = (
    "A video whose overlay names components (video.overlay.show in the configuration) has their curves beside it."
)


def _add_video(document: Document, group: Group, run: ReportedRun, target: Path, left: int) -> int:
    """Adds the video of a run; returns how many bytes of it became part of the page."""
    video = run.video
    assert video is not None  # the caller has looked
    charts: list[Chart] = [] if run.components is None else component_charts(run.components, run.name, group.number)
    is_picture = video.suffix == ".gif"
    content: bytes | None = None
    try:
        size = video.stat().st_size
        if size <= min(_EMBEDDED_AT_MOST, left):
            content = video.read_bytes()
    except OSError as error:
        document.add_text(f"{video.name} cannot be read: {error}.", "note")
        return 0
    if content is not None:
        source = f"data:{_KINDS[video.suffix]};base64,{base64.b64encode(content).decode()}"
        place = f"{video.name}, {_bytes(size)}, is part of this page."
    else:
        source = _address(video, target)
        place = f"{video.name}, {_bytes(size)}, is not part of this page, which looks for it at {source}."
    document.add_video(source, is_picture, f"Video of {run.name}", place, charts)
    return 0 if content is None else len(content)


def _address(video: Path, page: Path) -> str:
    """Returns the address of a video relative to the page; on another drive of Windows, there is only the whole one."""
    try:
        return quote(Path(os.path.relpath(video.resolve(), page.resolve().parent)).as_posix())
    except ValueError:
        return video.resolve().as_uri()


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
