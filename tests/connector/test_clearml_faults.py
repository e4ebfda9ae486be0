"""Faults at each place of the way to ClearML, beside the table for all connectors in `test_faults`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.connector.clearml_runs import connector
from tests.servers.clearml import ACCESS_KEY, SECRET_KEY, ClearMLServer

from rl_framework import StableBaselinesAgent, load_agent
from rl_framework.connector.clearml import ClearMLConnector
from rl_framework.errors import ConnectorError
from rl_framework.training import CheckpointSaved, Training, TrainingEnded, TrainingStarted, Updated

pytestmark = pytest.mark.filterwarnings("ignore::pyparsing.warnings.PyparsingDeprecationWarning")

ANYWHERE = "."
RECORD = {"algorithm": "ppo", "environment": "CartPole-v1"}

TRANSIENT: dict[str, dict[str, Any]] = {
    "503": {"status": 503, "headers": {"Retry-After": "0.02"}},
    "dropped after": {"drop": "after"},
    "dropped half-way": {"drop": "half-way"},
}

PLACES = {
    "login": r"auth\.login",
    "task": r"tasks\.create",
    "status": r"tasks\.(started|completed)",
    "scalars": r"events\.add_batch",
    "file": "POST /$",
    "model": r"models\.create|tasks\.add_or_update_model",
    "everything": ANYWHERE,
}


def _training(clearml: ClearMLConnector, folder: Path, before_its_end: Callable[[], object] = lambda: None) -> None:
    """Lets happen what a short training lets happen."""
    checkpoint = folder / "checkpoint_000000000003.zip"
    checkpoint.write_bytes(b"a bundle")
    training = Training(None, [clearml], 0)
    training.emit(TrainingStarted(timestep=0, total_timesteps=3, record=RECORD))
    for step in range(1, 4):
        training.emit(Updated(timestep=step, n_updates=step, metrics={"train/loss": step / 2}))
        clearml.flush()
    training.emit(Updated(timestep=3, n_updates=3, histograms={"rollout/action": np.arange(4)}))
    training.emit(CheckpointSaved(timestep=3, path=checkpoint))
    before_its_end()
    training.emit(TrainingEnded(timestep=3))


def _check_that_all_is_there(server: ClearMLServer) -> None:
    task = server.task()  # raises if there are two
    assert task["name"] == "ppo on CartPole-v1"
    assert task["status"] == "completed"
    assert server.scalars(task["id"]) == {"train/loss": [(1, 0.5), (2, 1.0), (3, 1.5)]}
    assert len(server.events_of(task["id"], "plot")) == 1
    (output,) = task["models"]["output"]
    (model,) = server.contents.models.values()
    assert (output["name"], output["model"]) == ("checkpoint_000000000003", model["id"])
    assert server.file_at(model["uri"]) == b"a bundle"
    assert "environment" in task["configuration"]["record"]["value"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_that_passes_loses_nothing_and_doubles_nothing(
    clearml_server: ClearMLServer, tmp_path: Path, fault: str, place: str
) -> None:
    clearml_server.fail(PLACES[place], times=3, **TRANSIENT[fault])
    clearml = connector()
    _training(clearml, tmp_path)
    assert clearml.delivery.drain(60.0) == 0
    _check_that_all_is_there(clearml_server)
    assert clearml_server.faults[0].times < 3


@pytest.mark.parametrize("place", [PLACES["scalars"], PLACES["file"]], ids=["scalars", "file"])
def test_a_token_that_expires_is_replaced(
    clearml_server: ClearMLServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    clearml_server.fail(place, status=401)
    _training(connector(), tmp_path)
    _check_that_all_is_there(clearml_server)
    assert clearml_server.contents.calls["auth.login"] == 2
    assert caplog.records == []


def test_a_server_that_is_down_from_the_start_gets_it_from_a_later_process(
    clearml_server: ClearMLServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fault = clearml_server.fail(ANYWHERE, times=1000, drop="before")
    clearml = connector(patience=0.05)
    clearml.hyperparameters({"learning_rate": 1e-3})
    _training(clearml, tmp_path, lambda: fault.met.wait(60.0))
    clearml.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sum("cannot be reached" in message for message in warnings) == 1
    assert any("sync()" in message for message in warnings)
    (tmp_path / "checkpoint_000000000003.zip").unlink()
    _check_for_secrets(tmp_path, caplog.text)
    fault.times = 0
    assert connector().sync() > 0
    _check_that_all_is_there(clearml_server)
    assert clearml_server.task()["hyperparams"]["General"]["learning_rate"]["value"] == "0.001"
    assert connector().sync() == 0


def test_what_comes_late_reopens_no_task_that_has_ended(
    clearml_server: ClearMLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl_framework.connector.clearml.tasks._LATE_SECONDS", 0.0)
    fault = clearml_server.fail(ANYWHERE, times=1000, drop="before")
    killed = connector(patience=0.0)
    training = Training(None, [killed], 0)
    training.emit(TrainingStarted(timestep=0, total_timesteps=3, record=RECORD))
    training.emit(TrainingEnded(timestep=1, interrupted=True))
    killed.close()
    fault.times = 0
    resumed = connector()
    resumed.rejoin(str(killed.run_id()))
    _training(resumed, tmp_path)
    resumed.close()
    assert connector().sync() > 0
    _check_that_all_is_there(clearml_server)


def test_two_runs_that_wait_are_two_tasks(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    fault = clearml_server.fail(ANYWHERE, times=1000, drop="before")
    for value in (1.0, 2.0):
        clearml = connector(patience=0.0)
        clearml.log_metrics({"a": value}, 1, 0.0)
        clearml.close()
    fault.times = 0
    connector().sync()
    tasks = clearml_server.contents.tasks
    assert sorted(clearml_server.scalars(task)["a"][0][1] for task in tasks) == [1.0, 2.0]


def test_an_upload_that_fails_raises_and_keeps_the_files(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
    fault = clearml_server.fail(r"POST /$", times=1000, status=503, headers={"Retry-After": "0.01"})
    clearml = connector()
    with pytest.raises(ConnectorError, match=r"agent\.zip .*the files are kept in .*4 attempts.*503") as raised:
        clearml.upload(agent)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    kept = next(Path("runs").rglob("*-upload"))
    assert str(kept) in str(raised.value)
    assert load_agent(kept / "agent.zip").num_timesteps == 64
    fault.times = 0
    clearml.upload(agent)
    assert not kept.exists()
    assert len(clearml_server.contents.models) == 1
    assert clearml_server.task()["status"] == "completed"


def test_a_task_that_has_ended_takes_what_comes_late(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    fault = clearml_server.fail(r"POST /$|hyper_params", times=1000, status=400)
    clearml = connector()
    clearml.hyperparameters({"learning_rate": 1e-3})
    _training(clearml, tmp_path)
    assert clearml_server.task()["status"] == "completed"
    assert clearml_server.task()["models"]["output"] == []
    fault.times = 0
    clearml.sync()
    _check_that_all_is_there(clearml_server)
    assert clearml_server.task()["hyperparams"]["General"]["learning_rate"]["value"] == "0.001"


def test_what_is_no_clearml_server_is_told(
    clearml_server: ClearMLServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clearml_server.contents.files["/v2.13/auth.login"] = b"<html>a web page</html>"
    monkeypatch.setattr(type(clearml_server), "next_fault", lambda *_: None)
    monkeypatch.setattr("tests.servers.clearml._Handler._call", lambda *_: (200, b"<html></html>"))
    _training(connector(), tmp_path)
    assert "check CLEARML_API_HOST" in caplog.text


def _check_for_secrets(folder: Path, log: str) -> None:
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for secret in (ACCESS_KEY, SECRET_KEY):
        assert not any(secret.encode() in content for content in contents)
        assert secret not in log
    assert not any(b"eyJ" in content for content in contents)  # tokens begin so


def test_secrets_are_nowhere(clearml_server: ClearMLServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    clearml_server.fail(r"tasks\.create", times=2, status=500, message=f"broken for {SECRET_KEY} and {ACCESS_KEY}")
    clearml_server.fail(r"models\.create", times=1000, status=400, message=f"refused for {SECRET_KEY}")
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
    clearml = connector()
    clearml.hyperparameters({"note": f"my key is {SECRET_KEY}"})
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False, connector=clearml)
    training = Training(None, [clearml], 0)
    training.emit(TrainingEnded(timestep=64, stop_reason=f"because of {ACCESS_KEY}"))
    with pytest.raises(ConnectorError) as raised:
        clearml.upload(agent)
    clearml.close()
    _check_for_secrets(tmp_path, caplog.text + repr(raised.value))
    there = repr(clearml_server.contents)
    assert SECRET_KEY not in there
    assert ACCESS_KEY not in there


def test_an_upload_leaves_no_empty_spool(clearml_server: ClearMLServer) -> None:
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
    agent.train("CartPole-v1", 64, n_environments=2, seed=0, progress_bar=False)
    clearml = connector()
    clearml.hyperparameters({"learning_rate": 1e-3})
    clearml.upload(agent)  # and nobody calls close()
    assert list(Path("runs/.spool").iterdir()) == []
