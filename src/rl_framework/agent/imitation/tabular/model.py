"""The model of an environment of few states and known dynamics, and which state an observation shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.environment import BatchedEnvironment
from rl_framework.episode import Episode
from rl_framework.errors import ArgumentError, UnsupportedSpaceError

__all__ = ["StateIndex", "model_of", "state_trajectories"]

_PARTS = ("transition_matrix", "reward_matrix", "horizon", "initial_state_dist")


def model_of(batch: BatchedEnvironment) -> Any:
    """Returns a `seals.base_envs.TabularModelPOMDP` like the environments of a batch.

    Raises:
        ArgumentError: They are not tabular, have no horizon, or are not all the same.
    """
    from seals.base_envs import TabularModelPOMDP

    try:
        parts = {name: batch.get_slots(name) for name in _PARTS}
    except AttributeError as error:
        raise ArgumentError(
            "training_environments",
            batch,
            "MCE IRL plans, and needs an environment whose dynamics are known",
            "Give a seals.base_envs.TabularModelPOMDP or TabularModelMDP, such as "
            "seals.diagnostics.cliff_world.CliffWorldEnv.",
        ) from error
    for name, values in parts.items():
        if not all(np.array_equal(value, values[0]) for value in values):
            raise ArgumentError("training_environments", batch, f"the environments differ in their {name}")
    first = {name: values[0] for name, values in parts.items()}
    if first["horizon"] is None:
        raise ArgumentError("training_environments", batch, "has no horizon", "Make it with horizon=....")
    try:
        observation_matrix = batch.get_slots("observation_matrix", [0])[0]
    except AttributeError:  # where observations are states
        observation_matrix = np.eye(len(first["transition_matrix"]), dtype=np.float32)
    return TabularModelPOMDP(observation_matrix=observation_matrix, **first)


class StateIndex:
    """Tells which state an observation shows.

    Args:
        observation_space: Of the environment; `Discrete` where observations are states.
        observation_matrix: Shape `(states, *observation)`: what each state shows; None for a `Discrete` space.

    Raises:
        UnsupportedSpaceError: Two states show the same, or observations are neither states nor vectors.
    """

    def __init__(self, observation_space: gymnasium.Space[Any], observation_matrix: NDArray[Any] | None) -> None:
        self._space = observation_space
        self.observation_matrix: NDArray[Any] | None = None
        self._states: dict[bytes, int] = {}
        if isinstance(observation_space, spaces.Discrete):
            return
        if not isinstance(observation_space, spaces.Box) or observation_matrix is None:
            raise UnsupportedSpaceError(
                "observation_space", observation_space, "observations have to be states or vectors that show them"
            )
        matrix = np.ascontiguousarray(observation_matrix, dtype=observation_space.dtype)
        self._states = {row.tobytes(): state for state, row in enumerate(matrix)}
        if len(self._states) != len(matrix):
            raise UnsupportedSpaceError(
                "observation_space",
                observation_space,
                "two states show the same, and the policy is one of states",
                "Wrap the environment in seals.base_envs.ExposePOMDPStateWrapper, and record the expert there.",
            )
        self.observation_matrix = matrix

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the states.

        Args:
            observations: Shape `(B, *shape)`.

        Raises:
            ArgumentError: No state shows one of them.
        """
        if self.observation_matrix is None:
            return np.asarray(observations, dtype=np.int64) - int(getattr(self._space, "start", 0))
        rows = np.ascontiguousarray(observations, dtype=self.observation_matrix.dtype)
        try:
            return np.array([self._states[row.tobytes()] for row in rows], dtype=np.int64)
        except KeyError as error:
            raise ArgumentError("observation", observations, "is what no state of the environment shows") from error


def state_trajectories(episodes: Sequence[Episode], states: StateIndex, horizon: int) -> list[Any]:
    """Returns episodes as trajectories of states in the library's form.

    Raises:
        ArgumentError: An episode has another length than the environment's horizon.
    """
    from imitation.data.types import Trajectory

    trajectories = []
    for index, episode in enumerate(episodes):
        if len(episode) != horizon:
            raise ArgumentError(
                "episode_sequence",
                episodes,
                f"episode {index} has {len(episode)} steps, and every episode of the environment has {horizon}",
                "Give whole episodes.",
            )
        visited = states(np.asarray(episode.observations))
        trajectories.append(Trajectory(obs=visited, acts=np.array(episode.actions), infos=None, terminal=True))
    return trajectories
