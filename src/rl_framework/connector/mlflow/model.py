"""Agents as MLflow models: the bundle as it is, beside a description of how to open it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.agent import load_agent
from rl_framework.errors import ConnectorError

__all__ = ["AgentModel", "bundle_in", "write_model"]


class AgentModel:
    """What `mlflow.pyfunc.load_model` gives for an agent, within its own wrapper.

    Args:
        agent: The agent.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def predict(self, observations: Any, params: dict[str, Any] | None = None) -> Any:
        """Chooses an action for each observation.

        Args:
            observations: A batch: an array or a list, a `DataFrame` with one row for each observation, or, for an
                observation space that is a dictionary, a dictionary of arrays.
            params: `deterministic` (True unless given).

        Returns:
            An array of actions with the batch as its first axis.
        """
        deterministic = bool((params or {}).get("deterministic", True))
        if hasattr(observations, "to_numpy"):
            space = self.agent.observation_space
            observations = observations.to_numpy(dtype=space.dtype).reshape(-1, *space.shape)
        elif isinstance(observations, list):
            observations = np.asarray(observations, dtype=self.agent.observation_space.dtype)
        return self.agent.choose_action(observations, deterministic)


def _load_pyfunc(path: str) -> AgentModel:
    # MLflow calls it with the path of the bundle; reading one runs nothing that is in it.
    return AgentModel(load_agent(path))


def write_model(folder: Path, bundle: Path) -> Path:
    """Writes an MLflow model with a bundle in it. There is no pickle: MLflow is told which module opens it.

    Args:
        folder: Where to; it is not there yet.
        bundle: A file written by `save_to_file`.

    Returns:
        The folder.
    """
    from mlflow import pyfunc

    requirements = [f"rl-framework=={version('rl-framework')}"]
    pyfunc.save_model(str(folder), loader_module=__name__, data_path=str(bundle), pip_requirements=requirements)
    return folder


def bundle_in(path: Path) -> Path:
    """Returns the bundle that was downloaded: the file itself, or the one in the folder of a model.

    Raises:
        ConnectorError: There is none, or more than one.
    """
    if path.is_file():
        return path
    found = sorted(path.rglob("*.zip"))
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise ConnectorError(f"an agent is one .zip file, and there is {there}: name the file or the model")
    return found[0]
