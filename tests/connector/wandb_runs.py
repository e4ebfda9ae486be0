"""What the tests of the W&B connector share: the real client, offline and without a server.

What it has written down is read from its own log.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_framework import Connector, WandbConnector
from rl_framework.connector.wandb.transaction_log import read_records, read_rows
from rl_framework.retry import RetryPolicy
from rl_framework.training import Training, TrainingStarted

wandb = pytest.importorskip("wandb")

QUICK = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)
PATIENCE = 60.0
SHORT = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}


@pytest.fixture(autouse=True)
def at_home_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    # Nothing here may reach the network.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    # The service of a machine that has much to do writes down the end of a run late.
    monkeypatch.setattr("rl_framework.connector.wandb.session._PATIENCE_WITH_LOG", PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def own_service() -> Iterator[None]:
    """A service that nothing outside of this module has begun, with settings of its own."""
    wandb.teardown()
    yield
    wandb.teardown()


def offline(**options: Any) -> WandbConnector:
    return WandbConnector("a project", mode="offline", **{"retry": QUICK, "patience": PATIENCE, **options})


class Told(Connector):
    """Remembers what every tracker was told."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, float]] = []

    def log_metrics(self, metrics: Any, timestep: int, time: float) -> None:
        self.points += [(name, timestep, float(value)) for name, value in metrics.items()]


def logs(run_id: str = "*") -> list[Path]:
    return sorted(Path("wandb").glob(f"*run-*/run-{run_id}.wandb"))


def rows(run_id: str = "*") -> list[dict[str, Any]]:
    return [row for path in logs(run_id) for row in read_rows(path)]


def points(found: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    return [
        (name, row["timestep"], value)
        for row in found
        for name, value in row.items()
        if not name.startswith("_") and name != "timestep" and isinstance(value, int | float)
    ]


def records(kind: str) -> list[Any]:
    return [
        getattr(record, kind)
        for path in logs()
        for record in read_records(path)
        if record.WhichOneof("record_type") == kind
    ]


def begin(connector: Any, *, resumed: bool = False, timestep: int = 0) -> Training:
    training = Training(None, [connector], seed=0)
    record = {"algorithm": "ppo", "environment": "CartPole-v1", "algorithm_parameters": {"n_steps": 32}}
    event = TrainingStarted(timestep=timestep, total_timesteps=100, record=record, resumed=resumed)
    connector.on_event(event, training)
    return training


def service_processes() -> list[int]:
    """Returns the ids of W&B's service processes that this process started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if parent == os.getpid() and b"wandb-core" in command:
                found.append(int(entry.name))
    return found


def kill(service: int) -> None:
    """Kills a process and waits for its end, without taking the news from whoever started it."""
    os.kill(service, signal.SIGKILL)
    os.waitid(os.P_PID, service, os.WEXITED | os.WNOWAIT)
