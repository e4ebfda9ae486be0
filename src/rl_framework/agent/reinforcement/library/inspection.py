"""What people like to look at in an algorithm of Stable-Baselines3: its value estimates and its optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy

from rl_framework.agent.reinforcement.library.state.training_state import optimizers_of

__all__ = ["Inspection", "estimate_values", "named_optimizers"]


class Inspection:
    """What a `StableBaselinesAgent` lets people look at."""

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what the agent expects to earn from here on; see `Agent.estimate_value`."""
        agent: Any = self
        return estimate_values(agent.algorithm, agent._as_trained_on(observations))

    def optimizers(self) -> dict[str, Any]:
        """Returns the optimizers by what they train: "policy", "actor", "critic", "ent_coef"."""
        agent: Any = self
        return named_optimizers(agent.algorithm)


def estimate_values(algorithm: Any, observations: Any) -> NDArray[np.float64] | None:
    """Returns what an algorithm expects to earn from here on.

    Actor-critics of the on-policy kind say it themselves; with Q-functions it is the value of the best action, or of
    the action that the actor would take: the smallest of the critics' opinions, and the mean of a distribution.

    Args:
        algorithm: An algorithm of Stable-Baselines3 or sb3-contrib.
        observations: Batched observation, as its policy takes it.

    Returns:
        Shape `(batch,)`, or None if it has no value function of observations alone (ARS; recurrent policies, whose
        value depends on what they remember).
    """
    policy = algorithm.policy
    kind = _kind_of(policy)
    if kind is None:
        return None
    was_training = policy.training
    policy.set_training_mode(False)
    try:
        with torch.no_grad():
            tensor, _ = policy.obs_to_tensor(observations)
            values = kind(policy, tensor)
    finally:
        policy.set_training_mode(was_training)
    return values.reshape(-1).double().cpu().numpy()


def _kind_of(policy: Any) -> Any:
    if hasattr(policy, "lstm_actor"):
        return None
    if isinstance(policy, ActorCriticPolicy) or hasattr(policy, "predict_values"):
        return lambda policy, tensor: policy.predict_values(tensor)
    if hasattr(policy, "q_net"):
        return lambda policy, tensor: policy.q_net(tensor).max(dim=1).values
    if hasattr(policy, "quantile_net"):
        return lambda policy, tensor: policy.quantile_net(tensor).mean(dim=1).max(dim=1).values
    if hasattr(policy, "actor") and hasattr(policy, "critic"):
        return _of_critics
    return None


def _of_critics(policy: Any, tensor: Any) -> torch.Tensor:
    actions = policy._predict(tensor, deterministic=True)
    opinions = policy.critic(tensor, actions)
    if isinstance(opinions, torch.Tensor):  # TQC: quantiles of every critic, shape (batch, critics, quantiles)
        return opinions.flatten(1).mean(dim=1)
    return torch.cat(opinions, dim=1).min(dim=1).values


def named_optimizers(algorithm: Any) -> dict[str, torch.optim.Optimizer]:
    """Returns the optimizers of an algorithm, by what they train: "policy", "actor", "critic", "ent_coef"."""
    return {name.removesuffix("optimizer").rstrip("._"): optimizer for name, optimizer in optimizers_of(algorithm)}
