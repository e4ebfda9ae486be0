"""What a run was made with: versions, code, machine and command, without anything personal or secret."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["redacted", "run_record", "versions_of_libraries"]

_DISTRIBUTIONS = ("rl-framework", "stable-baselines3", "sb3-contrib", "gymnasium", "torch", "numpy")
_PATIENCE = 2.0
"""Seconds that git may take; a repository on a network drive must not hold up a training."""

HIDDEN = "***"
_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:tokens?|secrets?|pass(?:word|wd|phrase)?s?|pwd|credentials?|auth|authorization|bearer|cookies?|pat"
    r"|[a-z]*keys?|jwt)(?:$|[^a-z])",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_VALUE = re.compile(
    r"(?:hf|sk|pk|rk|gh[oprsu]|github_pat|glpat|xox[a-z]|npm|pypi)[-_][A-Za-z0-9_-]{8,}"  # as their makers begin them
    r"|AKIA[0-9A-Z]{12,}"
    r"|eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*"  # a JSON web token
    r"|(?<![A-Za-z0-9])(?=[A-Za-z0-9+_-]*[0-9])(?=[A-Za-z0-9+_-]*[A-Za-z])[A-Za-z0-9+_-]{32,}={0,2}"  # looks random
)
_BEARER = re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE)
_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@")
_ASSIGNED = re.compile(r"([A-Za-z_][\w.-]*)[\"']?\s*[=:]\s*(?!//)")
_ASSIGNED_VALUE = re.compile(r"[^\s&;,}]+")


def run_record(device: object = None, command_line: Sequence[str] | None = None) -> dict[str, Any]:
    """Describes what a run is made with, as JSON-able data. It never fails.

    Neither environment variables nor the names of the user, the machine or its folders are recorded, and what looks
    like a secret on the command line is hidden.

    Args:
        device: Where the networks run: a `torch.device` or its name; None: not told.
        command_line: The command; None: that of this process.

    Returns:
        `versions`, `git` (`commit` and `dirty` of the working directory's repository, or None), `platform`,
        `device` and `command_line`.
    """
    return {
        "versions": versions_of_libraries(),
        "git": _git(),
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpu_count": os.cpu_count(),
        },
        "device": None if device is None else _device(str(device)),
        "command_line": redacted(sys.argv if command_line is None else command_line),
    }


def versions_of_libraries() -> dict[str, str | None]:
    """Returns the versions of Python and of the libraries that training depends on; None: not installed."""
    return dict(_versions())


@cache  # to find them out takes longer than to write a small checkpoint
def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for distribution in _DISTRIBUTIONS:
        try:
            versions[distribution] = version(distribution)
        except PackageNotFoundError:
            versions[distribution] = None
    return versions


def _device(name: str) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and name.startswith("cuda") and torch.cuda.is_available():
        return f"{name} ({torch.cuda.get_device_name(name)})"
    return name


def _git() -> dict[str, Any] | None:
    program = shutil.which("git")
    commit = None if program is None else _ask(program, "rev-parse", "HEAD")
    if program is None or not commit:
        return None
    # Files that git does not know are left out: the run's own results are among them.
    changes = _ask(program, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _ask(program: str, *arguments: str) -> str | None:
    # Neither a lock nor a program that the repository's settings name.
    command = [program, "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace").strip()


def redacted(command_line: Sequence[str]) -> list[str]:
    """Returns a command line with its secrets hidden and the user's own folders shortened.

    Hidden are values of options and assignments whose name speaks of a secret (`--token X`, `api_key=X`), what has the
    form of a token (`hf_...`, long random text), and who an address says is calling (`https://user:password@...`).

    Args:
        command_line: The arguments, the program first.
    """
    shown = []
    hide_next = False
    for argument in map(str, command_line):
        is_option = argument.startswith("-") and not re.fullmatch(r"-[0-9.].*", argument)
        if hide_next and not is_option:
            shown.append(HIDDEN)
            hide_next = False
            continue
        shown.append(_without_secrets(argument))
        hide_next = is_option and "=" not in argument and _names_secret(argument)
    return shown


def _names_secret(name: str) -> bool:
    return _SECRET_NAME.search(_CAMEL.sub("_", name)) is not None


def _without_secrets(argument: str) -> str:
    name, separator, _ = argument.partition("=")
    if separator and _names_secret(name) and "://" not in name:
        return f"{name}={HIDDEN}"
    text = _USER_IN_ADDRESS.sub(f"{HIDDEN}@", argument)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _shortened(_SECRET_VALUE.sub(HIDDEN, _without_assigned_secrets(text)))


def _without_assigned_secrets(text: str) -> str:
    """Hides the values of assignments within an argument, which may be nested, as in an address or in YAML."""
    parts, position = [], 0
    for found in _ASSIGNED.finditer(text):
        if found.end() < position or not _names_secret(found[1]):
            continue
        value = _ASSIGNED_VALUE.match(text, found.end())
        if value is not None:
            parts += [text[position : value.start()], HIDDEN]
            position = value.end()
    return "".join([*parts, text[position:]])


def _shortened(text: str) -> str:
    """Leaves the way to the user's folders out of a path."""
    for folder, instead in ((_folder(Path.cwd), "."), (_folder(Path.home), "~")):
        if folder is not None and len(folder) > 1:
            text = re.sub(rf"{re.escape(folder)}(?=$|[/\\])", instead, text)
    return text


def _folder(find: Any) -> str | None:
    try:
        return str(find())
    except (OSError, RuntimeError):  # the folder has been removed, or the user has none
        return None
