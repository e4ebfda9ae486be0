"""Leaving nothing open: the name, the seed and the wrappers that a configuration does not say."""

from __future__ import annotations

import re
from typing import Any

from rl_framework.errors import ArgumentError
from rl_framework.experiment.config import ExperimentConfig
from rl_framework.experiment.environments import usual_wrappers
from rl_framework.experiment.sections.kinds import Kind
from rl_framework.seeding import fresh_seed

__all__ = ["check_device", "resolved", "with_seed"]


def resolved(config: ExperimentConfig) -> ExperimentConfig:
    """Returns the configuration with a name, a seed, wrappers, and the interval of checkpoints."""
    changes: dict[str, Any] = {}
    if config.name is None:
        changes["name"] = _name_of(config)
    if config.seed is None and config.seeds is None:
        changes["seed"] = fresh_seed()
    if config.environment is not None and config.environment.wrappers is None:
        changes["environment"] = config.environment.changed(wrappers=usual_wrappers(config.environment))
    every = config.training.timesteps_between_checkpoints
    changes["training"] = config.training.changed(checkpoint_every=every)
    return config.changed(**changes)


def with_seed(config: ExperimentConfig, seed: int) -> ExperimentConfig:
    """Returns the configuration of one of its seeds.

    What is uploaded to a revision goes to one of its own, so that no seed takes the place of another.
    """
    connectors = []
    for connector in config.connectors:
        takes_revision = any(parameter.name == "revision" for parameter in type(connector).parameters_taken)
        if takes_revision and connector.given().get("revision") is None:
            connector = connector.changed(revision=f"seed-{seed}")
        connectors.append(connector)
    return config.changed(seed=seed, seeds=None, connectors=connectors)


def check_device(device: str) -> None:
    """Sees to it that the device is there.

    Raises:
        ArgumentError: It is not.
    """
    if device in ("auto", "cpu"):
        return
    import torch

    kind, _, index = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if int(index or 0) >= count:
        has = f"torch sees {count} devices of this kind here" if count else "torch sees no such device here"
        raise ArgumentError("device", device, has, 'Write "auto", which takes what is there, or "cpu".')


def _name_of(config: ExperimentConfig) -> str:
    parts = [algorithm_of(config.agent)]
    if config.environment is not None:
        parts.append(config.environment.id or config.environment.type)
    elif config.episodes is not None:
        sources = (config.episodes.path, config.episodes.minari, config.episodes.hub, config.episodes.unity_demo)
        parts += [source for source in sources if source]
    names = [re.sub(r"[^\w.+-]+", "-", part).strip("-.") for part in parts]
    return "-".join(name for name in names if name)[:100] or "run"


def algorithm_of(agent: Kind | None) -> str:
    """Returns the name of the algorithm for people: "ppo", "ppo+rnd", or the type of the agent."""
    if agent is None:
        return "agent"
    given = agent.given()
    if isinstance(given.get("algorithm"), str):
        return str(given["algorithm"])
    parts = given.get("parts")
    if isinstance(parts, list) and all(isinstance(part, Kind) for part in parts):
        return "+".join(part.type for part in parts)
    return agent.type
