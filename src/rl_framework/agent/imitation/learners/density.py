"""Density estimation: reinforcement learning whose reward is how common a transition was with the expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector.utils import create_empty_array
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs

from rl_framework.agent.imitation.learner import Setting, constructor_parameters
from rl_framework.agent.imitation.library.density_model import (
    KERNELS,
    DensityModel,
    density_type_name,
)
from rl_framework.agent.imitation.reinforced_learner import ReinforcedLearner
from rl_framework.agent.imitation.relabelled import RelabelledEnvironments
from rl_framework.bundle import Bundle
from rl_framework.environment.sb3 import SpacesOnlyVecEnv
from rl_framework.errors import ArgumentError, NotTrainedError, UnknownNameError
from rl_framework.training import Training

__all__ = ["DensityLearner"]

_MODEL, _STATE = "density.npz", "density_state.npz"
_DEFAULTS: dict[str, Any] = {
    "density_type": "state_action_density",
    "kernel": "gaussian",
    "kernel_bandwidth": 0.5,
    "is_stationary": True,
    "standardise_inputs": True,
    "allow_variable_horizon": False,
}
"""The library's."""


class DensityLearner(ReinforcedLearner):
    """`DensityAlgorithm`: the density is fitted once, and the agent inside learns to go where the expert was."""

    inner_argument = "rl_algo"
    may_normalize = may_normalize_rewards = True  # rewards are replaced below of what the agent inside normalises
    owned: ClassVar[dict[str, str]] = {
        "demonstrations": "Pass them to train(episode_sequence=...).",
        "venv": "Pass environments to train(training_environments=...).",
        "rng": "Pass a seed to train(seed=...).",
        "custom_logger": "Pass connectors or callbacks to train(...).",
    }

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self._model: DensityModel | None = None
        self._relabelled: RelabelledEnvironments | None = None
        super().__init__(library_class, parameters)

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters that the library takes."""
        return constructor_parameters(self.library_class)

    def check_parameters(self) -> None:
        """Checks the density and the agent inside."""
        if "density_type" in self.parameters:
            self.parameters["density_type"] = density_type_name(self.parameters["density_type"])
        kernel, bandwidth = self._value("kernel"), self._value("kernel_bandwidth")
        if kernel not in KERNELS:
            raise UnknownNameError("algorithm_parameters['kernel']", str(kernel), KERNELS)
        rules = ("scott", "silverman")
        number = isinstance(bandwidth, int | float) and not isinstance(bandwidth, bool) and 0 < bandwidth < np.inf
        if not number and bandwidth not in rules:
            raise ArgumentError(
                "algorithm_parameters['kernel_bandwidth']", bandwidth, f"must be above 0, or one of {', '.join(rules)}"
            )
        for name in ("is_stationary", "standardise_inputs", "allow_variable_horizon"):
            if type(self._value(name)) is not bool:
                raise ArgumentError(f"algorithm_parameters[{name!r}]", self._value(name), "must be True or False")
        super().check_parameters()

    def _value(self, name: str) -> Any:
        return self.parameters.get(name, _DEFAULTS[name])

    # Training

    def prepare(self, setting: Setting) -> None:
        """Fits the density, and puts it between the environments and the agent inside."""
        assert setting.batch is not None  # `needs_environment`
        algorithm = self._library_object(setting)
        self._model = self._fit(dict(algorithm.transitions), setting.observation_space, setting.action_space)
        self._relabelled = RelabelledEnvironments(setting.batch, self._model, self._value("allow_variable_horizon"))
        self.prepare_inner(replace(setting, batch=self._relabelled))
        algorithm.rl_algo = self.inner.algorithm
        self.algorithm = algorithm

    def _library_object(self, setting: Setting) -> Any:
        """Returns the library's object with its density; its environment stands for ours, which train without it."""
        from imitation.algorithms.density import DensityType

        from rl_framework.agent.imitation.library.event_logger import EventLogger

        assert setting.episodes is not None  # `needs_episodes`
        assert setting.batch is not None
        spaces = setting.observation_space, setting.action_space
        algorithm = self.library_class(
            demonstrations=setting.episodes.to_imitation_episodes(),
            venv=_NobodyActs(*spaces, setting.batch.num_envs),
            rng=np.random.default_rng(setting.seed),
            density_type=DensityType[self._value("density_type").upper()],
            kernel=self._value("kernel"),
            kernel_bandwidth=self._value("kernel_bandwidth"),
            is_stationary=self._value("is_stationary"),
            standardise_inputs=self._value("standardise_inputs"),
            allow_variable_horizon=self._value("allow_variable_horizon"),
            custom_logger=EventLogger(),
        )
        algorithm.train()
        return algorithm

    def _fit(
        self,
        rows: dict[int | None, NDArray[Any]],
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> DensityModel:
        return DensityModel(
            rows,
            (observation_space, action_space),
            self._value("density_type"),
            self._value("kernel"),
            self._value("kernel_bandwidth"),
            self._value("standardise_inputs"),
        )

    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Lets the agent inside learn, as it does with any rewards."""
        from imitation.rewards.reward_wrapper import WrappedRewardCallback

        assert self._relabelled is not None  # `prepare` came before
        told = WrappedRewardCallback(self._relabelled.replaced_returns)
        self.inner.learn(self._relabelled, training, [told, *listeners])

    @property
    def model(self) -> DensityModel:
        """The density that is the reward.

        Raises:
            NotTrainedError: There is none yet.
        """
        if self._model is None:
            raise NotTrainedError("a density")
        return self._model

    def reward(
        self, observations: Any, actions: Any, next_observations: Any, times: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Returns the reward of transitions: the logarithm of their density with the expert.

        Args:
            observations: Shape `(B, *shape)`, as the environment gives them.
            actions: Shape `(B, *shape)`.
            next_observations: As `observations`.
            times: Shape `(B,)`, steps of the episode before; needed if there is a density for each step.

        Returns:
            Shape `(B,)`.

        Raises:
            NotTrainedError: There is none yet.
        """
        count = len(np.asarray(actions))
        times = np.zeros(count, np.int64) if times is None else times
        return self.model(observations, np.asarray(actions), next_observations, np.zeros(count, np.bool_), times)

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the agent inside, and the demonstrations in the form in which they are the density."""
        return {**super().members(), _MODEL: self.model.to_arrays()}

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Makes the agent inside, and fits the density to the same demonstrations."""
        super().restore(bundle, observation_space, action_space)
        spaces = observation_space, action_space
        rows = DensityModel.rows_from_arrays(bundle.arrays(_MODEL), spaces, self._value("density_type"))
        if (None in rows) != self._value("is_stationary"):
            raise ValueError("the demonstrations are of another kind of density")
        self._model = self._fit(rows, *spaces)

    def training_members(self) -> dict[str, Any]:
        """Returns the state of the agent inside, and the sums of replaced rewards."""
        assert self._relabelled is not None  # training runs
        return {**super().training_members(), _STATE: self._relabelled.state()}

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on where the environments stood."""
        self.prepare(setting)
        assert self._relabelled is not None
        self.resume_inner(checkpoint, setting.seed)
        self._relabelled.restore(checkpoint.arrays(_STATE))


class _NobodyActs(SpacesOnlyVecEnv):
    """Environments that the library's wrappers can be put around: they are reset at once, and never stepped."""

    def reset(self) -> VecEnvObs:
        """Returns observations of nothing."""
        return create_empty_array(self.observation_space, self.num_envs)
