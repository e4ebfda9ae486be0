"""A learning curve that grows in a notebook while an agent trains."""

from __future__ import annotations

import logging
import math
import time
import weakref
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError
from rl_framework.progress import in_notebook
from rl_framework.report.plots import EPISODE_RETURN, check_window, draw_curve, evaluation_row
from rl_framework.training import (
    Callback,
    EpisodeEnded,
    Evaluated,
    Training,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
)
from rl_framework.training.metrics import read_metrics, series

__all__ = ["LiveCurve"]

logger = logging.getLogger(__name__)

_LARGEST_SHARE = 0.02
"""Share of the time that drawing may take, besides what it may always take: half a second, some four pictures."""

_SECONDS_FREE = 0.5

_DOTS_PER_INCH = 100
_WIDTH = 720


class LiveCurve(Callback):
    """Shows in a notebook, below the cell that trains, how the returns of the episodes develop.

        agent.train("CartPole-v1", total_timesteps=50_000, callbacks=[LiveCurve()])

    It is one picture that changes in its place: each episode's return, their rolling mean, and, with
    `evaluate_every`, the evaluations with their intervals. When training is interrupted or fails, it stays as it was
    then. Outside of a notebook it does nothing, so that it may stay in code that is run elsewhere.

    A training that goes on continues the curve: with the same `LiveCurve` and the same agent by itself; with another
    one, such as in a new session, where a `LocalConnector` kept the earlier part (an `Experiment` always has one).

    Args:
        every_seconds: Seconds between two pictures at least. After the first few they are further apart, where
            drawing would take more than 2 % of the time (one takes about a tenth of a second).
        window: Episodes in the rolling mean.
        threshold: Draws a dashed line at this return, such as the one that counts as solved.
        title: Above the picture.

    Raises:
        ArgumentError: An argument cannot be used.
    """

    def __init__(
        self,
        every_seconds: float = 2.0,
        *,
        window: int = 100,
        threshold: float | None = None,
        title: str = "Learning curve",
    ) -> None:
        if isinstance(every_seconds, bool) or not isinstance(every_seconds, int | float) or not every_seconds >= 0:
            raise ArgumentError("every_seconds", every_seconds, "must be a number of seconds of at least 0")
        check_window(window)
        self.every_seconds = float(every_seconds)
        self.window = int(window)
        self.threshold = threshold
        self.title = title
        self._timesteps, self._returns = array("q"), array("d")
        self._evaluations: list[tuple[float, float, float, float]] = []
        self._agent: Any = lambda: None
        self._display: Any = None
        self._shown = self._failed = False
        self._started = self._spent = 0.0
        self._next = math.inf

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Begins a picture in the cell that is running, with what was before if training goes on."""
        self._shown = self._failed = False
        self._display = None
        self._next = math.inf
        if not in_notebook():
            return
        if self._agent() is not training.agent:
            self._forget_after(-1)
            self._take_earlier(training)
        self._agent = weakref.ref(training.agent)
        self._forget_after(event.timestep)
        # Now, because that takes longer than to draw, and is no part of it.
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
        from IPython.display import DisplayHandle

        self._display = DisplayHandle()
        self._started, self._spent = time.perf_counter(), 0.0
        self._next = self._started + self.every_seconds

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        """Takes note of the return, and draws when it is time."""
        if self._display is None:
            return
        if math.isfinite(event.episode_return):
            self._timesteps.append(event.timestep)
            self._returns.append(event.episode_return)
        if time.perf_counter() >= self._next:
            self._draw()

    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        """Takes note of the evaluation, and draws when it is time."""
        if self._display is None:
            return
        row = evaluation_row(event.timestep, event.metrics)
        if row is not None:
            self._evaluations.append(row)
        if time.perf_counter() >= self._next:
            self._draw()

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Draws all of it once more."""
        self._finish()

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Draws what there was."""
        self._finish()

    def _finish(self) -> None:
        if self._display is not None:
            self._draw()
        self._display = None

    def _forget_after(self, timestep: int) -> None:
        """Drops what will happen once more, because training goes on from an earlier checkpoint."""
        while self._timesteps and self._timesteps[-1] > timestep:
            self._timesteps.pop()
            self._returns.pop()
        self._evaluations = [row for row in self._evaluations if row[0] <= timestep]

    def _take_earlier(self, training: Training) -> None:
        """Reads what a connector of this run kept of the time before."""
        if training.timestep == 0:
            return
        files = [getattr(callback, "metrics_path", None) for callback in training.callbacks]
        path = next((file for file in files if isinstance(file, Path) and file.is_file()), None)
        if path is None:
            return
        try:
            records = [record for record in read_metrics(path) if record.timestep <= training.timestep]
        except (ArgumentError, OSError) as error:
            logger.warning("the curve begins at timestep %d: %s", training.timestep, error)
            return
        timesteps, returns = series(records, EPISODE_RETURN)
        known = np.isfinite(returns)
        self._timesteps.extend(timesteps[known].tolist())
        self._returns.extend(returns[known].tolist())
        rows = [evaluation_row(record.timestep, record.metrics) for record in records]
        self._evaluations = [row for row in rows if row is not None]

    def _draw(self) -> None:
        if self._failed or not (self._returns or self._evaluations):
            return
        began = time.perf_counter()
        try:
            picture = draw_curve(
                np.array(self._timesteps, dtype=np.int64),
                np.array(self._returns, dtype=np.float64),
                np.array(self._evaluations, dtype=np.float64).reshape(-1, 4),
                self.window,
                self.threshold,
                self.title,
                dots_per_inch=_DOTS_PER_INCH,
            )
            self._show(picture)
        except Exception as error:  # of whatever kind: what is learned is worth more than a picture of it
            logger.exception("the learning curve cannot be shown: %s. Training goes on", error)
            self._failed = True
        ended = time.perf_counter()
        self._spent += ended - began
        affordable = self._started + (self._spent - _SECONDS_FREE) / _LARGEST_SHARE
        self._next = max(ended + self.every_seconds, affordable)

    def _show(self, picture: bytes) -> None:
        from IPython.display import Image

        image = Image(data=picture, format="png", width=_WIDTH)
        if self._shown:
            self._display.update(image)
        else:
            self._display.display(image)
            self._shown = True
