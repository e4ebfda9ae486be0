"""One training that is looked at: each connector has its videos, its distributions and its episode metrics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tests.connector import clearml_runs
from tests.servers.clearml import loopback_clearml
from tests.servers.hub import loopback_hub
from tests.servers.mlflow import empty_database

from rl_framework import (
    HuggingFaceConnector,
    HuggingFaceUploadConfig,
    LocalConnector,
    MLflowConnector,
    PeriodicVideo,
    StableBaselinesAgent,
    TensorBoardConnector,
    TrackNorms,
    WandbConnector,
)
from rl_framework.connector.wandb.transaction_log import read_rows
from rl_framework.training.metrics import read_histograms, read_metrics

for module in ("imageio_ffmpeg", "mlflow", "wandb"):
    pytest.importorskip(module)
# The SDK's own reader of settings.
pytestmark = pytest.mark.filterwarnings("ignore::pyparsing.warnings.PyparsingDeprecationWarning")

NAME = "tester/looked-at"
VIDEOS = [1_024, 2_048]
DISTRIBUTIONS = ["rollout/action", "norms/policy_gradient", "norms/policy_clipped_gradient", "norms/policy_update"]
NUMBERS = ["episode/height_sum", "rollout/action_share_1", "norms/policy_weights", "norms/policy_learning_rate"]


class Climbing(gymnasium.Env[Any, Any]):
    """Episodes of eight steps that tell how high they are."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    render_mode = "rgb_array"
    height = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.height = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.height += 1
        told = {"step_metric_height": self.height}
        return np.full(1, self.height, np.float32), float(action), self.height == 8, False, told

    def render(self) -> Any:
        return np.full((16, 16, 3), self.height * 20, np.uint8)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("looked_at")
    with (
        pytest.MonkeyPatch.context() as patch,
        loopback_hub(patch, folder / "cache") as hub,
        loopback_clearml(patch, folder) as clearml_server,
    ):
        patch.chdir(folder)
        upload = HuggingFaceUploadConfig(NAME, n_eval_episodes=2, video_length=4)
        # A machine that has much to do takes its time, W&B's service too when it writes down the end of a run.
        patch.setattr("rl_framework.connector.wandb.session._PATIENCE_WITH_LOG", 60.0)
        hugging_face = HuggingFaceConnector(upload, retry=clearml_runs.QUICK, patience=60.0)
        clearml = clearml_runs.connector()
        local, tensorboard = LocalConnector(folder / "run"), TensorBoardConnector(folder / "tensorboard")
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / "wandb-home"))
        wandb = WandbConnector("looked at", mode="offline", directory=folder / "wandb", patience=60.0)
        (folder / "mlflow").mkdir()
        shutil.copyfile(empty_database(), folder / "mlflow" / "mlflow.db")
        mlflow = MLflowConnector(folder / "mlflow", patience=60.0)
        agent = StableBaselinesAgent("ppo", {"n_steps": 256, "batch_size": 64, "n_epochs": 1})
        agent.train(
            Climbing,
            2_304,
            seed=0,
            connector=[local, tensorboard, hugging_face, clearml, wandb, mlflow],
            callbacks=[PeriodicVideo(Climbing, 1_024, length=6, overlay=True), TrackNorms(every=512, samples=3)],
            progress_bar=False,
        )
        agent.upload(hugging_face)
        for connector in (tensorboard, hugging_face, clearml, wandb, mlflow):
            connector.close()
        yield {"folder": folder, "hub": hub, "clearml": clearml_server, "local": local, "mlflow_run": mlflow.run}


def test_local(looked_at: dict[str, Any]) -> None:
    local = looked_at["local"]
    assert sorted(path.name for path in local.videos_directory.iterdir()) == [f"agent_{s:09d}.mp4" for s in VIDEOS]
    _check_files(local.metrics_path, local.histograms_path)


def test_tensorboard(looked_at: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(looked_at["folder"] / "tensorboard")).Reload()
    assert [image.step for image in events.Images("video/agent")] == VIDEOS
    assert set(DISTRIBUTIONS) <= set(events.Tags()["histograms"])
    assert set(NUMBERS) <= set(events.Tags()["scalars"])
    assert {point.value for point in events.Scalars("episode/height_sum")} == {36.0}


def test_hugging_face(looked_at: dict[str, Any]) -> None:
    files, videos = looked_at["hub"].repositories["model", NAME].files, looked_at["local"].videos_directory
    for step in VIDEOS:
        assert files[f"videos/agent-{step:012d}.mp4"] == (videos / f"agent_{step:09d}.mp4").read_bytes()
    for name in ("metrics.jsonl", "histograms.jsonl"):
        (looked_at["folder"] / name).write_bytes(files[name])
    _check_files(looked_at["folder"] / "metrics.jsonl", looked_at["folder"] / "histograms.jsonl")


def test_clearml(looked_at: dict[str, Any]) -> None:
    server, videos = looked_at["clearml"], looked_at["local"].videos_directory
    task_id = server.task()["id"]
    media = server.events_of(task_id, "training_debug_image")
    assert [(shown["metric"], shown["variant"], shown["iter"]) for shown in media] == [
        ("video", "agent", step) for step in VIDEOS
    ]
    for shown, step in zip(media, VIDEOS, strict=True):
        assert server.file_at(shown["url"]) == (videos / f"agent_{step:09d}.mp4").read_bytes()
    plots = {f"{plot['metric']}/{plot['variant']}": plot for plot in server.events_of(task_id, "plot")}
    assert set(DISTRIBUTIONS) <= set(plots)
    assert sum(json.loads(plots["norms/policy_gradient"]["plot_str"])["data"][0]["y"]) == 3
    scalars = server.scalars(task_id)
    assert set(NUMBERS) <= set(scalars)
    assert {value for _, value in scalars["episode/height_sum"]} == {36.0}


def test_wandb(looked_at: dict[str, Any]) -> None:
    (log,) = (looked_at["folder"] / "wandb" / "wandb").glob("offline-run-*/*.wandb")
    rows, videos = list(read_rows(log)), looked_at["local"].videos_directory
    shown = [(row["timestep"], row["video/agent"]["path"]) for row in rows if "video/agent" in row]
    assert [step for step, _ in shown] == VIDEOS
    for step, path in shown:
        assert (log.parent / "files" / path).read_bytes() == (videos / f"agent_{step:09d}.mp4").read_bytes()
    known = {name for row in rows for name in row}
    assert {*(f"histograms/{name}" for name in DISTRIBUTIONS), *NUMBERS} <= known
    gradients = "histograms/norms/policy_gradient"
    assert {sum(row[gradients]["values"]) for row in rows if gradients in row} == {3}


def test_mlflow(looked_at: dict[str, Any]) -> None:
    client, run_id = _mlflow_client(looked_at), looked_at["mlflow_run"]
    videos = looked_at["local"].videos_directory
    for step in VIDEOS:
        copy = Path(client.download_artifacts(run_id, f"videos/agent-{step:012d}.mp4"))
        assert copy.read_bytes() == (videos / f"agent_{step:09d}.mp4").read_bytes()
    kept = [Path(client.download_artifacts(run_id, file.path)) for file in client.list_artifacts(run_id, "histograms")]
    distributions = [json.loads(path.read_text()) for path in kept]
    assert set(DISTRIBUTIONS) <= {name for found in distributions for name in found}
    assert set(NUMBERS) <= set(client.get_run(run_id).data.metrics)


def test_every_scalar_is_exactly_once_in_every_tracker(looked_at: dict[str, Any]) -> None:
    """TensorBoard has single precision, and ClearML tells values of one timestep apart by the iterations after it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    records = read_metrics(looked_at["local"].metrics_path)
    expected = sorted((name, record.timestep, value) for record in records for name, value in record.metrics.items())
    events = EventAccumulator(str(looked_at["folder"] / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tensorboard = sorted(
        (name, point.step, point.value) for name in events.Tags()["scalars"] for point in events.Scalars(name)
    )
    assert [point[:2] for point in tensorboard] == [point[:2] for point in expected]
    assert [point[2] for point in tensorboard] == pytest.approx([point[2] for point in expected], rel=1e-6, nan_ok=True)
    (log,) = (looked_at["folder"] / "wandb" / "wandb").glob("offline-run-*/*.wandb")
    wandb = [
        (name, row["timestep"], value)
        for row in read_rows(log)
        for name, value in row.items()
        if isinstance(value, int | float) and not name.startswith("_") and name != "timestep"
    ]
    assert sorted(wandb) == expected
    client, run_id = _mlflow_client(looked_at), looked_at["mlflow_run"]
    names = client.get_run(run_id).data.metrics
    mlflow = [(name, point.step, point.value) for name in names for point in client.get_metric_history(run_id, name)]
    assert sorted(mlflow) == expected
    server = looked_at["clearml"]
    clearml = {name: [value for _, value in points] for name, points in server.scalars(server.task()["id"]).items()}
    by_name: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.metrics.items():
            by_name.setdefault(name, []).append(value)
    assert clearml == by_name


def _mlflow_client(looked_at: dict[str, Any]) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{looked_at['folder'] / 'mlflow' / 'mlflow.db'}")


def _check_files(metrics: Path, histograms: Path) -> None:
    known = {name for record in read_metrics(metrics) for name in record.metrics}
    assert set(NUMBERS) <= known
    counted = {name: sum(found["counts"]) for _, name, found in read_histograms(histograms)}
    assert set(DISTRIBUTIONS) <= set(counted)
    assert counted["norms/policy_gradient"] == 3
