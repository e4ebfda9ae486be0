"""The callbacks that come with the framework."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_framework.bundle import (
    checkpoint_path,
    prepare_directory,
    read_bundle,
    remove_leftovers,
    remove_old_checkpoints,
    write_bundle,
)
from rl_framework.errors import ArgumentError, BundleError
from rl_framework.evaluation.evaluate import check_n_eval_episodes
from rl_framework.progress import progress_bar
from rl_framework.seeding import derive_seed
from rl_framework.training.callback import Callback, Training
from rl_framework.training.events import (
    CheckpointSaved,
    EpisodeEnded,
    Evaluated,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
)

__all__ = ["PeriodicCheckpoint", "PeriodicEvaluation", "ProgressBar"]

logger = logging.getLogger(__name__)


class _Periodic(Callback):
    """Counts periods of timesteps."""

    def __init__(self, every: int, argument: str = "every") -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ArgumentError(argument, every, "must be a number of timesteps of at least 1")
        self.every = every
        self._periods = 0

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        self._periods = event.timestep // self.every

    def is_due(self, timestep: int) -> bool:
        """Tells whether another period is full, and begins the next one."""
        periods = timestep // self.every
        due = periods > self._periods
        self._periods = max(periods, self._periods)
        return due


class PeriodicEvaluation(_Periodic):
    """Evaluates the agent every so many timesteps, on its own environments and random streams.

    The same seed is used every time, so that the curve shows the agent and not the luck of the draw. It changes no
    weight of the run.

    Args:
        environment: Where to evaluate; anything that `evaluate` takes. Not the training environments themselves.
        every: Timesteps between evaluations.
        n_eval_episodes: Episodes each time.
        deterministic: Whether to take the most likely action instead of a sampled one.
        n_environments: How many environments at once; None: chosen by `evaluate`.
        environment_kwargs: For an id or a factory.
        seed: Seed of the evaluations; None: a branch of the training's seed.
        best_model_path: Where to keep the agent with the highest mean return so far, as `load_agent` opens it. What
            is there already is replaced only by a better one, also in a later training. None: nowhere.
    """

    def __init__(
        self,
        environment: Any,
        every: int,
        n_eval_episodes: int = 10,
        *,
        deterministic: bool = False,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        seed: int | None = None,
        best_model_path: str | Path | None = None,
    ) -> None:
        super().__init__(every)
        self.environment = environment
        self.n_eval_episodes = check_n_eval_episodes(n_eval_episodes)
        self.deterministic = deterministic
        self.n_environments = n_environments
        self.environment_kwargs = environment_kwargs
        self.seed = seed
        self.best_model_path = None if best_model_path is None else Path(best_model_path)
        self._best = -math.inf

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Looks up how good the best agent so far is."""
        super().on_training_start(event, training)
        if self.best_model_path is not None and self.best_model_path.exists():
            self._best = max(self._best, _mean_return_of(self.best_model_path))

    def on_step(self, training: Training) -> None:
        """Evaluates and tells everybody, when it is time."""
        if not self.is_due(training.timestep):
            return
        result = training.agent.evaluate(
            evaluation_environment=self.environment,
            n_eval_episodes=self.n_eval_episodes,
            deterministic=self.deterministic,
            seed=derive_seed(training.seed, "evaluation") if self.seed is None else self.seed,
            n_environments=self.n_environments,
            environment_kwargs=self.environment_kwargs,
        )
        low, high = result.confidence_interval()
        metrics = {
            "evaluation/mean_return": result.mean,
            "evaluation/std_return": result.std,
            "evaluation/iqm": result.iqm,
            "evaluation/low": low,
            "evaluation/high": high,
            "evaluation/mean_length": float(result.lengths.mean()),
        }
        if self.best_model_path is not None and result.mean > self._best:
            self._keep_best(self.best_model_path, training, metrics)
        training.emit(Evaluated(timestep=training.timestep, metrics=metrics, result=result))

    def _keep_best(self, path: Path, training: Training, metrics: dict[str, float]) -> None:
        agent = training.agent
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        information = {
            "versions": training.record.get("versions", {}),
            "evaluation": {"timestep": training.timestep, **finite},
        }
        try:
            write_bundle(path, kind=agent.kind(), members=agent.saved_members(), information=information)
        except OSError as error:
            logger.error("the best agent could not be saved as %s: %s; training goes on", path, error)
        else:
            self._best = metrics["evaluation/mean_return"]


def _mean_return_of(path: Path) -> float:
    """Returns the mean return that a best model was saved with."""
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        logger.warning("the next evaluation replaces %s: %s", path, error)
        return -math.inf
    bundle.close()
    evaluation = bundle.information.get("evaluation")
    value = evaluation.get("evaluation/mean_return") if isinstance(evaluation, dict) else None
    return float(value) if isinstance(value, int | float) else -math.inf


class PeriodicCheckpoint(_Periodic):
    """Saves everything that resuming needs, as `checkpoint_<timestep>.zip`.

    It acts between two rollouts: at the first beginning of a rollout at which another `every` timesteps are full, and
    once more when training is finished. If a checkpoint cannot be written (the disk is full), that is logged as an
    error and training goes on: what was learned is in memory, and the next period tries again. For the same reason
    nothing is raised at the end, when the caller can still save the agent elsewhere. A folder that cannot be written to
    at the beginning is an error.

    Args:
        directory: Where to; made if it is missing.
        every: Timesteps between checkpoints.
        keep_last: How many checkpoints to keep; None: all.

    Attributes:
        saved_at: Timestep of the last checkpoint that is on disk, or None.
    """

    def __init__(self, directory: str | Path, every: int, keep_last: int | None = None) -> None:
        super().__init__(every, "checkpoint_every")
        if keep_last is not None and (isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 1):
            raise ArgumentError("keep_last", keep_last, "must be a number of checkpoints of at least 1, or None")
        self.directory = Path(directory)
        self.keep_last = keep_last
        self.saved_at: int | None = None

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Sees to it that the folder can be used."""
        super().on_training_start(event, training)
        self.saved_at = None
        prepare_directory(self.directory, event.timestep, resumed=event.resumed)

    def on_boundary(self, training: Training) -> None:
        """Saves, when it is time."""
        # At the end too: resuming a finished training then finds nothing left to train.
        if self.is_due(training.timestep) or training.timestep >= training.total_timesteps:
            self.save(training)

    def save(self, training: Training) -> Path | None:
        """Saves and tells everybody.

        Returns:
            The checkpoint, or None if it could not be written.
        """
        path = checkpoint_path(self.directory, training.timestep)
        try:
            # First, so that no record from before the checkpoint can be missing when training goes on from it.
            training.flush()
            training.agent.save_checkpoint(path, training)
        except OSError as error:
            logger.error(
                "the checkpoint %s could not be written: %s. Older ones are as they were; training goes on", path, error
            )
            return None
        self.saved_at = training.timestep
        remove_leftovers(path)
        if self.keep_last is not None:
            try:
                remove_old_checkpoints(self.directory, self.keep_last, newest=training.timestep)
            except OSError as error:
                logger.warning("an old checkpoint could not be removed: %s", error)
        training.emit(CheckpointSaved(timestep=training.timestep, path=path))
        return path


class ProgressBar(Callback):
    """A bar with steps, steps per second, time left, and the mean return of the last 100 episodes."""

    def __init__(self, make_bar: Callable[..., Any] = progress_bar) -> None:
        self._make_bar = make_bar
        self._bar: Any = None
        self._returns: deque[float] = deque(maxlen=100)

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Shows the bar."""
        # A resumed training shows the whole of it, as if it had not been interrupted.
        self._start = training.start
        self._bar = self._make_bar(
            event.total_timesteps - self._start,
            "training",
            "step",
            delay=0.0,
            leave=True,
            initial=event.timestep - self._start,
        )

    def on_step(self, training: Training) -> None:
        """Moves the bar."""
        # tqdm itself draws no more often than ten times a second.
        self._bar.update(training.timestep - self._start - self._bar.n)

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        """Shows the mean return."""
        self._returns.append(event.episode_return)
        if not self._bar.disable:
            self._bar.set_postfix_str(f"return {sum(self._returns) / len(self._returns):.1f}", refresh=False)

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
