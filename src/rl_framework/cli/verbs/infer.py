"""`rl-framework infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    run: options.RunName,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="With --render film: the file, .mp4 or .gif; else a new one in the run's folder videos.",
            show_default=False,
        ),
    ] = None,
    env: options.Environment = None,
    backend: options.Backend = None,
    episodes: Annotated[int, typer.Option("--episodes", help="How many episodes.")] = 1,
    render: Annotated[str, typer.Option("--render", help="human (a window), film, a file's name, or none.")] = "none",
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Sample actions instead of taking the most likely ones.")
    ] = False,
    seed: options.Seed = None,
    which: options.Which = "final",
) -> Answer:
    """Load an agent and let it act: in a window, on film, or just so.

    rl-framework infer runs/ppo-CartPole-v1 --render human --episodes 3

    rl-framework infer hf://user/name --env CartPole-v1 --render film cartpole.mp4
    """
    from rl_framework.cli.acting import act
    from rl_framework.cli.diagnosis import display
    from rl_framework.cli.output import note
    from rl_framework.cli.trained import free_path, open_trained
    from rl_framework.errors import ArgumentError

    is_file = Path(render).suffix in (".mp4", ".gif")
    if render not in ("human", "film", "none") and not is_file:
        raise ArgumentError("--render", render, "must be human, film, none, or the name of a .mp4 or .gif")
    if path is not None and render != "film":
        raise ArgumentError("PATH", str(path), "is for --render film")
    if path is not None and path.suffix not in (".mp4", ".gif"):
        raise ArgumentError("PATH", str(path), "is no name of a .mp4 or .gif")
    film = Path(render) if is_file else path
    if film is not None and film.exists():
        raise ArgumentError("PATH", str(film), "is there already", "Name another file.")
    if render == "human" and display() is None:
        # Pygame then draws into memory, and says nothing.
        note("warning: there is no screen here, so that nobody may see the window; --render film makes a video")
    trained = open_trained(run, which)
    if render == "film" and film is None:
        folder = Path() if trained.run is None else trained.run.folder / "videos"
        film = free_path(folder, "infer" if trained.run is not None else trained.name, ".mp4")
    source, arguments = trained.environment(env, backend)
    acted = act(
        trained,
        source,
        arguments,
        episodes,
        deterministic=not stochastic,
        seed=seed,
        render="human" if render == "human" else film,
    )
    mean = sum(acted.returns) / len(acted.returns)
    data = {
        "run": run,
        "mean": mean,
        "returns": acted.returns,
        "lengths": acted.lengths,
        "seed": acted.seed,
        "deterministic": not stochastic,
        "video": None if film is None else str(film),
    }
    count = "1 episode" if len(acted.returns) == 1 else f"{len(acted.returns)} episodes"
    shown = [f"mean return {mean:.6g} ({count}, seed {acted.seed})"]
    return Answer(data, [*shown, *([] if film is None else [f"Video: {film}"])])
