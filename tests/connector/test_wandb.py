"""The real client of W&B, offline and without a server; what it has written down is read from its own log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.connector.test_histograms_and_videos import small_video
from tests.connector.wandb_runs import (
    PATIENCE,
    QUICK,
    SHORT,
    Told,
    at_home_here,
    begin,
    kill,
    logs,
    offline,
    own_service,
    points,
    records,
    rows,
    service_processes,
    wandb,
)

from rl_framework import StableBaselinesAgent, WandbConnector
from rl_framework.connector.wandb.session import _wait_for_log
from rl_framework.connector.wandb.transaction_log import read_rows
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.training import TrainingEnded

__all__ = ["at_home_here", "own_service"]  # fixtures


def test_every_number_is_there_once() -> None:
    told, connector = Told(), offline(tags=["a"], group="g", name="n")
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train(
        "CartPole-v1",
        128,
        n_environments=2,
        seed=0,
        progress_bar=False,
        connector=[told, connector],
        checkpoint_every=64,
        checkpoint_directory="checkpoints",
    )
    place = agent.upload(connector)
    connector.close()
    assert sorted(points(rows())) == sorted(told.points)
    (run,) = records("run")
    assert (run.project, run.run_id, run.display_name, run.run_group) == ("a project", connector.run_id(), "n", "g")
    assert list(run.tags) == ["a"]
    assert (run.host, run.git.remote_url) == ("", "")
    steps = {metric.name: metric.step_metric for metric in records("metric")}
    assert steps["episode/return"] == steps["train/loss"] == "timestep"
    config = {update.key: update.value_json for change in records("config") for update in change.update}
    assert config["environment"] == '"CartPole-v1"'
    names = [
        artifact.artifact.name if hasattr(artifact, "artifact") else artifact.name for artifact in records("artifact")
    ]
    names += [request.log_artifact.artifact.name for request in records("request") if request.HasField("log_artifact")]
    assert f"agent-{connector.run_id()}" in names
    assert names.count(f"checkpoints-{connector.run_id()}") == 2
    summary = {item.key or "/".join(item.nested_key) for change in records("summary") for item in change.update}
    assert "results/mean_reward" in summary
    assert Path(place) == logs()[0].parent.absolute()
    assert not list(Path("runs/.spool").iterdir())
    files = {path.name for path in logs()[0].parent.rglob("*") if path.is_file()}
    assert not {"wandb-metadata.json", "output.log", "requirements.txt", "diff.patch"} & files


def test_nan_histograms_and_videos(tmp_path: Path) -> None:
    connector = offline()
    connector.log_metrics({"train/loss": float("nan"), "train/norm": float("inf")}, 5, 1_000.0)
    for _ in range(2):  # two episodes that end in the same step
        connector.log_metrics({"episode/return": 9.0}, 5, 1_000.0)
    connector.log_histograms({"rollout/action": np.arange(100.0), "none": np.array([np.nan])}, 10, 1_000.0)
    connector.log_video(small_video(tmp_path / "some.mp4"), "agent", 15)
    connector.close()
    numbers, *repeated, distribution, video = rows()
    assert points(repeated) == [("episode/return", 5, 9.0)] * 2
    assert np.isnan(numbers["train/loss"])
    assert numbers["train/norm"] == float("inf")
    assert numbers["_timestamp"] == 1_000.0
    assert (distribution["timestep"], sum(distribution["histograms/rollout/action"]["values"])) == (10, 100)
    assert "histograms/none" not in distribution
    shown = video["video/agent"]
    assert (video["timestep"], shown["_type"]) == (15, "video-file")
    copy = logs()[0].parent / "files" / shown["path"]
    assert copy.read_bytes() == (tmp_path / "some.mp4").read_bytes()


def test_a_resumed_training_goes_on_under_the_same_id_and_repeats_nothing() -> None:
    told, first = Told(), offline()
    options: dict[str, Any] = {
        "n_environments": 2,
        "seed": 0,
        "progress_bar": False,
        "checkpoint_every": 64,
        "checkpoint_directory": "checkpoints",
    }
    StableBaselinesAgent("ppo", SHORT).train("CartPole-v1", 256, connector=[told, first], **options)
    first.close()
    first_id = str(first.run_id())
    again, second = Told(), offline()
    agent = StableBaselinesAgent("ppo", SHORT)
    middle = sorted(Path("checkpoints").glob("*.zip"))[0]
    agent.train("CartPole-v1", 384, connector=[again, second], resume_from=middle, **options)
    second.close()
    assert second.run_id() == first_id
    assert len(logs(first_id)) == len(logs()) == 2
    found, expected, repeated = (
        [point for point in several if not point[0].startswith("time/")]
        for several in (points(rows()), told.points, again.points)
    )
    expected += [point for point in repeated if point[1] > 256]
    assert sorted(found) == sorted(expected)
    assert {step for name, step, _ in again.points if name == "episode/return"} & set(range(256))  # it did repeat


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_the_service_is_killed_and_nothing_is_lost() -> None:
    connector = offline()
    begin(connector)
    for step in range(20):
        connector.log_metrics({"a": step, "b": -step}, step, 1_000.0)
    connector.delivery.drain(PATIENCE)
    (service,) = service_processes()
    kill(service)
    for step in range(20, 40):
        connector.log_metrics({"a": step, "b": -step}, step, 1_000.0)
    connector.delivery.drain(PATIENCE)
    (service,) = service_processes()
    kill(service)  # and nothing comes after it
    connector.close()
    assert len(logs(str(connector.run_id()))) == len(logs()) == 3
    expected = [(name, step, float(sign * step)) for step in range(40) for name, sign in (("a", 1), ("b", -1))]
    assert sorted(points(rows())) == sorted(expected)


def test_a_service_that_does_not_answer_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("delivery._PATIENCE_WITH_CALL", "wandb.session._PATIENCE_WITH_SERVICE"):
        monkeypatch.setattr(f"rl_framework.connector.{name}", 0.5)
    connector = offline(patience=0.5)
    training = begin(connector)
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.delivery.drain(PATIENCE)
    (service,) = service_processes()
    os.kill(service, signal.SIGSTOP)
    try:
        for step in range(50):
            connector.log_metrics({"a": 1.0}, step, 1_000.0)
        connector.on_event(TrainingEnded(timestep=50), training)
        connector.close()
        assert "does not answer" in caplog.text
    finally:
        kill(service)


def test_without_a_network_the_run_is_written_offline(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key := "0123456789abcdef" * 5)
    monkeypatch.setattr("rl_framework.connector.wandb.session._INIT_SECONDS", 1.0)
    connector = WandbConnector("a project", retry=QUICK, patience=PATIENCE)
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.close()
    (folder,) = Path("wandb").glob("offline-run-*")
    assert [row["a"] for row in read_rows(next(folder.glob("*.wandb")))] == [1.0]
    assert "sync()" in caplog.text
    written = [path for path in Path.cwd().rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert written == []
    assert key not in caplog.text
    # And sending it says what is the matter, and where it is.
    monkeypatch.setattr("rl_framework.connector.wandb.connector._UPLOAD_SECONDS", 3)
    with pytest.raises(ConnectorError, match="1 of 1 W&B runs were not sent") as caught:
        connector.sync()
    assert str(Path("wandb").absolute()) in str(caught.value)
    assert key not in str(caught.value)


def test_runs_are_sent_by_the_clients_own_program(monkeypatch: pytest.MonkeyPatch) -> None:
    connector = offline()
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.close()
    with pytest.raises(ConnectorError, match="WANDB_API_KEY"):
        connector.sync()
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 5)
    commands = []

    def send(command: list[str], **options: Any) -> Any:
        commands.append(command)
        for folder in command[4:]:
            log = next(Path(folder).glob("*.wandb"))
            log.with_name(f"{log.name}.synced").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", send)
    assert connector.sync() == 1
    assert commands == [[sys.executable, "-m", "wandb", "sync", str(logs()[0].parent.absolute())]]
    assert connector.sync() == 0


def test_a_run_of_the_users_own_is_written_to_and_left_open() -> None:
    run = wandb.init(project="mine", mode="offline", dir=str(Path.cwd()), settings=wandb.Settings(silent=True))
    connector = WandbConnector(run=run, patience=PATIENCE)
    training = begin(connector)
    connector.log_metrics({"a": 1.0}, 3, 1_000.0)
    connector.on_event(TrainingEnded(timestep=3), training)
    connector.close()
    assert connector.run_id() is None
    run.log({"mine": 2})
    run.finish()
    _wait_for_log(logs()[0])
    assert [(row.get("a"), row.get("timestep"), row.get("mine")) for row in rows()] == [(1, 3, None), (None, None, 2)]


def test_disabled_does_nothing() -> None:
    connector = WandbConnector(mode="disabled")
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", 64, progress_bar=False, connector=connector)
    assert agent.upload(connector) == "disabled"
    connector.close()
    assert not Path("wandb").exists()
    assert not Path("runs").exists()


def test_wrong_arguments_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="mode"):
        WandbConnector(mode="on-line")
    with pytest.raises(ArgumentError, match="tags"):
        WandbConnector(mode="offline", tags="one")
    with pytest.raises(ArgumentError, match="run"):
        WandbConnector(run="abc")
    with pytest.raises(ConnectorError, match="WANDB_API_KEY"):
        WandbConnector()
    with pytest.raises(ConnectorError, match="nothing to download"):
        StableBaselinesAgent("ppo").download(offline())
    Path("a-netrc").write_text("machine 127.0.0.1 login user password 0123456789\n")
    monkeypatch.setenv("NETRC", "a-netrc")
    WandbConnector()  # it has a key now


def test_an_agent_is_fetched_from_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's own interface is replaced: there is no server to fetch from."""
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", 64, progress_bar=False)
    asked = []

    class Artifact:
        def download(self, root: str) -> str:
            agent.save_to_file(Path(root) / "agent.zip")
            return root

    class Api:
        def __init__(self, timeout: int) -> None:
            pass

        def artifact(self, name: str, type: str) -> Artifact:  # noqa: A002
            asked.append((name, type))
            return Artifact()

    monkeypatch.setattr(wandb, "Api", Api)
    other = StableBaselinesAgent("ppo")
    other.download(WandbConnector("p", entity="e", mode="offline", artifact="agent-x:latest"))
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    assert np.array_equal(agent.predict(observations)[0], other.predict(observations)[0])
    assert asked == [("e/p/agent-x:latest", "model")]


def test_the_log_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    connector = offline()
    for step in range(300):  # more than one block of 32 KiB
        connector.log_metrics({f"name/{number}": float(step) for number in range(5)}, step, 1_000.0)
    connector.close()
    (log,) = logs()
    content = log.read_bytes()
    assert len(content) > 3 * 32_768
    assert [row["name/4"] for row in read_rows(log)] == [float(step) for step in range(300)]
    cut = tmp_path / "cut.wandb"
    cut.write_bytes(content[: len(content) // 2])
    found = [row["name/4"] for row in read_rows(cut)]
    assert found == [float(step) for step in range(len(found))]
    assert 100 < len(found) < 200
    cut.write_bytes(b"something else")
    assert list(read_rows(cut)) == []


@pytest.mark.slow
def test_a_process_that_ends_without_closing_loses_nothing(tmp_path: Path) -> None:
    code = """
        from rl_framework import StableBaselinesAgent, WandbConnector
        agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
        agent.train("CartPole-v1", 64, progress_bar=False, seed=0, connector=WandbConnector("p", mode="offline"))
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [row["timestep"] for row in rows() if "train/loss" in row] == [64, 64]  # two updates
    assert list(records("exit"))
