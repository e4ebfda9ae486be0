"""Finding out when training begins whether the agent can be filmed when it ends."""

from __future__ import annotations

from typing import Any

from rl_framework.report import Overlay
from rl_framework.report.video import check_filmable
from rl_framework.training import Callback, Training, TrainingStarted

__all__ = ["FilmCheck"]


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
