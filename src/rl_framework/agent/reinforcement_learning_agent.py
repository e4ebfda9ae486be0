"""Agents that learn by acting in environments."""

from __future__ import annotations

import logging
import os
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.interruption import Interruption
from rl_framework.agent.record import run_record, versions_of_libraries
from rl_framework.agent.training_arguments import describe_arguments, evaluation_source, sort_callbacks
from rl_framework.bundle import Bundle, open_checkpoint, write_bundle
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.door import VECTORIZATIONS, can_be_made_afresh, environment_id_of, open_environments
from rl_framework.errors import ArgumentError, SeedConflictError
from rl_framework.progress import in_notebook
from rl_framework.seeding import check_seed, derive_seed, fresh_seed
from rl_framework.training import (
    Callback,
    PeriodicCheckpoint,
    PeriodicEvaluation,
    ProgressBar,
    Training,
    TrainingEnded,
    TrainingStarted,
)

__all__ = ["RLAgent"]

logger = logging.getLogger(__name__)

_SLOW_STEP_SECONDS = 1e-3
"""An environment step that takes longer is worth a process of its own (a round trip costs some 0.1 ms)."""


class RLAgent(Agent):
    """An agent that learns by acting.

    A subclass implements `prepare` (build or check the model before the first step) and `learn` (train until
    `training.total_timesteps`, reporting to `training`); everything around that is done here.
    """

    _has_met_environments = False
    _batch: BatchedEnvironment | None = None

    # What a subclass implements

    @abstractmethod
    def prepare(self, batch: BatchedEnvironment, seed: int | None) -> int:
        """Builds the model for these environments, or checks that the existing one goes on with them.

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
    def learn(self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any]) -> None:
        """Trains until `training.total_timesteps`, emitting events and calling `training.step`.

        Args:
            batch: Where to act, as given to `prepare`.
            training: Whom to report to; `training.stop_reason` asks for an early end.
            listeners: Callbacks of the wrapped library that the user gave.
        """

    def seed_new_environments(self, batch: BatchedEnvironment, seed: int) -> None:
        """Seeds environments that were made for a later call of `train`, and nothing else.

        Args:
            batch: The environments, as given to `prepare`.
            seed: For their next reset.
        """

    @property
    @abstractmethod
    def num_timesteps(self) -> int:
        """Environment steps the agent has been trained on, over all calls of `train`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the algorithm and its parameters as JSON-able data, for the record of a run."""

    def training_members(self, batch: BatchedEnvironment) -> dict[str, Any]:
        """Returns what resuming needs besides what acting needs, as members of a bundle.

        Called at boundaries only; see `Callback.on_boundary`. Nothing, where an agent cannot be resumed exactly.
        """
        return {}

    def resume(self, checkpoint: Bundle, batch: BatchedEnvironment) -> int:
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

    # What everybody uses

    def train(
        self,
        training_environments: Any,
        total_timesteps: int = 100_000,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        connector: Callback | Sequence[Callback] | None = None,
        callbacks: Iterable[Any] | None = (),
        seed: int | None = None,
        progress_bar: bool = True,
        checkpoint_every: int | None = None,
        checkpoint_directory: str | Path | None = None,
        resume_from: str | Path | None = None,
        evaluate_every: int | None = None,
        *,
        keep_last: int | None = None,
        evaluation_environment: Any = None,
        n_eval_episodes: int = 10,
        vectorization: str = "auto",
        fresh_environments: bool | None = None,
    ) -> Self:
        """Trains the agent; a second call goes on where the first one ended.

        Args:
            training_environments: Whatever you have: an id ("CartPole-v1"), one environment, a list of them, a
                zero-argument factory or a list of these, a `(stub_environment, factory)` pair, a gymnasium
                `VectorEnv`, an SB3 `VecEnv`, or what a registered adapter accepts. What you made is never closed.
            total_timesteps: Environment steps to train for in this call, over all environments.
            n_environments: How many environments to make from an id or a factory; None: one.
            environment_kwargs: Arguments for `gymnasium.make`, the factory, or the adapter.
            connector: A tracker, or several, that receives what happens.
            callbacks: More listeners: `rl_framework.Callback`s, and callbacks of the wrapped library.
            seed: Seeds the agent and the environments. None: a seed is drawn and recorded at the first call; later
                calls go on with the random streams as they are.
            progress_bar: Whether to show a progress bar (in a terminal or notebook).
            checkpoint_every: Timesteps between checkpoints; None: none. With checkpoints, SIGTERM and Ctrl-C are
                answered at the next moment at which nothing is half done: one more is written, and training ends. A
                second Ctrl-C ends it at once.
            checkpoint_directory: Where checkpoints go, and with `evaluate_every` the best agent, as "best_model.zip".
                A checkpoint that cannot be written is logged as an error; training goes on.
            resume_from: A checkpoint, or a folder of them, of which the newest that is whole is taken: training goes
                on from there to `total_timesteps`, as if it had not been interrupted, provided that the other
                arguments are the same. A folder without checkpoints is a training that begins.
            keep_last: How many checkpoints to keep; None: all.
            evaluate_every: Timesteps between evaluations; None: none.
            evaluation_environment: Where to evaluate in between; None: fresh environments from
                `training_environments`, if it is an id or a factory.
            n_eval_episodes: Episodes of each evaluation in between.
            vectorization: "auto", "sync", "subprocess" or "native"; see `rl_framework.environment.door`.
            fresh_environments: Whether every episode begins in a newly made environment, for simulators that remember
                earlier episodes (BipedalWalker), which can then be resumed exactly; needs an id or a factory. None: as
                in the checkpoint, else no.

        Returns:
            This agent.

        Raises:
            RLFrameworkError: An argument cannot be used; see `rl_framework.errors`. Raised before the first step.
            NonFiniteError: An environment returned NaN or infinity.
            KeyboardInterrupt: The user interrupted a script. In a notebook `train` returns instead. Either way the
                agent can be used and trained further.
        """
        whole = isinstance(total_timesteps, int | np.integer) and not isinstance(total_timesteps, bool)
        if not whole or total_timesteps < 1:
            raise ArgumentError("total_timesteps", total_timesteps, "must be an integer of at least 1")
        total_timesteps = int(total_timesteps)
        seed = check_seed(seed)
        self.kind()  # raises if the agent could not be saved afterwards
        ours, listeners = sort_callbacks(connector, callbacks, self.accepts_listener)
        asked = describe_arguments(training_environments, environment_kwargs, total_timesteps, [*ours, *listeners])
        if progress_bar:
            ours.insert(0, ProgressBar())
        saving = None
        if checkpoint_every is not None:
            if checkpoint_directory is None:
                raise ArgumentError("checkpoint_directory", None, "is needed with checkpoint_every", "Name a folder.")
            saving = PeriodicCheckpoint(checkpoint_directory, checkpoint_every, keep_last)
            ours.append(saving)
        checkpoint = None if resume_from is None else open_checkpoint(resume_from)
        if evaluate_every is not None:
            environment = evaluation_source(training_environments, evaluation_environment)
            evaluation_kwargs = environment_kwargs if evaluation_environment is None else None
            best = None if checkpoint_directory is None else Path(checkpoint_directory) / "best_model.zip"
            ours.append(
                PeriodicEvaluation(
                    environment,
                    evaluate_every,
                    n_eval_episodes,
                    environment_kwargs=evaluation_kwargs,
                    best_model_path=best,
                )
            )
        # Last, so that everybody has heard of a boundary before training may end at it.
        interruption = Interruption(saving)
        ours.append(interruption)
        before = {} if checkpoint is None else _training_of(checkpoint)
        fresh = bool(before.get("fresh_environments")) if fresh_environments is None else fresh_environments
        with interruption:
            batch = open_environments(
                training_environments,
                n_environments,
                environment_kwargs,
                _as_before(vectorization, before),
                "training_environments",
                replayable=checkpoint_every is not None or checkpoint is not None,
                fresh_environments=fresh,
            )
            batch.fresh_environments = fresh
            batch.environment_id = batch.environment_id or environment_id_of(training_environments)
            try:
                if checkpoint is not None:
                    used_seed = self.resume(checkpoint, batch)
                    if seed is not None and seed != used_seed:
                        problem = f"the checkpoint was made with {used_seed}"
                        raise SeedConflictError("seed", seed, problem, "Leave it out.")
                    self.take_history(checkpoint)
                    self._go_on(batch, before, asked, used_seed, ours, listeners)
                    return self
                used_seed = self.prepare(batch, seed)
                goes_on = self._has_met_environments or self.num_timesteps > 0
                if seed is None and goes_on and can_be_made_afresh(training_environments):
                    self.seed_new_environments(batch, derive_seed(used_seed, "environments", self.num_timesteps))
                self._has_met_environments = True
                training = Training(self, ours, used_seed, self.num_timesteps)
                training.total_timesteps = self.num_timesteps + total_timesteps
                self._run(batch, training, listeners, asked)
            finally:
                self._batch = None
                batch.close()
                if checkpoint is not None:
                    checkpoint.close()
        return self

    def _go_on(
        self,
        batch: BatchedEnvironment,
        before: dict[str, Any],
        asked: dict[str, Any],
        seed: int,
        callbacks: list[Callback],
        listeners: Sequence[Any],
    ) -> None:
        """Trains to the end that an interrupted training had before it."""
        training = Training(self, callbacks, seed, self.num_timesteps)
        training.start = before["start"]
        training.total_timesteps = training.start + asked["total_timesteps"]
        self._has_met_environments = True
        if training.timestep < training.total_timesteps:
            training.resumed = True
            training.rejoin(before["runs"])
            logger.info("training goes on from %s at timestep %d", before["name"], training.timestep)
            origin = {**asked, "resumed_from": before["name"], "timestep": training.timestep}
            self._run(batch, training, listeners, origin)
        else:
            logger.info("the checkpoint is of timestep %d: there is nothing left to train", training.timestep)

    def save_checkpoint(self, path: str | Path, training: Training) -> Path:
        """Writes the agent and everything that resuming its training needs to one file.

        Args:
            path: Where to.
            training: The running training, at a boundary.
        """
        assert self._batch is not None  # there is one while training runs
        members = {**self.bundle_members(), **self.training_members(self._batch)}
        information = {
            "versions": versions_of_libraries(),
            **self.history(),
            "record": training.record,
            "training": {"start": training.start, "timestep": training.timestep, "runs": training.run_ids()},
        }
        return write_bundle(path, kind=self.kind(), members=members, information=information)

    def _run(
        self, batch: BatchedEnvironment, training: Training, listeners: Sequence[Any], origin: dict[str, Any]
    ) -> None:
        record = training.record = {**self._record(batch, training.seed), "start": training.start, **origin}
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
        _advise(batch, time.perf_counter() - started)

    def _record(self, batch: BatchedEnvironment, seed: int) -> dict[str, Any]:
        return {
            "agent": type(self).__name__,
            **self.describe(),
            "environment": batch.environment_id,
            "n_environments": batch.num_envs,
            "seed": seed,
            "fresh_environments": batch.fresh_environments,
            "choices": {"vectorization": {"value": batch.vectorization, "reason": batch.vectorization_reason}},
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
