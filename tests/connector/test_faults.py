"""The table: each fault, each connector, nothing lost."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.connector.cases import CASES, TRANSIENT, Case, slow

from rl_framework import StableBaselinesAgent, load_agent
from rl_framework.connector import delivery, spool
from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy

TIMESTEPS = [64, 128, 192]
HURRY = 0.5
STUBBORN = RetryPolicy(attempts=200, first_wait=0.001, longest_wait=0.01)
"""For clients in a hurry: a machine that has much to do does not answer in time always."""


@pytest.fixture(
    params=[pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.is_slow else []) for case in CASES]
)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Case]:
    with request.param.running(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(64).save_to_file(tmp_path_factory.mktemp("bundle") / "agent.zip")


def _train(steps: int, **kwargs: Any) -> StableBaselinesAgent:
    agent = StableBaselinesAgent("ppo", {"n_steps": 32, "batch_size": 32, "n_epochs": 1})
    agent.train("CartPole-v1", steps, n_environments=2, seed=0, progress_bar=False, **kwargs)
    return agent


def _train_with_checkpoints(connector: Any) -> StableBaselinesAgent:
    return _train(192, connector=connector, checkpoint_every=64, checkpoint_directory="checkpoints")


def _is_same(one: Any, other: Any) -> bool:
    observations = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    return np.array_equal(one.predict(observations)[0], other.predict(observations)[0])


# While training


@pytest.mark.parametrize("fault", TRANSIENT)
def test_tracking_through(fault: str, case: Case) -> None:
    planned = case.fail(times=3, **TRANSIENT[fault])
    connector = case.connector()
    _train_with_checkpoints(connector)
    connector.close()
    assert planned.times == 0
    assert case.checkpoints() == TIMESTEPS
    assert connector.sync() == 0


def test_tracking_a_slow_service(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PATIENCE_WITH_CALL", 0.01)
    case.answer_within(monkeypatch, 300.0)  # the client goes on waiting
    how = slow()
    case.fail(times=1, **how)
    connector = case.connector(patience=0.01)
    agent = _train_with_checkpoints(connector)  # it ends while the service has not answered
    assert (agent.num_timesteps, case.checkpoints()) == (192, [])
    how["until"].set()
    connector.patience = 60.0
    connector.close()
    assert case.checkpoints() == TIMESTEPS


@pytest.mark.parametrize("status", [401, 403])
def test_tracking_without_rights(
    status: int, case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rl_framework.connector")
    case.take_away_rights(monkeypatch, status)
    connector = case.connector()
    _train_with_checkpoints(connector)
    connector.close()
    assert case.checkpoints() == []
    told = [record.getMessage() for record in caplog.records if record.name.startswith("rl_framework")]
    assert len(told) == 2
    assert all(name in told[0] for name in case.helpful)
    assert "sync()" in told[1]
    for checkpoint in Path("checkpoints").iterdir():
        checkpoint.unlink()
    case.give_back_rights(monkeypatch)
    case.connector().sync()
    assert case.checkpoints() == TIMESTEPS


def test_tracking_on_a_full_disk(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "append_line", full)
    connector = case.connector()
    _train_with_checkpoints(connector)
    connector.close()
    assert case.checkpoints() == TIMESTEPS


# Uploading


@pytest.mark.parametrize("fault", TRANSIENT)
def test_uploading_through(fault: str, case: Case, bundle: Path) -> None:
    planned = case.fail(times=3, **TRANSIENT[fault])
    agent = load_agent(bundle)
    agent.upload(case.connector())
    assert planned.times == 0
    assert _is_same(StableBaselinesAgent("ppo").download(case.connector()), agent)


def test_uploading_to_a_slow_service(case: Case, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.answer_within(monkeypatch, HURRY)
    how = slow()
    fault = case.fail(times=2, **how)
    agent = load_agent(bundle)
    agent.upload(case.connector(retry=STUBBORN))  # waits no longer than that, and asks again
    assert fault.times == 0
    assert _is_same(StableBaselinesAgent("ppo").download(case.connector(retry=STUBBORN)), agent)
    fault.times = 10_000
    with pytest.raises(ConnectorError, match=r"2 attempts.*[Tt]ime") as caught:
        agent.upload(case.connector(retry=RetryPolicy(attempts=2, first_wait=0.001)))
    (kept,) = [path for path in Path("runs").rglob("agent.zip") if str(path.parent) in str(caught.value)]
    assert load_agent(kept)
    how["until"].set()


@pytest.mark.parametrize("status", [401, 403])
def test_uploading_without_rights(status: int, case: Case, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.take_away_rights(monkeypatch, status)
    agent = load_agent(bundle)
    with pytest.raises(ConnectorError) as caught:
        agent.upload(case.connector())
    message = str(caught.value)
    assert all(name in message for name in case.helpful)
    (kept,) = [path for path in Path("runs").rglob("agent.zip") if str(path.parent) in message]
    assert _is_same(load_agent(kept), agent)
    case.give_back_rights(monkeypatch)
    agent.upload(case.connector())


def test_uploading_to_a_dead_service(case: Case, bundle: Path) -> None:
    fault = case.fail(times=10_000, drop="before")
    with pytest.raises(ConnectorError, match=r"8 attempts") as caught:
        load_agent(bundle).upload(case.connector())
    (kept,) = [path for path in Path("runs").rglob("agent.zip") if str(path.parent) in str(caught.value)]
    assert load_agent(kept)
    fault.times = 0


def test_uploading_on_a_full_disk(case: Case, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.agent import base_agent

    def full(path: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    agent = load_agent(bundle)
    monkeypatch.setattr(base_agent, "write_bundle", full)
    with pytest.raises(ConnectorError, match="No space left"):
        agent.upload(case.connector())


# Downloading


@pytest.mark.parametrize("fault", TRANSIENT)
def test_downloading_through(fault: str, case: Case, bundle: Path) -> None:
    agent = load_agent(bundle)
    agent.upload(case.connector())
    planned = case.fail_reading(times=2, **TRANSIENT[fault])
    assert _is_same(StableBaselinesAgent("ppo").download(case.connector()), agent)
    assert planned.times == 0


def test_downloading_from_a_slow_service(case: Case, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = load_agent(bundle)
    agent.upload(case.connector())
    case.answer_within(monkeypatch, HURRY)
    how = slow()
    fault = case.fail_reading(times=2, **how)
    assert _is_same(StableBaselinesAgent("ppo").download(case.connector(retry=STUBBORN)), agent)
    assert fault.times == 0
    how["until"].set()


def test_downloading_to_a_full_disk(case: Case, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, other = load_agent(bundle), load_agent(bundle)
    agent.upload(case.connector())
    case.fill_disk_for_downloads(monkeypatch)
    with pytest.raises(ConnectorError, match="No space left"):
        other.download(case.connector())
    assert _is_same(agent, other)
