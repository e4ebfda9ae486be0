"""The extras of this distribution: what each is for, and whether what it needs is here."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from rl_framework.errors import install_command

__all__ = ["Needed", "PackageState", "needed_by_core", "needed_by_extras"]

DISTRIBUTION = "rl-framework"
_EVERYTHING = "all"

_FAILS = {
    "atari": "ALE/... environments and their usual wrappers",
    "box2d": "LunarLander, BipedalWalker, CarRacing",
    "classic-control": "drawing gymnasium's classic environments",
    "clearml": "the connector clearml",
    "contrib": "ars, crossq, maskable_ppo, qrdqn, recurrent_ppo, tqc, trpo",
    "dm-control": "dm_control/... environments",
    "huggingface": "hf:// addresses, the connector huggingface, episodes on the Hub",
    "imitation": "bc, dagger, gail, airl, sqil, density, preference_comparisons, mce_irl",
    "minari": "reading and writing Minari's data sets",
    "minigrid": "MiniGrid-... and BabyAI-... environments",
    "mlflow": "the connector mlflow",
    "mujoco": "MuJoCo's robots, such as HalfCheetah-v5",
    "offline": "offline algorithms (cql, iql, ...)",
    "onnx": "export --format onnx and unity",
    "pettingzoo": "--backend pettingzoo",
    "report": "reports with interactive plots",
    "robotics": "gymnasium-robotics (Fetch..., Hand..., PointMaze...)",
    "storage": "s3://, gs://, gdrive:// and sftp:// addresses",
    "tensorboard": "the connector tensorboard",
    "tuning": "searching for parameters",
    "unity": "--backend unity, and recordings of Unity",
    "video": "films (record, infer --render film, --record-video)",
    "wandb": "the connector wandb",
}

_INSTALLED_APART = {"imitation": "imitation", "offline": "d3rlpy"}
"""Packages that an extra cannot name, because their own metadata asks for old versions of others."""


@dataclass(frozen=True)
class PackageState:
    """A package that something needs.

    Attributes:
        name: Of the distribution.
        needed: The versions that will do; empty: any.
        found: The installed version; None: it is not installed.
        fits: Whether it is installed in such a version.
    """

    name: str
    needed: str
    found: str | None
    fits: bool

    def to_data(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {"name": self.name, "needed": self.needed, "version": self.found, "fits": self.fits}


@dataclass(frozen=True)
class Needed:
    """What one extra needs.

    Attributes:
        extra: Its name.
        packages: What it needs.
        fails: What does not work without it.
        command: What installs it.
    """

    extra: str
    packages: list[PackageState] = field(default_factory=list)
    fails: str = ""
    command: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether everything is there."""
        return all(package.fits for package in self.packages)

    @property
    def wrong(self) -> list[str]:
        """What is missing, or there in another version, in words."""
        found = [package for package in self.packages if not package.fits]
        return [
            f"{package.name} is missing"
            if package.found is None
            else f"{package.name} {package.found}: {package.needed} is needed"
            for package in found
        ]


def needed_by_core() -> list[PackageState]:
    """Returns what is needed whatever one does."""
    return [_state(requirement) for requirement in _requirements() if _applies(requirement, "")]


def needed_by_extras() -> list[Needed]:
    """Returns what each extra needs, in the order of their names."""
    requirements = _requirements()
    found = []
    for extra in sorted(_extras() - {_EVERYTHING}):
        of_extra = [each for each in requirements if _applies(each, extra) and not _applies(each, "")]
        packages = [_state(each) for each in of_extra]
        if extra in _INSTALLED_APART:
            packages.append(_state(Requirement(_INSTALLED_APART[extra])))
        found.append(Needed(extra, packages, _FAILS.get(extra, ""), install_command(extra)))
    return found


def _extras() -> set[str]:
    try:
        return set(metadata(DISTRIBUTION).get_all("Provides-Extra") or [])
    except PackageNotFoundError:  # run from its source, without being installed
        return set()


def _requirements() -> list[Requirement]:
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:  # of a later version of the standard
            continue
    return found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _state(requirement: Requirement) -> PackageState:
    try:
        found: str | None = version(requirement.name)
    except PackageNotFoundError:
        found = None
    fits = found is not None and requirement.specifier.contains(found, prereleases=True)
    return PackageState(requirement.name, str(requirement.specifier), found, fits)
