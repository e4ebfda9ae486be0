"""The comparisons that were made and the trainers of the reward network, in a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_framework.agent.imitation.learner import Setting
from rl_framework.agent.imitation.library.episode_arrays import episodes_from_arrays, episodes_to_arrays
from rl_framework.agent.imitation.preference.trajectories import trajectory_of
from rl_framework.agent.reinforcement.library.state.optimizer_state import give_optimizer, take_optimizer
from rl_framework.episode import Episode
from rl_framework.episode.observation_tree import leaves

__all__ = ["give_comparisons", "take_comparisons", "trainers_of"]

_PREFERENCES = "preferences"


def take_comparisons(
    algorithm: Any, tensors: dict[str, torch.Tensor]
) -> tuple[dict[str, NDArray[Any]], list[dict[str, Any]]]:
    """Takes the comparisons and the optimizers.

    Args:
        algorithm: The library's object.
        tensors: Receives the tensors of the optimizers.

    Returns:
        The comparisons as arrays, and the rest of the optimizers as JSON-able data.
    """
    from imitation.data.types import maybe_unwrap_dictobs

    dataset = algorithm.dataset
    fragments = [
        Episode(maybe_unwrap_dictobs(one.obs), one.acts, one.rews, terminated=bool(one.terminal), truncated=False)
        for one in [*dataset.fragments1, *dataset.fragments2]
    ]
    arrays = episodes_to_arrays(fragments)
    if arrays:
        arrays[_PREFERENCES] = np.asarray(dataset.preferences, dtype=np.float64)
    states = [take_optimizer(f"{index}", one.optim, tensors) for index, one in enumerate(trainers_of(algorithm))]
    return arrays, states


def give_comparisons(
    algorithm: Any,
    arrays: Mapping[str, NDArray[Any]],
    states: list[dict[str, Any]],
    tensors: Mapping[str, torch.Tensor],
    setting: Setting,
) -> None:
    """Gives back what `take_comparisons` took.

    Raises:
        ValueError: It does not fit. What a crafted state can raise besides is of any type.
    """
    fragments = episodes_from_arrays(arrays, setting.observation_space)
    count = len(fragments) // 2
    preferences = arrays[_PREFERENCES] if arrays else np.array([])
    fits = preferences.shape == (count,) and preferences.dtype == np.float64 and len(fragments) == 2 * count
    if not fits or not ((preferences >= 0) & (preferences <= 1)).all():
        raise ValueError(f"there are {len(fragments)} fragments and preferences of the shape {preferences.shape}")
    action_shape = setting.action_space.shape or ()
    for fragment in fragments:
        for path, observations in leaves(fragment.observations):
            shape = _part_at(setting.observation_space, path).shape or ()
            if observations.shape[1:] != shape or not np.isfinite(observations).all():
                raise ValueError(f"fragments have observations of the shape {observations.shape}")
        if fragment.actions.shape[1:] != action_shape:
            raise ValueError(f"fragments have actions of the shape {fragment.actions.shape}")
    dataset = algorithm.dataset
    whole = [trajectory_of(fragment) for fragment in fragments]
    dataset.fragments1, dataset.fragments2 = whole[:count], whole[count:]
    dataset.preferences = preferences.copy()
    for index, (trainer, state) in enumerate(zip(trainers_of(algorithm), states, strict=True)):
        give_optimizer(f"{index}", trainer.optim, state, tensors)


def _part_at(space: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        space = space[key]
    return space


def trainers_of(algorithm: Any) -> list[Any]:
    """Returns the trainer of the reward network, and those of its members."""
    trainer = algorithm.reward_trainer
    return [trainer, *getattr(trainer, "member_trainers", [])]
