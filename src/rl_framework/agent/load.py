"""Opening any bundle, whatever kind of agent is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.agent.base_agent import Agent
from rl_framework.agent.saved_wrappers import read_wrappers
from rl_framework.bundle import read_bundle
from rl_framework.errors import BundleError, UnknownNameError
from rl_framework.secrecy import redact

__all__ = ["load_agent"]


def load_agent(path: str | Path, algorithm_parameters: dict[str, Any] | None = None) -> Agent:
    """Opens a bundle.

    Nothing in the file can run code: it holds tensors, arrays and JSON, and names classes by registered names only.

    Args:
        path: A file written by `save_to_file`; or an address such as "s3://bucket/run", of such a file or of what a
            `StorageConnector` published there (see `rl_framework.stores`).
        algorithm_parameters: Parameters to use instead of the stored ones.

    Returns:
        An agent that acts bit for bit like the one that was saved.

    Raises:
        BundleError: The file is damaged, hostile, from a newer version, or holds a kind of agent nobody registered.
        ConnectorError: It could not be fetched from the address.
    """
    bundle = read_bundle(path)
    try:
        agent_class: type[Agent] = registry.agents.get(bundle.kind, "kind")
    except UnknownNameError as error:
        raise BundleError(f"{redact(str(path))} holds an agent of a kind that is not known here: {error}") from error
    wrappers = read_wrappers(bundle)
    agent = agent_class.from_bundle(bundle, algorithm_parameters)
    agent._wrappers = wrappers
    agent.take_history(bundle)
    return agent
