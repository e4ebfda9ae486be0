"""`rl-framework record`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    run: options.RunName,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File, .mp4 or .gif.", show_default="a new one in the run's folder videos"),
    ] = None,
    env: options.Environment = None,
    backend: options.Backend = None,
    length: Annotated[int, typer.Option("--length", help="Frames.")] = 500,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frames per second.", show_default="as the environment says")
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option(
            "--overlay",
            help="What to write onto it: usual, or names such as return,action,observation[2],info.x_position.",
            show_default=False,
        ),
    ] = None,
    n_environments: Annotated[int, typer.Option("--n-environments", help="How many to film, in a grid.")] = 1,
    deterministic: options.Deterministic = True,
    seed: options.Seed = None,
    which: options.Which = "final",
) -> Answer:
    """Film an agent at work.

    rl-framework record runs/ppo-CartPole-v1 --overlay usual

    Its most likely actions are filmed unless you say --stochastic.
    """
    from rl_framework.cli.trained import free_path, open_trained
    from rl_framework.errors import ArgumentError
    from rl_framework.report import record_video

    if out is not None and out.exists():
        raise ArgumentError("--out", str(out), "is there already", "Name another file.")
    trained = open_trained(run, which)
    source, arguments = trained.environment(env, backend)
    folder = Path() if trained.run is None else trained.run.folder / "videos"
    path = record_video(
        trained.agent,
        source,
        out or free_path(folder, "replay" if trained.run is not None else trained.name, ".mp4"),
        length,
        fps=fps,
        overlay=True if overlay == "usual" else overlay.split(",") if overlay else None,
        n_environments=n_environments,
        deterministic=bool(deterministic),
        seed=seed,
        environment_kwargs=arguments,
    )
    return Answer({"run": run, "video": str(path), "frames": length}, [str(path)])
