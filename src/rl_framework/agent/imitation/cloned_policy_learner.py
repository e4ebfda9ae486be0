"""What the algorithms share whose policy is trained by behavioural cloning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from rl_framework.agent.imitation.learner import Learner
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.agent.imitation.library.cloning_policy import build_bc_policy, policy_form
from rl_framework.agent.reinforcement.library.state.saved_state import check_tensors
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue
from rl_framework.bundle import Bundle
from rl_framework.errors import ArgumentError, NotTrainedError

__all__ = ["ClonedPolicyLearner", "check_cloning_values", "cloning_arguments", "policy_arguments"]

_POLICY = "policy.safetensors"

_CLONING_DEFAULTS: dict[str, Any] = {
    "batch_size": 32,
    "minibatch_size": None,
    "optimizer_cls": "adam",
    "optimizer_kwargs": None,
    "ent_weight": 1e-3,
    "l2_weight": 0.0,
}
"""The library's."""


def policy_arguments(policy: Any) -> dict[str, Any]:
    """Turns the parameter `policy` into the arguments `policy` and `policy_kwargs` of `build_bc_policy`.

    Args:
        policy: None, the name or class of a policy, or `{"type": name, ...}` with its arguments.

    Raises:
        ArgumentError: It is a policy that was built already, or something else.
    """
    if isinstance(policy, dict):
        kwargs = dict(policy)
        return {"policy": kwargs.pop("type", None), "policy_kwargs": kwargs or None}
    if policy is None or isinstance(policy, str | type):
        return {"policy": policy, "policy_kwargs": None}
    raise ArgumentError(
        "algorithm_parameters['policy']",
        policy,
        "is an object, of which a saved agent could not tell how it was made",
        'Describe it: {"type": "MlpPolicy", "net_arch": [64, 64]}; to go on with its weights, use from_agent(...).',
    )


def cloning_arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `BehaviouralCloning` besides the policy, the transitions and the seed."""
    return {name: parameters.get(name, default) for name, default in _CLONING_DEFAULTS.items()}


def check_cloning_values(parameters: dict[str, Any]) -> None:
    """Checks the numbers among the parameters of behavioural cloning.

    Raises:
        ArgumentError: One is none that can be used.
    """
    for name in ("batch_size", "minibatch_size"):
        value = parameters.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise ArgumentError(f"algorithm_parameters[{name!r}]", value, "must be an integer of at least 1")
    for name in ("ent_weight", "l2_weight"):
        value = parameters.get(name, 0.0)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ArgumentError(f"algorithm_parameters[{name!r}]", value, "must be a number")
    settings = parameters.get("optimizer_kwargs")
    if settings is not None and not isinstance(settings, Mapping):
        raise ArgumentError("algorithm_parameters['optimizer_kwargs']", settings, "must be a dictionary")


class ClonedPolicyLearner(Learner):
    """A learner that holds a policy of Stable-Baselines3, which behavioural cloning trains."""

    measures_validation = True

    _policy: ActorCriticPolicy | None = None
    _cloning: BehaviouralCloning | None = None

    @property
    def cloning_parameters(self) -> dict[str, Any]:
        """The parameters of the behavioural cloning, as `ImitationAgent("bc")` takes them."""
        return self.parameters

    @property
    def policy(self) -> ActorCriticPolicy:
        """The policy that is trained.

        Raises:
            NotTrainedError: There is none yet.
        """
        if self._policy is None:
            raise NotTrainedError("a policy")
        return self._policy

    def build_policy(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any], seed: int
    ) -> ActorCriticPolicy:
        """Builds the policy that the parameters describe."""
        described = policy_arguments(self.cloning_parameters.get("policy"))
        return build_bc_policy(observation_space, action_space, **described, seed=seed, device=self.device)

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch."""
        return self.policy.predict(observations, state, episode_starts, deterministic)

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns the policy as one of PPO, whose value network has not learned anything."""
        form = policy_form(self.policy.observation_space, **policy_arguments(self.cloning_parameters.get("policy")))
        described = {name: value for name, value in zip(("policy", "policy_kwargs"), form, strict=True) if value}
        weights = {name: tensor.detach().clone() for name, tensor in self.policy.state_dict().items()}
        return PolicyToContinue(PPO, described, None, False, False, None, weights)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns the one that changes the policy."""
        return {} if self._cloning is None else {"policy": self._cloning.optimizer}

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the policy."""
        return [self.policy]

    def members(self) -> dict[str, Any]:
        """Returns the policy's weights."""
        return {_POLICY: self.policy.state_dict()}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Builds the policy and gives it its weights."""
        tensors = bundle.tensors(_POLICY)
        with limited_parameters(tensors):
            policy = self.build_policy(observation_space, action_space, 0)
        check_tensors(tensors, policy.state_dict())
        policy.load_state_dict(tensors)
        self._policy = policy
