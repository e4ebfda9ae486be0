"""An expert's transitions as a learner inside sees its own: preprocessed alike, in the same layout and types."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import maybe_transpose

from rl_framework.agent.network import FeaturesExtractor
from rl_framework.episode import Transitions
from rl_framework.episode.storage import Batch
from rl_framework.errors import EpisodeDataError

__all__ = ["ExpertTransitions", "as_learner_sees"]


def as_learner_sees(observations: Any, extractor: Any, space: gymnasium.Space[Any]) -> Any:
    """Returns observations as the networks get them: preprocessed, images with the channels first.

    Args:
        observations: Batched observation, as the environment gives it.
        extractor: The agent's features extractor, which may have a preprocessing stage.
        space: Space of what the networks get.

    Raises:
        EpisodeDataError: They do not fit the space.
    """
    if isinstance(extractor, FeaturesExtractor):
        observations = extractor.preprocess(observations)
    if isinstance(space, spaces.Dict):
        return {key: _fitted(observations[key], part, f"observations[{key!r}]") for key, part in space.spaces.items()}
    return _fitted(observations, space, "observations")


def _fitted(values: Any, space: gymnasium.Space[Any], name: str) -> NDArray[Any]:
    array = np.asarray(maybe_transpose(np.asarray(values), space))
    if array.shape[1:] != space.shape:
        raise EpisodeDataError(f"{name} have shape {array.shape[1:]}, and the learner takes {space.shape}")
    return array.astype(space.dtype, copy=False)


class ExpertTransitions:
    """Reads transitions a batch at a time; no more than the batch is in memory.

    Args:
        transitions: What the expert did.
        extractor: The learner's features extractor.
        observation_space: Space of what the learner's networks get.
        action_space: Space of the actions.
    """

    def __init__(
        self,
        transitions: Transitions,
        extractor: Any,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> None:
        self._transitions = transitions
        self._extractor = extractor
        self._observation_space = observation_space
        self._action_space = action_space

    def __len__(self) -> int:
        return len(self._transitions)

    def gather(self, indices: NDArray[np.int64]) -> Batch:
        """Returns some transitions.

        Args:
            indices: Shape `(B,)`, integers from 0 to `len(self) - 1`.

        Raises:
            EpisodeDataError: They do not fit the learner.
        """
        batch = self._transitions.gather(indices)
        batch.observations = as_learner_sees(batch.observations, self._extractor, self._observation_space)
        batch.next_observations = as_learner_sees(batch.next_observations, self._extractor, self._observation_space)
        batch.actions = _fitted_actions(batch.actions, self._action_space)
        return batch


def _fitted_actions(actions: NDArray[Any], space: gymnasium.Space[Any]) -> NDArray[Any]:
    if actions.shape[1:] != space.shape:
        raise EpisodeDataError(f"actions have shape {actions.shape[1:]}, and the learner's have {space.shape}")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
        if ((actions < 0) | (actions >= sizes)).any():
            raise EpisodeDataError(f"an action of the expert is not in {space}")
    return actions.astype(space.dtype, copy=False)
