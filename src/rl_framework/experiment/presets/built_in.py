"""The presets that come with the framework: figures in YAML files, one for each algorithm."""

from __future__ import annotations

import json
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import rl_framework
from rl_framework import registry
from rl_framework.experiment.presets.preset import Preset, Published, read_yaml

__all__ = ["built_in_names", "register_built_in"]

_IMITATION = "imitation"
_EXPERT_TRANSITIONS = 104_000
"""What the benchmark of imitation learned from where it counts passes over the data: 104 episodes of 1000 steps."""


@cache
def _files() -> dict[str, Any]:
    with resources.as_file(resources.files(__package__) / "data") as folder:
        return {path.stem: read_yaml(path) for path in sorted(folder.glob("*.yaml"))}


def built_in_names() -> list[str]:
    """Returns the names of the presets that come with the framework."""
    names = [
        f"{algorithm}/{environment}"
        for algorithm, content in _files().items()
        if algorithm != _IMITATION
        for environment in content["presets"]
    ]
    return sorted([*names, *_imitation_names()])


def register_built_in() -> None:
    """Gives each of them its name."""
    imitation = set(_imitation_names())
    for name in built_in_names():
        registry.register_preset(name, partial(_of_imitation if name in imitation else _of_file, name))


def _of_file(name: str) -> Preset:
    algorithm, _, environment = name.partition("/")
    content = _files()[algorithm]
    entry = content["presets"][environment]
    section = dict(entry["agent"])
    # The agent's type follows from its algorithm; one that is put together says its parts.
    agent = section if "parts" in section else {"algorithm": algorithm, **section}
    source = f"{content['source']}, {entry.get('listed_as', environment)}"
    if "source" in entry:
        source = entry["source"]
    return Preset(
        name,
        {"agent": agent, "environment": {"id": environment, **entry.get("environment", {})}}
        | {"training": entry["training"]},
        source,
        _published(entry.get("published"), environment, content.get("published_in", "")),
    )


def _imitation_names() -> list[str]:
    # Not by way of their module, which loads torch.
    file = Path(rl_framework.__file__).parent / "agent" / "imitation" / "presets.json"
    return [f"{fields['algorithm']}/{fields['environment']}" for fields in json.loads(file.read_text("utf-8"))]


def _of_imitation(name: str) -> Preset:
    from rl_framework.agent.imitation.presets import tuned_preset

    algorithm, _, environment = name.partition("/")
    tuned = tuned_preset(algorithm, environment)
    place: dict[str, Any] = {"id": environment}
    if "n_environments" in tuned.training:
        place["n_environments"] = tuned.training["n_environments"]
    content = _files()[_IMITATION]
    return Preset(
        name,
        {
            "agent": {"type": "imitation", "algorithm": algorithm, "parameters": tuned.algorithm_parameters},
            "environment": place,
            "training": {"total_timesteps": tuned.total_timesteps(_EXPERT_TRANSITIONS)},
        },
        tuned.source,
        _published(content["presets"].get(name), environment, content["published_in"]),
    )


def _published(entry: dict[str, Any] | None, environment: str, source: str) -> Published | None:
    if entry is None:
        return None
    return Published(**{"std": None, "total_timesteps": None, "environment": environment, "source": source, **entry})
