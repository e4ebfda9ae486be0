"""All verbs under one name, each imported when it is used, so that help waits for nothing."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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

_UsageError: type[typer.BadParameter] = typer.BadParameter.__base__  # type: ignore[assignment]
"""What is raised for a command that cannot be read; Typer has no public name for it."""


class _Verbs(TyperGroup):
    """Finds verbs by their names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = dict.fromkeys(VERBS)  # type: ignore[assignment]  # made when asked for
        self._is_json = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads what stands before the verb."""
        self._is_json = "--json" in args
        with self._mistakes_as_json():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb."""
        with self._mistakes_as_json():
            return super().invoke(ctx)

    @contextmanager
    def _mistakes_as_json(self) -> Iterator[None]:
        """Lets a command that cannot be read say so on standard output, too, if that is to be JSON."""
        try:
            yield
        except _UsageError as error:
            if self._is_json:
                message = error.format_message()
                told = {"error": {"type": "UsageError", "message": message}, "exit_code": error.exit_code}
                sys.stdout.write(json.dumps(told, indent=2) + "\n")
                sys.stdout.flush()
            raise

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
