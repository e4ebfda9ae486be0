"""Callbacks of an experiment: whether the agent can be filmed at the end, and how training ended."""

from __future__ import annotations

from typing import Any

from rl_framework.report import Overlay
from rl_framework.report.recording.video import check_filmable
from rl_framework.training import Callback, Training, TrainingEnded, TrainingStarted

__all__ = ["Ending", "FilmCheck"]


class FilmCheck(Callback):
    """Draws one frame at the beginning of training; arguments as of `check_filmable`."""

    def __init__(
        self,
        environment: Any,
        environment_kwargs: dict[str, Any] | None,
        n_environments: int,
        overlay: Overlay | None,
    ) -> None:
        self._arguments = (environment, environment_kwargs, n_environments, overlay)

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Raises what `check_filmable` raises."""
        check_filmable(training.agent, *self._arguments)


class Ending(Callback):
    """Notes how training ended: in a notebook, one that is interrupted returns as if it had not been.

    Attributes:
        was_interrupted: Whether somebody interrupted it.
    """

    was_interrupted = False

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Takes note."""
        self.was_interrupted = event.interrupted
