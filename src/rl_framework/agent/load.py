"""Opening any bundle, whatever kind of agent is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.agent.base_agent import Agent
from rl_framework.bundle import read_bundle
from rl_framework.errors import BundleError, UnknownNameError

__all__ = ["load_agent"]


def load_agent(path: str | Path, algorithm_parameters: dict[str, Any] | None = None) -> Agent:
    """Opens a bundle.

    Nothing in the file can run code: it holds tensors, arrays and JSON, and names classes by registered names only.

    Args:
        path: A file written by `save_to_file`.
        algorithm_parameters: Parameters to use instead of the stored ones.

    Returns:
        An agent that acts bit for bit like the one that was saved.

    Raises:
        BundleError: The file is damaged, hostile, from a newer version, or holds a kind of agent nobody registered.
    """
    bundle = read_bundle(path)
    try:
        agent_class: type[Agent] = registry.agents.get(bundle.kind, "kind")
    except UnknownNameError as error:
        raise BundleError(f"{path} holds an agent of a kind that is not known here: {error}") from error
    agent = agent_class.from_bundle(bundle, algorithm_parameters)
    agent.take_history(bundle)
    return agent
