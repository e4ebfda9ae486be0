"""Our `FeaturesExtractor` in the form that the policies of Stable-Baselines3 take."""

from __future__ import annotations

from typing import Any, Self

import gymnasium
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from rl_framework.agent.network import FeaturesExtractor
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.preprocessed import PreprocessedEnvironments
from rl_framework.environment.sb3 import VecEnvSlots
from rl_framework.errors import ArgumentError

__all__ = ["LibraryExtractor", "preprocessed_batch"]


class LibraryExtractor(BaseFeaturesExtractor):
    """The module of a `FeaturesExtractor`.

    Args:
        observation_space: Space of the observations as the policy gets them.
        extractor: What builds the module.
    """

    def __init__(self, observation_space: gymnasium.Space[Any], extractor: FeaturesExtractor) -> None:
        module = extractor.build(observation_space)
        if not isinstance(module, torch.nn.Module):
            raise ArgumentError("features_extractor", extractor, f"build() returned a {type(module).__name__}")
        super().__init__(observation_space, _count_features(module, observation_space, extractor))
        self.module = module
        extractor.load_weights(module)
        self.frozen = not extractor.trainable
        if self.frozen:
            self.module.requires_grad_(False)
            self.module.eval()

    def forward(self, observations: Any) -> torch.Tensor:
        """Returns the features, shape `(batch, features_dim)`."""
        features: torch.Tensor = self.module(observations)
        return features

    def train(self, mode: bool = True) -> Self:
        """Sets training mode; a frozen module stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.module.eval()
        return self

    def apply(self, fn: Any) -> Self:
        """Leaves the weights alone: policies initialise their networks anew with this, also pre-trained ones."""
        return self


def _count_features(module: torch.nn.Module, space: gymnasium.Space[Any], extractor: FeaturesExtractor) -> int:
    def example(part: gymnasium.Space[Any]) -> Any:
        if isinstance(part, gymnasium.spaces.Dict):
            return {key: example(value) for key, value in part.spaces.items()}
        return preprocess_obs(torch.zeros((2, *(part.shape or ())), dtype=torch.float32), part)

    was_training = module.training
    module.eval()
    with torch.no_grad():
        features = module(example(space))
    module.train(was_training)
    if features.ndim != 2 or len(features) != 2:
        raise ArgumentError(
            "features_extractor",
            extractor,
            f"its module gives shape {tuple(features.shape)} for a batch of 2",
            "It has to give (batch, n_features); end it with torch.nn.Flatten().",
        )
    return int(features.shape[1])


def preprocessed_batch(batch: BatchedEnvironment, extractor: Any) -> BatchedEnvironment:
    """Puts a features extractor's preprocessing stage behind the door, if it has one.

    Raises:
        ArgumentError: Something in the environments would come before it.
    """
    if not isinstance(extractor, FeaturesExtractor) or not extractor.preprocesses:
        return batch
    if isinstance(batch, VecEnvSlots) and batch.normalizes:
        raise ArgumentError(
            "training_environments",
            batch.vec_env,
            "VecNormalize in it would come before the features extractor's preprocessing",
            "Leave it out and use normalize_observations=True and normalize_rewards=True.",
        )
    return PreprocessedEnvironments(batch, extractor)
