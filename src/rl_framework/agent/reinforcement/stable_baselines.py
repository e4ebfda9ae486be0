"""Every algorithm of Stable-Baselines3 as an `RLAgent`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_framework.agent.network.features_extractor import FeaturesExtractor, resolve_features_extractor
from rl_framework.agent.reinforcement.export.exports import Exports
from rl_framework.agent.reinforcement.library.algorithms import (
    check_spaces_supported,
    name_of_algorithm,
    resolve_algorithm,
)
from rl_framework.agent.reinforcement.library.buffers.present_buffers import buffers_for_absence, connect_buffers
from rl_framework.agent.reinforcement.library.extractor import preprocessed_batch
from rl_framework.agent.reinforcement.library.inspection import Inspection
from rl_framework.agent.reinforcement.library.listener import EventListener, attached
from rl_framework.agent.reinforcement.library.normaliser import Normaliser, normalised
from rl_framework.agent.reinforcement.library.parameters import (
    build_arguments,
    check_parameter_names,
    check_savable,
    local_parameters,
    portable_parameters,
)
from rl_framework.agent.reinforcement.library.state import saved_state
from rl_framework.agent.reinforcement.library.state.continuing import end_open_episodes, waiting_for_experience
from rl_framework.agent.reinforcement.library.state.size_limit import limited_parameters
from rl_framework.agent.reinforcement.library.state.training_state import PendingState, capture, restore
from rl_framework.agent.reinforcement.schedules import progress_over_all_trainings
from rl_framework.agent.reinforcement.threads import choose_threads, threads_before
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue, built_for_acting, warm_started
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.bundle import Bundle, encode_space
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.sb3 import export_to_vec_env
from rl_framework.errors import (
    ArgumentError,
    BundleError,
    MissingExtraError,
    NotTrainedError,
    RLFrameworkError,
    require_extra,
)
from rl_framework.seeding import check_seed, derive_seed
from rl_framework.training import Training

__all__ = ["StableBaselinesAgent"]


class StableBaselinesAgent(Exports, Inspection, RLAgent):
    """An agent whose algorithm comes from Stable-Baselines3.

    Training with a seed gives the weights that Stable-Baselines3 alone gives with that seed, those parameters and
    those environments.

    A saved agent has no replay buffer: when it is loaded and trained on, it acts by itself until it has collected
    `learning_starts` transitions, and then learns.

    Args:
        algorithm_class: A class such as `stable_baselines3.PPO`, or its registered name ("ppo").
        algorithm_parameters: Any parameter that the class takes, except the environment. `policy` is chosen from the
            observation space unless given. Schedules are data (`{"type": "linear", "start": 3e-4, "end": 0}`), and so
            is noise (`{"type": "normal", "sigma": 0.1}`); activation functions, optimizers and extractors may be
            given by registered name.
        features_extractor: A `FeaturesExtractor`, a features extractor class of the library, a registered name, or
            `{"type": name, ...}` with its arguments.
        normalize_observations: Whether observations are normalised by running means and variances, which are saved
            with the agent and frozen in `choose_action` and `evaluate`.
        normalize_rewards: Whether rewards are scaled by the running deviation of the discounted return while training.

    Raises:
        UnknownNameError: Unknown algorithm or parameter; the nearest names are suggested.
        ArgumentError: A parameter cannot be used.
    """

    def __init__(
        self,
        algorithm_class: str | type[BaseAlgorithm] = "ppo",
        algorithm_parameters: dict[str, Any] | None = None,
        features_extractor: FeaturesExtractor | str | type[Any] | dict[str, Any] | None = None,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
    ) -> None:
        self.algorithm_class: type[BaseAlgorithm] = resolve_algorithm(algorithm_class)
        if algorithm_parameters is not None and not isinstance(algorithm_parameters, dict):
            raise ArgumentError("algorithm_parameters", algorithm_parameters, "must be a dictionary")
        self.algorithm_parameters = dict(algorithm_parameters or {})
        check_parameter_names(self.algorithm_class, self.algorithm_parameters)
        check_seed(self.algorithm_parameters.get("seed"), "algorithm_parameters['seed']")
        self.features_extractor = resolve_features_extractor(features_extractor)
        self.normalize_observations = bool(normalize_observations)
        self.normalize_rewards = bool(normalize_rewards)
        self.seed: int | None = None
        self.environment_id: str | None = None
        self._algorithm: BaseAlgorithm | None = None
        self._vec_env: VecEnv | None = None
        self._vec_normalize: VecNormalize | None = None
        self._pending: PendingState | None = None
        self._threads: int | None = None
        self._normaliser: Normaliser | None = None

    # What it is

    @property
    def algorithm(self) -> BaseAlgorithm:
        """The wrapped object of the library.

        Raises:
            NotTrainedError: There is none before the first `train` or `load_from_file`.
        """
        if self._algorithm is None:
            raise NotTrainedError("the wrapped algorithm")
        return self._algorithm

    @property
    def num_timesteps(self) -> int:
        """Environment steps the agent has been trained on."""
        return 0 if self._algorithm is None else int(self._algorithm.num_timesteps)

    @property
    def normaliser(self) -> Normaliser | None:
        """The observation statistics as they stand, or None if the agent does not normalise."""
        if self._vec_normalize is not None:
            return Normaliser.from_vec_normalize(self._vec_normalize)
        return self._normaliser

    def __repr__(self) -> str:
        """Says what it is in one line."""
        return (
            f"{type(self).__name__}(algorithm_class={self.algorithm_class.__name__}, "
            f"algorithm_parameters={self.algorithm_parameters}, num_timesteps={self.num_timesteps})"
        )

    def describe(self) -> dict[str, Any]:
        """Returns algorithm and parameters as JSON-able data."""
        parameters, extractor = check_savable(self.algorithm_class, self.algorithm_parameters, self.features_extractor)
        return {
            "algorithm": name_of_algorithm(self.algorithm_class),
            "algorithm_parameters": parameters,
            "features_extractor": extractor,
            "normalize_observations": self.normalize_observations,
            "normalize_rewards": self.normalize_rewards,
        }

    # Acting

    @property
    def uses_action_masks(self) -> bool:
        """Whether the algorithm's `predict` takes action masks."""
        return "action_masks" in inspect.signature(self.algorithm_class.predict).parameters

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch."""
        observations = self._as_trained_on(observations)
        masks = {} if action_masks is None else {"action_masks": action_masks}
        return self.algorithm.predict(observations, state, episode_starts, deterministic, **masks)

    def _as_trained_on(self, observations: Any) -> Any:
        if isinstance(self.features_extractor, FeaturesExtractor):
            observations = self.features_extractor.preprocess(observations)
        normaliser = self.normaliser
        return observations if normaliser is None else normaliser.normalise(observations)

    def random_generator_owners(self) -> list[Any]:
        """Returns the action space, from which value-based algorithms draw random actions."""
        return [self.algorithm.action_space]

    # Training

    def accepts_listener(self, callback: object) -> bool:
        """Tells whether an object is a callback of Stable-Baselines3."""
        return isinstance(callback, BaseCallback)

    def choose_threads(self, record: dict[str, Any]) -> AbstractContextManager[None]:
        """Chooses torch's threads; see `choose_threads` in `threads`."""
        earlier, self._threads = self._threads, None
        return choose_threads([self.algorithm.policy], self.algorithm.device, record, earlier)

    def prepare(self, batch: BatchedEnvironment, seed: int | None) -> int:
        """Builds the algorithm for these environments, or moves the existing one to them."""
        used = self.choose_seed(seed, self.algorithm_parameters.get("seed"), self.seed)
        self._check_savable(batch)
        if self.algorithm_parameters.get("tensorboard_log") is not None:
            require_extra("tensorboard", "algorithm_parameters['tensorboard_log']", "tensorboard")
        if self._spaces is not None:
            self.check_spaces(batch, "training_environments")
        preprocessed = preprocessed_batch(batch, self.features_extractor)
        vec_env = export_to_vec_env(preprocessed)
        previous = self._algorithm
        wrapped, vec_normalize = self._normalise(vec_env)
        if previous is not None and previous.env is not None and previous.n_envs == vec_env.num_envs:
            end_open_episodes(previous)
            previous.set_env(wrapped)
            if seed is not None:
                previous.set_random_seed(seed)
        elif previous is None or seed is not None:
            self._rebuild(wrapped, preprocessed, used)
        else:  # with the seed of the beginning it would meet the same episodes again
            self._rebuild(wrapped, preprocessed, derive_seed(used, "continued", self.num_timesteps))
        connect_buffers(self.algorithm, vec_env)
        self._spaces = (batch.single_observation_space, batch.single_action_space)
        self._vec_env, self._vec_normalize = vec_env, vec_normalize
        self.seed, self.environment_id = used, batch.environment_id
        return used

    def seed_new_environments(self, batch: BatchedEnvironment, seed: int) -> None:
        """Seeds the environments alone, at their next reset."""
        assert self._vec_env is not None  # `prepare` came before
        self._vec_env.seed(seed)

    def _check_savable(self, batch: BatchedEnvironment) -> None:
        """Raises an `UnsavableError` if the agent could not be saved after training here."""
        self.describe()
        encode_space(batch.single_observation_space, "observation_space")
        encode_space(batch.single_action_space, "action_space")

    def learn(self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any]) -> None:
        """Trains with the library's own `learn`."""
        pending, self._pending = self._pending, None
        listener = EventListener(training, self._vec_env, pending)
        algorithm = self.algorithm
        with (
            attached(listener, algorithm),
            progress_over_all_trainings(algorithm),
            waiting_for_experience(algorithm),
        ):
            algorithm.learn(
                training.total_timesteps - training.timestep,
                callback=[listener, *listeners] if listeners else listener,
                reset_num_timesteps=training.timestep == 0,
            )

    def training_members(self, batch: BatchedEnvironment) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs."""
        return capture(self.algorithm, self._vec_env)

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment) -> int:
        """Becomes the agent in a checkpoint, with its environments where they were."""
        loaded = type(self).from_bundle(checkpoint, local_parameters(self.algorithm_parameters))
        mine = self.describe()
        for name, value in loaded.describe().items():
            if mine[name] != value:
                raise ArgumentError(
                    name,
                    mine[name],
                    f"the checkpoint was made with {value!r}",
                    "Resume with an agent of the same configuration, or load_from_file(...) the checkpoint.",
                )
        if loaded.algorithm.n_envs != batch.num_envs:
            raise ArgumentError(
                "n_environments", batch.num_envs, f"the checkpoint was made with {loaded.algorithm.n_envs}"
            )
        seed = loaded.prepare(batch, None)
        assert loaded._vec_env is not None  # made by `prepare`
        loaded._threads = threads_before(checkpoint.information["record"])
        loaded._pending = restore(checkpoint, loaded.algorithm, loaded._vec_env, seed)
        vars(self).update(vars(loaded))
        return seed

    def _rebuild(self, wrapped: VecEnv, batch: BatchedEnvironment, seed: int) -> None:
        previous = self._algorithm
        replay = getattr(previous, "replay_buffer", None)
        if previous is not None and previous.env is not None and replay is not None and replay.size() > 0:
            raise ArgumentError(
                "n_environments",
                wrapped.num_envs,
                f"the replay buffer holds transitions of {previous.n_envs} environments side by side",
                f"Go on with {previous.n_envs} environments.",
            )
        arguments: dict[str, Any] = {}
        if batch.may_be_absent:
            arguments = buffers_for_absence(
                self.algorithm_class, self.algorithm_parameters, batch.single_observation_space
            )
        rebuilt = self._construct(wrapped, batch.single_observation_space, batch.single_action_space, seed, arguments)
        if previous is not None:
            saved_state.transfer(previous, rebuilt)
        self._algorithm = rebuilt

    def _construct(
        self,
        vec_env: VecEnv,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        seed: int | None,
        overrides: dict[str, Any],
    ) -> BaseAlgorithm:
        check_spaces_supported(self.algorithm_class, observation_space, action_space)
        arguments = build_arguments(
            self.algorithm_class, self.algorithm_parameters, self.features_extractor, observation_space, action_space
        )
        arguments |= overrides
        try:
            return self.algorithm_class(env=vec_env, seed=seed, **arguments)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, RLFrameworkError):
                raise
            raise ArgumentError(
                "algorithm_parameters",
                self.algorithm_parameters,
                f"{self.algorithm_class.__name__} does not take them: {error}",
            ) from error

    def _normalise(self, vec_env: VecEnv) -> tuple[VecEnv, VecNormalize | None]:
        """Wraps in `VecNormalize` if asked; returns what to train on, and whose statistics are the agent's."""
        gamma = float(self.algorithm_parameters.get("gamma", 0.99))
        return normalised(vec_env, self.normaliser, self.normalize_observations, self.normalize_rewards, gamma)

    # Saving

    def bundle_members(self) -> dict[str, Any]:
        """Returns the deployable part: configuration, policy, acting state, normaliser."""
        normaliser = self.normaliser
        identifier = self.environment_id
        config = {
            **self.describe(),
            "has_foreign_normaliser": normaliser is not None
            and not (self.normalize_observations or self.normalize_rewards),
            "observation_space": encode_space(self.observation_space),
            "action_space": encode_space(self.action_space),
            # Adapters may have names with a colon, which a reader has to take for a module that would be imported.
            "environment_id": None if identifier is None or ":" in identifier else identifier,
            "seed": self.seed,
        }
        return saved_state.members_of(self.algorithm, config, normaliser)

    @classmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agent that is in a bundle."""
        try:
            return cls._from_bundle(bundle, algorithm_parameters or {})
        except MissingExtraError:
            raise
        # What a crafted configuration makes the library raise is of many types, and all of them mean the same.
        except Exception as error:
            if algorithm_parameters:
                cls.from_bundle(bundle)  # raises if it is the file that cannot be used
                raise ArgumentError(
                    "algorithm_parameters", algorithm_parameters, f"the agent in the bundle does not take them: {error}"
                ) from error
            if isinstance(error, BundleError):
                raise
            raise BundleError(
                f"the configuration in the bundle cannot be used here: {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def _from_bundle(cls, bundle: Bundle, changed: dict[str, Any]) -> Self:
        config = saved_state.read_config(bundle)
        space = config.observation_space
        extractor = resolve_features_extractor(config.features_extractor)
        if isinstance(extractor, FeaturesExtractor):
            space = extractor.preprocess_space(space)
        tensors, normaliser = saved_state.read_policy(bundle), saved_state.read_normaliser(bundle, config, space)
        with limited_parameters(tensors):
            agent = built_for_acting(cls, config, space, normaliser, changed)
        saved_state.restore(bundle, config, tensors, agent.algorithm)
        return agent

    # From and to other agents

    @classmethod
    def from_agent(
        cls,
        agent: Any,
        algorithm_class: str | type[BaseAlgorithm] | None = None,
        algorithm_parameters: dict[str, Any] | None = None,
        environment: Any = None,
    ) -> Self:
        """Builds an agent that acts as another one does and can be trained on by reinforcement learning.

        The policy's weights are taken over, and the statistics by which it normalises observations. Nothing else is:
        optimizers, replay buffers and counters begin anew. A policy that was cloned has a value network that has not
        learned yet, so the first updates may make it worse: a small learning rate helps.

        Args:
            agent: An `ImitationAgent` or a `StableBaselinesAgent` that was trained or loaded. It stays as it is.
            algorithm_class: What to go on with; None: the algorithm inside, or PPO for a policy that was cloned.
            algorithm_parameters: Of that algorithm; for the same algorithm in addition to those that it has. The
                policy's form is the agent's.
            environment: Where the new agent will act, for an agent whose spaces were guessed from its data: anything
                that `train` takes.

        Raises:
            NotTrainedError: The agent has no policy yet.
            ArgumentError: That algorithm has other networks than the agent's policy.
            SpaceMismatchError: The agent's spaces were guessed, and those of `environment` do not fit.
        """
        return warm_started(cls, agent, algorithm_class, algorithm_parameters or {}, environment)

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns what `from_agent` takes over."""
        parameters = portable_parameters(self.algorithm_parameters)
        return PolicyToContinue(
            self.algorithm_class,
            {name: value for name, value in parameters.items() if name != "seed"},
            self.features_extractor,
            self.normalize_observations,
            self.normalize_rewards,
            self.normaliser,
            self.algorithm.policy.state_dict(),
        )

    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes the agent in the bundle."""
        mine = local_parameters(self.algorithm_parameters)  # a bundle never has them
        loaded = type(self).from_bundle(bundle, {**mine, **(algorithm_parameters or {})})
        if loaded.algorithm_class is not self.algorithm_class:
            raise BundleError(
                f"the bundle holds {loaded.algorithm_class.__name__}, this agent is {self.algorithm_class.__name__}: "
                "open it with rl_framework.load_agent(path)"
            )
        vars(self).update(vars(loaded))
