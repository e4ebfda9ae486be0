"""The plan of the house: imports point down, and `import rl_framework` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rl_framework

PACKAGE = Path(rl_framework.__file__).parent

# From the ground up. Within a floor, imports may point to the left.
FLOORS = [
    [
        "errors",
        "html_table",
        "hub",
        "json_arrays",
        "json_spaces",
        "progress",
        "registry",
        "retry",
        "secrecy",
        "seeding",
        "stores",
        "whole_file",
    ],
    ["environment", "episode"],
    ["bundle", "evaluation", "training"],
    ["agent"],
    ["report", "connector"],
    ["experiment"],
    ["cli", "__main__"],
]
PLACE = {room: (floor, place) for floor, rooms in enumerate(FLOORS) for place, room in enumerate(rooms)}


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "rl_framework" and len(parts) > 1 else None


def _imports(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide which floor they reach"
            names = [node.module]
            if node.module == "rl_framework":
                names = [f"rl_framework.{alias.name}" for alias in node.names]
        rooms |= {room for name in names if (room := _room(name))}
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if len(relative.parts) == 1 and relative.name == "__init__.py":
        assert not _imports(path), "the package itself imports lazily"
        return
    own = relative.parts[0].removesuffix(".py")
    assert own in PLACE, f"{own} has no floor: put it on the plan"
    for room in _imports(path) - {own}:
        (own_floor, own_place), (floor, place) = PLACE[own], PLACE[room]
        assert floor < own_floor or (floor == own_floor and (place < own_place or own_floor == 0)), (
            f"{relative} imports {room}, which is above it or to its right"
        )


def test_import_loads_only_these_modules() -> None:
    """Asking for help on a command line must not wait for torch."""
    code = "import sys; before = set(sys.modules); import rl_framework; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in loaded if name.startswith("rl_framework")]
    foreign = {name.partition(".")[0] for name in loaded} - {"rl_framework"} - set(sys.stdlib_module_names)
    assert ours == ["rl_framework"]
    assert not foreign


def test_environments_and_training_load_no_torch() -> None:
    code = (
        "import sys; import rl_framework.environment, rl_framework.training, rl_framework.evaluation;"
        "print([name for name in ('torch', 'stable_baselines3', 'matplotlib', 'tensorboard') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_resolves() -> None:
    for name in rl_framework.__all__:
        assert getattr(rl_framework, name) is not None
    assert set(rl_framework.__all__) <= set(dir(rl_framework))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Agnet'"):
        _ = rl_framework.Agnet


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path.relative_to(PACKAGE)): length for path, length in lengths.items() if length > 450} == {}
