"""`rl-framework schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it into this file instead.", show_default=False)
    ] = None,
) -> Answer:
    """Write the JSON Schema of configurations, with which editors check and complete them.

    rl-framework schema --out rl-framework.schema.json
    """
    import json

    from rl_framework.experiment import Experiment
    from rl_framework.whole_file import written_whole

    schema = Experiment.json_schema()
    text = json.dumps(schema, indent=2)
    if out is None:
        return Answer(schema, [text])
    with written_whole(out) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    line = f"# yaml-language-server: $schema={out}"
    return Answer({"path": str(out)}, [str(out), f"As the first line of a configuration: {line}"])
