"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "Backend",
    "Deterministic",
    "Device",
    "Environment",
    "NEnvironments",
    "Overrides",
    "RunDirectory",
    "RunName",
    "Seed",
    "Which",
]

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Folder of a run, a saved agent, a checkpoint, or an address such as hf://user/name or s3://bucket/run.",
        show_default=False,
    ),
]

Environment = Annotated[
    str | None,
    typer.Option("--env", help="Id of the environment, such as CartPole-v1; else that of the run.", show_default=False),
]

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="Kind of simulator: gymnasium, unity, pettingzoo, ...; see rl-framework list backends.",
        show_default=False,
    ),
]

Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, or cuda:<number>.", show_default="auto")]

Seed = Annotated[int | None, typer.Option("--seed", help="Of everything that is random.", show_default=False)]

NEnvironments = Annotated[
    int | None, typer.Option("--n-environments", help="How many environments at once.", show_default=False)
]

Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic/--stochastic", help="Take the most likely action, or sample one.", show_default=False
    ),
]

RunDirectory = Annotated[Path, typer.Option("--run-dir", help="Where runs lie, each in a folder of its own.")]

Which = Annotated[
    Literal["final", "best", "checkpoint"],
    typer.Option("--which", help="Of a run: its final agent, the best one, or the newest checkpoint."),
]

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Anything of the configuration: training.evaluate_every=5000 agent.parameters.n_steps=256 ...",
        show_default=False,
    ),
]
