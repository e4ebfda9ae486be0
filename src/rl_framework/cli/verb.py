"""What every verb has in common: `--json`, `--debug`, exit codes, and failures in words."""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from typer.models import OptionInfo

from rl_framework.errors import (
    ArgumentError,
    ConnectorError,
    NonFiniteError,
    RecordingError,
    RLFrameworkError,
    UnknownNameError,
)

__all__ = ["EPILOG", "INTERRUPTED", "MISTAKE", "Answer", "as_verb", "keep_failures_in"]

FAILURE, MISTAKE, INTERRUPTED = 1, 2, 130

EPILOG = (
    "Exit codes: 0: done; 1: something failed (a message, and where the traceback is kept); 2: something in the "
    "command or in a file has to be put right; 130: interrupted."
)

_KEPT_IN = "_rl_framework_folder"

_OPTIONS = {
    "environment": "--env",
    "episode_sequence": "--episodes",
    "evaluation_environment": "--env",
    "n_episodes": "--episodes",
    "n_eval_episodes": "--episodes",
    "path": "--out",
    "training_environments": "--env",
}
"""Of arguments that are called otherwise in Python: the option, where a verb has it and none of the argument's name."""

_ON_THE_WAY = (ConnectorError, NonFiniteError, RecordingError)
"""What fails although everything that was asked for was right."""


@dataclass
class Answer:
    """What a verb found out.

    Attributes:
        data: As JSON.
        shown: For people: texts and tables.
        exit_code: Of the process.
    """

    data: Any
    shown: Sequence[RenderableType] = field(default_factory=list)
    exit_code: int = 0


@contextmanager
def keep_failures_in(folder: Callable[[], Path | None]) -> Iterator[None]:
    """Lets the traceback of a failure be kept in a folder, of which it is not known before which one it is."""
    try:
        yield
    except Exception as error:
        vars(error).setdefault(_KEPT_IN, folder())
        raise


def as_verb(function: Callable[..., Answer]) -> Callable[..., None]:
    """Makes a verb of a function.

    Args:
        function: Its parameters are those of the command line, its docstring the help.
    """

    @wraps(function)
    def verb(*, as_json: bool, debug: bool, **arguments: Any) -> None:
        # Here, since they are slow to import and help does without them.
        from rl_framework.cli.output import note, only_stderr, show, told_on_stderr

        try:
            with told_on_stderr(), only_stderr():
                answer = function(**arguments)
        except (typer.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            note("interrupted")
            answer = Answer({"interrupted": True}, exit_code=INTERRUPTED)
        except Exception as error:  # noqa: BLE001  # told, and kept with its traceback
            answer = _failure(_with_option(error, names), debug, note)
        if as_json:
            sys.stdout.write(json.dumps(answer.data, indent=2, allow_nan=False) + "\n")
            sys.stdout.flush()
        else:
            show(*answer.shown)
        raise typer.Exit(answer.exit_code)

    own = inspect.signature(function, eval_str=True)
    names = {name for parameter in own.parameters.values() for name in _names_of(parameter.annotation)}
    further = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _FOR_ALL.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.parameters.values()]
    verb.__signature__ = own.replace(parameters=[*parameters, *further])  # type: ignore[attr-defined]
    return verb


_FOR_ALL: dict[str, Any] = {
    "as_json": Annotated[
        bool, typer.Option("--json", help="Write nothing but one JSON document to standard output.", show_default=False)
    ],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.", show_default=False)],
}


def _names_of(annotation: Any) -> list[str]:
    """Returns what an option is called: "--seed"."""
    for given in getattr(annotation, "__metadata__", ()):
        if isinstance(given, OptionInfo):
            first = [given.default] if isinstance(given.default, str) else []
            return [name for each in (*first, *(given.param_decls or ())) for name in each.split("/")]
    return []


def _with_option(error: Exception, names: Collection[str]) -> Exception:
    """Lets an error about an argument name the option of the same name."""
    if isinstance(error, ArgumentError):
        option = f"--{error.argument.replace('_', '-')}"
        if option not in names:
            option = _OPTIONS.get(error.argument, option)
        if option in names and str(error).startswith(f"{error.argument}="):
            error.args = (f"{option}{str(error)[len(error.argument) :]}",)
    return error


def _failure(error: Exception, debug: bool, note: Callable[[str], None]) -> Answer:
    """Tells a failure on standard error."""
    from rl_framework.secrecy import redact

    is_mistake = isinstance(error, RLFrameworkError) and not isinstance(error, _ON_THE_WAY)
    told = redact(str(error)) if isinstance(error, RLFrameworkError) else ""
    told = told or redact(f"{type(error).__name__}: {error}".rstrip(": "))
    if debug:
        note(redact("".join(traceback.format_exception(error))).rstrip())
    note(f"error: {told}")
    data: dict[str, Any] = {"type": type(error).__name__, "message": told}
    if isinstance(error, UnknownNameError):
        data["suggestions"] = error.suggestions
    if not is_mistake:
        path = _write_traceback(error)
        data["traceback"] = None if path is None else str(path)
        if path is not None:
            note(f"The traceback is in {path}")
    code = MISTAKE if is_mistake else FAILURE
    return Answer({"error": data, "exit_code": code}, exit_code=code)


def _write_traceback(error: Exception) -> Path | None:
    """Keeps a traceback in the folder of the run, or where temporary files are; None: it cannot be written."""
    from rl_framework.secrecy import redact

    text = redact("".join(traceback.format_exception(error)))
    folder = vars(error).get(_KEPT_IN)
    try:
        if folder is not None and folder.is_dir():
            path = next(p for p in _names(folder) if not p.exists())
            path.write_text(text, encoding="utf-8")
            return path
        with tempfile.NamedTemporaryFile(
            "w", prefix="rl-framework-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        return Path(file.name)
    except OSError:
        return None


def _names(folder: Path) -> Iterator[Path]:
    yield folder / "error.log"
    number = 2
    while True:
        yield folder / f"error-{number}.log"
        number += 1
