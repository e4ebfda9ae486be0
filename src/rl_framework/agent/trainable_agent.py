"""What every training has in common: environments, callbacks, checkpoints, resuming, and what is told of it."""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

import gymnasium

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.interruption import Interruption
from rl_framework.agent.record import run_record, versions_of_libraries
from rl_framework.agent.saved_wrappers import choose_wrappers
from rl_framework.agent.training_arguments import TrainingArguments, describe_arguments, sort_callbacks
from rl_framework.bundle import Bundle, open_checkpoint, write_bundle
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.door import VECTORIZATIONS, can_be_made_afresh, environment_id_of, open_environments
from rl_framework.environment.wrappers import check_wrappers
from rl_framework.errors import ArgumentError, NotTrainedError, SeedConflictError
from rl_framework.progress import in_notebook
from rl_framework.secrecy import redact_values
from rl_framework.seeding import derive_seed, fresh_seed
from rl_framework.training import Callback, ProgressBar, Training, TrainingEnded, TrainingStarted

__all__ = ["TrainableAgent"]

logger = logging.getLogger(__name__)

_SLOW_STEP_SECONDS = 1e-3
"""An environment step that takes longer is worth a process of its own (a round trip costs some 0.1 ms)."""

Batch = TypeVar("Batch", BatchedEnvironment, BatchedEnvironment | None)


class TrainableAgent(Agent, Generic[Batch]):
    """An agent whose training is run by `run_training`.

    A subclass implements `prepare` (build or check the model before the first step) and `learn` (train until
    `training.total_timesteps`, reporting to `training`); everything around that is done here.
    """

    _has_met_environments = False
    _batch: Batch | None = None
    _spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]] | None = None

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Space of one observation, as the environment gives it."""
        return self._require_spaces()[0]

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """Space of one action."""
        return self._require_spaces()[1]

    def _require_spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        if self._spaces is None:
            raise NotTrainedError("an action, an evaluation or a space")
        return self._spaces

    # What a subclass implements

    @abstractmethod
    def prepare(self, batch: Batch, seed: int | None) -> int:
        """Builds the model for what it is to train on, or checks that the existing one goes on with that.

        Args:
            batch: Where the agent will train.
            seed: Seed asked for; None: the agent's own choice.

        Returns:
            The seed in use.

        Raises:
            UnsavableError: The agent could not be saved afterwards.
            UnsupportedSpaceError: The algorithm cannot take one of the spaces.
            SpaceMismatchError: The model was built for other spaces.
        """

    @abstractmethod
    def learn(self, batch: Batch, training: Training, listeners: Sequence[Any]) -> None:
        """Trains until `training.total_timesteps`, emitting events and calling `training.step`.

        Args:
            batch: Where to act, as given to `prepare`.
            training: Whom to report to; `training.stop_reason` asks for an early end.
            listeners: Callbacks of the wrapped library that the user gave.
        """

    def seed_new_environments(self, batch: Batch, seed: int) -> None:
        """Seeds environments that were made for a later call of `train`, and nothing else.

        Args:
            batch: The environments, as given to `prepare`.
            seed: For their next reset.
        """

    @property
    @abstractmethod
    def num_timesteps(self) -> int:
        """Timesteps the agent has been trained for, over all calls of `train`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the algorithm and its parameters as JSON-able data, for the record of a run."""

    def training_members(self, batch: Batch) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs, as members of a bundle.

        Called at boundaries only; see `Callback.on_boundary`. Nothing, where an agent cannot be resumed exactly.
        """
        return {}

    def resume(self, checkpoint: Bundle, batch: Batch) -> int:
        """Becomes the agent in a checkpoint, with its environments where they were.

        Args:
            checkpoint: What `save_checkpoint` wrote.
            batch: Fresh environments.

        Returns:
            The seed of the training.

        Raises:
            ArgumentError: This kind of agent cannot be resumed, or is configured otherwise than the checkpoint.
            BundleError: The checkpoint is damaged.
        """
        raise ArgumentError(
            "resume_from",
            str(checkpoint.path),
            f"{type(self).__name__} cannot be resumed in the middle of a training",
            "Load the checkpoint with load_from_file(...) and train on.",
        )

    def accepts_listener(self, callback: object) -> bool:
        """Tells whether an object is a callback of the wrapped library."""
        return False

    def choose_threads(self, record: dict[str, Any]) -> AbstractContextManager[None]:
        """Returns a context in which training runs with a suitable number of threads, noted in `record`."""
        return nullcontext()

    def open_training_environments(self, asked: TrainingArguments, vectorization: str, fresh: bool) -> Batch:
        """Opens what the agent is to train on.

        Args:
            asked: The arguments of `train`, its `wrappers` those to train in.
            vectorization: How to make several environments one.
            fresh: Whether every episode begins in a newly made environment.
        """
        batch = open_environments(
            asked.training_environments,
            asked.n_environments,
            asked.environment_kwargs,
            vectorization,
            "training_environments",
            replayable=asked.checkpoint_every is not None or asked.resume_from is not None,
            fresh_environments=fresh,
            wrappers=asked.wrappers,
            training=True,
        )
        batch.fresh_environments = fresh
        batch.environment_id = environment_id_of(asked.training_environments) or batch.environment_id
        return batch

    def further_callbacks(self) -> list[Callback]:
        """Returns callbacks of the agent's own for this training, which come after those of the user."""
        return []

    def further_record(self) -> dict[str, Any]:
        """Returns what the record of a run says besides what it says of every agent, as JSON-able data."""
        return {}

    # What subclasses share

    def choose_seed(self, seed: int | None, given: int | None, previous: int | None) -> int:
        """Returns the seed to use: what was asked for, what an earlier training used, or a fresh one.

        Args:
            seed: From `train`.
            given: From `algorithm_parameters`.
            previous: Of an earlier training.

        Raises:
            SeedConflictError: The first two disagree.
        """
        if seed is not None and given is not None and seed != given:
            raise SeedConflictError(
                "seed", seed, f"algorithm_parameters['seed'] is {given}", "Give the seed in one of the two places."
            )
        used = next((candidate for candidate in (seed, previous, given) if candidate is not None), None)
        return fresh_seed() if used is None else int(used)

    def run_training(self, asked: TrainingArguments) -> None:
        """Trains as `train` was asked to: from the beginning, on from where it ended, or from a checkpoint."""
        self.kind()  # raises if the agent could not be saved afterwards
        ours: list[Callback]
        listeners: list[Any]
        ours, listeners = sort_callbacks(asked.connector, asked.callbacks, self.accepts_listener)
        saving, evaluating = asked.periodic_checkpoint(), asked.periodic_evaluation()
        periodic: list[Callback] = [callback for callback in (saving, evaluating) if callback is not None]
        # Interruption is last, so that everybody has heard of a boundary before training may end at it.
        interruption = Interruption(saving)
        bars: list[Callback] = [ProgressBar()] if asked.progress_bar else []
        callbacks = [*bars, *ours, *self.further_callbacks(), *periodic, interruption]
        checkpoint = None if asked.resume_from is None else open_checkpoint(asked.resume_from)
        before = {} if checkpoint is None else _training_of(checkpoint)
        asked.wrappers = choose_wrappers(asked.wrappers, self._wrappers, checkpoint)
        origin = describe_arguments(asked, [*ours, *listeners])
        fresh = asked.fresh_environments
        fresh = bool(before.get("fresh_environments")) if fresh is None else fresh
        with interruption:
            batch = self.open_training_environments(asked, _as_before(asked.vectorization, before), fresh)
            try:
                if checkpoint is None:
                    self._begin(batch, asked, origin, callbacks, listeners)
                else:
                    self._go_on(batch, checkpoint, asked, origin, callbacks, listeners)
            finally:
                self._batch = None
                if batch is not None:
                    batch.close()
                if checkpoint is not None:
                    checkpoint.close()

    def _begin(
        self,
        batch: Batch,
        asked: TrainingArguments,
        origin: dict[str, Any],
        callbacks: list[Callback],
        listeners: Sequence[Any],
    ) -> None:
        """Trains from the beginning, or on from where an earlier training ended."""
        seed = self.prepare(batch, asked.seed)
        self._wrappers = tuple(check_wrappers(asked.wrappers))
        goes_on = self._has_met_environments or self.num_timesteps > 0
        if asked.seed is None and goes_on and can_be_made_afresh(asked.training_environments):
            self.seed_new_environments(batch, derive_seed(seed, "environments", self.num_timesteps))
        self._has_met_environments = True
        training = Training(self, callbacks, seed, self.num_timesteps)
        training.total_timesteps = self.num_timesteps + asked.total_timesteps
        self._run(batch, training, listeners, origin)

    def _go_on(
        self,
        batch: Batch,
        checkpoint: Bundle,
        asked: TrainingArguments,
        origin: dict[str, Any],
        callbacks: list[Callback],
        listeners: Sequence[Any],
    ) -> None:
        """Trains to the end that an interrupted training had before it."""
        before = _training_of(checkpoint)
        seed = self.resume(checkpoint, batch)
        self._wrappers = tuple(check_wrappers(asked.wrappers))
        if asked.seed is not None and asked.seed != seed:
            raise SeedConflictError("seed", asked.seed, f"the checkpoint was made with {seed}", "Leave it out.")
        self.take_history(checkpoint)
        training = Training(self, callbacks, seed, self.num_timesteps)
        training.start = before["start"]
        training.total_timesteps = training.start + asked.total_timesteps
        self._has_met_environments = True
        if training.timestep < training.total_timesteps:
            training.resumed = True
            training.take_members(checkpoint)
            training.rejoin(before["runs"])
            logger.info("training goes on from %s at timestep %d", before["name"], training.timestep)
            origin = {**origin, "resumed_from": before["name"], "timestep": training.timestep}
            self._run(batch, training, listeners, origin)
        else:
            logger.info("the checkpoint is of timestep %d: there is nothing left to train", training.timestep)

    def save_checkpoint(self, path: str | Path, training: Training) -> Path:
        """Writes the agent and everything that resuming its training needs to one file.

        Args:
            path: Where to.
            training: The running training, at a boundary.
        """
        batch: Any = self._batch  # None for agents that train on data alone
        members = {**self.saved_members(), **self.training_members(batch), **training.members()}
        information = {
            "versions": versions_of_libraries(),
            **self.history(),
            "record": training.record,
            "training": {"start": training.start, "timestep": training.timestep, "runs": training.run_ids()},
        }
        return write_bundle(path, kind=self.kind(), members=members, information=information)

    def _run(self, batch: Batch, training: Training, listeners: Sequence[Any], origin: dict[str, Any]) -> None:
        record = {**self._record(batch, training.seed), "start": training.start, **origin}
        record = training.record = redact_values(record)  # arguments of environments may hold tokens
        self._runs = (*self._runs, record)
        self._batch = batch
        interrupted = False
        started = time.perf_counter()
        try:
            with self.choose_threads(record):
                begin = TrainingStarted(
                    timestep=training.timestep,
                    total_timesteps=training.total_timesteps,
                    record=record,
                    resumed=training.resumed,
                )
                try:
                    training.emit(begin)
                    self.learn(batch, training, listeners)
                    # One that was stopped early may stand in the middle of a rollout, which a checkpoint cannot hold.
                    if training.stop_reason is None and self.num_timesteps >= training.total_timesteps:
                        training.boundary(self.num_timesteps)
                except (KeyboardInterrupt, SystemExit) as error:
                    interrupted = True
                    logger.warning("training was interrupted at timestep %d; the agent can be used", self.num_timesteps)
                    if isinstance(error, SystemExit) or not in_notebook():
                        raise
                finally:
                    training.timestep = self.num_timesteps
                    if interrupted:
                        training.emit(TrainingEnded(timestep=training.timestep, interrupted=True))
                if not interrupted:
                    training.emit(TrainingEnded(timestep=training.timestep, stop_reason=training.stop_reason))
        except Exception as error:
            training.emit_failure(error)
            raise
        if batch is not None:
            _advise(batch, time.perf_counter() - started)

    def _record(self, batch: Batch, seed: int) -> dict[str, Any]:
        where: dict[str, Any] = {"environment": None, "n_environments": 0, "fresh_environments": False, "choices": {}}
        if batch is not None:
            choices = {"vectorization": {"value": batch.vectorization, "reason": batch.vectorization_reason}}
            where = {
                "environment": batch.environment_id,
                "n_environments": batch.num_envs,
                "fresh_environments": batch.fresh_environments,
                "choices": choices,
            }
        return {
            "agent": type(self).__name__,
            **self.describe(),
            **where,
            **self.further_record(),
            "seed": seed,
            **run_record(getattr(getattr(self, "algorithm", None), "device", None)),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def _training_of(checkpoint: Bundle) -> dict[str, Any]:
    """Returns what a checkpoint says of the training it was taken from."""
    information = checkpoint.information
    training, runs = information["training"], information["training"].get("runs")
    return {
        "name": checkpoint.path.name,
        "start": training["start"],
        "runs": runs if isinstance(runs, dict) else {},
        "choices": information["record"].get("choices", {}),
        "fresh_environments": information["record"].get("fresh_environments") is True,
    }


def _as_before(vectorization: str, before: dict[str, Any]) -> str:
    """Returns the vectorization asked for; an automatic choice is not made again but read from the checkpoint."""
    chosen = before.get("choices", {}).get("vectorization", {}).get("value")
    return chosen if vectorization == "auto" and chosen in VECTORIZATIONS else vectorization


def _advise(batch: BatchedEnvironment, seconds: float) -> None:
    """Says in the log when measured times speak for processes."""
    steps = batch.step_count * batch.num_envs
    cores = os.cpu_count() or 1
    if batch.vectorization != "sync" or batch.num_envs == 1 or cores == 1 or not steps:
        return
    per_step = batch.seconds_stepping / steps
    if per_step > _SLOW_STEP_SECONDS and batch.seconds_stepping > seconds / 2:
        logger.info(
            "environments took %.0f %% of the time, %.1f ms a step: vectorization='subprocess' may be faster",
            100 * batch.seconds_stepping / seconds,
            1e3 * per_step,
        )
