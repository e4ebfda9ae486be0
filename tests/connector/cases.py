"""What the table of faults asks of each connector: a service on this machine that can be broken and repaired."""

from __future__ import annotations

import errno
import re
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers.clearml import ClearMLServer, loopback_clearml
from tests.servers.drive import LoopbackDrive, loopback_drive
from tests.servers.hub import READ_TOKEN, LoopbackHub, loopback_hub
from tests.servers.mlflow import LoopbackMLflow, loopback_mlflow

from rl_framework import (
    ClearMLConnector,
    ClearMLDownloadConfig,
    ClearMLUploadConfig,
    HuggingFaceConnector,
    HuggingFaceUploadConfig,
    MLflowConnector,
    StorageConnector,
    StorageUploadConfig,
)
from rl_framework.retry import RetryPolicy

QUICK = RetryPolicy(attempts=8, first_wait=0.001, longest_wait=0.002, longest_retry_after=0.002)
PATIENT = {"retry": QUICK, "patience": 60.0}

# How the service fails, in the words of `Fault` in the servers. "{n}" times, then it works again.
TRANSIENT: dict[str, dict[str, Any]] = {
    "too many requests": {"status": 429, "headers": {"Retry-After": "1"}},
    "unavailable": {"status": 503, "headers": {"Retry-After": "1"}},
    "dropped before": {"drop": "before"},
    "dropped after": {"drop": "after"},
    "dropped half-way": {"drop": "half-way"},
}


class Case(ABC):
    """A connector and its service.

    Attributes:
        helpful: What the message about a wrong token has to name.
        token: A secret that the client sends.
        is_slow: Whether its table of faults takes too long for every day.
    """

    name: str
    helpful: tuple[str, ...]
    token: str
    is_slow = False

    @classmethod
    @abstractmethod
    def running(cls, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
        """Runs the service, as a context manager that gives the case."""

    @abstractmethod
    def connector(self, **options: Any) -> Any:
        """Returns a new connector that retries at once."""

    @abstractmethod
    def fail(self, times: int, **how: Any) -> Any:
        """Lets each of the next requests that write fail."""

    @abstractmethod
    def fail_reading(self, times: int, **how: Any) -> Any:
        """Lets each of the next requests that read an agent fail."""

    @abstractmethod
    def repair(self) -> None:
        """Lets nothing fail any more."""

    @abstractmethod
    def take_away_rights(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        """Replaces the token by one that is wrong (401) or may not write (403)."""

    @abstractmethod
    def give_back_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Undoes that."""

    @abstractmethod
    def checkpoints(self) -> list[int]:
        """Returns the timesteps of the checkpoints at the service, in the order in which they arrived."""

    @abstractmethod
    def received(self) -> dict[str, bytes]:
        """Returns everything that the service has stored, by names of its own."""

    @abstractmethod
    def plant(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        """Makes a token the one that the service accepts and the client sends; it looks like no token."""

    @abstractmethod
    def answer_within(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        """Settles how long the client waits for an answer."""

    @abstractmethod
    def fill_disk_for_downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets the client find the disk full when it writes a download."""


class HuggingFaceCase(Case):
    name = "huggingface"
    helpful = ("HF_TOKEN", "'write'", "huggingface.co/settings/tokens")
    repository = "tester/agent"

    def __init__(self, hub: LoopbackHub, token: str) -> None:
        self.hub, self.token = hub, token

    @classmethod
    @contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HuggingFaceCase]:
        from tests.servers.hub import WRITE_TOKEN

        with loopback_hub(monkeypatch, folder / "cache") as hub:
            yield cls(hub, WRITE_TOKEN)

    def connector(self, **options: Any) -> HuggingFaceConnector:
        config = HuggingFaceUploadConfig(self.repository, n_eval_episodes=0)
        return HuggingFaceConnector(config, **{**PATIENT, **options})

    def fail(self, times: int, **how: Any) -> Any:
        return self.hub.fail(r"^(POST|PUT) ", times=times, **how)

    def fail_reading(self, times: int, **how: Any) -> Any:
        return self.hub.fail(r"^GET .*(/resolve/.*agent.zip|/tree/)", times=times, **how)

    def repair(self) -> None:
        self.hub.faults.clear()

    def take_away_rights(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        monkeypatch.setenv("HF_TOKEN", {401: "hf_" + "WrongTokenOfTheTests0123456789", 403: READ_TOKEN}[status])

    def give_back_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", self.token)

    def checkpoints(self) -> list[int]:
        repository = self.hub.repositories.get(("model", self.repository))
        messages = [] if repository is None else repository.messages
        # One commit each; the message names the timestep.
        return [int(text.rpartition("timestep ")[2].rstrip(")")) for text in messages if "checkpoints/" in text]

    def received(self) -> dict[str, bytes]:
        return {
            f"{repository.name}/{sha}/{path}": stored.content
            for repository in self.hub.repositories.values()
            for sha, files in repository.commits.items()
            for path, stored in files.items()
        }

    def plant(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        self.token = token
        self.hub.tokens[token] = "write"
        monkeypatch.setenv("HF_TOKEN", token)

    def answer_within(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr("rl_framework.hub._ANSWER_SECONDS", seconds)
        for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
            monkeypatch.setattr(constants, name, seconds)

    def fill_disk_for_downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import file_download

        def full(*arguments: Any, **options: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(file_download, "http_get", full)


class ClearMLCase(Case):
    name = "clearml"
    helpful = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")

    def __init__(self, server: ClearMLServer) -> None:
        self.server, self.token = server, server.keys[1]

    @classmethod
    @contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[ClearMLCase]:
        with loopback_clearml(monkeypatch, folder) as server:
            yield cls(server)

    def connector(self, **options: Any) -> ClearMLConnector:
        upload = ClearMLUploadConfig("my project", n_eval_episodes=0, describe_code=False)
        # Where an agent was uploaded to is known to the one who uploaded it.
        uploaded = [task["id"] for task in self.server.contents.tasks.values() if task["models"]["output"]]
        download = ClearMLDownloadConfig(task_id=uploaded[-1]) if uploaded else None
        return ClearMLConnector(upload, download, **{**PATIENT, **options})

    def fail(self, times: int, **how: Any) -> Any:
        return self.server.fail(r"^POST ", times=times, **how)

    def fail_reading(self, times: int, **how: Any) -> Any:
        return self.server.fail(r"^GET .*agent.zip|tasks.get_by_id|models.get_by_id", times=times, **how)

    def repair(self) -> None:
        self.server.faults.clear()

    def take_away_rights(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        if status == 401:
            monkeypatch.setenv("CLEARML_API_SECRET_KEY", "a-wrong-key-0123456789")
        self.server.is_read_only = status == 403

    def give_back_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLEARML_API_SECRET_KEY", self.token)
        self.server.is_read_only = False

    def checkpoints(self) -> list[int]:
        models = self.server.contents.models.values()
        return [int(model["name"].rpartition("_")[2]) for model in models if "checkpoint_" in model["name"]]

    def received(self) -> dict[str, bytes]:
        return {**self.server.contents.files, "the rest": repr(self.server.contents).encode()}

    def plant(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        self.token = token
        self.server.keys = (self.server.keys[0], token)
        monkeypatch.setenv("CLEARML_API_SECRET_KEY", token)

    def answer_within(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        for name in ("_ANSWER_SECONDS", "_FILE_SECONDS"):
            monkeypatch.setattr(f"rl_framework.connector.clearml.service.{name}", seconds)

    def fill_disk_for_downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = Path.open

        def full(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode == "wb":
                raise OSError(errno.ENOSPC, "No space left on device")
            return opened(path, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", full)


class StorageCase(Case):
    """On Google Drive; what S3, SFTP and folders do about the same is in their own tests."""

    name = "storage"
    helpful = ("GOOGLE_APPLICATION_CREDENTIALS", "service account", "options={'credentials'")
    address = "gdrive://experiments/agent"

    def __init__(self, drive: LoopbackDrive) -> None:
        self.drive, self.token = drive, drive.token

    @classmethod
    @contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[StorageCase]:
        with loopback_drive(monkeypatch) as drive:
            yield cls(drive)

    def connector(self, **options: Any) -> StorageConnector:
        return StorageConnector(StorageUploadConfig(self.address, n_eval_episodes=0), **{**PATIENT, **options})

    def fail(self, times: int, **how: Any) -> Any:
        return self.drive.fail(r"^(POST|PUT|PATCH) /(drive|upload|session)", times=times, **how)

    def fail_reading(self, times: int, **how: Any) -> Any:
        return self.drive.fail(r"^GET ", times=times, **how)

    def repair(self) -> None:
        self.drive.faults.clear()

    def take_away_rights(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        self.drive.role = {401: None, 403: "read"}[status]

    def give_back_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drive.role = "write"

    def checkpoints(self) -> list[int]:
        found = [re.search(r"/checkpoints/checkpoint_(\d+)\.zip", path) for path in self.drive.contents]
        return [int(match[1]) for match in found if match is not None]

    def received(self) -> dict[str, bytes]:
        return dict(self.drive.contents)

    def plant(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        self.token = self.drive.token = token
        self.drive.accept(token)

    def answer_within(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        monkeypatch.setattr("rl_framework.stores.drive_access._ANSWER_SECONDS", seconds)

    def fill_disk_for_downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ClearMLCase.fill_disk_for_downloads(self, monkeypatch)  # type: ignore[arg-type] (by `Path.open` too)


class MLflowCase(Case):
    """On MLflow's own server. W&B is not in the table: its client has its own way with the network; see its tests."""

    name = "mlflow"
    helpful = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN")
    is_slow = True

    def __init__(self, server: LoopbackMLflow) -> None:
        self.server, self.token = server, next(iter(server.tokens))
        self.experiment = f"experiment {secrets.token_hex(4)}"
        self.model = self.experiment.replace(" ", "-")

    @classmethod
    @contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[MLflowCase]:
        pytest.importorskip("mlflow")
        with loopback_mlflow(monkeypatch) as server:
            yield cls(server)

    def connector(self, **options: Any) -> MLflowConnector:
        given = {"register_model_as": self.model, "model_uri": f"models:/{self.model}/1", "n_eval_episodes": 0}
        return MLflowConnector(self.server.url, self.experiment, **{**PATIENT, **given, **options})

    def fail(self, times: int, **how: Any) -> Any:
        return self.server.fail(r"^(POST|PUT|PATCH) ", times=times, **how)

    def fail_reading(self, times: int, **how: Any) -> Any:
        return self.server.fail(r"^GET ", times=times, **how)

    def repair(self) -> None:
        self.server.faults.clear()

    def take_away_rights(self, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
        self.server.tokens = {} if status == 401 else {self.token: "read"}

    def give_back_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server.tokens = {self.token: "write"}

    def checkpoints(self) -> list[int]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.server.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(self.experiment)
        place = None if experiment is None else experiment.artifact_location.partition(":/")[2].strip("/")
        folder = self.server.folder / "artifacts"
        found = [] if place is None else (folder / place).glob("*/artifacts/checkpoints/checkpoint_*.zip")
        return sorted(int(path.stem.rpartition("_")[2]) for path in found)

    def received(self) -> dict[str, bytes]:
        return self.server.files()

    def plant(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        self.token = token
        self.server.tokens = {token: "write"}
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)

    def answer_within(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        # Its client knows whole seconds only.
        monkeypatch.setattr("rl_framework.connector.mlflow.service._ANSWER_SECONDS", max(1, round(seconds)))

    def fill_disk_for_downloads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

        def full(*arguments: Any, **options: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(HttpArtifactRepository, "_download_file", full)


CASES: list[type[Case]] = [HuggingFaceCase, ClearMLCase, StorageCase, MLflowCase]


def slow() -> dict[str, Any]:
    """Returns a fault that answers when its event is set."""
    return {"until": threading.Event()}
