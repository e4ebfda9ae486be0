"""What `train` is given, looked at before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rl_framework.bundle import encode_value
from rl_framework.environment.door import can_be_made_afresh
from rl_framework.errors import ArgumentError, UnsavableError
from rl_framework.training import Callback

__all__ = ["describe_arguments", "evaluation_source", "sort_callbacks"]


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


def describe_arguments(
    training_environments: Any, environment_kwargs: dict[str, Any] | None, total_timesteps: int, listeners: list[Any]
) -> dict[str, Any]:
    """Returns what the record of a run says about the arguments of `train`, as JSON-able data.

    Args:
        training_environments: As given.
        environment_kwargs: As given.
        total_timesteps: As given.
        listeners: The user's own connectors and callbacks.
    """
    if isinstance(training_environments, str):
        source = "id"
    else:
        source = "factory" if can_be_made_afresh(training_environments) else "objects"
    try:
        kwargs = encode_value(environment_kwargs, "environment_kwargs")
    except UnsavableError:
        source, kwargs = "objects", None
    return {
        "total_timesteps": total_timesteps,
        "environment_source": source,
        "environment_kwargs": kwargs,
        "callbacks": [type(listener).__name__ for listener in listeners],
    }
