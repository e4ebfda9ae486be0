"""`rl-framework list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help="algorithms, networks, environments, backends, presets, connectors, parts, wrappers, runs, plugins, "
            "or another kind of registered names.",
            show_default=False,
        ),
    ] = None,
    containing: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Only what contains this; of environments: the ids of the family of this name.",
            show_default=False,
        ),
    ] = None,
    run_dir: options.RunDirectory = Path("runs"),
) -> Answer:
    """List what can be asked for by name, and where each name comes from.

    rl-framework list algorithms

    rl-framework list environments atari

    Without WHAT it tells what there is to list. What plug-ins add is imported, to see whether it works.
    """
    from rl_framework.cli.inventory import Inventory

    inventory = Inventory(run_dir)
    if what is None:
        counts = inventory.kinds()
        return _table({"list": ["name", "what"]}, [{"name": name, "what": text} for name, text in counts.items()])
    rows, columns = inventory.rows(what, containing)
    if containing is not None and what != "environments":
        rows = [row for row in rows if any(containing.lower() in str(value).lower() for value in row.values())]
    return _table({what: columns}, rows)


def _table(columns_of: dict[str, list[str]], rows: list[dict[str, Any]]) -> Answer:
    from rich.table import Table
    from rich.text import Text

    ((what, columns),) = columns_of.items()
    if not rows:
        return Answer({what: []}, [f"no {what}"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    return Answer({what: rows}, [table])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
