"""Writes requirements.txt from poetry.lock, so that a clone can be installed with pip alone.

`poetry export` is not used: it writes a path dependency as an absolute address of this machine, and lists the CUDA
libraries of one build of torch. Needs nothing but Python, in any directory:
`python scripts/export_requirements.py`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# Everything that is needed to run and to develop rl_framework, written from poetry.lock by
# scripts/export_requirements.py: do not edit; `make lock` writes it anew. Install it in the root of the clone.
#
# No hashes: torch has several builds of one version (CPU, CUDA), and pip may take whichever your index offers.
# No CUDA packages (nvidia-*, cuda-*, triton): a build of torch that needs them brings them itself.
"""

# What a CUDA build of torch depends on, and nothing else does.
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")


def exported_groups(pyproject: dict[str, Any]) -> frozenset[str]:
    """Names the dependency groups that a bare `poetry install` installs."""
    groups = pyproject["tool"]["poetry"]["group"]
    return frozenset({"main"} | {name for name, group in groups.items() if not group.get("optional", False)})


def marker_of(package: dict[str, Any], groups: frozenset[str]) -> str | None:
    """Joins the markers under which any of the groups wants a package; None means always.

    Raises:
        ValueError: Only an extra asks for the package, so that no group covers it.
    """
    markers = package.get("markers")
    if markers is None or isinstance(markers, str):
        return markers
    wanted = [markers.get(group) for group in package["groups"] if group in groups]
    # What an extra asks for is asked for by the group `extras` too, without the condition on the extra.
    unconditional = [marker for marker in wanted if marker is None or "extra ==" not in marker]
    if not unconditional:
        raise ValueError(f"{package['name']} is asked for by an extra, but by no dependency group in pyproject.toml")
    if None in unconditional:
        return None
    distinct = list(dict.fromkeys(unconditional))
    return distinct[0] if len(distinct) == 1 else " or ".join(f"({marker})" for marker in distinct)


def requirement_of(package: dict[str, Any]) -> str:
    """Names a locked package the way pip does, with a path relative to the root of the clone where it is a folder."""
    source = package.get("source")
    if source is None:
        return f"{package['name']}=={package['version']}"
    if source["type"] != "directory":
        raise ValueError(f"{package['name']}: a source of type {source['type']!r} cannot be exported")
    return f"./{source['url']}"


def export(lock: dict[str, Any], pyproject: dict[str, Any]) -> str:
    """Returns the text of requirements.txt."""
    groups = exported_groups(pyproject)
    lines = []
    for package in lock["package"]:
        if CUDA.fullmatch(package["name"]) or not groups.intersection(package["groups"]):
            continue
        marker = marker_of(package, groups)
        lines.append(requirement_of(package) + (f" ; {marker}" if marker else ""))
    return HEADER + "\n".join(lines) + "\n"


def main() -> None:
    """Reads poetry.lock and pyproject.toml of this clone and writes requirements.txt beside them."""
    lock, pyproject = (
        tomllib.loads((ROOT / name).read_text(encoding="utf-8")) for name in ("poetry.lock", "pyproject.toml")
    )
    (ROOT / "requirements.txt").write_text(export(lock, pyproject), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
