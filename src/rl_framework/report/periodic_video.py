"""Videos of an agent while it learns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.errors import ArgumentError
from rl_framework.report.recording.encoding import check_video_arguments
from rl_framework.report.recording.overlay import Overlay
from rl_framework.report.recording.video import check_filmable, record_video
from rl_framework.seeding import derive_seed
from rl_framework.training import Callback, Training, TrainingStarted, VideoRecorded

__all__ = ["PeriodicVideo"]

logger = logging.getLogger(__name__)


class PeriodicVideo(Callback):
    """Films the agent every so many timesteps, on its own environments and random streams.

    It changes no weight of the run. Every connector is told (`VideoRecorded`, `Connector.log_video`). The same seed is
    used every time, so that the videos show the agent and not the luck of the draw. Whether there will be videos is
    found out when training begins; a later failure is logged, and training goes on.

    Args:
        environment: Where to film; anything that `record_video` takes. Not the training environments themselves.
        every: Timesteps between videos.
        directory: Where to keep them, as `<name>_<timestep>.mp4`; None: the folder `videos` of the run's
            `LocalConnector`, or, without one, of the working directory.
        length: Frames of each.
        fps: Frames per second; None: what the environment says.
        overlay: What to write onto the frames; see `record_video`.
        n_environments: How many environments to film at once, in a grid.
        deterministic: Whether the agent takes its most likely action instead of sampling one.
        environment_kwargs: For an id or a factory.
        seed: Seed of the videos; None: a branch of the training's seed.
        name: What they show; also what connectors call them.
        ending: ".mp4" or ".gif".
        ffmpeg: What makes an .mp4; see `record_video`.

    Raises:
        ArgumentError: An argument cannot be used.
        MissingExtraError: The encoder is not installed.
    """

    def __init__(
        self,
        environment: Any,
        every: int,
        directory: str | Path | None = None,
        length: int = 500,
        *,
        fps: float | None = None,
        overlay: Overlay | bool | list[str] | tuple[str, ...] | None = None,
        n_environments: int = 1,
        deterministic: bool = True,
        environment_kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
        name: str = "agent",
        ending: str = ".mp4",
        ffmpeg: str | Path | None = None,
    ) -> None:
        for argument, value in (("every", every), ("length", length)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(argument, value, "must be an integer of at least 1")
        if not name or Path(name).name != name:
            raise ArgumentError("name", name, "must be usable as the name of a file")
        check_video_arguments(f"{name}{ending}", fps, ffmpeg)
        self.environment = environment
        self.every = every
        self.directory = None if directory is None else Path(directory)
        self.name = name
        self.ending = ending
        self.seed = seed
        self._environment_arguments: dict[str, Any] = {
            "environment_kwargs": environment_kwargs,
            "n_environments": n_environments,
        }
        self._arguments: dict[str, Any] = {
            "length": length,
            "fps": fps,
            "overlay": Overlay.of(overlay),
            "deterministic": deterministic,
            "ffmpeg": ffmpeg,
        }
        self._periods = 0
        self._failed = False

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Sees to it that there will be videos.

        Raises:
            RecordingError: The environment does not draw frames.
            EnvironmentSourceError: It is nothing that the door knows.
            SpaceMismatchError: Its spaces are not the agent's.
            ArgumentError: It is one of those that are trained on, or the overlay names what is not there.
        """
        self._periods = event.timestep // self.every
        self._failed = False
        self._refuse_training_environments(training)
        check_filmable(
            training.agent, self.environment, **self._environment_arguments, overlay=self._arguments["overlay"]
        )

    def _refuse_training_environments(self, training: Training) -> None:
        batch = getattr(training.agent, "_batch", None)
        trained_on = {id(batch), *map(id, getattr(batch, "environments", []))}
        trained_on |= {id(getattr(batch, name, None)) for name in ("environment", "vec_env")}
        given = self.environment if isinstance(self.environment, list | tuple) else [self.environment]
        if not trained_on.isdisjoint(map(id, given)):
            raise ArgumentError(
                "environment",
                self.environment,
                "is one of the training environments, whose episodes a video would disturb",
                "Make another one.",
            )

    def on_step(self, training: Training) -> None:
        """Films and tells everybody, when it is time."""
        periods = training.timestep // self.every
        if periods > self._periods:
            self._periods = periods
            self._film(training)

    def _film(self, training: Training) -> None:
        path = self._directory(training) / f"{self.name}_{training.timestep:09d}{self.ending}"
        try:
            record_video(
                training.agent,
                self.environment,
                path,
                seed=derive_seed(training.seed, "video") if self.seed is None else self.seed,
                show_progress=False,
                **self._environment_arguments,
                **self._arguments,
            )
        except Exception as error:  # of whatever kind: what is learned is worth more than a picture of it
            if not self._failed:
                logger.exception("no video at timestep %d: %s. Training goes on", training.timestep, error)
            self._failed = True
            return
        self._failed = False
        training.emit(VideoRecorded(timestep=training.timestep, path=path, name=self.name))

    def _directory(self, training: Training) -> Path:
        if self.directory is not None:
            return self.directory
        folders = [getattr(callback, "videos_directory", None) for callback in training.callbacks]
        return next((folder for folder in folders if isinstance(folder, Path)), Path("videos"))
