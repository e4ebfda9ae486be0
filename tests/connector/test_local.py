from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework import Callback, LocalConnector, StableBaselinesAgent, TensorBoardConnector
from rl_framework.connector import Connector
from rl_framework.errors import ArgumentError, ConnectorError, MissingExtraError
from rl_framework.training.metrics import read_metrics, series

SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


def _train(connector: Any, steps: int = 256, **kwargs: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", steps, n_environments=2, connector=connector, seed=0, progress_bar=False, **kwargs)
    return agent


def test_a_new_run_never_overwrites_an_older_one() -> None:
    first, second, third = (LocalConnector(root="runs", name="ppo") for _ in range(3))
    assert [c.directory.name for c in (first, second, third)] == ["ppo", "ppo-2", "ppo-3"]


def test_the_default_folder_is_named_by_the_time() -> None:
    directory = LocalConnector().directory
    assert directory.parent == Path("runs")
    assert directory.is_dir()


def test_directory_and_name_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match="name='x'"):
        LocalConnector("here", name="x")


def test_a_run_leaves_record_and_metrics() -> None:
    local = LocalConnector("run")
    agent = _train(local, evaluate_every=128, n_eval_episodes=3)
    (record,) = json.loads((local.directory / "record.json").read_text())
    assert record["algorithm"] == "ppo"
    assert record["algorithm_parameters"] == SHORT
    assert record["environment"] == "CartPole-v1"
    assert (record["seed"], record["n_environments"]) == (0, 2)
    assert record["choices"]["vectorization"]["value"] == "sync"
    assert record["choices"]["torch_threads"]["reason"]
    assert record["versions"]["stable-baselines3"]
    records = read_metrics(local.metrics_path)
    timesteps, returns = series(records, "episode/return")
    _, lengths = series(records, "episode/length")
    assert len(returns) > 3
    assert np.array_equal(returns, lengths)  # CartPole pays one for each step
    assert timesteps.max() <= agent.num_timesteps == 256
    assert series(records, "evaluation/mean_return")[0].tolist() == [128, 256]
    assert np.isfinite(series(records, "train/loss")[1]).all()


def test_the_last_update_is_reported_too() -> None:
    """The library itself writes what an update reported when the next rollout ends."""
    local = LocalConnector("run")
    _train(local)
    _, updates = series(read_metrics(local.metrics_path), "train/n_updates")
    assert updates.tolist() == [1, 2, 3, 4]


def test_a_second_training_is_added() -> None:
    local = LocalConnector("run")
    agent = _train(local)
    agent.train("CartPole-v1", 64, n_environments=2, connector=local, progress_bar=False)
    assert len(json.loads((local.directory / "record.json").read_text())) == 2
    timesteps, _ = series(read_metrics(local.metrics_path), "episode/return")
    assert timesteps.max() > 256
    assert (np.diff(timesteps) >= 0).all()


def test_upload_and_download_give_the_same_agent() -> None:
    local = LocalConnector("run")
    agent = _train(local)
    assert agent.upload(connector=local) == local.directory
    assert {path.name for path in local.directory.iterdir()} == {
        "agent.zip",
        "learning_curve.png",
        "metrics.jsonl",
        "record.json",
    }
    other = StableBaselinesAgent("ppo").download(connector=local)
    expected = agent.evaluate("CartPole-v1", 5, seed=0)
    assert other.evaluate("CartPole-v1", 5, seed=0) == expected
    local.log_evaluation(expected)
    stored = json.loads((local.directory / "evaluation.json").read_text())
    assert stored["mean"] == expected.mean
    assert stored["returns"] == expected.returns.tolist()


def test_upload_films_a_replay() -> None:
    local = LocalConnector("run", video_length=10)
    _train(local).upload(connector=local, video_recording_environment="CartPole-v1")
    import imageio_ffmpeg

    frames = imageio_ffmpeg.read_frames(str(local.directory / "replay.mp4"))
    assert next(frames)["size"] == (600, 400)
    assert sum(1 for _ in frames) == 10


def test_an_upload_that_cannot_be_written_says_so() -> None:
    local = LocalConnector("run")
    agent = _train(None)
    local.directory.rmdir()
    local.directory.write_text("a file is in the way")
    with pytest.raises(ConnectorError, match="could not be saved in run"):
        agent.upload(connector=local)


def test_download_without_upload_says_so() -> None:
    with pytest.raises(ConnectorError, match="no agent in run"):
        StableBaselinesAgent("ppo").download(connector=LocalConnector("run"))


def test_tensorboard_has_every_scalar_exactly_once() -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    local, tensorboard = LocalConnector("run"), TensorBoardConnector("run/tensorboard")
    _train([local, tensorboard], evaluate_every=128, n_eval_episodes=3)
    tensorboard.close()
    events = EventAccumulator("run/tensorboard").Reload()
    records = read_metrics(local.metrics_path)
    names = {name for record in records for name in record.metrics}
    assert names == set(events.Tags()["scalars"])
    for name in names:
        timesteps, values = series(records, name)
        points = events.Scalars(name)
        assert [point.step for point in points] == timesteps.tolist()
        assert np.allclose([point.value for point in points], values)
    assert "record/text_summary" in events.Tags()["tensors"]


def test_a_tracker_keeps_no_agents() -> None:
    tensorboard = TensorBoardConnector("tensorboard")
    agent = _train(None)
    with pytest.raises(ConnectorError, match="TensorBoardConnector keeps no agents"):
        agent.upload(connector=tensorboard)
    with pytest.raises(ConnectorError, match="TensorBoardConnector keeps no agents"):
        agent.download(connector=tensorboard)


def test_a_missing_tensorboard_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "rl-framework\[tensorboard\]"'):
        TensorBoardConnector("tensorboard")


def test_what_is_no_connector_is_refused() -> None:
    with pytest.raises(ArgumentError, match="is no connector"):
        _train("runs")


def test_a_tracker_of_ones_own_is_one_method() -> None:
    class Mine(Connector):
        seen: list[tuple[str, int]]

        def __init__(self) -> None:
            self.seen = []

        def log_metrics(self, metrics: Any, timestep: int, time: float) -> None:
            self.seen += [(name, timestep) for name in metrics]

    mine = Mine()
    _train(mine)
    assert {"episode/return", "train/loss", "time/fps"} <= {name for name, _ in mine.seen}


def test_a_full_disk_loses_no_metrics_and_ends_no_training(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    expected, local = LocalConnector("expected"), LocalConnector("run")
    _train(expected)
    room = [300]

    class Disk(io.FileIO):
        def write(self, content: Any) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = bytes(content)[: room[0]]  # a disk takes what it can before it refuses
            room[0] -= len(part)
            return super().write(part) or 0

    class MakeRoom(Callback):
        def on_rollout_end(self, event: Any, training: Any) -> None:
            if event.timestep == 192:
                room[0] = 1 << 20

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *a, **k: Disk(path, "ab") if mode == "ab" else opened(path, mode, *a, **k)
    )
    _train(local, callbacks=[MakeRoom()])
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(messages) == 1
    assert "metrics.jsonl cannot be written" in messages[0]
    records = [
        [(r.timestep, {k: v for k, v in r.metrics.items() if not k.startswith("time/")}) for r in read_metrics(path)]
        for path in (expected.metrics_path, local.metrics_path)
    ]
    assert records[0] == records[1]
