"""Learners that act by an agent of Stable-Baselines3 inside, which the imitation algorithm trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from rl_framework.agent.imitation.inner_agent import (
    describe_inner_agent,
    inner_agent,
    inner_data_from_file,
    local_inner_data,
    merged_inner_data,
)
from rl_framework.agent.imitation.learner import Learner, Setting
from rl_framework.agent.reinforcement.library.listener import EventListener
from rl_framework.agent.reinforcement.library.state.continuing import waiting_for_experience
from rl_framework.agent.reinforcement.library.state.training_state import restore
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
from rl_framework.agent.reinforcement.warm_start import PolicyToContinue
from rl_framework.bundle import Bundle, BundlePart, encode_value, part_members
from rl_framework.environment import BatchedEnvironment
from rl_framework.errors import ArgumentError, BundleError
from rl_framework.training import Training

__all__ = ["ReinforcedLearner", "RoundListener"]

_POLICY, _KIND = "policy", "stable_baselines"


class ReinforcedLearner(Learner):
    """A learner whose acting is done by a `StableBaselinesAgent` inside.

    A subclass names the parameter that describes the agent (`inner_argument`), builds the library's object around
    `self.inner.algorithm`, and lets the library train that between `boundary` calls. Where the library calls the
    algorithm's `learn` once a round, `learning` prepares for it.

    Attributes:
        inner: The agent inside. One that the user gave as an object is trained in place.
    """

    inner_argument: ClassVar[str] = "gen_algo"
    """The parameter that describes the agent inside."""

    default_inner: ClassVar[dict[str, Any] | None] = None
    """What the agent inside is if nothing is given, as `inner_agent` takes it."""

    may_normalize: ClassVar[bool] = False
    """Whether the agent inside may normalise observations outside of its policy; see `check_inner`."""

    may_normalize_rewards: ClassVar[bool] = False
    """Whether it may normalise rewards, because they are replaced before; see `check_inner`."""

    inner: StableBaselinesAgent
    _batch: BatchedEnvironment | None = None

    # The agent inside

    def make_inner(self) -> StableBaselinesAgent:
        """Makes the agent inside of the parameters, or takes the one that the user gave."""
        argument = f"algorithm_parameters[{self.inner_argument!r}]"
        return inner_agent(self.parameters.get(self.inner_argument), argument, self.default_inner)

    def describe_inner(self) -> dict[str, Any]:
        """Returns the parameters that describe the agent inside, as JSON-able data."""
        return {self.inner_argument: describe_inner_agent(self.inner)}

    def check_parameters(self) -> None:
        """Makes the agent inside and checks it."""
        self.inner = self.make_inner()
        self.check_inner(self.inner)

    def check_inner(self, inner: StableBaselinesAgent) -> None:
        """Checks that the algorithm can train this agent.

        Raises:
            ArgumentError: It cannot.
        """
        argument = f"algorithm_parameters[{self.inner_argument!r}]"
        seed = inner.algorithm_parameters.get("seed")
        if seed is not None:
            raise ArgumentError(f"{argument}['seed']", seed, "cannot be set here", "Give the seed to train(seed=...).")
        allowed = {"normalize_observations": self.may_normalize, "normalize_rewards": self.may_normalize_rewards}
        for name, may in allowed.items():
            if getattr(inner, name) and not may:
                raise ArgumentError(
                    f"{argument}[{name!r}]",
                    True,
                    "imitation compares observations and replaces rewards in an environment that is not normalised",
                    'Normalise in the network: "features_extractor": "normalize" for observations, '
                    '"normalize_output_layer": "running_norm" of a reward network for rewards.',
                )

    def describe(self) -> dict[str, Any]:
        """Returns the parameters as JSON-able data."""
        described = self.describe_inner()
        portable = {
            name: value for name, value in self.parameters.items() if name not in self.local and name not in described
        }
        return {**encode_value(portable, "algorithm_parameters"), **described}

    def local_parameters(self) -> dict[str, Any]:
        """Returns the parameters that belong to this machine, also those of the agent inside."""
        local = super().local_parameters()
        inner = local_inner_data(self.inner)
        return {**local, self.inner_argument: inner} if inner else local

    def with_local_parameters(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Returns parameters to use instead of those of a file, and those of this machine where they do not say."""
        name, merged = self.inner_argument, super().with_local_parameters(changed)
        mine, theirs = self.local_parameters().get(name), changed.get(name)
        if mine is not None and isinstance(theirs, dict):
            merged[name] = merged_inner_data(mine, theirs)
        return merged

    @classmethod
    def parameters_from_file(cls, saved: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
        """Returns what a file says with the user's changes; `changed[inner_argument]` may hold single values."""
        name = cls.inner_argument
        return {
            **super().parameters_from_file(saved, changed),
            name: inner_data_from_file(saved[name], changed.get(name)),
        }

    def replace(self, previous: Learner) -> None:
        """Goes on with the same object inside that an earlier learner had."""
        if isinstance(previous, ReinforcedLearner) and isinstance(
            previous.parameters.get(self.inner_argument), StableBaselinesAgent
        ):
            vars(previous.inner).update(vars(self.inner))
            self.inner = previous.inner
            self.parameters[self.inner_argument] = previous.inner

    @property
    def num_timesteps(self) -> int:
        """Environment steps that the agent inside has been trained on."""
        return self.inner.num_timesteps if hasattr(self, "inner") else 0

    @num_timesteps.setter
    def num_timesteps(self, count: int) -> None:
        if count != self.num_timesteps:
            raise ValueError(f"the agent inside has been trained for {self.num_timesteps} timesteps and not {count}")

    # Preparing

    def prepare_inner(self, setting: Setting) -> VecEnv:
        """Builds the agent inside for the environments of a setting, or lets it go on there.

        Returns:
            What its algorithm trains on: images with the channels first, no normaliser that is the user's.

        Raises:
            ArgumentError: The environments have slots that can be empty, or are in a `VecNormalize`.
        """
        batch = setting.batch
        assert batch is not None  # `needs_environment`
        if batch.may_be_absent:
            raise ArgumentError(
                "training_environments",
                batch,
                "agents may enter and leave, and imitation's wrappers need somebody in every slot all the time",
                "Train where every agent stays until all of them are done.",
            )
        self.inner.prepare(batch, setting.seed if setting.reseed else None)
        self._batch = batch
        vec_env = self.inner.algorithm.env
        assert vec_env is not None  # made by `prepare`
        normalises = self.inner.normalize_observations or self.inner.normalize_rewards
        if not normalises and unwrap_vec_normalize(vec_env) is not None:
            raise ArgumentError(
                "training_environments",
                vec_env,
                "is in a VecNormalize, whose observations are not those of the episodes",
                "Give the environments without it.",
            )
        return vec_env

    def seed_new_environments(self, seed: int) -> None:
        """Seeds environments that were made for a later call of `train`."""
        assert self._batch is not None  # `prepare` came before
        self.inner.seed_new_environments(self._batch, seed)

    # Training

    def accepts_listener(self, callback: object) -> bool:
        """Tells whether an object is a callback of Stable-Baselines3."""
        return isinstance(callback, BaseCallback)

    def put_back_pending(self) -> None:
        """Puts back what a resumed training needs last; to be called just before the first boundary."""
        pending, self.inner._pending = self.inner._pending, None
        if pending is not None:
            pending.put_back(self.inner.algorithm)

    @contextmanager
    def learning(self, training: Training, logger: Any) -> Iterator[RoundListener]:
        """Prepares for calls of the inner algorithm's `learn`, one a round.

        Schedules see the progress of the whole training, and not of one round as in the library.

        Args:
            training: Whom to report to.
            logger: What the algorithm logs to.

        Yields:
            A callback to give to `learn`.
        """
        algorithm: Any = self.inner.algorithm
        listener = RoundListener(training, self.inner._vec_env)
        progress = algorithm._update_current_progress_remaining
        # The library's own loop hands over the length of a round.
        algorithm._update_current_progress_remaining = lambda done, _: progress(done, training.total_timesteps)
        algorithm.set_logger(logger)
        try:
            with waiting_for_experience(algorithm):
                yield listener
        finally:
            del algorithm._update_current_progress_remaining
            algorithm._custom_logger = False  # a training of another kind makes its own

    # Acting

    def predict(
        self,
        observations: Any,
        state: Any = None,
        episode_starts: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Lets the agent inside choose."""
        return self.inner.predict(observations, state, episode_starts, deterministic, action_masks)

    @property
    def uses_action_masks(self) -> bool:
        """Whether the agent inside takes action masks."""
        return self.inner.uses_action_masks

    def random_generator_owners(self) -> list[Any]:
        """Returns what the agent inside draws from."""
        return self.inner.random_generator_owners()

    def estimate_value(self, observations: Any) -> NDArray[np.float64] | None:
        """Returns what the agent inside expects of the rewards that it learns from."""
        return self.inner.estimate_value(observations)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns those of the agent inside."""
        return self.inner.optimizers()

    def policy_to_continue(self) -> PolicyToContinue:
        """Returns the policy of the agent inside."""
        return self.inner.policy_to_continue()

    def networks(self) -> Iterable[torch.nn.Module]:
        """Returns the policy."""
        return [self.inner.algorithm.policy]

    @property
    def device(self) -> torch.device:
        """Where the policy runs."""
        return self.inner.algorithm.device

    # On disk

    def members(self) -> dict[str, Any]:
        """Returns the agent inside, as a part."""
        return part_members(_POLICY, self.inner.bundle_members())

    def restore(
        self, bundle: Bundle, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        """Makes the agent inside of what `members` returned."""
        described = describe_inner_agent(self.inner)
        loaded = type(self.inner).from_bundle(
            BundlePart(bundle, _POLICY, kind=_KIND), dict(self.inner.algorithm_parameters)
        )
        if describe_inner_agent(loaded) != described:
            raise BundleError(f"{bundle.path}: the agent inside is another one than the configuration says")
        if (loaded.observation_space, loaded.action_space) != (observation_space, action_space):
            raise BundleError(f"{bundle.path}: the agent inside has other spaces than the configuration says")
        self.inner = loaded

    def training_members(self) -> dict[str, Any]:
        """Returns the training state of the agent inside, as a part."""
        assert self._batch is not None  # only called while training
        return part_members(_POLICY, self.inner.training_members(self._batch))

    def check_resumable(self, checkpoint: Bundle, setting: Setting) -> None:
        """Checks that there are as many environments as in the interrupted training."""
        assert setting.batch is not None  # `needs_environment`
        before, now = self.inner.algorithm.n_envs, setting.batch.num_envs
        if before != now:
            raise ArgumentError("n_environments", now, f"the checkpoint was made with {before}")

    def resume_inner(self, checkpoint: Bundle, seed: int) -> None:
        """Brings the agent inside and its environments to where they were.

        To be called when the library's wrappers are around the environments, which they reset.

        Args:
            checkpoint: What `training_members` returned.
            seed: Root of the training's seeds.
        """
        inner = self.inner
        assert inner._vec_env is not None  # `prepare_inner` came before
        inner._pending = restore(BundlePart(checkpoint, _POLICY), inner.algorithm, inner._vec_env, seed)


class RoundListener(EventListener):
    """Reports what an algorithm does whose `learn` is called once a round.

    Boundaries are those of the rounds, which the caller knows, and the library's logger is the caller's.
    """

    after_step: Callable[[], None] | None = None
    """Called after every step of all slots."""

    def boundary(self) -> None:
        """Does nothing: the environments are inside a round."""

    def _on_training_start(self) -> None:
        if "action_masks" in inspect.signature(type(self.model).predict).parameters:
            self._check_masks()

    def _on_step(self) -> bool:
        goes_on = super()._on_step()
        if self.after_step is not None:
            self.after_step()
        return goes_on

    def _on_training_end(self) -> None:
        """Does nothing: the caller writes the log."""

    def _watch_foreign(self) -> list[tuple[int, dict[str, Any]]]:
        infos: Sequence[dict[str, Any]] = self.locals["infos"]
        if infos and "original_env_rew" in infos[0]:  # the rewards are learned ones
            self.locals["rewards"] = np.array([info["original_env_rew"] for info in infos], dtype=np.float32)
        return super()._watch_foreign()
