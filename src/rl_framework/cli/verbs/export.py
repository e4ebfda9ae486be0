"""`rl-framework export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import Answer

__all__ = ["command"]

_WAYS = {
    "onnx": ("save_as_onnx", ".onnx"),
    "torch": ("save_as_torch_export", ".pt2"),
    "sb3": ("save_as_library_zip", ".zip"),
    "unity": ("save_for_unity", ".onnx"),
}
"""What writes each format, and how its files end."""


def command(
    run: options.RunName,
    format: Annotated[  # noqa: A002  # the name of the option
        Literal["onnx", "torch", "sb3", "unity"],
        typer.Option(
            "--format",
            help="onnx; torch (torch.export); sb3 (the .zip of Stable-Baselines3); unity (ONNX as ML-Agents has it).",
        ),
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file.", show_default="a new one in the run's folder")
    ] = None,
    which: options.Which = "final",
) -> Answer:
    """Write an agent as a file for use elsewhere.

    rl-framework export runs/ppo-CartPole-v1 --format onnx --out cartpole.onnx
    """
    from rl_framework.cli.trained import free_path, open_trained
    from rl_framework.errors import ArgumentError

    method, ending = _WAYS[format]
    if out is not None and out.exists():
        raise ArgumentError("--out", str(out), "is there already", "Name another file.")
    trained = open_trained(run, which)
    if not hasattr(trained.agent, method):
        can = [name for name, (other, _) in _WAYS.items() if hasattr(trained.agent, other)]
        remedy = f"It can be written as {', '.join(can)}." if can else "Those of Stable-Baselines3 have one."
        raise ArgumentError("--format", format, f"{type(trained.agent).__name__} has no such form", remedy)
    folder = Path() if trained.run is None else trained.run.folder
    path = Path(getattr(trained.agent, method)(out or free_path(folder, f"{trained.name}-{format}", ending)))
    return Answer({"run": run, "format": format, "path": str(path), "bytes": path.stat().st_size}, [str(path)])
