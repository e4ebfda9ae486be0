"""Every algorithm of the imitation library as an `ILAgent`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.utils import set_random_seed

from rl_framework.agent.imitation.algorithms import ImitationAlgorithm, resolve_imitation_algorithm
from rl_framework.agent.imitation.exports import PolicyExports
from rl_framework.agent.imitation.learner import Learner, Setting
from rl_framework.agent.imitation.validation import EpisodeValidation
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.agent.reinforcement.threads import choose_threads, threads_before
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue
from rl_framework.bundle import Bundle, BundlePart, decode_space, decode_value, encode_space, part_members
from rl_framework.environment import BatchedEnvironment
from rl_framework.episode.compatibility import check_episodes_fit
from rl_framework.errors import ArgumentError, BundleError, MissingExtraError, NotTrainedError
from rl_framework.seeding import capture_global_state, check_seed, isolated_random_state, restore_global_state
from rl_framework.training import Callback, Training

__all__ = ["ImitationAgent"]

_CONFIG, _LEARNED, _RESUMING, _STATE = "config.json", "learned", "resuming.json", "training_state"


class ImitationAgent(PolicyExports, ILAgent):
    """An agent whose algorithm comes from the imitation library.

    Args:
        algorithm_class: A class such as `imitation.algorithms.bc.BC`, or its registered name: "bc", "dagger", "gail",
            "airl", "sqil", "density", "preference_comparisons", "mce_irl".
        algorithm_parameters: Any parameter that the class or its `train` takes, by the library's name, except the
            environment and the demonstrations, which `train` is given. Objects inside are data: an RL algorithm is
            what `StableBaselinesAgent` takes (`{"algorithm_class": "ppo", "algorithm_parameters": {...}}`) or such an
            agent; networks, optimizers and schedules are named by registered names (`{"type": name, ...}`).

    Raises:
        UnknownNameError: Unknown algorithm or parameter; the nearest names are suggested.
        ArgumentError: A parameter cannot be used.
        MissingExtraError: imitation is not installed.
    """

    def __init__(
        self, algorithm_class: str | type[Any] = "bc", algorithm_parameters: dict[str, Any] | None = None
    ) -> None:
        if algorithm_parameters is not None and not isinstance(algorithm_parameters, dict):
            raise ArgumentError("algorithm_parameters", algorithm_parameters, "must be a dictionary")
        self._row = self.resolve(algorithm_class)
        self.algorithm_class: type[Any] = self._row.library_class()
        self.algorithm_parameters = dict(algorithm_parameters or {})
        self._learner = self._new_learner()
        self.seed: int | None = None
        self.environment_id: str | None = None
        self._threads: int | None = None
        self._pending: dict[str, Any] | None = None

    @classmethod
    def resolve(cls, algorithm_class: str | type[Any]) -> ImitationAlgorithm:
        """Finds an algorithm by its class or its registered name; see `resolve_imitation_algorithm`."""
        return resolve_imitation_algorithm(algorithm_class)

    def _new_learner(self) -> Learner:
        return self._row.learner_class()(self.algorithm_class, dict(self.algorithm_parameters))

    # What it is

    @property
    def learner(self) -> Learner:
        """What runs the algorithm; has the networks and the library's objects."""
        return self._learner

    @property
    def algorithm(self) -> Any:
        """The wrapped object of the library.

        Raises:
            NotTrainedError: There is none before `train`: it cannot be made without demonstrations.
        """
        if self._learner.algorithm is None:
            raise NotTrainedError("the wrapped algorithm")
        return self._learner.algorithm

    @property
    def num_timesteps(self) -> int:
        """Timesteps the agent has been trained for, over all calls of `train`."""
        return self._learner.num_timesteps

    def __repr__(self) -> str:
        """Says what it is in one line."""
        return (
            f"{type(self).__name__}(algorithm_class={self.algorithm_class.__name__}, "
            f"algorithm_parameters={self.algorithm_parameters}, num_timesteps={self.num_timesteps})"
        )

    def describe(self) -> dict[str, Any]:
        """Returns algorithm and parameters as JSON-able data."""
        return {"algorithm": self._row.name, "algorithm_parameters": self._learner.describe()}

    # Acting

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch."""
        self._require_spaces()
        return self._learner.predict(observations, state, episode_starts, deterministic, action_masks)

    @property
    def uses_action_masks(self) -> bool:
        """Whether the agent chooses among allowed actions only."""
        return self._learner.uses_action_masks

    def random_generator_owners(self) -> list[Any]:
        """Returns the objects whose `np_random` acting draws from."""
        return self._learner.random_generator_owners()

    # For people to look at

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what the agent inside expects of the rewards that it learns from, or None if there is none."""
        return self._learner.estimate_value(observations)

    def optimizers(self) -> dict[str, Any]:
        """Returns the optimizers by what they train, such as "policy" and "discriminator"."""
        return self._learner.optimizers()

    # Training

    def accepts_listener(self, callback: object) -> bool:
        """Tells whether an object is a callback of the library inside that the algorithm can call."""
        return self._learner.accepts_listener(callback)

    def further_callbacks(self) -> list[Callback]:
        """Returns what measures against the validation episodes, for algorithms that do not."""
        if self.validation_episodes is None or self._learner.measures_validation:
            return []
        return [EpisodeValidation(self.validation_episodes)]

    def choose_threads(self, record: dict[str, Any]) -> AbstractContextManager[None]:
        """Chooses torch's threads; see `choose_threads` in `agent.reinforcement.threads`."""
        earlier, self._threads = self._threads, None
        return choose_threads(self._learner.networks(), self._learner.device, record, earlier)

    def prepare(self, batch: BatchedEnvironment | None, seed: int | None) -> int:
        """Builds the algorithm for these episodes and environments, or goes on with them."""
        used = self.choose_seed(seed, None, self.seed)
        setting = self._setting(batch, used)
        self.describe()  # raises if the agent could not be saved afterwards
        setting.reseed = seed is not None or self.seed is None
        if setting.reseed:
            set_random_seed(used)  # the library draws from the global generators, as Stable-Baselines3 does
        self._learner.prepare(setting)
        self._settle(setting)
        return used

    def seed_new_environments(self, batch: BatchedEnvironment | None, seed: int) -> None:
        """Seeds the environments alone, at their next reset."""
        self._learner.seed_new_environments(seed)

    def _setting(self, batch: BatchedEnvironment | None, seed: int) -> Setting:
        """Returns what the algorithm is to learn from.

        Raises:
            ArgumentError: It needs what was not given.
            SpaceMismatchError: The parts do not fit together, or not with what the agent was trained on before.
        """
        learner, name = self._learner, self._row.name
        if learner.needs_environment and batch is None:
            raise ArgumentError("training_environments", None, f"{name!r} acts while it learns", "Say where.")
        if learner.needs_episodes and self.episodes is None:
            raise ArgumentError("episode_sequence", None, f"{name!r} learns from episodes", "Give an EpisodeSequence.")
        observation_space, action_space, inferred = self.spaces_of(batch)
        if self._spaces is not None:
            if batch is not None:
                self.check_spaces(batch, "training_environments")
            else:
                check_episodes_fit(self.episodes, *self._spaces)  # type: ignore[arg-type] # one of the two is there
            # The networks stay as they are. What was guessed stays a guess until the agent meets its environment.
            observation_space, action_space = self._spaces
            inferred = self.spaces_are_inferred
        self.spaces_are_inferred = inferred
        return Setting(observation_space, action_space, self.episodes, self.validation_episodes, batch, seed)

    def _settle(self, setting: Setting) -> None:
        self._spaces = (setting.observation_space, setting.action_space)
        self.seed = setting.seed
        self.environment_id = self.environment_id if setting.batch is None else setting.batch.environment_id

    def learn(self, batch: BatchedEnvironment | None, training: Training, listeners: Sequence[Any]) -> None:
        """Trains with the library's algorithm."""
        pending, self._pending = self._pending, None
        if pending is not None:
            restore_global_state(pending)
        self._learner.learn(training, listeners)

    def training_members(self, batch: BatchedEnvironment | None) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs."""
        return {
            _RESUMING: {"random": capture_global_state(), "data": self.further_record()},
            **part_members(_STATE, self._learner.training_members()),
        }

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment | None) -> int:
        """Becomes the agent in a checkpoint, with its environments where they were and the same episodes."""
        loaded = type(self).from_bundle(checkpoint, self._local_parameters())
        mine = self.describe()
        for name, value in loaded.describe().items():
            if mine[name] != value:
                raise ArgumentError(
                    name,
                    mine[name],
                    f"the checkpoint was made with {value!r}",
                    "Resume with an agent of the same configuration, or load_from_file(...) the checkpoint.",
                )
        state = checkpoint.json(_RESUMING) if _RESUMING in checkpoint else None
        if not isinstance(state, dict) or loaded.seed is None:
            raise BundleError(f"{checkpoint.path} is no checkpoint of an {type(self).__name__}")
        loaded.episodes, loaded.validation_episodes = self.episodes, self.validation_episodes
        self._check_same_data(state.get("data"))
        setting, part = loaded._setting(batch, loaded.seed), BundlePart(checkpoint, _STATE)
        loaded._learner.check_resumable(part, setting)
        with explaining_damage(checkpoint):
            loaded._pending = checked_global_state(state["random"])
            loaded._learner.resume(part, setting)
        loaded._settle(setting)
        loaded._threads = threads_before(checkpoint.information["record"])
        self._become(loaded)
        return int(loaded.seed)

    def _check_same_data(self, before: Any) -> None:
        """Checks that the episodes are those of the interrupted training.

        Raises:
            ArgumentError: They are others, with which it could not go on as if it had not been interrupted.
        """
        name = "episodes"
        now = self.further_record()[name]
        if not isinstance(before, dict) or before.get(name) != now:
            raise ArgumentError(
                "episode_sequence",
                self.episodes,
                f"is not what the checkpoint was trained on: {now} instead of {(before or {}).get(name)}",
                "Give the same episodes, or load_from_file(...) the checkpoint and train on with others.",
            )

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns what `StableBaselinesAgent.from_agent` goes on with."""
        self._require_spaces()
        return self._learner.policy_to_continue()

    # Saving

    def bundle_members(self) -> dict[str, Any]:
        """Returns the deployable part: configuration, networks, counters."""
        identifier = self.environment_id
        config = {
            **self.describe(),
            "observation_space": encode_space(self.observation_space),
            "action_space": encode_space(self.action_space),
            "spaces_are_inferred": self.spaces_are_inferred,
            "num_timesteps": self.num_timesteps,
            # Adapters may have names with a colon, which a reader has to take for a module that would be imported.
            "environment_id": None if identifier is None or ":" in identifier else identifier,
            "seed": self.seed,
        }
        return {_CONFIG: config, **part_members(_LEARNED, self._learner.members())}

    @classmethod
    def from_bundle(cls, bundle: Bundle, algorithm_parameters: dict[str, Any] | None = None) -> Self:
        """Builds the agent that is in a bundle."""
        try:
            with explaining_damage(bundle):
                return cls._from_bundle(bundle, algorithm_parameters or {})
        except BundleError as error:
            if not algorithm_parameters:
                raise
            cls.from_bundle(bundle)  # raises if it is the file that cannot be used
            raise ArgumentError(
                "algorithm_parameters", algorithm_parameters, f"the agent in the bundle does not take them: {error}"
            ) from error

    @classmethod
    def _from_bundle(cls, bundle: Bundle, changed: dict[str, Any]) -> Self:
        config = bundle.json(_CONFIG)
        name, parameters = config["algorithm"], decode_value(config["algorithm_parameters"])
        if not isinstance(name, str) or not isinstance(parameters, dict):
            raise TypeError("the configuration does not say which algorithm it is")
        agent = cls(name, cls.resolve(name).learner_class().parameters_from_file(parameters, changed))
        spaces = decode_space(config["observation_space"]), decode_space(config["action_space"])
        timesteps, inferred = config["num_timesteps"], config["spaces_are_inferred"]
        if type(timesteps) is not int or timesteps < 0 or type(inferred) is not bool:
            raise TypeError("the configuration has counters that are none")
        identifier = config["environment_id"]
        if identifier is not None and (not isinstance(identifier, str) or ":" in identifier):
            raise BundleError(f"the bundle names the environment {identifier!r}, which would import a module")
        with isolated_random_state():
            agent._learner.restore(BundlePart(bundle, _LEARNED), *spaces)
        agent._learner.num_timesteps = timesteps
        agent._spaces, agent.spaces_are_inferred = spaces, inferred
        agent.seed, agent.environment_id = check_seed(config["seed"]), identifier
        return agent

    def restore_members(self, bundle: Bundle, algorithm_parameters: dict[str, Any] | None) -> None:
        """Becomes the agent in the bundle."""
        loaded = type(self).from_bundle(bundle, self._learner.with_local_parameters(algorithm_parameters or {}))
        if loaded.algorithm_class is not self.algorithm_class:
            raise BundleError(
                f"the bundle holds {loaded.algorithm_class.__name__}, this agent is {self.algorithm_class.__name__}: "
                "open it with rl_framework.load_agent(path)"
            )
        self._become(loaded)

    def _local_parameters(self) -> dict[str, Any]:
        return self._learner.local_parameters()

    def _become(self, loaded: ImitationAgent) -> None:
        loaded._learner.replace(self._learner)
        vars(self).update(vars(loaded))


@contextmanager
def explaining_damage(bundle: Bundle) -> Iterator[None]:
    """Makes a `BundleError` of whatever a crafted bundle makes the libraries raise, which all means the same."""
    try:
        yield
    except (BundleError, MissingExtraError):
        raise
    except Exception as error:
        raise BundleError(f"{bundle.path}: its content cannot be used here: {type(error).__name__}: {error}") from error


def checked_global_state(state: Any) -> dict[str, Any]:
    """Returns random states that can be restored.

    Raises:
        ValueError: They cannot.
    """
    with isolated_random_state():
        restore_global_state(state)
    return dict(state)
