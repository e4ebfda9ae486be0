from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rl_framework import (
    Callback,
    Connector,
    CustomAgent,
    LocalConnector,
    StableBaselinesAgent,
    TensorBoardConnector,
)
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RecordingError, SpaceMismatchError
from rl_framework.report import PeriodicVideo
from rl_framework.training import VideoRecorded

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

SHORT = {"n_steps": 64, "batch_size": 32, "n_epochs": 1}


def train(callbacks: Any, connector: Any = None, steps: int = 256, environment: Any = "CartPole-v1") -> Any:
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train(environment, steps, callbacks=callbacks, connector=connector, seed=0, progress_bar=False)
    return agent


def frames_in(path: Path) -> int:
    reader = imageio_ffmpeg.read_frames(str(path))
    next(reader)
    return sum(1 for _ in reader)


class Log(Callback):
    def __init__(self) -> None:
        self.videos: list[VideoRecorded] = []

    def on_video(self, event: VideoRecorded, training: Any) -> None:
        assert event.path.is_file()
        self.videos.append(event)


class Blinking(gymnasium.Env[Any, Any]):
    """A small environment whose pictures fail while `broken`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    render_mode = "rgb_array"
    broken = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.full(1, self.np_random.uniform(), np.float32), 1.0, self.count == 9, False, {}

    def render(self) -> Any:
        if type(self).broken and self.count > 2:
            raise OSError("the picture is gone")
        return np.full((16, 16, 3), self.count * 20, np.uint8)


def test_every_connector_hears_of_every_video(tmp_path: Path) -> None:
    class Mine(Connector):
        videos: list[Any] = []  # noqa: RUF012

        def log_metrics(self, metrics: Any, timestep: int, time: float) -> None: ...

        def log_video(self, path: Path, name: str, timestep: int) -> None:
            self.videos.append((path, name, timestep))

    local, tensorboard = LocalConnector(tmp_path / "run"), TensorBoardConnector(tmp_path / "tensorboard")
    film = PeriodicVideo("CartPole-v1", 100, length=12, overlay=True, name="progress")
    train([film], [local, tensorboard, Mine()])
    tensorboard.close()
    paths = [tmp_path / "run" / "videos" / f"progress_{step:09d}.mp4" for step in (100, 200)]
    assert sorted((tmp_path / "run" / "videos").iterdir()) == paths
    assert [frames_in(path) for path in paths] == [12, 12]
    assert Mine.videos == [(path, "progress", step) for path, step in zip(paths, (100, 200), strict=True)]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    images = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Images("video/progress")
    assert [image.step for image in images] == [100, 200]
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(images[0].encoded_image_string))
    assert picture.format == "GIF"
    assert picture.size == (images[0].width, images[0].height) == (320, 213)
    assert getattr(picture, "n_frames", 1) > 1


def test_videos_change_no_weight_and_no_episode() -> None:
    returns: list[list[float]] = []

    class Returns(Callback):
        def on_training_start(self, event: Any, training: Any) -> None:
            returns.append([])

        def on_episode_end(self, event: Any, training: Any) -> None:
            returns[-1].append(event.episode_return)

    film = PeriodicVideo(Blinking, 50, "videos", length=20, overlay=True, deterministic=False, n_environments=2)
    with_videos, without = (train([Returns(), *callbacks], environment=Blinking) for callbacks in ([film], []))
    states = [agent.algorithm.policy.state_dict() for agent in (with_videos, without)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert returns[0] == returns[1] != []
    assert len(list(Path("videos").iterdir())) == 5


def test_without_a_local_connector_videos_are_in_the_working_directory() -> None:
    log = Log()
    train([PeriodicVideo(Blinking, 200, length=3, ending=".gif"), log], environment=Blinking)
    assert [event.path for event in log.videos] == [Path("videos/agent_000000200.gif")]


def test_a_folder_of_ones_own_is_copied_from_by_the_local_connector(tmp_path: Path) -> None:
    local = LocalConnector(tmp_path / "run")
    train([PeriodicVideo(Blinking, 200, tmp_path / "mine", length=3)], local, environment=Blinking)
    mine, copy = tmp_path / "mine" / "agent_000000200.mp4", local.videos_directory / "agent_000000200.mp4"
    assert copy.read_bytes() == mine.read_bytes()


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        (gymnasium.make("CartPole-v1"), RecordingError),
        ("DoesNotExist-v0", EnvironmentSourceError),
        (None, ArgumentError),
        (Blinking, SpaceMismatchError),
    ],
    ids=["draws nothing", "unknown", "none", "other spaces"],
)
def test_an_environment_that_cannot_be_filmed_is_refused_at_the_start(environment: Any, error: Any) -> None:
    log = Log()
    with pytest.raises(error):
        train([PeriodicVideo(environment, 10_000), log])
    assert log.videos == []


@pytest.mark.parametrize("missing", ["observation[4]", "observation['camera']", "value"])
def test_an_overlay_of_what_is_not_there_is_refused_at_the_start(missing: str) -> None:
    agent = CustomAgent("q_learning") if missing == "value" else StableBaselinesAgent("ppo", SHORT)
    environment = "FrozenLake-v1" if missing == "value" else "CartPole-v1"
    film = PeriodicVideo(environment, 10_000, overlay=["return", missing])
    with pytest.raises(ArgumentError, match=re.escape(missing)):
        agent.train(environment, 128, callbacks=[film], seed=0, progress_bar=False)


def test_a_training_environment_is_refused() -> None:
    environment = Blinking()
    with pytest.raises(ArgumentError, match="one of the training environments"):
        train([PeriodicVideo(environment, 100)], environment=environment)


def test_a_later_failure_is_logged_once_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Break(Callback):
        def on_step(self, training: Any) -> None:
            Blinking.broken = 60 <= training.timestep < 190

    monkeypatch.setattr(Blinking, "broken", False)
    log = Log()
    with caplog.at_level(logging.ERROR):
        agent = train([Break(), PeriodicVideo(Blinking, 50, "videos", length=6), log], environment=Blinking)
    assert agent.num_timesteps == 256
    assert [event.timestep for event in log.videos] == [50, 200, 250]
    errors = [record.getMessage() for record in caplog.records if record.name.endswith("periodic_video")]
    assert len(errors) == 1
    assert "no video at timestep 100" in errors[0]
    assert "the picture is gone" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"every": 0}, "every"),
        ({"length": 0}, "length"),
        ({"ending": ".avi"}, "path"),
        ({"name": "a/b"}, "name"),
        ({"fps": -1}, "fps"),
        ({"overlay": ["nothing"]}, "overlay"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(arguments: dict[str, Any], argument: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        PeriodicVideo("CartPole-v1", **{"every": 100, **arguments})
    assert caught.value.argument == argument
