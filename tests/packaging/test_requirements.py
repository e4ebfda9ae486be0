"""The lock, requirements.txt and the metadata say the same."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

# Published wheels whose metadata is rewritten in third_party/, and the extra that brings what each needs.
REPACKAGED = {"imitation": "imitation", "d3rlpy": "offline"}


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return read("pyproject.toml")


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    return read("poetry.lock")


@pytest.fixture(scope="module")
def requirement_lines() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def exporter() -> ModuleType:
    specification = importlib.util.spec_from_file_location("exporter", ROOT / "scripts" / "export_requirements.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def groups_of(pyproject: dict[str, Any]) -> dict[str, Any]:
    """Dependencies of the groups that a bare `poetry install` installs: canonical name to constraint."""
    groups = pyproject["tool"]["poetry"]["group"].values()
    return {
        canonicalize_name(name): constraint
        for group in groups
        if not group.get("optional", False)
        for name, constraint in group["dependencies"].items()
    }


def test_requirements_pin_what_the_lock_pins(lock: dict[str, Any], requirement_lines: list[str]) -> None:
    is_cuda = re.compile(r"(nvidia|cuda)-.+|triton").fullmatch
    locked = {
        f"{package['name']}=={package['version']}"
        for package in lock["package"]
        if not is_cuda(package["name"]) and "source" not in package
    }
    folders = {f"./{package['source']['url']}" for package in lock["package"] if "source" in package}
    assert {line.split(" ; ")[0] for line in requirement_lines} == locked | folders


def test_requirements_are_up_to_date(lock: dict[str, Any], pyproject: dict[str, Any], exporter: ModuleType) -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert exporter.export(lock, pyproject) == text, "run `python scripts/export_requirements.py`"


def test_requirements_can_be_read_and_do_not_depend_on_an_extra(requirement_lines: list[str]) -> None:
    for line in requirement_lines:
        if line.startswith("./"):
            continue
        requirement = Requirement(line)
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), line
        assert "extra" not in str(requirement.marker or ""), line


def test_only_cuda_packages_of_torch_are_left_out(lock: dict[str, Any], exporter: ModuleType) -> None:
    """What is left out is asked for by torch, or by what is left out itself, and by nobody else."""
    asked_for_by: dict[str, set[str]] = {}
    for package in lock["package"]:
        for dependency in package.get("dependencies", {}):
            asked_for_by.setdefault(canonicalize_name(dependency), set()).add(package["name"])
    left_out = {package["name"] for package in lock["package"] if exporter.CUDA.fullmatch(package["name"])}
    assert left_out
    for name in left_out:
        assert asked_for_by[name] <= left_out | {"torch"}, name


def test_lock_meets_every_declared_requirement(lock: dict[str, Any], pyproject: dict[str, Any]) -> None:
    """Whoever widens or adds a requirement has to lock again."""
    versions = {package["name"]: package["version"] for package in lock["package"]}
    project = pyproject["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    for text in declared:
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), text
    for name, table in groups_of(pyproject).items():
        constraint = table.get("version", "*") if isinstance(table, dict) else table
        if constraint != "*":
            specifier = SpecifierSet(constraint if constraint[0] in "<>=~!" else f"=={constraint}")
            assert specifier.contains(versions[name]), name
    assert lock["metadata"]["python-versions"] == project["requires-python"]


@pytest.mark.parametrize(
    "name",
    [
        *("poetry.lock", "requirements.txt", "pyproject.toml"),
        *(f"third_party/{library}/pyproject.toml" for library in REPACKAGED),
    ],
)
def test_no_index_and_no_path_of_a_machine(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|trusted-host|file:/|(?i:pythonhosted)", text)
    assert not re.search(r"\[\[tool\.poetry\.source\]\]|type = \"legacy\"", text)
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text


def test_groups_cover_every_extra(pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    wanted = {canonicalize_name(Requirement(text).name) for texts in extras.values() for text in texts}
    assert wanted <= groups_of(pyproject).keys()


@pytest.mark.parametrize("library", REPACKAGED)
def test_groups_install_the_repackaged_library_itself(pyproject: dict[str, Any], library: str) -> None:
    assert groups_of(pyproject)[library] == {"path": f"third_party/{library}"}


def test_all_is_the_union_of_the_other_extras(pyproject: dict[str, Any]) -> None:
    extras = dict(pyproject["project"]["optional-dependencies"])
    assert set(extras.pop("all")) == set().union(*extras.values())


@pytest.mark.parametrize(("library", "extra"), REPACKAGED.items())
def test_extra_covers_what_the_repackaged_wheel_asks_for(pyproject: dict[str, Any], library: str, extra: str) -> None:
    project = pyproject["project"]
    covered = [*project["dependencies"], *project["optional-dependencies"][extra]]
    asked_for = read(f"third_party/{library}/pyproject.toml")["project"]["dependencies"]
    names = [{canonicalize_name(Requirement(text).name) for text in texts} for texts in (covered, asked_for)]
    assert names[1] <= names[0]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(
    "machine",
    [
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    ],
    ids=["linux-x86_64", "linux-aarch64", "darwin-arm64", "win32-AMD64"],
)
def test_lock_has_one_version_of_each_package(lock: dict[str, Any], machine: dict[str, str], python: str) -> None:
    """Poetry locks one package twice where markers overlap, and then installs both versions over each other."""
    environment = {**machine, "python_version": python, "python_full_version": f"{python}.0", "extra": "all"}
    versions: dict[str, list[str]] = {}
    for package in lock["package"]:
        markers = package.get("markers")
        texts = list(markers.values()) if isinstance(markers, dict) else [markers]
        covers_every_group = not isinstance(markers, dict) or len(markers) == len(package["groups"])
        if not covers_every_group or any(text is None or Marker(text).evaluate(environment) for text in texts):
            versions.setdefault(package["name"], []).append(package["version"])
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_no_two_packages_of_the_lock_hold_the_same_modules(lock: dict[str, Any]) -> None:
    """Installed beside each other they overwrite each other, and pip says nothing."""
    locked = {package["name"] for package in lock["package"]}
    assert not locked & {"pygame-ce", "opencv-python", "opencv-contrib-python", "box2d-py"}
    assert locked >= {"pygame", "opencv-python-headless", "box2d"}


def test_torch_is_locked_to_the_version_that_is_tested(lock: dict[str, Any]) -> None:
    assert [package["version"] for package in lock["package"] if package["name"] == "torch"] == ["2.13.0"]


def test_marker_of_a_package_that_only_an_extra_wants_is_refused(exporter: ModuleType) -> None:
    package = {"name": "left-behind", "version": "1", "groups": ["main"], "markers": {"main": 'extra == "video"'}}
    with pytest.raises(ValueError, match="left-behind is asked for by an extra, but by no dependency group"):
        exporter.marker_of(package, frozenset({"main", "dev"}))


@pytest.mark.parametrize(
    ("markers", "expected"),
    [
        (None, None),
        ('os_name == "nt"', 'os_name == "nt"'),
        ({"main": 'extra == "video"'}, None),
        ({"main": 'os_name == "nt"', "dev": 'os_name == "nt"'}, 'os_name == "nt"'),
        (
            {"main": 'os_name == "nt"', "dev": 'sys_platform == "win32"'},
            '(os_name == "nt") or (sys_platform == "win32")',
        ),
    ],
)
def test_markers_of_the_groups_are_joined(exporter: ModuleType, markers: Any, expected: str | None) -> None:
    package = {"name": "a", "version": "1", "groups": ["main", "dev"], "markers": markers}
    assert exporter.marker_of(package, frozenset({"main", "dev"})) == expected


def test_ranges_of_the_extras_are_repeated_exactly(pyproject: dict[str, Any]) -> None:
    """Poetry resolves everything twice for each package whose range differs between an extra and a group."""
    group = pyproject["tool"]["poetry"]["group"]["extras"]["dependencies"]
    for requirement in map(Requirement, chain.from_iterable(pyproject["project"]["optional-dependencies"].values())):
        repeated = group[requirement.name]
        version, markers = (repeated, None) if isinstance(repeated, str) else (repeated["version"], repeated["markers"])
        assert SpecifierSet(version) == requirement.specifier, requirement.name
        assert (Marker(markers) if markers else None) == requirement.marker, requirement.name
