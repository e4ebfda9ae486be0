"""What `train` is given, looked at before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.bundle import encode_value
from rl_framework.environment.door import can_be_made_afresh
from rl_framework.environment.wrappers import WrapperSpecification, check_wrappers
from rl_framework.errors import ArgumentError, UnsavableError
from rl_framework.seeding import check_seed
from rl_framework.training import Callback, PeriodicCheckpoint, PeriodicEvaluation

__all__ = ["TrainingArguments", "describe_arguments", "evaluation_source", "sort_callbacks"]


@dataclass
class TrainingArguments:
    """What `train` was asked to do; see `RLAgent.train` for each of them.

    Raises:
        ArgumentError: `total_timesteps` or `seed` is not a number that can be used.
    """

    training_environments: Any
    total_timesteps: int
    n_environments: int | None = None
    environment_kwargs: dict[str, Any] | None = None
    connector: Callback | Sequence[Callback] | None = None
    callbacks: Iterable[Any] | None = ()
    seed: int | None = None
    progress_bar: bool = True
    checkpoint_every: int | None = None
    checkpoint_directory: str | Path | None = None
    resume_from: str | Path | None = None
    evaluate_every: int | None = None
    keep_last: int | None = None
    evaluation_environment: Any = None
    n_eval_episodes: int = 10
    vectorization: str = "auto"
    fresh_environments: bool | None = None
    wrappers: Sequence[WrapperSpecification] | None = None

    def __post_init__(self) -> None:
        total = self.total_timesteps
        if not isinstance(total, int | np.integer) or isinstance(total, bool) or total < 1:
            raise ArgumentError("total_timesteps", total, "must be an integer of at least 1")
        self.total_timesteps = int(total)
        self.seed = check_seed(self.seed)

    def periodic_checkpoint(self) -> PeriodicCheckpoint | None:
        """Returns what writes the checkpoints that were asked for.

        Raises:
            ArgumentError: There is no folder for them.
        """
        if self.checkpoint_every is None:
            return None
        if self.checkpoint_directory is None:
            raise ArgumentError("checkpoint_directory", None, "is needed with checkpoint_every", "Name a folder.")
        return PeriodicCheckpoint(self.checkpoint_directory, self.checkpoint_every, self.keep_last)

    def periodic_evaluation(self) -> PeriodicEvaluation | None:
        """Returns what makes the evaluations that were asked for.

        Raises:
            ArgumentError: There is nowhere to evaluate.
        """
        if self.evaluate_every is None:
            return None
        return PeriodicEvaluation(
            evaluation_source(self.training_environments, self.evaluation_environment),
            self.evaluate_every,
            self.n_eval_episodes,
            environment_kwargs=self.environment_kwargs if self.evaluation_environment is None else None,
            best_model_path=None
            if self.checkpoint_directory is None
            else Path(self.checkpoint_directory) / "best_model.zip",
        )


def sort_callbacks(
    connector: Callback | Sequence[Callback] | None,
    callbacks: Iterable[Any] | None,
    accepts_listener: Callable[[object], bool],
) -> tuple[list[Callback], list[Any]]:
    """Divides whom to tell into callbacks of the framework and listeners of the wrapped library.

    Raises:
        ArgumentError: Something is neither.
    """
    ours: list[Callback] = []
    listeners: list[Any] = []
    connectors = [] if connector is None else list(connector) if isinstance(connector, Sequence) else [connector]
    for candidate in connectors:
        if not isinstance(candidate, Callback):
            raise ArgumentError("connector", candidate, "is no connector", "Give a Connector or a list of them.")
        ours.append(candidate)
    if callbacks is None:
        callbacks = ()
    for candidate in callbacks if isinstance(callbacks, Iterable) else [callbacks]:
        if isinstance(candidate, Callback):
            ours.append(candidate)
        elif accepts_listener(candidate):
            listeners.append(candidate)
        else:
            raise ArgumentError(
                "callbacks",
                candidate,
                "is neither an rl_framework.Callback nor a callback of the wrapped library",
                "Give objects, not classes or functions.",
            )
    return ours, listeners


def evaluation_source(training_environments: Any, evaluation_environment: Any) -> Any:
    """Returns where to evaluate in between.

    Raises:
        ArgumentError: Nowhere without disturbing the training.
    """
    if evaluation_environment is not None:
        if _holds_same(evaluation_environment, training_environments):
            raise ArgumentError(
                "evaluation_environment",
                evaluation_environment,
                "is one of the training environments, whose episodes it would disturb",
                "Make another one.",
            )
        return evaluation_environment
    if can_be_made_afresh(training_environments):
        return training_environments
    raise ArgumentError(
        "evaluate_every",
        training_environments,
        "the training environments cannot be copied for evaluation",
        "Pass evaluation_environment=, or give training_environments as an id or a factory.",
    )


def _holds_same(one: Any, other: Any) -> bool:
    """Tells whether two sources have an environment, and not only a way to make some, in common."""
    parts = [part if isinstance(part, list | tuple) else [part] for part in (one, other)]
    return any(a is b and not can_be_made_afresh(a) for a in parts[0] for b in parts[1])


def describe_arguments(asked: TrainingArguments, listeners: list[Any]) -> dict[str, Any]:
    """Returns what the record of a run says about the arguments of `train`, as JSON-able data.

    Args:
        asked: The arguments.
        listeners: The user's own connectors and callbacks.
    """
    if asked.training_environments is None:
        source = "none"
    elif isinstance(asked.training_environments, str):
        source = "id"
    else:
        source = "factory" if can_be_made_afresh(asked.training_environments) else "objects"
    try:
        kwargs = encode_value(asked.environment_kwargs, "environment_kwargs")
    except UnsavableError:
        source, kwargs = "objects", None
    return {
        "total_timesteps": asked.total_timesteps,
        "environment_source": source,
        "environment_kwargs": kwargs,
        "wrappers": check_wrappers(asked.wrappers),
        "callbacks": [type(listener).__name__ for listener in listeners],
    }
