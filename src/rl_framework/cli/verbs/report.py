"""`rl-framework report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders of runs, of experiments, or that hold some.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page, .html; one that is there is replaced.")] = Path(
        "report.html"
    ),
    title: Annotated[
        str | None, typer.Option("--title", help="Of the page.", show_default="the names of the runs")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write the pictures as PNG too, beside the page.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
) -> Answer:
    """Write a page to look at: curves, evaluations, a comparison in words, losses, videos.

    rl-framework report runs/ppo-CartPole-v1 runs/a2c-CartPole-v1 --out report.html

    One HTML file, which needs no network. Runs that differ by nothing but their seeds are drawn as one, with an
    interval.
    """
    from rl_framework.cli.output import note
    from rl_framework.errors import ArgumentError
    from rl_framework.report import write_report

    if out.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("--out", str(out), "a report's name ends with .html")
    path = write_report(runs, out, title=title, png=png)
    pictures = sorted(map(str, path.parent.glob(f"{path.stem}.*.png"))) if png else []
    if show and not _open(path):
        note("no browser was found")
    return Answer({"runs": runs, "report": str(path), "pictures": pictures}, [str(path), *pictures])


def _open(path: Path) -> bool:
    import webbrowser

    return webbrowser.open(path.resolve().as_uri())
