"""What a preset is, and how it is read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rl_framework.errors import ArgumentError

__all__ = ["Preset", "Published", "as_preset", "read_yaml"]

_SECTIONS = {"agent", "environment"}
_ABOUT = ("source", "published")


@dataclass(frozen=True)
class Published:
    """What somebody earned with a preset.

    Attributes:
        mean: Mean return.
        std: Standard deviation of what `source` says; None: not told.
        total_timesteps: Environment steps of the training; None: not told.
        environment: The environment in which it was measured, often an earlier version.
        source: Where it was published.
    """

    mean: float
    std: float | None
    total_timesteps: int | None
    environment: str
    source: str


@dataclass(frozen=True)
class Preset:
    """Tuned hyperparameters of one algorithm in one environment.

    Attributes:
        name: "<algorithm>/<environment>", such as "ppo/CartPole-v1".
        configuration: Sections of a configuration: `agent`, `environment`, `training`.
        source: Where the figures come from.
        published: What they were reported to earn; None: nothing was found.
    """

    name: str
    configuration: dict[str, Any]
    source: str
    published: Published | None = None

    @property
    def algorithm(self) -> str:
        """Name of the algorithm; "ppo+rnd" for one that is put together."""
        return self.name.partition("/")[0]

    @property
    def environment(self) -> str:
        """Id of the environment, or name of the adapter."""
        return self.name.partition("/")[2]


def as_preset(name: str, found: Any) -> Preset:
    """Makes a preset of what was registered under its name.

    Args:
        name: The name.
        found: A preset, its sections as a mapping (with `source`, and `published` if there is something), the path of
            a YAML file with these, or a function without arguments that returns one of them.

    Raises:
        ArgumentError: It is nothing of that, or has no agent or environment.
    """
    if callable(found):
        found = found()
    if isinstance(found, Preset):
        return copy.deepcopy(found)
    if isinstance(found, Path):
        found = read_yaml(found)
    if not isinstance(found, Mapping) or _SECTIONS - set(found):
        raise ArgumentError("preset", name, "what is registered under this name has no sections agent and environment")
    configuration = {key: value for key, value in copy.deepcopy(dict(found)).items() if key not in _ABOUT}
    published = found.get("published")
    try:
        told = None if published is None else Published(**{"std": None, "total_timesteps": None, **published})
    except TypeError as error:
        raise ArgumentError("preset", name, f"its section published does not fit: {error}") from error
    return Preset(name, configuration, str(found.get("source", "")), told)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file as plain data.

    Raises:
        ArgumentError: It is none.
    """
    try:
        with path.open("rb") as file:
            # Both are safe; the one in C, which not every installation has, is ten times as fast.
            return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ArgumentError("preset", str(path), f"cannot be read: {error}") from error
