"""Algorithms of one's own: a small class, and everything else comes with the agent."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rl_framework import registry
from rl_framework.agent.reinforcement.library.parameters import check_parameter_names
from rl_framework.agent.reinforcement.library.state.open_episodes import can_replay, replay_episodes, take_episodes
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.bundle import Bundle, decode_space, decode_value, encode_space, encode_value
from rl_framework.environment import BatchedEnvironment, SlotStep
from rl_framework.errors import (
    ArgumentError,
    BundleError,
    NotTrainedError,
    RLFrameworkError,
    UnsavableError,
    UnsupportedSpaceError,
)
from rl_framework.seeding import (
    capture_global_state,
    check_seed,
    derive_seed,
    isolated_random_state,
    restore_global_state,
)
from rl_framework.training import EpisodeEnded, RolloutEnded, Training, Updated

__all__ = ["CustomAgent", "CustomAlgorithm", "Transitions"]

logger = logging.getLogger(__name__)

_CONFIG, _STATE = "config.json", "state.npz"
_TRAINING_STATE, _TRAINING_ARRAYS = "training_state/state.json", "training_state/arrays.npz"
_GIVEN = {
    "observation_space": "It is the environment's.",
    "action_space": "It is the environment's.",
}


@dataclass(frozen=True)
class Transitions:
    """What one step of all environments brought, ready to learn from; leading axis: the slots that acted.

    Attributes:
        slots: Shape `(n,)`, int: which environment each row comes from.
        observations: Before the step.
        actions: What was done.
        rewards: Shape `(n,)`, float64.
        next_observations: After the step; at the end of an episode its last observation, not the next one's first.
        terminated: Shape `(n,)`, bool: there is nothing after this, so nothing to bootstrap from.
        truncated: Shape `(n,)`, bool: the episode was cut and would have gone on.
        infos: One dictionary a row.
        progress_remaining: Falls from 1 to 0 over a training, for schedules.
    """

    slots: NDArray[np.intp]
    observations: Any
    actions: Any
    rewards: NDArray[np.float64]
    next_observations: Any
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    infos: list[dict[str, Any]]
    progress_remaining: float


class CustomAlgorithm(ABC):
    """Base of an algorithm of one's own. Register the class by name, then hand it to `CustomAgent`.

    `CustomAgent` steps the environments, and brings seeds, events, trackers, evaluation, video and saving.

    Args:
        observation_space: Space of one observation.
        action_space: Space of one action.

    Attributes:
        observation_space: Space of one observation.
        action_space: Space of one action.
        np_random: The only source of random numbers to use; seeded by the agent.
        supported_observation_spaces: Classes of the observation spaces that it can take.
        supported_action_spaces: Classes of the action spaces that it can take.
    """

    supported_observation_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (gymnasium.Space,)
    supported_action_spaces: ClassVar[tuple[type[gymnasium.Space[Any]], ...]] = (gymnasium.Space,)

    def __init__(self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.np_random = np.random.default_rng()

    def seed(self, seed: int) -> None:
        """Seeds `np_random`."""
        self.np_random = np.random.default_rng(seed)

    @abstractmethod
    def choose_actions(self, observations: Any, deterministic: bool) -> Any:
        """Chooses one action for each observation of a batch.

        Args:
            observations: Batched observation, leading axis: slots.
            deterministic: Whether to take the best action instead of exploring.

        Returns:
            The batched action.
        """

    @abstractmethod
    def learn_from(self, transitions: Transitions) -> dict[str, float] | None:
        """Learns from one step of all environments.

        Returns:
            Numbers to track, such as `{"train/loss": 0.1}`, or None.
        """

    @abstractmethod
    def get_state(self) -> dict[str, NDArray[Any]]:
        """Returns what was learned, as arrays by name; goes into the bundle.

        A resumed training is exact only if everything that later steps depend on is in it: moments of an optimizer,
        a replay buffer, counters. `np_random` and the global generators are saved by the agent.
        """

    @abstractmethod
    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Takes back what `get_state` gave; raises ValueError or KeyError if it does not fit."""


class CustomAgent(RLAgent):
    """An agent with an algorithm of one's own.

    Args:
        algorithm_class: A subclass of `CustomAlgorithm`, or its registered name ("q_learning").
        algorithm_parameters: Its parameters, except the two spaces; also `seed`.

    Raises:
        UnknownNameError: Unknown algorithm or parameter; the nearest names are suggested.
        ArgumentError: It is no `CustomAlgorithm`.
    """

    def __init__(
        self,
        algorithm_class: str | type[CustomAlgorithm] = "q_learning",
        algorithm_parameters: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(algorithm_class, str):
            algorithm_class = registry.algorithms.get(algorithm_class, "algorithm_class")
        if not isinstance(algorithm_class, type) or not issubclass(algorithm_class, CustomAlgorithm):
            raise ArgumentError(
                "algorithm_class", algorithm_class, "is no CustomAlgorithm", "Subclass it, or use another agent."
            )
        self.algorithm_class: type[CustomAlgorithm] = algorithm_class
        self.algorithm_parameters = dict(algorithm_parameters or {})
        given = {name: value for name, value in self.algorithm_parameters.items() if name != "seed"}
        check_parameter_names(algorithm_class, given, owned=_GIVEN)
        check_seed(self.algorithm_parameters.get("seed"), "algorithm_parameters['seed']")
        self.seed: int | None = None
        self.environment_id: str | None = None
        self._algorithm: CustomAlgorithm | None = None
        self._timesteps = 0
        self._n_updates = 0
        self._resumed: dict[str, Any] | None = None

    @property
    def algorithm(self) -> CustomAlgorithm:
        """The algorithm object.

        Raises:
            NotTrainedError: There is none before the first `train` or `load_from_file`.
        """
        if self._algorithm is None:
            raise NotTrainedError("an action, an evaluation or the algorithm")
        return self._algorithm

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Space of one observation."""
        return self.algorithm.observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Space of one action."""
        return self.algorithm.action_space

    @property
    def num_timesteps(self) -> int:
        """Environment steps the agent has been trained on."""
        return self._timesteps

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch."""
        return self.algorithm.choose_actions(observations, deterministic), state

    def random_generator_owners(self) -> list[Any]:
        """Returns the algorithm, which draws from its own generator."""
        return [self.algorithm]

    def describe(self) -> dict[str, Any]:
        """Returns algorithm and parameters as JSON-able data."""
        name = registry.algorithms.name_of(self.algorithm_class)
        if name is None:
            own = self.algorithm_class.__name__
            raise UnsavableError(
                "algorithm_class",
                self.algorithm_class,
                "has no registered name, so that an agent with it could not be saved",
                f"Register it first: rl_framework.register_algorithm({own.lower()!r}, {own})",
            )
        return {
            "algorithm": name,
            "algorithm_parameters": encode_value(self.algorithm_parameters, "algorithm_parameters"),
        }

    def prepare(self, batch: BatchedEnvironment, seed: int | None) -> int:
        """Makes the algorithm, or checks that the existing one goes on with these environments."""
        used = self.choose_seed(seed, self.algorithm_parameters.get("seed"), self.seed)
        self.describe()  # raises if the agent could not be saved
        if self._algorithm is None:
            self._algorithm = self._construct(batch.single_observation_space, batch.single_action_space)
            self._algorithm.seed(derive_seed(used, "algorithm"))
        else:
            self.check_spaces(batch, "training_environments")
            if seed is not None:
                self._algorithm.seed(derive_seed(used, "algorithm"))
        self._reset_seed: int | None = used if seed is not None or self._timesteps == 0 else None
        self.seed, self.environment_id = used, batch.environment_id
        return used

    def seed_new_environments(self, batch: BatchedEnvironment, seed: int) -> None:
        """Seeds the environments alone, at their next reset."""
        self._reset_seed = seed

    def learn(self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any]) -> None:
        """Steps the environments and hands every transition to the algorithm."""
        algorithm = self.algorithm
        start, length = training.start, training.total_timesteps - training.start
        resumed, self._resumed = self._resumed, None
        if resumed is None:
            self._n_updates = 0
        if resumed is None or batch.latest_observations is None:
            observations, _ = batch.reset_slots(self._reset_seed)
        else:
            observations = batch.latest_observations
        if resumed is not None:
            restore_global_state(resumed)
        taken = training.gather_actions(batch.single_action_space)
        while self._timesteps < training.total_timesteps and training.stop_reason is None:
            training.boundary(self._timesteps)
            actions = algorithm.choose_actions(observations, deterministic=False)
            step = batch.step_slots(actions)
            actions = actions if step.actions is None else step.actions  # of those who are told only now
            self._timesteps += int(step.acted.sum())
            remaining = max(0.0, 1.0 - (self._timesteps - start) / length)
            metrics = algorithm.learn_from(_transitions(batch, observations, actions, step, remaining))
            self._n_updates += 1
            observations = step.observations
            if taken is not None:
                taken.add(_rows(actions, step.acted.nonzero()[0]))
                shares, histograms = taken.report(self._timesteps)
                if histograms:
                    training.emit(RolloutEnded(timestep=self._timesteps, metrics=shares, histograms=histograms))
            if metrics:
                training.emit(Updated(timestep=self._timesteps, metrics=metrics, n_updates=self._n_updates))
            for slot in np.flatnonzero((step.terminated | step.truncated) & step.acted):
                training.emit(EpisodeEnded.from_info(self._timesteps, int(slot), step.infos[slot]))
            training.step(self._timesteps)

    def training_members(self, batch: BatchedEnvironment) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs."""
        arrays: dict[str, NDArray[Any]] = {}
        state: dict[str, Any] = {
            "random": capture_global_state(),
            "np_random": encode_value(self.algorithm.np_random.bit_generator.state, "np_random"),
            "n_updates": self._n_updates,
            "n_environments": batch.num_envs,
        }
        take_episodes(batch, arrays, state)
        return {_TRAINING_STATE: state, _TRAINING_ARRAYS: arrays}

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment) -> int:
        """Becomes the agent in a checkpoint, with its environments where they were."""
        loaded = type(self).from_bundle(checkpoint)
        mine = self.describe()
        for name, value in loaded.describe().items():
            if mine[name] != value:
                raise ArgumentError(name, mine[name], f"the checkpoint was made with {value!r}")
        try:
            state = checkpoint.json(_TRAINING_STATE)
            if state["n_environments"] != batch.num_envs:
                raise ArgumentError(
                    "n_environments", batch.num_envs, f"the checkpoint was made with {state['n_environments']}"
                )
            seed = loaded.prepare(batch, None)
            loaded._reset_seed = derive_seed(seed, "resumed", loaded.num_timesteps)
            with isolated_random_state():
                restore_global_state(state["random"])  # when training begins this must not fail
            if not isinstance(state["n_updates"], int) or state["n_updates"] < 0:
                raise ValueError(f"n_updates is {state['n_updates']!r}")
            if can_replay(batch, state):
                replay_episodes(batch, checkpoint.arrays(_TRAINING_ARRAYS), state, loaded._reset_seed)
            else:
                logger.warning("these environments cannot be replayed: training goes on with new episodes")
            loaded.algorithm.np_random.bit_generator.state = decode_value(state["np_random"])
            loaded._n_updates, loaded._resumed = state["n_updates"], state["random"]
        except RLFrameworkError:
            raise
        # What a crafted state makes others raise is of many types, and all of them mean the same.
        except Exception as error:
            raise BundleError(f"{checkpoint.path}: its training state does not fit: {error!r}") from error
        vars(self).update(vars(loaded))
        return seed

    def _construct(
        self, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> CustomAlgorithm:
        for kind, space in (("observation", observation_space), ("action", action_space)):
            supported = getattr(self.algorithm_class, f"supported_{kind}_spaces")
            if not isinstance(space, supported):
                raise UnsupportedSpaceError(
                    f"{kind}_space",
                    space,
                    f"{self.algorithm_class.__name__} takes {' and '.join(s.__name__ for s in supported)} only",
                )
        parameters = {name: value for name, value in self.algorithm_parameters.items() if name != "seed"}
        return self.algorithm_class(observation_space=observation_space, action_space=action_space, **parameters)

    def bundle_members(self) -> dict[str, Any]:
        """Returns configuration and learned state."""
        config = {
            **self.describe(),
            "observation_space": encode_space(self.observation_space),
            "action_space": encode_space(self.action_space),
            "environment_id": self.environment_id,
            "seed": self.seed,
            "num_timesteps": self._timesteps,
        }
        return {_CONFIG: config, _STATE: self.algorithm.get_state()}

    @classmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agent that is in a bundle."""
        config = bundle.json(_CONFIG)
        try:
            parameters = decode_value(config["algorithm_parameters"])
            agent = cls(config["algorithm"], {**parameters, **(algorithm_parameters or {})})
            agent._timesteps = int(config["num_timesteps"])
            if agent._timesteps < 0:
                raise BundleError(f"the configuration in the bundle is damaged: num_timesteps={agent._timesteps}")
            agent.seed, agent.environment_id = check_seed(config["seed"]), config["environment_id"]
            if agent.environment_id is not None and ":" in agent.environment_id:
                raise BundleError(f"the bundle names the environment {agent.environment_id!r}, which imports a module")
            observation_space, action_space = (decode_space(config[name]) for name in _GIVEN)
            agent._algorithm = agent._construct(observation_space, action_space)
            agent._algorithm.set_state(bundle.arrays(_STATE))
            if agent.seed is not None:  # with the seed of the beginning it would explore the same way again
                agent._algorithm.seed(derive_seed(agent.seed, "continued", agent._timesteps))
        except BundleError:
            raise
        # What a crafted bundle makes somebody's algorithm raise is of many types, and all of them mean the same.
        except Exception as error:
            if algorithm_parameters and isinstance(error, RLFrameworkError):  # then the mistake may be the caller's
                raise
            raise BundleError(f"the bundle cannot be used here: {error!r}") from error
        return agent

    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes the agent in the bundle."""
        loaded = type(self).from_bundle(bundle, algorithm_parameters)
        if loaded.algorithm_class is not self.algorithm_class:
            raise BundleError(
                f"the bundle holds {loaded.algorithm_class.__name__}, this agent is {self.algorithm_class.__name__}: "
                "open it with rl_framework.load_agent(path)"
            )
        vars(self).update(vars(loaded))


def _transitions(
    batch: BatchedEnvironment, observations: Any, actions: Any, step: SlotStep, progress_remaining: float
) -> Transitions:
    next_observations = step.observations
    if step.final_observations:
        rows = [
            step.final_observations.get(index, batch.observation_of(step.observations, index))
            for index in range(batch.num_envs)
        ]
        next_observations = batch.stack(rows)
    acted = np.flatnonzero(step.acted)
    everybody = len(acted) == batch.num_envs
    made_with = actions if step.actions is None else step.actions
    return Transitions(
        slots=acted,
        observations=observations if everybody else _rows(observations, acted),
        actions=made_with if everybody else _rows(made_with, acted),
        rewards=step.rewards[acted],
        next_observations=next_observations if everybody else _rows(next_observations, acted),
        terminated=step.terminated[acted],
        truncated=step.truncated[acted],
        infos=[step.infos[index] for index in acted],
        progress_remaining=progress_remaining,
    )


def _rows(batch: Any, rows: NDArray[np.intp]) -> Any:
    if isinstance(batch, dict):
        return {key: _rows(value, rows) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_rows(value, rows) for value in batch)
    return batch[rows]
