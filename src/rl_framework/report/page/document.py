"""The page: one HTML file that needs nothing else and asks nobody."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from rl_framework.report.page.charts import Chart
from rl_framework.report.page.colors import DARK, LIGHT, STYLES
from rl_framework.report.page.plotly_form import figure_of
from rl_framework.report.page.texts import clean, shortened

__all__ = ["Document", "Table"]

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Titles of the columns, and the rows, whose first cell is their title."""

_DASHES = dict(zip(STYLES, ("solid", "dashed", "dotted"), strict=True))


class Document:
    """Puts a page together, part by part, in their order.

    Every text that it is given is escaped.

    Args:
        title: Of the page.
        subtitle: Below it.
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self._title = title
        self._subtitle = subtitle
        self._parts: list[str] = []
        self._sections: list[str] = []
        self._figures: list[dict[str, Any]] = []

    def begin_section(self, title: str, note: str = "") -> None:
        """Begins a section, which the contents at the top lead to."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="section-{len(self._sections)}">{_text(title)}</h2>')
        if note:
            self.add_text(note, "muted")

    def add_text(self, text: str, look: str = "") -> None:
        """Adds a paragraph; `look` is a class of the style sheet."""
        chosen = f' class="{look}"' if look else ""
        self._parts.append(f"<p{chosen}>{_text(text)}</p>")

    def add_heading(self, text: str) -> None:
        """Adds a heading within a section."""
        self._parts.append(f"<h3>{_text(text)}</h3>")

    def add_notes(self, title: str, notes: Sequence[str]) -> None:
        """Adds what the reader should know before everything else."""
        entries = "".join(f"<li>{_text(shortened(note, 600))}</li>" for note in notes)
        self._parts.append(f'<div class="note" role="note"><h3>{_text(title)}</h3><ul>{entries}</ul></div>')

    def add_legend(self, names: Sequence[str]) -> None:
        """Adds which colour stands for what."""
        entries = []
        for number, name in enumerate(names):
            dash = _DASHES[STYLES[number // len(LIGHT) % len(STYLES)]]
            style = f"border-top-color:var(--c{number % len(LIGHT)});border-top-style:{dash}"
            entries.append(f'<li><i style="{style}" aria-hidden="true"></i>{_text(shortened(name, 80))}</li>')
        self._parts.append(f'<ul class="legend" aria-label="Colours">{"".join(entries)}</ul>')

    def add_table(self, name: str, table: Table, *, marked: Sequence[int] = (), numbers: bool = False) -> None:
        """Adds a table.

        Args:
            name: For those who do not see it.
            table: The table.
            marked: Rows to make conspicuous.
            numbers: Whether all cells but the first of a row are short, and stand right.
        """
        titles, rows = table
        look = ' class="number"' if numbers else ""
        head = "".join(
            f'<th scope="col"{look if index else ""}>{_text(title)}</th>' for index, title in enumerate(titles)
        )
        body = []
        for index, (first, *cells) in enumerate(rows):
            row = "".join(f"<td{look}>{_text(cell)}</td>" for cell in cells)
            # A sign as well, for those who do not see the colour.
            chosen, sign = (' class="differs"', "≠ ") if index in set(marked) else ("", "")
            body.append(f'<tr{chosen}><th scope="row">{sign}{_text(first)}</th>{row}</tr>')
        self._parts.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(name)}"><table><thead><tr>{head}</tr>'
            f"</thead><tbody>{''.join(body)}</tbody></table></div>"
        )

    def add_charts(self, charts: Sequence[Chart]) -> None:
        """Adds charts, as many beside each other as there is room for."""
        self._parts.append(f'<div class="charts">{"".join(self._chart(chart) for chart in charts)}</div>')

    def add_video(self, source: str, is_picture: bool, name: str, place: str, charts: Sequence[Chart]) -> None:
        """Adds a video and, beside it, charts that follow it.

        Args:
            source: Its address: a data URI, or relative to the page.
            is_picture: Whether it is a moving picture (.gif).
            name: What it shows.
            place: Where it is, for those who move the page.
            charts: What is to be seen at the same time.
        """
        address, label = html.escape(clean(source), quote=True), _text(name)
        if is_picture:
            shown = f'<img src="{address}" alt="{label}">'
        else:
            shown = f'<video controls playsinline muted loop preload="auto" src="{address}" aria-label="{label}">'
            shown += "</video>"
        series = f'<div class="charts">{"".join(self._chart(chart) for chart in charts)}</div>'
        self._parts.append(
            f'<div class="replay"><div>{shown}<p class="muted">{_text(place)}</p></div>{series if charts else ""}</div>'
        )

    def _chart(self, chart: Chart) -> str:
        figure = figure_of(chart)
        self._figures.append(figure)
        look = "chart wide" if chart.is_wide else "chart"
        return (
            f'<figure class="{look}"><figcaption><h3>{_text(shortened(chart.title, 120))}</h3></figcaption>'
            f'<div class="plot" role="img" aria-label="{_text(shortened(chart.alternative or chart.title, 1_500))}" '
            f'data-figure="{len(self._figures) - 1}" style="height:{figure["layout"]["height"]}px"></div></figure>'
        )

    def parts(self, plotly: str) -> Iterator[str]:
        """Yields the page, piece by piece.

        Args:
            plotly: Plotly's script.
        """
        scripts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in (plotly, _resource("page.js"))]
        title = _text(self._title)
        yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        yield f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        yield f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n'
        yield f"<style>\n{_style()}</style>\n</head>\n"
        yield f"<body>\n<header><h1>{title}</h1>\n"
        yield f'<p class="muted">{_text(self._subtitle)}</p></header>\n{self._contents()}<main>\n'
        yield "<noscript><p>The pictures need JavaScript; the tables do not.</p></noscript>\n"
        yield "\n".join(self._parts)
        yield f'\n</main>\n<script type="application/json" id="figures">{_embedded(self._figures)}</script>\n'
        for script in scripts:
            yield f"<script>{script}</script>\n"
        yield "</body>\n</html>\n"

    def _contents(self) -> str:
        entries = "".join(
            f'<li><a href="#section-{number}">{_text(title)}</a></li>' for number, title in enumerate(self._sections, 1)
        )
        return f'<nav aria-label="Contents"><ul>{entries}</ul></nav>\n'


def _text(text: str) -> str:
    return html.escape(clean(text), quote=True)


def _embedded(data: Any) -> str:
    """Returns JSON that neither ends the element that it stands in nor begins another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(scripts: Sequence[str]) -> str:
    """Lets the browser run these scripts and no others, and load nothing from anywhere but from beside the page."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob: 'self' file:; "
        "media-src data: blob: 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _style() -> str:
    style = _resource("page.css")
    for name, colors in (("light", LIGHT), ("dark", DARK)):
        variables = " ".join(f"--c{number}: {color};" for number, color in enumerate(colors))
        style = style.replace(f"/* colours: {name} */", variables)
    return style


def _resource(name: str) -> str:
    return files("rl_framework.report.page").joinpath(name).read_text(encoding="utf-8")
