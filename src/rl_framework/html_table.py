"""How notebooks show things: a table of names and values in the notebook's own colours."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["html_table"]

_CELL = "padding:0.15em 0.8em;border:0;background:transparent;color:inherit;text-align:left;vertical-align:top"
_NAME = f"{_CELL};font-weight:normal;opacity:0.75"
_VALUE = f"{_CELL};font-variant-numeric:tabular-nums;overflow-wrap:anywhere;max-width:48em"


def html_table(title: str, rows: Iterable[tuple[str, str]], note: str = "") -> str:
    """Returns a table of two columns that takes its colours from the notebook, light or dark.

    Args:
        title: Above the table.
        rows: Names and values; a value may have several lines. All text is escaped.
        note: Text below the table.
    """
    lines = [
        f'<tr><th scope="row" style="{_NAME}">{_escaped(name)}</th><td style="{_VALUE}">{_escaped(value)}</td></tr>'
        for name, value in rows
    ]
    below = f'<p style="max-width:60em;color:inherit">{_escaped(note)}</p>' if note else ""
    return (
        '<table style="border-collapse:collapse;color:inherit">'
        '<caption style="text-align:left;caption-side:top;color:inherit;font-weight:bold">'
        f"{_escaped(title)}</caption><tbody>{''.join(lines)}</tbody></table>{below}"
    )


def _escaped(text: str) -> str:
    return html.escape(text).replace("\n", "<br/>")
