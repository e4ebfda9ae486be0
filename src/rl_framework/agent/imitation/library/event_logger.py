"""A logger for imitation whose numbers become events; nothing is printed and nothing is left on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from imitation.util.logger import HierarchicalLogger
from stable_baselines3.common.logger import KVWriter, Logger

from rl_framework.training import Training, Updated

__all__ = ["EventLogger", "metric_name"]

# Counts of steps and rounds, which every event has in its own way, and numbers that are parameters.
_LEFT_OUT = ("global_step", "total_timesteps", "iterations", "episodes", "time_elapsed", "n_expert", "n_generated")


def metric_name(key: str) -> str:
    """Returns a name without what is said twice.

    Such as "disc/acc" for "mean/disc/disc_acc" and "time/fps" for "mean/gen/time/fps".
    """
    parts = key.removeprefix("mean/").split("/")
    if "time" in parts[:-1]:
        return f"time/{parts[-1]}"
    if len(parts) > 1:
        parts[-1] = parts[-1].removeprefix(f"{parts[-2]}_")
    return "/".join(parts)


class EventLogger(HierarchicalLogger):
    """The library's logger without files.

    What is recorded inside `accumulate_means` reaches the events as a mean, under a name such as "gen/train/loss".

    Attributes:
        training: Who is told what is dumped; None: nobody.
        n_updates: What the events say of the number of updates.
    """

    def __init__(self) -> None:
        self.training: Training | None = None
        self.n_updates = 0
        super().__init__(Logger(folder=None, output_formats=[_EventWriter(self)]), format_strs=())

    @contextmanager
    def accumulate_means(self, name: str) -> Iterator[None]:
        """Collects means until the next dump outside of the block; see the library."""
        # The library makes a folder for every name that it has not met.
        place = str(Path(*self._accumulate_prefixes, name))
        self._cached_loggers.setdefault(place, Logger(folder=None, output_formats=[]))
        with super().accumulate_means(name):
            yield

    def forget(self) -> None:
        """Forgets what was recorded and not dumped."""
        for logger in (self.default_logger, *self._cached_loggers.values()):
            for values in (logger.name_to_value, logger.name_to_count, logger.name_to_excluded):
                values.clear()


class _EventWriter(KVWriter):
    def __init__(self, owner: EventLogger) -> None:
        self._owner = owner

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        training = self._owner.training
        metrics = {
            metric_name(key): float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number)
            and not isinstance(value, bool)
            and key.rpartition("/")[2] not in _LEFT_OUT
        }
        if training is not None and metrics:
            training.emit(Updated(timestep=training.timestep, metrics=metrics, n_updates=self._owner.n_updates))

    def close(self) -> None:
        """Holds nothing."""
