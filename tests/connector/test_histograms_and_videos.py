from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework import LocalConnector, TensorBoardConnector
from rl_framework.errors import ArgumentError
from rl_framework.report import encode_video
from rl_framework.training import RolloutEnded, Training, VideoRecorded
from rl_framework.training.metrics import MetricsWriter, discard_after, histogram, read_histograms, read_metrics

SAMPLES = np.random.default_rng(0).normal(3.0, 2.0, 5_000)


def small_video(path: Path, n_frames: int = 5) -> Path:
    return encode_video((np.full((48, 64, 3), 40 * index % 256, np.uint8) for index in range(n_frames)), path)


@pytest.mark.parametrize(
    ("samples", "low", "high", "counts"),
    [
        ([0, 1, 1, 1], -0.5, 1.5, [1, 3]),
        ([3, 5], 2.5, 5.5, [1, 0, 1]),
        ([True, False, True], -0.5, 1.5, [1, 2]),
        ([7], 6.5, 7.5, [1]),
        ([2.5, 2.5], 2.5, 2.5, [2]),
        ([0.0, 1.0, 0.9, float("nan"), float("inf")], 0.0, 1.0, [1, 2]),
        ([], 0.0, 0.0, []),
        ([-1e308, 1e308], -1e308, 1e308, [2]),
    ],
)
def test_samples_are_counted(samples: Any, low: float, high: float, counts: list[int]) -> None:
    assert histogram(samples) == {"low": low, "high": high, "counts": counts}


def test_counts_agree_with_numpy_and_are_never_too_many() -> None:
    found = histogram(SAMPLES)
    expected, edges = np.histogram(SAMPLES, bins=64)
    assert found["counts"] == expected.tolist()
    assert (found["low"], found["high"]) == (edges[0], edges[-1])
    assert len(histogram(np.arange(1_000_000))["counts"]) == 64


def emit(connector: Any, timestep: int, **values: Any) -> None:
    event = RolloutEnded(timestep=timestep, time=5.0, histograms={"rollout/action": SAMPLES}, **values)
    connector.on_event(event, Training(None, [connector], seed=0))


def test_the_local_connector_keeps_small_histograms_beside_the_metrics() -> None:
    local = LocalConnector("run")
    emit(local, 100, metrics={"rollout/x": 1.0})
    emit(local, 200)
    local.close()
    assert read_histograms(local.histograms_path) == [
        (step, "rollout/action", histogram(SAMPLES)) for step in (100, 200)
    ]
    assert [record.metrics for record in read_metrics(local.metrics_path)] == [{"rollout/x": 1.0}]
    assert local.histograms_path.stat().st_size < 1_000


def test_after_a_resume_no_histogram_is_there_twice() -> None:
    local = LocalConnector("run")
    for timestep in (100, 200, 300):
        emit(local, timestep)
    local.discard_after(200)
    emit(local, 300)
    assert [timestep for timestep, _, _ in read_histograms(local.histograms_path)] == [100, 200, 300]
    discarded = local.histograms_path.with_suffix(".discarded.jsonl")
    assert [timestep for timestep, _, _ in read_histograms(discarded)] == [300]


def test_a_line_that_was_cut_costs_one_record(caplog: pytest.LogCaptureFixture) -> None:
    local = LocalConnector("run")
    for timestep in (100, 200):
        emit(local, timestep)
    local.close()
    content = local.histograms_path.read_bytes()
    local.histograms_path.write_bytes(content[:-9])
    assert [timestep for timestep, _, _ in read_histograms(local.histograms_path)] == [100]
    assert "was cut" in caplog.text
    with MetricsWriter(local.histograms_path) as writer:
        writer.write(300, {}, 1.0, {"a": [1]})
    assert [timestep for timestep, _, _ in read_histograms(local.histograms_path)] == [100, 300]
    with pytest.raises(ArgumentError, match="no such metrics file"):
        read_histograms("nothing.jsonl")
    assert discard_after("nothing.jsonl", 5) == 0


def tell_of_video(connector: Any, path: Path, timestep: int = 70) -> None:
    event = VideoRecorded(timestep=timestep, path=path, name="a/replay")
    connector.on_event(event, Training(None, [connector], seed=0))


def test_the_local_connector_copies_a_video_once(tmp_path: Path) -> None:
    local = LocalConnector(tmp_path / "run")
    outside = small_video(tmp_path / "elsewhere.mp4")
    tell_of_video(local, outside)
    (copy,) = local.videos_directory.iterdir()
    assert copy.name == "a_replay_000000070.mp4"
    assert copy.read_bytes() == outside.read_bytes()
    tell_of_video(local, copy, timestep=80)
    assert list(local.videos_directory.iterdir()) == [copy]


def test_a_video_for_which_there_is_no_room_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    local, outside = LocalConnector(tmp_path / "run"), small_video(tmp_path / "elsewhere.mp4")
    monkeypatch.setattr(shutil, "copyfile", full)
    tell_of_video(local, outside)
    assert "could not be copied" in caplog.text
    assert list(local.videos_directory.iterdir()) == []
    assert outside.exists()


def test_tensorboard_shows_histograms() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard = TensorBoardConnector("tensorboard")
    emit(tensorboard, 100)
    tensorboard.log_histograms({"one": np.array([2.0]), "none": np.array([]), "nan": np.full(3, np.nan)}, 100, 5.0)
    tensorboard.close()
    events = EventAccumulator("tensorboard").Reload()
    assert sorted(events.Tags()["histograms"]) == ["one", "rollout/action"]
    (shown,) = events.Histograms("rollout/action")
    assert (shown.step, shown.wall_time) == (100, 5.0)
    value = shown.histogram_value
    assert (value.num, value.min, value.max) == (5_000, SAMPLES.min(), SAMPLES.max())
    assert value.sum == pytest.approx(SAMPLES.sum())
    assert len(value.bucket) <= 70


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_tensorboard_shows_a_video_as_a_moving_picture(tmp_path: Path, ending: str) -> None:
    from io import BytesIO

    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = small_video(tmp_path / f"video{ending}", n_frames=30)
    tensorboard = TensorBoardConnector("tensorboard")
    tell_of_video(tensorboard, path)
    tensorboard.close()
    (shown,) = EventAccumulator("tensorboard").Reload().Images("video/a/replay")
    picture = Image.open(BytesIO(shown.encoded_image_string))
    assert (shown.step, shown.width, shown.height) == (70, 64, 48)
    assert (picture.format, picture.size) == ("GIF", (64, 48))
    assert getattr(picture, "n_frames", 1) > 5


def test_a_video_that_tensorboard_cannot_show_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    tell_of_video(TensorBoardConnector("tensorboard"), broken)
    tell_of_video(TensorBoardConnector("tensorboard"), tmp_path / "missing.gif")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"{broken} cannot be shown in TensorBoard",
        f"{tmp_path / 'missing.gif'} cannot be shown in TensorBoard",
    ]
