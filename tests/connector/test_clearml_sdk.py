"""The ClearML connector beside the real SDK, in processes of their own: the SDK has one task for each process."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from tests.connector.clearml_runs import connector, run_script
from tests.servers.clearml import ACCESS_KEY, SECRET_KEY, ClearMLServer

from rl_framework import StableBaselinesAgent

pytestmark = pytest.mark.filterwarnings("ignore::pyparsing.warnings.PyparsingDeprecationWarning")

SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}

REMOTE = """
import os, signal, sys
from rl_framework import ClearMLConnector, ClearMLUploadConfig
def hooks():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook, sys.exit, os.fork
before = hooks()
connector = ClearMLConnector(ClearMLUploadConfig("my project", "remote training"), patience=60.0)
kinds = {"net_arch": [8, 8], "ortho_init": True}
parameters = connector.hyperparameters({"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": kinds})
connector.execute_remotely("gpu")
from rl_framework import StableBaselinesAgent
agent = StableBaselinesAgent("ppo", parameters)
agent.train("CartPole-v1", 128, n_environments=2, connector=connector, seed=0, progress_bar=False)
connector.close()
print(parameters)
assert hooks() == before
"""


def test_a_clone_with_changed_values_trains_with_them(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    local = run_script(clearml_server, tmp_path, REMOTE)
    task = clearml_server.task()
    assert (task["name"], task["status"]) == ("remote training", "queued")
    assert clearml_server.contents.queues["gpu"]["entries"] == [task["id"]]
    assert task["script"]["entry_point"] == "script.py"
    assert "connector.execute_remotely" in task["script"]["diff"]
    assert "rl" in task["script"]["requirements"]["pip"]
    assert clearml_server.contents.events == {}  # nothing was trained here
    assert (local.stdout, local.stderr) == ("", "")

    changes = {"n_steps": "64", "policy_kwargs/net_arch": "[16]", "policy_kwargs/ortho_init": "False", "gamma": "0.9"}
    clone = clearml_server.clone(task["id"], **changes)
    remote = run_script(clearml_server, tmp_path, REMOTE, variables={"CLEARML_TASK_ID": clone})
    trained_with = ast.literal_eval(remote.stdout)
    assert trained_with == {
        "n_steps": 64,
        "batch_size": 32,
        "n_epochs": 1,
        "policy_kwargs": {"net_arch": [16], "ortho_init": False},
        "gamma": 0.9,
    }
    assert remote.stderr == ""
    record = json.loads(clearml_server.contents.tasks[clone]["configuration"]["record"]["value"])
    assert record["algorithm_parameters"]["n_steps"] == 64
    assert len(clearml_server.scalars(clone)["time/fps"]) == 1
    assert clearml_server.scalars(task["id"]) == {}
    assert set(clearml_server.contents.tasks) == {task["id"], clone}
    assert clearml_server.contents.tasks[clone]["status"] == "created"  # which is the agent's to change


BESIDE_THE_SDK = """
import logging
logging.basicConfig(level=logging.WARNING)
from clearml import Task
from rl_framework import ClearMLConnector, TensorBoardConnector
from rl_framework.connector.clearml import init_task
from rl_framework.training import Training, TrainingStarted, Updated, TrainingEnded
for number in range(3):
    task = init_task("my project", f"closed {number}", auto_resource_monitoring=False)
    task.get_logger().report_scalar("a", "b", 1.0, 1)
    task.close()
task = Task.init("my project", "own task", auto_resource_monitoring=False)
connectors = [TensorBoardConnector("tensorboard"), ClearMLConnector(patience=60.0)]
training = Training(None, connectors, 0)
training.emit(TrainingStarted(timestep=0, total_timesteps=2))
for step in (1, 2):
    training.emit(Updated(timestep=step, n_updates=step, metrics={"train/loss": step / 2, "time/fps": 1.0}))
training.emit(TrainingEnded(timestep=2))
for connector in connectors:
    connector.close()
task.close()
print(connectors[1].task_id == task.id, flush=True)
task = init_task("my project", "handed over", auto_resource_monitoring=False)
connector = ClearMLConnector(task=task, patience=60.0)
connector.hyperparameters({"learning_rate": 1e-3})
connector.execute_remotely("gpu")
print("still here")
"""


def test_beside_the_sdk_every_scalar_is_there_once_and_close_returns(
    clearml_server: ClearMLServer, tmp_path: Path
) -> None:
    done = run_script(clearml_server, tmp_path, BESIDE_THE_SDK)
    assert "True" in done.stdout.splitlines()
    assert "still here" not in done.stdout
    assert "deadlock" not in done.stderr  # the setting of init_task holds for later tasks
    assert set(clearml_server.contents.event_counts.values()) == {1}
    tasks = {task["name"]: task for task in clearml_server.contents.tasks.values()}
    handed_over = tasks.pop("handed over")
    assert clearml_server.contents.queues["gpu"]["entries"] == [handed_over["id"]]
    assert handed_over["hyperparams"]["General"]["learning_rate"]["value"] == "0.001"
    assert {task["status"] for task in tasks.values()} == {"completed"}
    scalars = clearml_server.scalars(tasks["own task"]["id"])
    assert scalars == {"train/loss": [(1, 0.5), (2, 1.0)], "time/fps": [(1, 1.0), (2, 1.0)]}


SDK_READS = """
import hashlib, json
import numpy as np
from clearml import InputModel, Task
from rl_framework import ClearMLConnector, ClearMLUploadConfig, Episode, EpisodeSequence
def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()
task = Task.get_task(task_id=open("task_id").read())
print(json.dumps([task.get_reported_scalars(), task.get_parameters(), task.get_status(), task.get_tags()]))
assert json.load(open(task.artifacts["record"].get_local_copy()))[0]["algorithm"] == "ppo"
model = task.models["output"][-1]
expected = task.artifacts["agent"].hash
assert digest(task.artifacts["agent"].get_local_copy(extract_archive=False)) == expected
assert digest(model.get_local_copy(extract_archive=False)) == expected
assert model.get_metadata("sha256") == expected
assert InputModel(model_id=model.id).name == model.name

draw = np.random.default_rng(0)
episodes = EpisodeSequence.from_episodes(
    Episode(draw.random((n + 1, 3)).astype("f"), draw.integers(0, 2, n), np.ones(n), True, False) for n in (3, 5)
)
connector = ClearMLConnector(ClearMLUploadConfig("my project"))
dataset_id = connector.push_episodes(episodes, "expert", tags=["small"])
for pulled in (
    connector.pull_episodes(dataset_id),
    connector.pull_episodes(name="expert", directory="copy"),
):
    assert len(pulled) == 2 and pulled.observation_space == episodes.observation_space
    assert np.array_equal(pulled[1].observations, episodes[1].observations)
try:
    connector.pull_episodes("f" * 32, timeout=200.0)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_the_sdk_reads_what_was_written_and_stores_episodes(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    clearml = connector()
    agent = StableBaselinesAgent("ppo", clearml.hyperparameters({**SHORT, "policy_kwargs": {"net_arch": [8, 8]}}))
    agent.train("CartPole-v1", 128, n_environments=2, connector=clearml, seed=0, progress_bar=False)
    clearml.upload(agent)
    (tmp_path / "task_id").write_text(str(clearml.task_id))
    done = run_script(clearml_server, tmp_path, SDK_READS)
    read, refused = done.stdout.splitlines()
    scalars, parameters, status, _ = json.loads(read)
    points = clearml_server.scalars(str(clearml.task_id))["train/loss"]
    loss = scalars["train"]["loss"]
    assert list(zip(loss["x"], loss["y"], strict=True)) == points
    assert parameters["General/policy_kwargs/net_arch"] == "[8, 8]"
    assert status == "completed"
    assert refused.startswith("ConnectorError fetching the data set")


DEAD_SERVER = """
import logging
logging.basicConfig(level=logging.WARNING)
from rl_framework import ClearMLConnector, ClearMLUploadConfig
connector = ClearMLConnector(ClearMLUploadConfig("my project"), spool_directory="spool", patience=0.1)
connector.hyperparameters({"learning_rate": 1e-3})
connector.log_metrics({"train/loss": 1.0}, 1, 0.0)
connector.flush()
"""


def test_a_process_ends_without_its_server_and_another_delivers(clearml_server: ClearMLServer, tmp_path: Path) -> None:
    fault = clearml_server.fail(".", times=10_000, drop="before")
    done = run_script(clearml_server, tmp_path, DEAD_SERVER)  # which the SDK's own reporting would never end
    assert "sync()" in done.stderr
    written = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert b"train" in written
    assert ACCESS_KEY.encode() not in written + done.stderr.encode()
    assert SECRET_KEY.encode() not in written + done.stderr.encode()
    fault.times = 0
    assert connector(spool_directory="spool").sync() > 0
    assert clearml_server.task()["name"] == "script"
    assert clearml_server.scalars(clearml_server.task()["id"]) == {"train/loss": [(1, 1.0)]}
