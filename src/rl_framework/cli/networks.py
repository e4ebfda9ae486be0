"""What `--net` and `--lr` mean for each kind of agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_framework import registry
from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["learning_rate_key", "network_setting"]

_POLICIES = {"mlp": "Mlp", "cnn": "Cnn", "multi_input": "MultiInput"}
"""How the library's names of policies begin."""

_FOR_COMPOSED = {"cnn": "nature_cnn"}
"""Short names beside those of the registry."""


def network_setting(agent: Mapping[str, Any], network: str) -> tuple[str, Any]:
    """Returns the key of the configuration that chooses a network, and the value.

    Args:
        agent: The section `agent`.
        network: What the user called it.

    Raises:
        UnknownNameError: There is none of that name for this agent.
        ArgumentError: This kind of agent does not let it be chosen by name.
    """
    kind = agent.get("type")
    if kind == "composed":
        name = _FOR_COMPOSED.get(network.lower(), network.lower())
        if name not in registry.networks:
            raise UnknownNameError("--net", network, [*registry.networks, *_FOR_COMPOSED])
        return "agent.networks", name
    if kind != "stable_baselines":
        remedy = "Write agent.parameters.<name>=..., by the name that the algorithm has for it."
        raise ArgumentError("--net", network, f"agents of type {kind!r} do not take a network by name", remedy)
    algorithm = str(agent["algorithm"])
    aliases = list(registry.algorithms.get(algorithm).policy_aliases)
    wanted = network if network in aliases else _alias(network.lower(), aliases)
    if wanted is not None:
        return "agent.parameters.policy", wanted
    if network in registry.policies:
        return "agent.parameters.policy", network
    if network in registry.features_extractors:
        return "agent.features_extractor", network
    known = [short for short, begin in _POLICIES.items() if any(alias.startswith(begin) for alias in aliases)]
    remedy = ""
    if network in registry.networks:
        parts = f"[{algorithm}]" if algorithm in registry.parts else "[ppo]"
        remedy = (
            f"{network!r} is a network of composed agents, not of Stable-Baselines3's {algorithm}: leave --algo and "
            f"--net out and write 'agent={{type: composed, parts: {parts}, networks: {network}}}'."
        )
    raise UnknownNameError("--net", network, [*known, *registry.policies, *registry.features_extractors], remedy)


def _alias(network: str, aliases: list[str]) -> str | None:
    begin = _POLICIES.get(network)
    return None if begin is None else next((alias for alias in aliases if alias.startswith(begin)), None)


def learning_rate_key(agent: Mapping[str, Any], value: float) -> str:
    """Returns the key of the configuration that is the learning rate of an agent.

    Raises:
        ArgumentError: It has none, or several.
    """
    kind, algorithm = agent.get("type"), agent.get("algorithm")
    if kind == "composed":
        return "agent.learning_rate"
    if kind in ("stable_baselines", "custom", "offline"):
        return "agent.parameters.learning_rate"
    if algorithm == "bc":
        return "agent.parameters.optimizer_kwargs.lr"
    raise ArgumentError(
        "--lr",
        value,
        f"{algorithm or kind} has no learning rate of its own, or several",
        "Write agent.parameters.<name>=..., by the name that the algorithm has for it.",
    )
