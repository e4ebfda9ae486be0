"""Whoever shows DAgger what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy

from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.acting import Policy
from rl_framework.episode.recording.actors import actor_for
from rl_framework.errors import ArgumentError

__all__ = ["ExpertPolicy", "as_expert", "identity_of", "resolve_expert"]

_INSIDE = ("_algorithm", "learner", "policy", "inner")
"""Where agents, models and learners have what acts."""

_ARGUMENT = "algorithm_parameters['expert_policy']"


def resolve_expert(expert: Any) -> Any:
    """Returns the expert; one that is given by the path of its file is loaded.

    Raises:
        ArgumentError: There is none.
        BundleError: The file cannot be used.
    """
    if expert is None:
        raise ArgumentError(
            _ARGUMENT,
            None,
            "DAgger asks an expert what to do while it learns",
            "Give an agent, a policy or model of Stable-Baselines3, a function from observations to actions, or the "
            "path of a saved agent. It is not saved with this agent: after loading or to resume, give it again.",
        )
    if isinstance(expert, str | Path) and expert != "random":
        from rl_framework.agent.load import load_agent

        return load_agent(expert)
    return expert


def as_expert(expert: Any, batch: BatchedEnvironment, seed: int) -> Policy:
    """Returns the expert in the form in which it can act here.

    Raises:
        ArgumentError: It does not act.
        SpaceMismatchError: It is an agent for other spaces.
    """
    if isinstance(expert, type):
        raise ArgumentError(_ARGUMENT, expert, "is a class and does not act", "Make an object of it.")
    return actor_for(expert, batch, seed)


def identity_of(expert: Any) -> dict[str, str | None]:
    """Returns what tells one expert from another: its class, and a fingerprint of its weights if it has some."""
    owner = expert
    for _ in range(4):  # an agent has an algorithm, or a learner, which has a policy
        if isinstance(owner, torch.nn.Module):
            break
        owner = next(
            (getattr(owner, name) for name in ("_algorithm", "learner", "policy", "inner") if _has(owner, name)), None
        )
    weights = None
    if isinstance(owner, torch.nn.Module):
        digest = hashlib.sha256()
        for name, tensor in owner.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        weights = digest.hexdigest()[:32]
    return {"class": type(expert).__name__, "weights": weights}


def _has(owner: Any, name: str) -> bool:
    return getattr(owner, name, None) is not None


class ExpertPolicy(BasePolicy):
    """The expert as the library wants to see it.

    Args:
        actor: What acts.
        observation_space: Space of one observation.
        action_space: Space of one action.
    """

    def __init__(
        self, actor: Policy, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__(observation_space, action_space)
        self._actor = actor

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], Any]:
        """Chooses one action for each observation of a batch."""
        return self._actor.predict(observation, state, episode_start, deterministic)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return torch.as_tensor(self.predict(observation, deterministic=deterministic)[0])
