"""Agents of Stable-Baselines3 without environments: built to act, from a bundle or from another agent's policy."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_framework.agent.network.features_extractor import FeaturesExtractor, resolve_features_extractor
from rl_framework.agent.reinforcement.library.algorithms import resolve_algorithm
from rl_framework.agent.reinforcement.library.normaliser import Normaliser
from rl_framework.agent.reinforcement.library.state.saved_state import SavedConfig, check_tensors
from rl_framework.agent.reinforcement.library.state.size_limit import NoRolloutBuffer
from rl_framework.environment.door import open_environments
from rl_framework.environment.sb3 import SpacesOnlyVecEnv
from rl_framework.environment.wrappers import wrappers_of
from rl_framework.episode.compatibility import could_be
from rl_framework.errors import ArgumentError, BundleError, SpaceMismatchError
from rl_framework.seeding import isolated_random_state

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent

__all__ = ["PolicyToContinue", "built_for_acting", "warm_started"]

BuiltAgent = TypeVar("BuiltAgent", bound="StableBaselinesAgent")

_FORM = ("policy", "policy_kwargs")
"""Parameters that give a policy its form."""


@dataclass(frozen=True)
class PolicyToContinue:
    """What an agent hands over to one that goes on with its policy.

    Attributes:
        algorithm_class: What has trained the policy, or can train it.
        algorithm_parameters: Of that algorithm, with the policy's form among them.
        features_extractor: As `StableBaselinesAgent` takes it.
        normalize_observations: Whether the policy was given normalised observations.
        normalize_rewards: Whether rewards were scaled.
        normaliser: The statistics for that.
        weights: Of the policy.
    """

    algorithm_class: Any
    algorithm_parameters: dict[str, Any]
    features_extractor: Any
    normalize_observations: bool
    normalize_rewards: bool
    normaliser: Normaliser | None
    weights: dict[str, torch.Tensor]


def built_for_acting(
    agent_class: type[BuiltAgent],
    config: SavedConfig,
    observation_space: gymnasium.Space[Any],
    normaliser: Normaliser | None,
    changed: dict[str, Any],
    algorithm_class: type[Any] | None = None,
) -> BuiltAgent:
    """Builds an agent and its algorithm, with fresh weights and without an environment.

    Args:
        agent_class: The class of the agent.
        config: What the bundle says.
        observation_space: Space of the preprocessed observations.
        normaliser: Statistics in the bundle.
        changed: Parameters to use instead of the stored ones.
        algorithm_class: The class of the algorithm; None: the one that the configuration names.
    """
    agent = agent_class(
        config.algorithm if algorithm_class is None else algorithm_class,
        {**config.algorithm_parameters, **changed},
        config.features_extractor,
        config.normalize_observations,
        config.normalize_rewards,
    )
    # While it only acts nothing is stored. Two stand for many: PPO refuses rollouts of a single transition.
    n_environments = min(config.n_environments, 2)
    vec_env: VecEnv = SpacesOnlyVecEnv(observation_space, config.action_space, n_environments)
    if config.has_foreign_normaliser and normaliser is not None and normaliser.observation:
        is_dict = isinstance(observation_space, spaces.Dict)
        vec_env = VecNormalize(vec_env, norm_obs_keys=list(normaliser.observation) if is_dict else None)
    else:
        vec_env, _ = agent._normalise(vec_env)
    off_policy = issubclass(agent.algorithm_class, OffPolicyAlgorithm)
    name, stand_in = ("buffer_size", n_environments) if off_policy else ("rollout_buffer_class", NoRolloutBuffer)
    stand_ins = {name: stand_in} if name in inspect.signature(agent.algorithm_class).parameters else {}
    with isolated_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        algorithm = agent._construct(vec_env, observation_space, config.action_space, None, stand_ins)
    algorithm.n_envs = config.n_environments
    for name in stand_ins:
        default = inspect.signature(agent.algorithm_class).parameters[name].default
        setattr(algorithm, name, agent.algorithm_parameters.get(name, default))
    algorithm.env = None
    algorithm._vec_normalize_env = None
    agent._algorithm = algorithm
    agent._spaces = (config.observation_space, config.action_space)
    agent._normaliser = normaliser
    agent.seed, agent.environment_id = config.seed, config.environment_id
    return agent


def warm_started(
    agent_class: type[BuiltAgent], source: Any, algorithm_class: Any, parameters: dict[str, Any], environment: Any
) -> BuiltAgent:
    """Builds an agent that goes on with the policy of another; see `StableBaselinesAgent.from_agent`."""
    if not callable(getattr(source, "policy_to_continue", None)):
        raise ArgumentError(
            "agent",
            source,
            "has no policy of Stable-Baselines3 to go on with",
            "Give an ImitationAgent or a StableBaselinesAgent.",
        )
    observation_space, action_space = _spaces(source, environment)
    handed: PolicyToContinue = source.policy_to_continue()
    chosen = handed.algorithm_class if algorithm_class is None else resolve_algorithm(algorithm_class)
    kept = handed.algorithm_parameters
    if chosen is not handed.algorithm_class:
        kept = {name: kept[name] for name in _FORM if name in kept}
    for name in _FORM:
        if name in parameters:
            raise ArgumentError(f"algorithm_parameters[{name!r}]", parameters[name], "the policy is the agent's")
    extractor = resolve_features_extractor(handed.features_extractor)
    space = extractor.preprocess_space(observation_space) if isinstance(extractor, FeaturesExtractor) else None
    config = SavedConfig(
        algorithm=chosen.__name__,
        algorithm_parameters={**kept, **parameters},
        features_extractor=handed.features_extractor,
        normalize_observations=handed.normalize_observations,
        normalize_rewards=handed.normalize_rewards,
        has_foreign_normaliser=handed.normaliser is not None
        and not (handed.normalize_observations or handed.normalize_rewards),
        observation_space=observation_space,
        action_space=action_space,
        n_environments=1,
        environment_id=getattr(source, "environment_id", None),
        seed=None,
        counters={},
        acting={},
    )
    agent = built_for_acting(agent_class, config, space or observation_space, handed.normaliser, {}, chosen)
    policy = agent.algorithm.policy
    try:
        check_tensors(handed.weights, policy.state_dict())
    except BundleError as error:
        raise ArgumentError(
            "algorithm_class",
            chosen,
            f"has other networks than the agent's policy: {error}",
            f"Go on with {handed.algorithm_class.__name__}, which has the same.",
        ) from error
    policy.load_state_dict(handed.weights)
    agent._wrappers = tuple(wrappers_of(source))
    return agent


def _spaces(source: Any, environment: Any) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Returns the spaces of the agent, or of the environment where those were guessed."""
    mine = source.observation_space, source.action_space
    if environment is None:
        if getattr(source, "spaces_are_inferred", False):
            raise ArgumentError(
                "environment",
                None,
                f"the agent's spaces were guessed from its data ({mine[0]} and {mine[1]})",
                "Say where it will act.",
            )
        return mine
    batch = open_environments(environment, argument="environment", wrappers=wrappers_of(source))
    try:
        theirs = batch.single_observation_space, batch.single_action_space
    finally:
        batch.close()
    guessed = getattr(source, "spaces_are_inferred", False)
    for own, true in zip(mine, theirs, strict=True):
        if own != true and not (guessed and could_be(own, true)):
            raise SpaceMismatchError("environment", environment, f"it has {true}; the agent was built for {own}")
    return theirs
