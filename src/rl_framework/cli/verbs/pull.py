"""`rl-framework pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl_framework.cli.verb import Answer

__all__ = ["command"]


def command(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            help="hf://user/name (or hf://user/name@revision), s3://bucket/run, a file in one of these, ...",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="For the connector, such as task_id=... .", show_default=False),
    ] = None,
    connector: Annotated[
        str | None, typer.Option("--connector", help="Name of a connector, such as clearml.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file.", show_default="a new one here, named like the address")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Also open a file that Stable-Baselines3 itself wrote, which runs any code its author put there.",
            show_default=False,
        ),
    ] = False,
) -> Answer:
    """Fetch an agent, verify it, and keep it as a file.

    rl-framework pull hf://user/ppo-CartPole-v1 --out agent.zip

    rl-framework pull --connector clearml task_id=0123456789abcdef
    """
    import shutil
    import tempfile

    from rl_framework.cli.sharing import connector_to_read, fetched, section_of
    from rl_framework.cli.trained import free_path
    from rl_framework.errors import ArgumentError
    from rl_framework.whole_file import written_whole

    settings = list(settings or [])
    if connector is not None and address is not None:
        settings, address = [address, *settings], None
    if out is not None and out.exists():
        raise ArgumentError("--out", str(out), "is there already", "Name another file.")
    section = section_of(address, connector, settings, "ADDRESS")
    if trust:
        section["trust"] = True
    with tempfile.TemporaryDirectory(prefix="rl-framework-pull-") as folder:
        copy = Path(folder) / "agent.zip"
        agent = fetched(connector_to_read(section), copy)
        path = out or free_path(Path(), _name(address or str(connector)), ".zip")
        with written_whole(path) as temporary:
            shutil.copyfile(copy, temporary)
    timesteps = getattr(agent, "num_timesteps", None)
    told = "" if timesteps is None else f", {timesteps:,} timesteps"
    kind = type(agent).__name__
    return Answer({"path": str(path), "agent": kind, "timesteps": timesteps}, [f"{path} ({kind}{told})"])


def _name(address: str) -> str:
    """Returns what to call the file: the last part of an address that says something."""
    parts = [part.partition("@")[0].removesuffix(".zip") for part in address.split("/")]
    return next((part for part in reversed(parts) if part not in ("", "agent")), "agent")
