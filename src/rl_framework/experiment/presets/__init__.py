"""Presets: tuned hyperparameters by the name of an algorithm and an environment, as a base for configurations.

`base: ppo/CartPole-v1` in a configuration takes one over, and `rl-framework train --algo ppo --env CartPole-v1` uses
the one for this pair. The figures, with the place where each was published, are in the YAML files of `data/`; those of
imitation learning are in `rl_framework.agent.imitation.presets`. Your own come with `rl_framework.register_preset`.
"""

from __future__ import annotations

import copy
from typing import Any

from rl_framework import registry
from rl_framework.experiment.presets.built_in import built_in_names, register_built_in
from rl_framework.experiment.presets.preset import Preset, Published, as_preset

__all__ = ["Preset", "Published", "find_preset", "get_preset", "list_presets", "preset_for"]

register_built_in()
_SPELLINGS = {name.lower(): name for name in built_in_names()}


def list_presets() -> list[str]:
    """Returns the names of all presets, sorted: "ppo/CartPole-v1"; no plug-in is imported."""
    return sorted((_SPELLINGS.get(name, name) for name in registry.presets), key=str.lower)


def get_preset(name: str) -> Preset:
    """Returns a preset, which may be changed freely.

    Args:
        name: "<algorithm>/<environment>", without regard to case.

    Raises:
        UnknownNameError: There is none of that name; the nearest names are suggested.
        PluginError: It is of a package that cannot be imported.
    """
    found = registry.presets.get(name, "base")
    return as_preset(_SPELLINGS.get(name.lower(), name), found)


def find_preset(name: str) -> dict[str, Any]:
    """Returns the sections of a preset, as a base for a configuration; see `get_preset`."""
    return copy.deepcopy(get_preset(name).configuration)


def preset_for(algorithm: str, environment: str) -> Preset | None:
    """Returns the preset for an algorithm in an environment, or None if there is none.

    Args:
        algorithm: Such as "ppo", or "ppo+rnd", in any order, for one that is put together.
        environment: Id of an environment, or name of an adapter.
    """
    wanted = f"{'+'.join(sorted(part.strip() for part in algorithm.split('+')))}/{environment}"
    return get_preset(wanted) if wanted in registry.presets else None
