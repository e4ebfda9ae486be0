"""How far training is: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rl_framework.cli.output import STDERR, note
from rl_framework.training import (
    Callback,
    EpisodeEnded,
    Evaluated,
    Training,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
)

__all__ = ["TrainingProgress"]

_REDRAW_SECONDS = 0.1
_LINES = 10
"""Plain lines in a training that is quick."""
_LINE_SECONDS = 30.0
"""To the next plain line in one that is slow."""
_SPEED_SECONDS = 10.0
"""Over which the speed is measured, so that the time left follows what happens now."""


class TrainingProgress(Callback):
    """Shows timesteps, steps per second, time left and the return of the last episode.

    Args:
        is_shown: False: nothing but what `announce` says.
        announce: Is called when training begins.
        write: Writes plain lines.
    """

    def __init__(
        self,
        is_shown: bool = True,
        announce: Callable[[Training], None] = lambda training: None,
        write: Callable[[str], None] = note,
    ) -> None:
        self.is_shown, self._announce, self._write = is_shown, announce, write
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last_return: float | None = None

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Shows where training begins."""
        now = time.monotonic()
        self._start, self._total = training.start, event.total_timesteps
        self._drawn_at = self._told_at = now
        self._told_part = (event.timestep - self._start) * _LINES // max(1, self._total - self._start)
        self._marks = [(now, event.timestep)]
        self._last_return = None
        self._announce(training)  # Ctrl-C may come meanwhile: then the end is told, and it is the end of this training
        if self.is_shown and STDERR.is_terminal:
            # Without a thread of its own: environments may be about to fork this process.
            columns = BarColumn(bar_width=30), TextColumn("{task.description}")
            self._bar = Progress(*columns, console=STDERR, auto_refresh=False)
            self._task = self._bar.add_task("", total=self._total - self._start)
            self._draw(event.timestep)
            self._bar.start()

    def on_step(self, training: Training) -> None:
        """Draws it anew, or writes a line, when it is time."""
        now = time.monotonic()
        if not self.is_shown or now - self._drawn_at < _REDRAW_SECONDS:
            return
        self._drawn_at = now
        self._marks.append((now, training.timestep))
        while len(self._marks) > 2 and now - self._marks[1][0] > _SPEED_SECONDS:
            del self._marks[0]
        if self._bar is not None:
            self._draw(training.timestep)
            return
        part = (training.timestep - self._start) * _LINES // max(1, self._total - self._start)
        if training.timestep >= self._total:
            return  # its end is told anyway
        if part > self._told_part or now - self._told_at >= _LINE_SECONDS:
            self._told_part, self._told_at = part, now
            self._write(self._line(training.timestep))

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        """Takes note of the return."""
        self._last_return = event.episode_return

    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        """Writes a line."""
        self._write(f"evaluation at {event.timestep:,}: {event.result}")

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Leaves the last state to be seen."""
        if self.is_shown and self._bar is None:
            self._write(self._line(training.timestep))
        self._stop(training)
        if event.stop_reason is not None:
            self._write(f"training was stopped at {training.timestep:,}: {event.stop_reason}")

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Leaves the last state to be seen."""
        self._stop(training)

    def _stop(self, training: Training) -> None:
        if self._bar is not None:
            self._draw(training.timestep)
            self._bar.stop()
            self._bar = None

    def _draw(self, timestep: int) -> None:
        assert self._bar is not None  # only then
        done = min(timestep, self._total) - self._start
        self._bar.update(self._task, completed=done, description=self._line(timestep), refresh=True)

    def _line(self, timestep: int) -> str:
        done, whole = timestep - self._start, max(1, self._total - self._start)
        parts = [f"{done:,} of {whole:,} timesteps ({min(100, 100 * done // whole)} %)"]
        (first_time, first_timestep), (last_time, last_timestep) = self._marks[0], self._marks[-1]
        if last_time > first_time and last_timestep > first_timestep:
            speed = (last_timestep - first_timestep) / (last_time - first_time)
            left = timedelta(seconds=round(max(0, whole - done) / speed))
            parts += [f"{speed:,.0f} steps/s", f"{left} left"]
        if self._last_return is not None:
            parts.append(f"last return {self._last_return:.6g}")
        return ", ".join(parts)
