"""All verbs under one name, each imported when it is used, so that help waits for nothing."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import rl_framework
from rl_framework.cli.verb import EPILOG, as_verb

__all__ = ["VERBS", "app"]

VERBS = (
    "train",
    "resume",
    "tune",
    "evaluate",
    "infer",
    "record",
    "report",
    "collect",
    "push",
    "pull",
    "export",
    "list",
    "doctor",
    "schema",
)
"""In the order of the help. A verb is the function `command` of the module of that name in `rl_framework.cli.verbs`."""

_MODULES = {"list": "listing"}
"""Of verbs whose name is taken in Python."""


class _Verbs(TyperGroup):
    """Finds verbs by their names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = dict.fromkeys(VERBS)  # type: ignore[assignment]  # made when asked for

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports a verb; None: there is none of that name."""
        if cmd_name not in self.commands:
            return None
        if self.commands[cmd_name] is None:
            module = importlib.import_module(f"rl_framework.cli.verbs.{_MODULES.get(cmd_name, cmd_name)}")
            single = typer.Typer(add_completion=False, rich_markup_mode="rich")
            single.command(cmd_name, epilog=EPILOG, context_settings=_SETTINGS)(as_verb(module.command))
            self.commands[cmd_name] = get_command(single)
        return self.commands[cmd_name]


_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=_Verbs,
    name="rl-framework",
    epilog=EPILOG,
    context_settings=_SETTINGS,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rl-framework {rl_framework.__version__}")
        raise typer.Exit


@app.callback()
def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate, film, share and resume reinforcement- and imitation-learning agents.

    rl-framework train --algo ppo --net mlp --env CartPole-v1
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
