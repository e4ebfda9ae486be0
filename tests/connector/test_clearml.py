"""The ClearML connector in this process, against the loopback server."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from tests.connector.clearml_runs import QUICK, SHORT, connector
from tests.servers.clearml import ClearMLServer

from rl_framework import (
    Callback,
    ClearMLConnector,
    ClearMLDownloadConfig,
    ClearMLUploadConfig,
    LocalConnector,
    StableBaselinesAgent,
    TensorBoardConnector,
    load_agent,
    registry,
)
from rl_framework.errors import ArgumentError, BundleError, ConnectorError, MissingExtraError
from rl_framework.training import EpisodeEnded, Training, TrainingEnded, TrainingFailed, TrainingStarted, VideoRecorded
from rl_framework.training.metrics import read_metrics, series

# The SDK's own reader of settings.
pytestmark = pytest.mark.filterwarnings("ignore::pyparsing.warnings.PyparsingDeprecationWarning")


def _train(connectors: Any, steps: int = 256, **kwargs: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", steps, n_environments=4, connector=connectors, seed=0, progress_bar=False, **kwargs)
    return agent


def _check_scalars(server: ClearMLServer, task_id: str, local: LocalConnector) -> None:
    """Compares what arrived with what happened: everything, once, at its timestep or just behind it."""
    scalars, records = server.scalars(task_id), read_metrics(local.metrics_path)
    assert set(scalars) == {name for record in records for name in record.metrics}
    for name, points in scalars.items():
        timesteps, values = series(records, name)
        assert [value for _, value in points] == values.tolist(), name
        assert all(0 <= point - step < 4 for (point, _), step in zip(points, timesteps, strict=True)), name


# Training


def test_a_run_is_in_clearml_with_everything_once(clearml_server: ClearMLServer) -> None:
    clearml, local = connector(), LocalConnector("run")
    options = {"evaluate_every": 128, "n_eval_episodes": 2, "checkpoint_every": 128, "checkpoint_directory": "saved"}
    _train([local, TensorBoardConnector("tensorboard"), clearml], **options)
    task = clearml_server.task()
    assert task["id"] == clearml.task_id
    assert task["name"] == "ppo on CartPole-v1"
    assert task["status"] == "completed"
    assert clearml_server.contents.projects[task["project"]]["name"] == "my project"
    _check_scalars(clearml_server, task["id"], local)
    assert set(clearml_server.contents.event_counts.values()) == {1}
    (record,) = json.loads((local.directory / "record.json").read_text())
    there = json.loads(task["configuration"]["record"]["value"])
    assert there == record
    models = {entry["name"]: clearml_server.contents.models[entry["model"]] for entry in task["models"]["output"]}
    assert len(models) == 2
    for name, model in models.items():
        assert clearml_server.file_at(model["uri"]) == (Path("saved") / f"{name}.zip").read_bytes()
    assert clearml.delivery.n_left == 0


def test_episodes_that_end_in_the_same_step_are_all_there(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    for value in (1.0, 2.0, 3.0):
        clearml.log_metrics({"episode/return": value}, 8, 0.0)
    clearml.log_metrics({"episode/return": 4.0}, 16, 0.0)
    clearml.close()
    points = clearml_server.scalars(clearml_server.task()["id"])["episode/return"]
    assert points == [(8, 1.0), (9, 2.0), (10, 3.0), (16, 4.0)]


def test_histograms_and_videos(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    clearml = connector()
    clearml.log_histograms({"rollout/action": np.array([0, 0, 1, np.nan])}, 64, 0.0)
    video = tmp_path / "replay.mp4"
    video.write_bytes(b"a video")
    training = Training(None, [clearml], 0)
    training.emit(VideoRecorded(timestep=64, path=video))
    clearml.close()
    task_id = clearml_server.task()["id"]
    (plot,) = clearml_server.events_of(task_id, "plot")
    (bars,) = json.loads(plot["plot_str"])["data"]
    assert (plot["metric"], plot["variant"], plot["iter"]) == ("rollout", "action", 64)
    assert (bars["y"][0], bars["y"][-1], sum(bars["y"])) == (2, 1, 3)
    (media,) = clearml_server.events_of(task_id, "training_debug_image")
    assert (media["metric"], media["variant"], media["iter"]) == ("video", "replay", 64)
    assert clearml_server.file_at(media["url"]) == b"a video"


def test_nan_is_left_out_and_told_once(clearml_server: ClearMLServer, caplog: pytest.LogCaptureFixture) -> None:
    clearml = connector()
    clearml.log_metrics({"train/loss": float("nan"), "train/fine": 1.0}, 1, 0.0)
    clearml.log_metrics({"train/loss": float("inf")}, 2, 0.0)
    clearml.close()
    assert clearml_server.scalars(clearml_server.task()["id"]) == {"train/fine": [(1, 1.0)]}
    assert sum("NaN" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (TrainingEnded(timestep=1), "completed"),
        (TrainingEnded(timestep=1, interrupted=True), "stopped"),
        (TrainingFailed(timestep=1, error=ValueError("no")), "failed"),
    ],
    ids=["ended", "interrupted", "failed"],
)
def test_the_task_tells_how_training_ended(clearml_server: ClearMLServer, event: Any, status: str) -> None:
    clearml = connector()
    training = Training(None, [clearml], 0)
    training.emit(TrainingStarted(timestep=0, total_timesteps=1))
    training.emit(event)
    assert clearml_server.task()["status"] == status


def test_a_resumed_training_goes_on_in_the_same_task(clearml_server: ClearMLServer) -> None:
    class Kill(Callback):
        def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
            if event.timestep > 200:
                raise RuntimeError("killed")

    expected, options = LocalConnector("expected"), {"checkpoint_every": 128, "checkpoint_directory": "saved"}
    _train(expected, 512, checkpoint_every=128, checkpoint_directory="other")
    first = connector()
    with pytest.raises(RuntimeError, match="killed"):
        _train(first, 512, callbacks=[Kill()], **options)
    second = connector()
    second.hyperparameters(SHORT)
    _train(second, 512, resume_from="saved", **options)
    assert second.task_id == first.task_id
    assert clearml_server.task()["status"] == "completed"
    scalars = clearml_server.scalars(str(second.task_id))
    records = read_metrics(expected.metrics_path)
    for name in ("episode/return", "train/loss", "train/n_updates"):
        assert [value for _, value in scalars[name]] == series(records, name)[1].tolist(), name


def test_a_checkpoint_cannot_lead_to_a_task_of_somebody_else(clearml_server: ClearMLServer) -> None:
    foreign = clearml_server.clone(_task_of(clearml_server))
    clearml_server.contents.tasks[foreign]["comment"] = "written by hand"
    for run_id in (foreign, "written by hand", ".*", "0" * 16):
        clearml = connector()
        clearml.rejoin(run_id)
        clearml.log_metrics({"a": 1.0}, 1, 0.0)
        clearml.close()
        assert clearml.task_id not in (None, foreign)
    assert clearml_server.scalars(foreign) == {}


def _task_of(server: ClearMLServer) -> str:
    clearml = connector()
    clearml.hyperparameters({"a": 1})
    clearml.log_metrics({"b": 1.0}, 1, 0.0)
    clearml.close()
    return str(clearml.task_id)


def test_two_trainings_are_two_records_of_one_task(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    agent = _train(clearml, 128)
    agent.train("CartPole-v1", 128, n_environments=4, connector=clearml, progress_bar=False)
    task = clearml_server.task()
    assert set(task["configuration"]) == {"record", "record from timestep 128"}
    assert task["status"] == "completed"


# Agents


def test_upload_and_download_give_the_same_agent(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    agent = _train(clearml)
    page = clearml.upload(agent, video_recording_environment="CartPole-v1")
    task = clearml_server.task()
    assert page == clearml.web_page
    assert task["id"] in page
    assert task["status"] == "completed"
    artifacts = {entry["key"]: entry for entry in task["execution"]["artifacts"]}
    assert set(artifacts) == {"agent", "record", "results", "system"}
    assert len(json.loads(clearml_server.file_at(artifacts["results"]["uri"]))["returns"]) == 2
    (video,) = clearml_server.events_of(task["id"], "training_debug_image")
    assert b"ftyp" in clearml_server.file_at(video["url"])[:16]
    model_id = task["models"]["output"][-1]["model"]
    expected = agent.evaluate("CartPole-v1", 3, seed=0)
    configs = [None, ClearMLDownloadConfig(task_id=task["id"]), ClearMLDownloadConfig(model_id=model_id)]
    for config in configs:
        source = clearml if config is None else ClearMLConnector(download_config=config, retry=QUICK)
        other = StableBaselinesAgent("ppo").download(connector=source)
        assert other.evaluate("CartPole-v1", 3, seed=0) == expected
    clearml.close()
    assert [path for path in Path("runs").rglob("*") if path.is_file()] == []


def test_a_damaged_download_is_refused(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    agent = _train(clearml)
    clearml.upload(agent)
    (model,) = clearml_server.contents.models.values()
    place = next(path for path in clearml_server.contents.files if "/models/" in path)
    clearml_server.contents.files[place] = b"something else"
    with pytest.raises(ConnectorError, match="SHA-256 differs"):
        clearml.download(agent)
    model["metadata"].clear()
    with pytest.raises(BundleError):
        clearml.download(agent)


def test_download_says_what_is_missing(clearml_server: ClearMLServer) -> None:
    agent = StableBaselinesAgent("ppo")
    with pytest.raises(ConnectorError, match="ClearMLDownloadConfig"):
        connector().download(agent)
    with pytest.raises(ConnectorError, match="Invalid task id"):
        ClearMLConnector(download_config=ClearMLDownloadConfig(task_id="0" * 32), retry=QUICK).download(agent)
    empty = ClearMLConnector(download_config=ClearMLDownloadConfig(task_id=_task_of(clearml_server)), retry=QUICK)
    with pytest.raises(ConnectorError, match="no output model"):
        empty.download(agent)


def test_other_storage_takes_the_files(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    folder = tmp_path / "share"
    config = ClearMLUploadConfig("my project", output_uri=str(folder), describe_code=False)
    clearml = connector(config)
    agent = _train(clearml)
    clearml.upload(agent)
    assert clearml_server.contents.files == {}
    assert len(list(folder.rglob("agent.zip"))) == 2
    assert StableBaselinesAgent("ppo").download(connector=clearml).num_timesteps == agent.num_timesteps


# What is refused


def test_wrong_keys_are_told_with_what_to_do(
    clearml_server: ClearMLServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "a-wrong-key-0123456789")
    clearml = connector()
    agent = _train(clearml)
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "does not accept the keys" in message
    assert "CLEARML_API_SECRET_KEY" in message
    with pytest.raises(ConnectorError, match="clearml-init") as raised:
        clearml.upload(agent)
    assert "a-wrong-key" not in message + str(raised.value) + caplog.text
    assert load_agent(next(Path("runs").rglob("*-upload/agent.zip"))).num_timesteps == 256


def test_without_keys_the_connector_says_how_to_get_them(
    clearml_server: ClearMLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLEARML_API_ACCESS_KEY")
    with pytest.raises(ConnectorError, match="clearml-init"):
        connector()


def test_a_missing_clearml_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "rl-framework\[clearml\]"'):
        ClearMLConnector()


def test_the_registry_knows_it() -> None:
    assert registry.connectors.get("clearml") is ClearMLConnector


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: ClearMLUploadConfig("ab"), "project_name='ab'"),
        (lambda: ClearMLUploadConfig(task_name="x"), "task_name='x'"),
        (lambda: ClearMLUploadConfig(file_name="a/b.zip"), "file_name='a/b.zip'"),
        (lambda: ClearMLUploadConfig(file_name="agent"), "file_name='agent'"),
        (lambda: ClearMLUploadConfig(tags="tag"), "tags='tag'"),
        (lambda: ClearMLUploadConfig(n_eval_episodes=-1), "n_eval_episodes=-1"),
        (lambda: ClearMLUploadConfig(video_length="x"), "video_length='x'"),
        (lambda: ClearMLUploadConfig(None), "project_name=None"),
        (lambda: ClearMLUploadConfig(task_type="train"), "task_type='train'.*'training'"),
        (lambda: ClearMLDownloadConfig(), "model_id=None"),
        (lambda: ClearMLDownloadConfig("a", "b"), "model_id='a'"),
    ],
    ids=["project", "task", "folder", "ending", "tags", "episodes", "frames", "none", "type", "nothing", "both"],
)
def test_bad_configurations_are_refused(make: Any, argument: str) -> None:
    with pytest.raises(ArgumentError, match=argument):
        make()


@pytest.mark.parametrize("task", ["a name", type("Task", (), {"id": "offline-12345"})()], ids=["text", "offline"])
def test_what_is_no_task_is_refused(clearml_server: ClearMLServer, task: Any) -> None:
    with pytest.raises(ArgumentError, match="task="):
        ClearMLConnector(task=task)


def test_a_name_is_a_project_and_anything_else_no_configuration(clearml_server: ClearMLServer) -> None:
    connector = ClearMLConnector("my project")
    assert connector.upload_config == ClearMLUploadConfig("my project")
    for wrong in ({"upload_config": 3}, {"upload_config": ClearMLDownloadConfig("a")}, {"download_config": "a"}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            ClearMLConnector(**wrong)
    with pytest.raises(ArgumentError, match=r"parameters=\[1\]: must be a dictionary"):
        connector.hyperparameters([1])  # type: ignore[arg-type]


def test_training_waits_for_no_server(clearml_server: ClearMLServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers nothing before the training has told everything."""
    monkeypatch.setattr("rl_framework.connector.clearml.service._ANSWER_SECONDS", 300.0)
    answer = threading.Event()
    fault = clearml_server.fail(".", times=1000, until=answer)
    clearml = connector()
    for step in range(2000):
        clearml.log_metrics({"episode/return": 1.0}, step, 0.0)
    assert fault.met.wait(60.0)
    assert sum(clearml_server.contents.calls.values()) == 0
    answer.set()
    clearml.close()
    assert len(clearml_server.scalars(clearml_server.task()["id"])["episode/return"]) == 2000


def test_a_training_that_has_begun_is_not_handed_over(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    _train(clearml)
    with pytest.raises(ArgumentError, match=r"queue='gpu'.*before training"):
        clearml.execute_remotely("gpu")
    assert clearml_server.contents.queues == {}


def test_without_a_server_nothing_is_handed_over_and_the_process_goes_on(clearml_server: ClearMLServer) -> None:
    fault = clearml_server.fail(".", times=10_000, drop="before")
    clearml = connector(patience=0.01)
    clearml.hyperparameters({"learning_rate": 1e-3})
    with pytest.raises(ConnectorError, match=r"could not be handed to a queue.*cannot be reached"):
        clearml.execute_remotely("gpu")
    assert clearml_server.contents.queues == {}
    fault.times = 0
    clearml.patience = 60.0
    with pytest.raises(SystemExit):
        clearml.execute_remotely("gpu")
    assert clearml_server.contents.queues["gpu"]["entries"] == [clearml_server.task()["id"]]


def test_an_environment_that_cannot_be_filmed_loses_no_agent(clearml_server: ClearMLServer) -> None:
    clearml = connector()
    agent = _train(clearml)
    with pytest.raises(Exception, match="render_mode"):
        clearml.upload(agent, video_recording_environment=gymnasium.make("CartPole-v1"))
    assert load_agent(next(Path("runs").rglob("*-upload/agent.zip"))).num_timesteps == 256


def test_a_task_whose_reporter_is_forked_is_warned_of(
    clearml_server: ClearMLServer, caplog: pytest.LogCaptureFixture
) -> None:
    class MainTask:
        id, name = "0" * 32, "a task"
        _report_subprocess_enabled = True

        def is_main_task(self) -> bool:
            return True

        def get_project_name(self) -> str:
            return "my project"

    ClearMLConnector(task=MainTask())
    assert "report_use_subprocess: false in clearml.conf" in caplog.text
