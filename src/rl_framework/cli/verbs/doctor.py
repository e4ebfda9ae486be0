"""`rl-framework doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rl_framework.cli import options
from rl_framework.cli.verb import FAILURE, Answer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["command"]


def command(
    run_dir: options.RunDirectory = Path("runs"),
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also import what every extra installs, which takes a while.")
    ] = False,
) -> Answer:
    """Say what is installed, which devices and extras work, what would fail, and what installs it.

    The exit code is 0 if everything that is not optional works.
    """
    from rl_framework.cli.diagnosis import diagnose

    found = diagnose(run_dir, thorough)
    return Answer(found, _shown(found), 0 if found["ok"] else FAILURE)


def _shown(found: dict[str, Any]) -> list[RenderableType]:
    machine = _rows(
        [
            ("Python", f"{found['python']['version']} ({found['python']['executable']})"),
            ("platform", found["platform"]),
            ("CPU", f"{found['cpu']['usable']} of {found['cpu']['count']} cores, {found['cpu']['threads']} threads"),
            ("torch", f"{found['torch']['version']}, {_devices(found['torch'])}"),
            ("C++ compiler", found["compiler"] or "none: nothing is compiled by torch.compile on the CPU"),
            ("ffmpeg", found["ffmpeg"] or "none: no .mp4 can be made (extra video)"),
            ("screen", found["display"] or "none: no windows (--render human); films are drawn without"),
            ("runs", _room(found["runs"])),
        ]
    )
    core = ", ".join(f"{each['name']} {each['version']}" for each in found["core"])
    packages = _rows([("core", core)])
    extras = _rows([(each["name"], _extra(each)) for each in found["extras"]])
    families = [
        (each["name"], f"installed: {each['example']}" if each["installed"] else f"needs the extra {each['extra']}")
        for each in found["environments"]
    ]
    plugins = [
        (
            f"{each['kind']} {each['name']}",
            f"{each['origin']}{'' if each['works'] else ', broken'}{_after(each['note'])}",
        )
        for each in found["plugins"]
    ]
    parts: list[RenderableType] = [machine, "", packages, "", "Extras", extras, "", "Environments", _rows(families)]
    parts += ["", "Plug-ins", _rows(plugins or [("none", "")]), ""]
    if found["ok"]:
        return [*parts, "The core works."]
    return [*parts, "The core does not work:", *(f"  {problem}" for problem in found["problems"])]


def _rows(rows: list[tuple[str, str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(f"  {name}"), Text(text))
    return table


def _devices(found: dict[str, Any]) -> str:
    if found.get("error"):
        return str(found["error"])
    names = [f"{each['name']} ({each['memory'] / 2**30:.0f} GiB)" for each in found["devices"]]
    if names:
        return f"CUDA {found['cuda']}: {', '.join(names)}"
    return "Apple's GPU (mps)" if found["mps"] else "no GPU (--device cpu)"


def _extra(found: dict[str, Any]) -> str:
    if not found["wrong"]:
        names = [f"{each['name']} {each['version']}" for each in found["packages"]]
        return f"{'works' if found['works'] else 'installed'}: {', '.join(names)}"
    return f"{'; '.join(found['wrong'])}. Would fail: {found['for']}. Install: {found['command']}"


def _room(found: dict[str, Any]) -> str:
    writable = "" if found["writable"] else ", which cannot be written to"
    return f"{found['directory']}{writable}, {found['free_bytes'] / 2**30:.1f} GiB free"


def _after(note: str) -> str:
    return f": {note}" if note else ""
