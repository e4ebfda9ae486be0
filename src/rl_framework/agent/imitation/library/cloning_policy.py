"""Policies for algorithms that learn without an environment: built from spaces, by name, the same for the same seed."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecTransposeImage

from rl_framework.agent.reinforcement.library.algorithms import starts_elsewhere
from rl_framework.agent.reinforcement.library.parameters import build_arguments, choose_policy
from rl_framework.errors import ArgumentError, RLFrameworkError, UnsupportedSpaceError
from rl_framework.seeding import isolated_random_state

__all__ = ["FEED_FORWARD", "build_bc_policy", "channels_first", "policy_form"]

FEED_FORWARD = "FeedForward32Policy"
"""Name of the imitation library's default: two layers of 32 units (Fu, Luo and Levine, 2018, for AIRL)."""

_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def build_bc_policy(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    policy: str | type[ActorCriticPolicy] | None = None,
    policy_kwargs: dict[str, Any] | None = None,
    features_extractor: Any = None,
    seed: int | None = None,
    device: str | torch.device = "auto",
) -> ActorCriticPolicy:
    """Builds an actor-critic policy without an environment.

    Args:
        observation_space: Space of one observation, as the data has it. The policy's own space has the channels of
            images first; its `predict` takes both.
        action_space: Space of one action.
        policy: "FeedForward32Policy", a policy of PPO ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), or a registered
            name or class. None: by the observation space, multi-input, convolutional, or "FeedForward32Policy".
        policy_kwargs: Its arguments; activation functions, optimizers and extractors may be registered names.
        features_extractor: A `FeaturesExtractor`, a registered name or class, or `{"type": name, ...}`. Its
            preprocessing stage is not applied here.
        seed: Gives the initial weights; None: fresh ones. The global generators are left as they were.
        device: Where the policy is to be.

    Raises:
        UnknownNameError: A name is not registered.
        UnsupportedSpaceError: No policy can have these spaces.
        ArgumentError: An argument cannot be used.
    """
    _check_spaces(observation_space, action_space)
    kind, arguments = _resolve(observation_space, action_space, policy, policy_kwargs, features_extractor)
    with isolated_random_state(seed):
        try:
            built = kind(channels_first(observation_space), action_space, _no_learning_rate, **arguments)
        except NotImplementedError as error:
            raise UnsupportedSpaceError(
                "observation_space", observation_space, f"{kind.__name__} does not take it with {action_space}: {error}"
            ) from error
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, RLFrameworkError):
                raise
            raise ArgumentError(
                "policy_kwargs", policy_kwargs, f"{kind.__name__} does not take them: {error}"
            ) from error
    return built.to(get_device(device))


def policy_form(
    observation_space: gymnasium.Space[Any], policy: Any, policy_kwargs: dict[str, Any] | None
) -> tuple[Any, dict[str, Any] | None]:
    """Returns the policy and its arguments as an algorithm of Stable-Baselines3 takes them.

    Args:
        observation_space: Space of one observation.
        policy: As `build_bc_policy` takes it.
        policy_kwargs: As `build_bc_policy` takes them.
    """
    if policy is None:
        chosen = choose_policy(PPO, observation_space)
        policy = FEED_FORWARD if chosen == "MlpPolicy" else chosen
    # The library's class, which adds nothing but the sizes, is not imported: it may not be installed.
    is_default = (
        policy == FEED_FORWARD
        or f"{getattr(policy, '__module__', '')}.{getattr(policy, '__qualname__', '')}"
        == (f"imitation.policies.base.{FEED_FORWARD}")
    )
    if is_default:
        policy = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
        policy_kwargs = {"net_arch": [32, 32], **(policy_kwargs or {})}
    return policy, policy_kwargs


def _check_spaces(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
    parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
    for name, part in [("action_space", action_space), *(("observation_space", part) for part in parts)]:
        if not isinstance(part, _SPACES):
            raise UnsupportedSpaceError(
                name,
                part,
                "policies take Box, Discrete, MultiDiscrete and MultiBinary, and a Dict of such observations",
            )
        if starts_elsewhere(part):
            raise UnsupportedSpaceError(
                name, part, "policies count discrete values from 0, and these start elsewhere", "Shift them."
            )


def channels_first(observation_space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Returns the space with the channels of its images first, as convolutions take them."""
    if isinstance(observation_space, spaces.Dict):
        return spaces.Dict({key: channels_first(part) for key, part in observation_space.spaces.items()})
    if not isinstance(observation_space, spaces.Box) or not is_image_space(observation_space):
        return observation_space
    if not is_image_space_channels_first(observation_space):
        return VecTransposeImage.transpose_space(observation_space)
    return observation_space


def _resolve(
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
    policy: Any,
    policy_kwargs: dict[str, Any] | None,
    features_extractor: Any,
) -> tuple[type[ActorCriticPolicy], dict[str, Any]]:
    policy, policy_kwargs = policy_form(observation_space, policy, policy_kwargs)
    parameters = {"policy": policy} if policy_kwargs is None else {"policy": policy, "policy_kwargs": policy_kwargs}
    arguments = build_arguments(PPO, parameters, features_extractor, observation_space, action_space)
    kind: Any = arguments["policy"]
    kind = PPO.policy_aliases.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, type) or not issubclass(kind, ActorCriticPolicy):
        raise ArgumentError(
            "policy", policy, "is no actor-critic policy of Stable-Baselines3", f"Try {FEED_FORWARD!r}."
        )
    needed = [
        parameter
        for parameter in inspect.signature(kind.evaluate_actions).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if len(needed) > 3:  # itself, observations and actions
        raise ArgumentError("policy", policy, f"needs {needed[3].name} besides observations and actions to learn from")
    return kind, arguments.get("policy_kwargs") or {}


def _no_learning_rate(_: float) -> float:
    """Of the policy's own optimizer, which is not the one that is used."""
    return 0.0
