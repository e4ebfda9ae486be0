"""MLflow with a store on this machine, and its own programs; its server with faults is in the table of faults."""

from __future__ import annotations

import json
import logging
import math
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.connector.test_histograms_and_videos import small_video
from tests.servers.mlflow import empty_database, free_port, mlflow_program

from rl_framework import Connector, MLflowConnector, StableBaselinesAgent
from rl_framework.connector.delivery import Item
from rl_framework.connector.mlflow.model import AgentModel
from rl_framework.connector.mlflow.runs import RunWriter, flattened
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.training import Training, TrainingEnded, TrainingFailed, TrainingStarted

mlflow = pytest.importorskip("mlflow")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

QUICK = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)
SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
OPTIONS: dict[str, Any] = {
    "n_environments": 2,
    "seed": 0,
    "progress_bar": False,
    "checkpoint_every": 64,
    "checkpoint_directory": "checkpoints",
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from mlflow.tracking._tracking_service import utils

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, "")  # so that it is known, and undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(utils, "_tracking_uri", utils._tracking_uri)
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(empty_database(), folder / "mlflow.db")
    return folder


def connected(store: Path | str, **options: Any) -> MLflowConnector:
    return MLflowConnector(store, "an experiment", **{"retry": QUICK, "patience": 60.0, **options})


def client_of(store: Path) -> Any:
    return mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


class Told(Connector):
    """Remembers what every tracker was told."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, float]] = []

    def log_metrics(self, metrics: Any, timestep: int, time: float) -> None:
        self.points += [(name, timestep, float(value)) for name, value in metrics.items()]


def points(client: Any, run_id: str) -> list[tuple[str, int, float]]:
    names = client.get_run(run_id).data.metrics
    return [(name, point.step, point.value) for name in names for point in client.get_metric_history(run_id, name)]


def without_clocks(found: list[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
    return sorted(point for point in found if not point[0].startswith("time/"))


def is_same(one: Callable[[Any], Any], other: Callable[[Any], Any]) -> bool:
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    return np.array_equal(one(observations), other(observations))


def begin(connector: Any, *, resumed: bool = False, timestep: int = 0) -> Training:
    training = Training(None, [connector], seed=0)
    event = TrainingStarted(timestep=timestep, total_timesteps=100, record={"algorithm": "ppo"}, resumed=resumed)
    connector.on_event(event, training)
    return training


def test_a_training_and_its_agent(store: Path) -> None:
    told = Told()
    connector = connected(store, run_name="walk", tags={"team": "a"}, register_model_as="walker", n_eval_episodes=2)
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", 128, connector=[told, connector], **OPTIONS)
    address = agent.upload(connector)
    connector.close()
    client, run_id = client_of(store), str(connector.run)
    run = client.get_run(run_id)
    assert sorted(points(client, run_id)) == sorted(told.points)
    assert (run.info.status, run.info.run_name, run.data.tags["team"]) == ("FINISHED", "walk", "a")
    assert run.data.params["algorithm_parameters.n_steps"] == "32"
    assert run.data.params["environment"] == "CartPole-v1"
    files = {file.path for folder in ("", "checkpoints", "upload") for file in client.list_artifacts(run_id, folder)}
    assert {"record.json", "checkpoints/checkpoint_000000000064.zip", "upload/results.json"} <= files
    assert not list(Path("runs/.spool").iterdir())
    assert (store / "artifacts" / "an-experiment").is_dir()

    assert address == "models:/walker/1"
    (model,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    checkpoint = f"runs:/{run_id}/checkpoints/checkpoint_000000000128.zip"
    for place in (
        address,
        "models:/walker/latest",
        f"models:/{model.model_id}",
        f"runs:/{run_id}/agent",
        run_id,
        checkpoint,
    ):
        other = StableBaselinesAgent("ppo")
        other.download(connected(store, model_uri=place))
        assert other.num_timesteps == 128
        assert is_same(lambda batch: agent.predict(batch)[0], lambda batch, other=other: other.predict(batch)[0])
    other.download(connector)  # what it has uploaded itself

    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    assert is_same(lambda batch: agent.predict(batch)[0], mlflow.pyfunc.load_model(address).predict)
    model_files = [path for path in (store / "artifacts").rglob("*") if path.is_file() and "models" in path.parts]
    assert {path.name for path in model_files} >= {"MLmodel", "agent.zip"}
    assert not [path for path in model_files if "pickle" in path.read_bytes().decode("latin1") or path.suffix == ".pkl"]

    agent.train("CartPole-v1", 64, n_environments=2, progress_bar=False, connector=connector)
    assert agent.upload(connector) == "models:/walker/2"


def test_a_model_takes_frames_lists_and_dictionaries() -> None:
    from pandas import DataFrame

    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
    model, batch = AgentModel(agent), np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    expected = agent.choose_action(batch)
    assert np.array_equal(model.predict(DataFrame(batch)), expected)
    assert np.array_equal(model.predict(batch.tolist()), expected)
    assert len(model.predict(batch, {"deterministic": False})) == 8


def test_numbers_that_are_none_and_numbers_that_are_equal(store: Path, tmp_path: Path) -> None:
    connector = connected(store)
    connector.log_metrics({"train/loss": math.nan, "train/norm": math.inf}, 5, 1_000.0)
    for _ in range(3):
        connector.log_metrics({"episode/return": 9.0}, 5, 1_000.0)
    connector.log_metrics({"odd/näme?": 1.0}, 5, 1_000.0)
    connector.log_histograms({"rollout/action": np.arange(100.0)}, 10, 1_000.0)
    connector.log_video(small_video(tmp_path / "some.mp4"), "a/replay", 15)
    connector.close()
    client, run_id = client_of(store), str(connector.run)
    found = sorted(points(client, run_id), key=str)
    assert [point for point in found if point[0] == "episode/return"] == [("episode/return", 5, 9.0)] * 3
    values = {name: value for name, _, value in found}
    assert math.isnan(values["train/loss"])
    assert values["train/norm"] > 1e308
    assert values["odd/n_me_"] == 1.0
    histograms = Path(client.download_artifacts(run_id, "histograms/000000000010.json"))
    assert sum(json.loads(histograms.read_text())["rollout/action"]["counts"]) == 100
    video = Path(client.download_artifacts(run_id, "videos/a_replay-000000000015.mp4"))
    assert video.read_bytes() == (tmp_path / "some.mp4").read_bytes()


def test_a_resumed_training_goes_on_in_the_same_run_and_repeats_nothing(store: Path) -> None:
    told, first = Told(), connected(store)
    StableBaselinesAgent("ppo", SHORT).train("CartPole-v1", 256, connector=[told, first], **OPTIONS)
    first.close()
    again, second = Told(), connected(store)
    middle = sorted(Path("checkpoints").glob("*.zip"))[0]
    agent = StableBaselinesAgent("ppo", SHORT)
    agent.train("CartPole-v1", 384, connector=[again, second], resume_from=middle, **OPTIONS)
    second.close()
    client = client_of(store)
    assert second.run == first.run
    expected = without_clocks(told.points) + without_clocks([point for point in again.points if point[1] > 256])
    assert without_clocks(points(client, str(first.run))) == sorted(expected)
    assert len(without_clocks(again.points)) > len(expected) - len(without_clocks(told.points))  # it did repeat
    assert client.get_run(first.run).info.status == "FINISHED"


def test_what_an_interrupted_training_left_is_not_delivered_after_its_successor(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connected(store, patience=0.0)
    deliver, is_away = MLflowConnector.deliver, True

    def away(self: Any, item: Item) -> None:
        if is_away and self is first and item.kind == "metrics":
            raise ConnectionError("as the test wants it")
        deliver(self, item)

    monkeypatch.setattr(MLflowConnector, "deliver", away)
    begin(first)
    first.delivery.drain(60.0)
    for step in (10, 20, 30):
        first.log_metrics({"a": float(step)}, step, 1_000.0)
    first.flush()
    first.close()
    time.sleep(0.002)  # the sessions are told apart by the millisecond
    second = connected(store)
    second.rejoin(str(first.run_id()))
    training = begin(second, resumed=True, timestep=10)
    for step in (20, 30):
        second.log_metrics({"a": -float(step)}, step, 2_000.0)
    second.on_event(TrainingEnded(timestep=30), training)
    second.close()
    is_away = False
    assert connected(store).sync() > 0
    client = client_of(store)
    assert sorted(points(client, str(second.run))) == [("a", 10, 10.0), ("a", 20, -20.0), ("a", 30, -30.0)]
    assert client.get_run(second.run).info.status == "FINISHED"


def test_what_is_delivered_again_is_there_once(store: Path) -> None:
    connector = connected(store)
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    items: list[Item] = []
    deliver = connector.deliver
    connector.deliver = lambda item: (items.append(item), deliver(item))  # type: ignore[method-assign, assignment, func-returns-value]
    connector.close()
    (item,) = items
    connected(store).deliver(replace(item, attempts=1))
    client = client_of(store)
    assert points(client, str(connector.run)) == [("a", 1, 1.0)]
    assert len(client.search_runs([client.get_experiment_by_name("an experiment").experiment_id])) == 1


def test_what_is_uploaded_while_something_is_delivered_goes_into_the_same_run(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = connected(store)
    is_making, may_go_on = threading.Event(), threading.Event()
    make, writer = RunWriter._found_or_made, connector._writer

    def slowly(self: RunWriter, run: Any) -> str:
        is_making.set()
        assert may_go_on.wait(60.0)
        return make(self, run)

    class Waiting:
        """The lock; whoever waits for it lets the other one go on."""

        def __enter__(self) -> None:
            may_go_on.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    monkeypatch.setattr(RunWriter, "_found_or_made", slowly)
    found: list[str] = []
    delivering = threading.Thread(target=lambda: found.append(writer.run_id(connector._run)))
    delivering.start()
    assert is_making.wait(60.0)
    lock = writer._lock
    monkeypatch.setattr(writer, "_lock", Waiting())
    found.append(writer.run_id(connector._run))
    delivering.join()
    assert found[0] == found[1]


@pytest.mark.parametrize("failing", [False, True])
def test_the_state_of_a_run_is_told(store: Path, failing: bool) -> None:
    connector = connected(store)
    training = begin(connector)
    error = ValueError("as the test wants it")
    event = TrainingFailed(timestep=1, error=error) if failing else TrainingEnded(timestep=1, interrupted=True)
    connector.on_event(event, training)
    connector.close()
    assert client_of(store).get_run(connector.run).info.status == ("FAILED" if failing else "KILLED")


def test_parameters_are_flat_short_and_of_signs_that_are_allowed() -> None:
    record = {"a": {"b": {"c": [1, 2]}, "empty": {}}, "naïve?": None, "long": "x" * 7_000, "text": "plain"}
    found = flattened(record)
    assert {name: value for name, value in found.items() if name != "long"} == {
        "a.b.c": "[1, 2]",
        "a.empty": "{}",
        "na_ve_": "null",
        "text": "plain",
    }
    assert len(found["long"]) == 6_000


def test_a_password_in_the_address_is_shown_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    password = "a-password-of-the-tests"
    connector = connected(f"http://user:{password}@127.0.0.1:9", patience=0.5)
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.close()
    with pytest.raises(ConnectorError) as caught:
        connector.sync()
    assert connector.destination()["address"] == "http://127.0.0.1:9"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert written == []
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("rl_framework")]
    assert password not in "".join([*ours, str(caught.value)])


def test_wrong_arguments_are_told_at_once(store: Path) -> None:
    with pytest.raises(ArgumentError, match="experiment_name"):
        MLflowConnector(experiment_name="")
    with pytest.raises(ArgumentError, match="n_eval_episodes"):
        MLflowConnector(n_eval_episodes=-1)
    with pytest.raises(ArgumentError, match="tracking_uri"):
        MLflowConnector("")
    with pytest.raises(ConnectorError, match="nothing to download"):
        StableBaselinesAgent("ppo").download(MLflowConnector())
    with pytest.raises(ConnectorError, match="walker"):
        StableBaselinesAgent("ppo").download(
            connected(store, model_uri="models:/walker/7", retry=RetryPolicy(attempts=1))
        )


@pytest.mark.slow
def test_the_user_interface_shows_the_run(store: Path) -> None:
    connector = connected(store, run_name="walk")
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.log_record({"environment": "CartPole-v1"})
    connector.close()
    with mlflow_program(store, free_port(), "ui") as url:
        with urllib.request.urlopen(f"{url}/", timeout=60) as page:
            assert "<title>MLflow</title>" in page.read().decode()
        with urllib.request.urlopen(f"{url}/api/2.0/mlflow/runs/get?run_id={connector.run}", timeout=60) as answer:
            data = json.load(answer)["run"]["data"]
    assert [(metric["key"], metric["value"], metric["step"]) for metric in data["metrics"]] == [("a", 1, 1)]
    assert {"key": "environment", "value": "CartPole-v1"} in data["params"]


@pytest.mark.slow
def test_a_server_that_is_late_dies_and_comes_back(store: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    connector = connected(url, patience=0.5)
    training = begin(connector)  # nobody is there
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    with mlflow_program(store, port):
        assert connector.delivery.drain(60.0) == 0
    connector.log_metrics({"a": 2.0}, 2, 1_000.0)  # it is dead
    connector.flush()
    connector.on_event(TrainingEnded(timestep=2), training)
    assert connector.delivery.n_left == 2
    with mlflow_program(store, port):
        assert connected(url).sync() == 2
        agent = StableBaselinesAgent("ppo", SHORT)
        agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
        address = agent.upload(connector)
        other = StableBaselinesAgent("ppo")
        other.download(connected(url, model_uri=address))
    assert is_same(lambda batch: agent.predict(batch)[0], lambda batch: other.predict(batch)[0])
    client = client_of(store)
    assert points(client, str(connector.run)) == [("a", 1, 1.0), ("a", 2, 2.0)]
    assert client.get_run(connector.run).info.status == "FINISHED"
