"""What an algorithm of imitation needs to be an agent here: the interface of a row in the table of algorithms."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import get_device

from rl_framework.agent.notebook import constructor_defaults
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue
from rl_framework.bundle import Bundle, encode_value
from rl_framework.environment import BatchedEnvironment
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.training import Training

__all__ = ["Learner", "Setting", "constructor_parameters"]


def constructor_parameters(library_class: type[Any]) -> set[str]:
    """Returns the names of what a constructor takes, and, where it hands keywords on, of what its bases take."""
    names: set[str] = set()
    for owner in library_class.__mro__:
        constructor = vars(owner).get("__init__")
        if constructor is None or owner is object:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names |= {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names


@dataclass
class Setting:
    """What an algorithm is to learn from.

    Attributes:
        observation_space: Space of one observation.
        action_space: Space of one action.
        episodes: What to imitate, or None.
        validation_episodes: What is only measured against, or None.
        batch: Where to act, or None.
        seed: Root of the training's seeds.
        reseed: Whether everything is to be seeded with it: this is the first training, or `train` was given a seed.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    episodes: EpisodeSequence | None
    validation_episodes: EpisodeSequence | None
    batch: BatchedEnvironment | None
    seed: int
    reseed: bool = False


class Learner(ABC):
    """One algorithm at work: the library's objects, made of parameters that are data.

    An agent makes a learner when it is made, so that wrong parameters are found there. `prepare` makes the library's
    objects, `restore` makes what acting needs from a bundle; after either, `predict` and `members` work. A learner
    that was prepared or restored can be prepared again, with other episodes and environments: it then goes on with
    what it has learned.

    Args:
        library_class: The class of the library.
        parameters: What the user wrote: the library's own parameters by their names; objects inside as data.

    Attributes:
        num_timesteps: Timesteps trained for.
        algorithm: The library's object, or None before `prepare`.
    """

    needs_environment: ClassVar[bool] = True
    """Whether it acts while it learns."""

    needs_episodes: ClassVar[bool] = True
    """Whether it cannot learn without episodes."""

    measures_validation: ClassVar[bool] = False
    """Whether it reports on validation episodes by itself; if not, `EpisodeValidation` does."""

    resumes_exactly: ClassVar[bool] = True
    """Whether a training that was interrupted goes on as if it had not been."""

    owned: ClassVar[dict[str, str]] = {}
    """Parameters of the library that the framework sets, and what to do instead of giving them."""

    local: ClassVar[tuple[str, ...]] = ("device",)
    """Parameters that are not saved with the agent, because they belong to the machine or the session."""

    def __init__(self, library_class: type[Any], parameters: dict[str, Any]) -> None:
        self.library_class = library_class
        self.parameters = parameters
        self.num_timesteps = 0
        self.algorithm: Any = None
        for name, remedy in self.owned.items():
            if name in parameters:
                raise ArgumentError(f"algorithm_parameters[{name!r}]", parameters[name], "cannot be set here", remedy)
        known = self.known_parameters() - set(self.owned)
        for name in parameters:
            if name not in known:
                raise UnknownNameError(
                    "algorithm_parameters", name, known, f"See the documentation of {library_class.__name__}."
                )
        self.check_parameters()

    # Before training

    def known_parameters(self) -> set[str]:
        """Returns the names of the parameters that the library takes."""
        return constructor_parameters(self.library_class)

    def default_parameters(self) -> dict[str, Any]:
        """Returns what parameters are that nobody gives, as far as the library says so."""
        return constructor_defaults(self.library_class)

    def check_parameters(self) -> None:  # noqa: B027 - most have nothing more to check
        """Checks values beyond the names, so that mistakes are found when the agent is made.

        Raises:
            ArgumentError: A value cannot be used.
            UnknownNameError: A name in it is not registered.
        """

    def describe(self) -> dict[str, Any]:
        """Returns the parameters as JSON-able data from which the same learner can be made.

        Raises:
            UnsavableError: Something in them has no registered name.
        """
        portable = {name: value for name, value in self.parameters.items() if name not in self.local}
        return dict(encode_value(portable, "algorithm_parameters"))

    def local_parameters(self) -> dict[str, Any]:
        """Returns the parameters that belong to this machine or session; `parameters_from_file` takes them."""
        return {name: value for name, value in self.parameters.items() if name in self.local}

    def with_local_parameters(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Returns parameters to use instead of those of a file, and those of this machine where they do not say."""
        return {**self.local_parameters(), **changed}

    @classmethod
    def parameters_from_file(cls, saved: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters to make a learner of that is in a file.

        Args:
            saved: What `describe` returned, decoded. A file does not choose what belongs to this machine.
            changed: Parameters to use instead.
        """
        return {name: value for name, value in saved.items() if name not in cls.local} | changed

    def replace(self, previous: Learner) -> None:  # noqa: B027 - most hold no such objects
        """Takes the place of another learner, whose objects that the user holds are to be those of this one."""

    @abstractmethod
    def prepare(self, setting: Setting) -> None:
        """Makes the library's objects, or goes on with what was learned in another setting.

        Raises:
            RLFrameworkError: The algorithm cannot learn from that.
        """

    def seed_new_environments(self, seed: int) -> None:  # noqa: B027 - some have no environments
        """Seeds environments that were made for a later call of `train`, at their next reset, and nothing else."""

    def accepts_listener(self, callback: object) -> bool:
        """Tells whether an object is a callback of the library that this algorithm can call."""
        return False

    # Training

    @abstractmethod
    def learn(self, training: Training, listeners: Sequence[Any]) -> None:
        """Trains until `training.total_timesteps`; see `TrainableAgent.learn`.

        Emits events, calls `training.step(timestep)` after every step and `training.boundary(timestep)` wherever
        nothing is half done, before the first step too, and ends early when `training.stop_reason` is set.
        """

    # Acting

    @abstractmethod
    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Chooses one action for each observation of a batch; see `Agent.predict`."""

    @property
    def uses_action_masks(self) -> bool:
        """Whether `predict` takes `action_masks`."""
        return False

    def random_generator_owners(self) -> list[Any]:
        """Returns the objects whose `np_random` acting draws from; see `Agent.random_generator_owners`."""
        return []

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what is expected to be earned from here on, or None; see `Agent.estimate_value`."""
        return None

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns the optimizers that there are now, by what they train; see `Agent.optimizers`."""
        return {}

    @abstractmethod
    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the networks that are trained, by whose size the number of threads is chosen."""

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return get_device(self.parameters.get("device", "auto"))

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns what `StableBaselinesAgent.from_agent` goes on with.

        Raises:
            ArgumentError: The policy is none that reinforcement learning could go on with.
        """
        raise ArgumentError(
            "agent", self.library_class.__name__, "has no policy that an algorithm of Stable-Baselines3 could train"
        )

    # On disk

    @abstractmethod
    def members(self) -> dict[str, Any]:
        """Returns what of the learner goes into a saved agent, as members of a bundle. No pickle, no import paths."""

    @abstractmethod
    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Makes what acting needs, as it was when `members` were taken, without environments or episodes.

        Raises:
            BundleError: The members do not fit.
        """

    def training_members(self) -> dict[str, Any]:
        """Returns what resuming needs besides `members`, taken at a boundary."""
        return {}

    def check_resumable(self, checkpoint: Bundle, setting: Setting) -> None:  # noqa: B027 - most have nothing to check
        """Checks that the user gave what the interrupted training had; called before `resume`.

        Args:
            checkpoint: What `training_members` returned, possibly damaged, which is for `resume` to find.
            setting: Where training is to go on.

        Raises:
            ArgumentError: It is something else.
        """

    def resume(self, checkpoint: Bundle, setting: Setting) -> None:
        """Goes on from a checkpoint: called instead of `prepare`, after `restore` of the same bundle.

        A learner that cannot be resumed exactly goes on as well as it can, and says what is lost in the log.

        Raises:
            BundleError: The state does not fit.
        """
        self.prepare(setting)
