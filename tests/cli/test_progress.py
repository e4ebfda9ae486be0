"""Progress: plain lines that are few, and a live line in a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from rl_framework.cli import progress
from rl_framework.cli.progress import TrainingProgress
from rl_framework.training import EpisodeEnded, Training, TrainingEnded, TrainingStarted


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def trained(shown: TrainingProgress, clock: Clock, total: int, seconds_a_step: float, start: int = 0) -> None:
    training = Training(None, [shown], seed=0, timestep=start)
    training.total_timesteps = total
    training.emit(TrainingStarted(timestep=start, total_timesteps=total))
    for timestep in range(start + 1, total + 1):
        clock.now += seconds_a_step
        if timestep % 100 == 0:
            training.emit(EpisodeEnded(timestep=timestep, episode_return=timestep / 10, length=100, slot=0))
        training.step(timestep)
    training.emit(TrainingEnded(timestep=total))


def test_a_quick_training_has_a_line_for_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    trained(TrainingProgress(write=lines.append), Clock(monkeypatch), 2_000, 0.125)
    assert lines[0] == "200 of 2,000 timesteps (10 %), 8 steps/s, 0:03:45 left, last return 20"
    assert lines[-1] == "2,000 of 2,000 timesteps (100 %), 8 steps/s, 0:00:00 left, last return 200"
    assert len(lines) == 10


def test_a_slow_training_has_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    trained(TrainingProgress(write=lines.append), Clock(monkeypatch), 300, 1.0)
    assert len(lines) == 10
    lines.clear()
    trained(TrainingProgress(write=lines.append), Clock(monkeypatch), 30, 31.0)
    assert len(lines) == 30


def test_nothing_is_shown_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    announced: list[Any] = []
    quiet = TrainingProgress(False, announced.append, lines.append)
    trained(quiet, Clock(monkeypatch), 200, 1.0)
    assert lines == []
    assert len(announced) == 1


def test_a_terminal_has_a_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "STDERR", Console(file=screen, force_terminal=True, width=120, highlight=False))
    lines: list[str] = []
    trained(TrainingProgress(write=lines.append), Clock(monkeypatch), 1_000, 0.125)
    drawn = screen.getvalue()
    assert "500 of 1,000 timesteps (50 %), 8 steps/s, 0:01:02 left, last return 50" in drawn
    assert drawn.rstrip().endswith("\x1b[?25h")
    assert lines == []


def test_what_ends_while_it_is_announced_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    lines: list[str] = []

    def interrupted(training: Training) -> None:
        raise KeyboardInterrupt

    shown = TrainingProgress(write=lines.append)
    trained(shown, clock, 2_000, 0.125)
    for each in (shown, TrainingProgress(write=lines.append)):
        each._announce = interrupted
        lines.clear()
        training = Training(None, [each], seed=0, timestep=0)
        training.total_timesteps = 2_000
        with pytest.raises(KeyboardInterrupt):
            training.emit(TrainingStarted(timestep=0, total_timesteps=2_000))
        training.emit(TrainingEnded(timestep=0, interrupted=True))
        assert lines == ["0 of 2,000 timesteps (0 %)"]
