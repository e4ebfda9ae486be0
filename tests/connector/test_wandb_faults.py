"""What can go wrong on this machine between us and W&B's client, which has its own way with the network.

The faults of services, in `test_faults`, are of no use here: W&B's client hands everything to a process of its own, and
keeps what it cannot send.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.connector.wandb_runs import (
    PATIENCE,
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

from rl_framework import Callback, StableBaselinesAgent, WandbConnector
from rl_framework.connector import delivery, spool
from rl_framework.errors import ConnectorError
from rl_framework.training import RolloutEnded, Training, TrainingEnded

__all__ = ["at_home_here", "own_service"]  # fixtures

has_processes = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


class Disturbing(Callback):
    """Does something once, at the end of the second rollout, when everything before it was handed over."""

    def __init__(self, connector: WandbConnector, disturb: Callable[[], object]) -> None:
        self.connector, self.disturb = connector, disturb

    def on_rollout_end(self, event: RolloutEnded, training: Training) -> None:
        if event.timestep == 128:
            assert self.connector.delivery.drain(PATIENCE) == 0
            self.disturb()


def train(connector: WandbConnector, disturb: Callable[[], object] | None = None) -> Told:
    """Trains with checkpoints, and returns what every tracker was told."""
    told = Told()
    StableBaselinesAgent("ppo", SHORT).train(
        "CartPole-v1",
        192,
        n_environments=2,
        seed=0,
        progress_bar=False,
        connector=[told, connector],
        callbacks=[] if disturb is None else [Disturbing(connector, disturb)],
        checkpoint_every=64,
        checkpoint_directory="checkpoints",
    )
    return told


def check_that_all_is_there(connector: WandbConnector, told: Told) -> None:
    """Compares what W&B has written down, in one run or more of one id, with what happened: everything, once."""
    assert sorted(points(rows())) == sorted(told.points)
    assert {path.stem for path in logs()} == {f"run-{connector.run_id()}"}
    sent = {entry.path for artifact in records("artifact") for entry in artifact.manifest.contents}
    assert sent == {f"checkpoint_{timestep:012d}.zip" for timestep in (64, 128, 192)}
    configured = {update.key for change in records("config") for update in change.update}
    assert {"algorithm", "environment", "seed"} <= configured
    assert connector.delivery.n_left == 0


def deliver_the_rest(connector: WandbConnector) -> None:
    """Delivers what is left to W&B's client; there is no server to send the run to."""
    with pytest.raises(ConnectorError, match="WANDB_API_KEY"):
        connector.sync()


def test_tracking_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "append_line", full)
    connector = offline()
    told = train(connector)
    connector.close()
    check_that_all_is_there(connector, told)


def test_tracking_where_wandb_may_not_write(caplog: pytest.LogCaptureFixture) -> None:
    Path("taken").write_text("a file where W&B's folder should be")
    connector = offline(directory="taken/below")
    told = train(connector)
    connector.close()
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("rl_framework")]
    assert sum("NotADirectoryError" in message and "refused" in message for message in ours) == 1
    assert "sync()" in ours[-1]
    for checkpoint in Path("checkpoints").iterdir():
        checkpoint.unlink()
    Path("taken").unlink()
    Path("taken/below").mkdir(parents=True)
    deliver_the_rest(connector)
    os.chdir("taken/below")
    assert sorted(points(rows())) == sorted(told.points)


@has_processes
def test_tracking_while_the_service_dies() -> None:
    connector = offline()
    told = train(connector, lambda: kill(*service_processes()))
    connector.close()
    check_that_all_is_there(connector, told)
    assert len(logs()) == 2


@has_processes
def test_tracking_while_the_service_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_WITH_CALL", 0.01)
    connector = offline(patience=0.01)
    begin(connector)
    assert connector.delivery.drain(PATIENCE) == 0
    (service,) = service_processes()
    os.kill(service, signal.SIGSTOP)
    try:
        told = train(connector)  # it ends while the service stands still
    finally:
        os.kill(service, signal.SIGCONT)
    connector.patience = PATIENCE
    connector.close()
    check_that_all_is_there(connector, told)


@pytest.mark.parametrize("passes", [True, False], ids=["passes", "stays"])
def test_tracking_when_logging_raises(passes: bool, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    failures = [ConnectionError("gone")] * 3 if passes else [wandb.errors.UsageError("no such thing")]
    log = wandb.Run.log

    def failing(run: Any, data: dict[str, Any], *arguments: Any) -> None:
        if "train/loss" in data and failures:
            raise failures.pop()
        log(run, data, *arguments)

    monkeypatch.setattr(wandb.Run, "log", failing)
    connector = offline()
    told = train(connector)
    connector.close()
    assert failures == []
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("rl_framework")]
    if not passes:
        assert sum("UsageError: no such thing" in message for message in ours) == 1
        assert "1 items have not reached the W&B project" in ours[-1]
        deliver_the_rest(connector)
    check_that_all_is_there(connector, told)


def test_a_run_that_is_ended_while_something_is_delivered_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by `close`, which does not wait for the delivery for ever."""
    connector = offline()
    session, opened = connector._session, type(connector._session).opened

    def overtaken(self: Any, described: Any) -> Any:
        run = opened(self, described)
        monkeypatch.setattr(type(session), "opened", opened)
        session.finish()
        return run

    monkeypatch.setattr(type(session), "opened", overtaken)
    connector.log_metrics({"a": 1.0}, 1, 1_000.0)
    connector.close()
    assert connector.delivery.n_left == 0
    assert points(rows()) == [("a", 1, 1.0)]


@has_processes
def test_the_end_of_a_training_whose_service_stands_still_comes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_WITH_CALL", 0.01)
    connector = offline(patience=0.01)
    training = begin(connector)
    assert connector.delivery.drain(PATIENCE) == 0
    (service,) = service_processes()
    os.kill(service, signal.SIGSTOP)
    try:
        connector.log_metrics({"a": 1.0}, 1, 1_000.0)
        connector.on_event(TrainingEnded(timestep=1), training)
    finally:
        os.kill(service, signal.SIGCONT)
    connector.patience = PATIENCE
    connector.close()
    assert points(rows()) == [("a", 1, 1.0)]
