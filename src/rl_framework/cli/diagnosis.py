"""What works on this machine, what would fail, and what to do about it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from rl_framework import registry
from rl_framework.cli.extras import needed_by_core, needed_by_extras
from rl_framework.errors import ArgumentError, MissingExtraError
from rl_framework.secrecy import describe_error

__all__ = ["diagnose", "display"]

_COMPILERS = ("g++", "clang++", "c++", "cl")


def diagnose(run_directory: Path, is_thorough: bool = False) -> dict[str, Any]:
    """Looks at everything; as JSON.

    Args:
        run_directory: Where runs are going to lie.
        is_thorough: Whether to import what the extras install.

    Returns:
        Sections by name; `ok` is whether the core works, and `problems` why not.
    """
    core = [package.to_data() for package in needed_by_core()]
    torch_found = _torch()
    works = _core_works()
    runs = _runs(run_directory)
    problems = [
        f"{each['name']} {each['version'] or 'is missing'}: {each['needed'] or 'any version'} is needed"
        for each in core
        if not each["fits"]
    ]
    problems += [found["error"] for found in (torch_found, works, runs) if found.get("error")]
    return {
        "ok": not problems,
        "problems": problems,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "cpu": {"count": os.cpu_count(), "usable": _usable_cpus(), "threads": torch_found.pop("threads", None)},
        "torch": torch_found,
        "compiler": next((path for name in _COMPILERS if (path := shutil.which(name))), None),
        "ffmpeg": _ffmpeg(),
        "display": display(),
        "core": core,
        "extras": _extras(is_thorough),
        "environments": _environments(),
        "plugins": _plugins(),
        "runs": runs,
    }


def _usable_cpus() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _torch() -> dict[str, Any]:
    try:
        import torch

        devices = [
            {
                "name": torch.cuda.get_device_name(index),
                "memory": torch.cuda.get_device_properties(index).total_memory,
            }
            for index in range(torch.cuda.device_count())
        ]
        return {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "devices": devices,
            "mps": torch.backends.mps.is_available(),
            "threads": torch.get_num_threads(),
        }
    except Exception as error:  # noqa: BLE001  # whatever is wrong with an installation is what is asked for
        return {"version": None, "error": f"torch does not work: {describe_error(error)}"}


def _core_works() -> dict[str, Any]:
    """Makes an environment and takes a step in it, with everything that training needs imported."""
    try:
        import gymnasium

        import rl_framework.agent.reinforcement  # noqa: F401

        environment = gymnasium.make("CartPole-v1")
        environment.reset(seed=0)
        environment.step(0)
        environment.close()
    except Exception as error:  # noqa: BLE001
        return {"error": f"the core does not work: {describe_error(error)}"}
    return {}


def _ffmpeg() -> str | None:
    from rl_framework.report.recording.ffmpeg import find_ffmpeg

    for asked in (None, "system"):
        try:
            return find_ffmpeg(asked)
        except (MissingExtraError, ArgumentError, RuntimeError):
            continue
    return None


def display() -> str | None:
    """Returns what shows windows; None: nothing."""
    if not sys.platform.startswith("linux"):
        return platform.system()
    return os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or None


def _extras(is_thorough: bool) -> list[dict[str, Any]]:
    found = []
    for needed in needed_by_extras():
        wrong = needed.wrong
        if is_thorough and needed.is_installed:
            wrong = [problem for package in needed.packages if (problem := _import_problem(package.name))]
        found.append(
            {
                "name": needed.extra,
                "installed": needed.is_installed,
                "works": not wrong if is_thorough or wrong else None,
                "for": needed.fails,
                "packages": [package.to_data() for package in needed.packages],
                "wrong": wrong,
                "command": needed.command if wrong else None,
            }
        )
    return found


def _import_problem(package: str) -> str | None:
    """Imports a package; returns what is wrong with it."""
    for module in _modules_of(package):
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001
            return f"{module} cannot be imported: {describe_error(error)}"
    return None


@cache
def _modules_of(package: str) -> tuple[str, ...]:
    wanted = canonicalize_name(package)
    modules = [
        module
        for module, packages in _installed_modules().items()
        if not module.startswith("_") and any(canonicalize_name(each) == wanted for each in packages)
    ]
    return tuple(module for module in modules if find_spec(module) is not None)


@cache
def _installed_modules() -> dict[str, list[str]]:
    return {name: list(packages) for name, packages in packages_distributions().items() if name.isidentifier()}


def _environments() -> list[dict[str, Any]]:
    from rl_framework.environment.known_packages import known_environments

    return [
        {
            "name": family.name,
            "installed": family.is_installed,
            "extra": family.extra,
            "example": family.examples[0],
        }
        for family in known_environments()
    ]


def _plugins() -> list[dict[str, Any]]:
    return [
        {
            "kind": entry.kind,
            "name": entry.name,
            "origin": entry.origin,
            "works": not entry.is_broken,
            "note": entry.note,
        }
        for entry in registry.describe(load=True)
        if entry.origin != "rl_framework"
    ]


def _runs(directory: Path) -> dict[str, Any]:
    """Tries to write where runs are going to lie; what is not there is not made."""
    folder = directory.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    found: dict[str, Any] = {"directory": str(directory), "writable": True}
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        found["writable"] = False
        found["error"] = f"nothing can be written to {there}: {error.strerror or error}; use --run-dir"
    found["free_bytes"] = shutil.disk_usage(there).free
    return found
