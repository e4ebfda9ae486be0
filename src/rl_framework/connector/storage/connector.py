"""A store under an address, for agents and for what happens while they are trained."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
import time as clock
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rl_framework.agent import load_agent
from rl_framework.connector.delivery import Item
from rl_framework.connector.kept_locally import KeptLocallyConnector
from rl_framework.connector.storage.any_files import StoredFiles
from rl_framework.connector.storage.config import StorageDownloadConfig, StorageUploadConfig
from rl_framework.connector.storage.runs import of_this_run, run_of, superseded, surplus_checkpoints
from rl_framework.connector.upload_files import MEASURED, RECORD, prepare_upload, redacted_copy
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.stores import (
    Address,
    Manifest,
    Place,
    StoreError,
    copy_of_file,
    explain,
    is_transient,
    open_store,
    parse_address,
    retrying,
    temporary_copies,
)
from rl_framework.training import Event, Training, TrainingEnded, TrainingFailed

__all__ = ["StorageConnector"]

logger = logging.getLogger(__name__)

CHECKPOINTS, VIDEOS = "checkpoints", "videos"


class StorageConnector(StoredFiles, KeptLocallyConnector):
    """Keeps agents, checkpoints, videos, reports and data sets under an address, and fetches them from there.

    `agent.upload(connector)` publishes the agent with its evaluation, a replay and what was measured: readers see all
    of it or what was there before. Given to `train`, it sends checkpoints (to `checkpoints/`), videos (to `videos/`)
    and metrics while training goes on, and the agent at its end; see `RemoteConnector`. What is there is opened by its
    address: `load_agent("s3://bucket/run")`, `train(..., resume_from="s3://bucket/run")`.

    Only one process at a time may write under an address. A training that begins anew there moves what an earlier one
    left (later checkpoints, its metrics) to `earlier/`; nothing is removed but what `keep_last` says.

    Args:
        upload_config: Where things go, or just the address; None: this connector only fetches.
        download_config: Where agents come from, or just the address; None: from where they go.
        options: For the client of the service: `credentials` (Google Drive), `key_filename`, `password`, `host_key`
            (SFTP), `key`, `secret`, `endpoint_url` (S3) and so on; see docs/storage.md. They are written nowhere.
        directory: Folder for metrics and for uploads that are being prepared; None: a new one under `runs/`.
        spool_directory: See `RemoteConnector`.
        patience: See `RemoteConnector`.
        retry: See `RemoteConnector`.

    Raises:
        MissingExtraError: The client of the service is not installed.
        ArgumentError: There is no address, or it cannot be used.
    """

    def __init__(
        self,
        upload_config: StorageUploadConfig | str | os.PathLike[str] | None = None,
        download_config: StorageDownloadConfig | str | os.PathLike[str] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        directory: str | Path | None = None,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        super().__init__(directory, spool_directory, patience, retry)
        if upload_config is not None and not isinstance(upload_config, StorageUploadConfig):
            upload_config = StorageUploadConfig(upload_config)
        if download_config is not None and not isinstance(download_config, StorageDownloadConfig):
            download_config = StorageDownloadConfig(download_config)
        if upload_config is None and download_config is None:
            raise ArgumentError("upload_config", None, "an address is needed", 'Such as "s3://bucket/path".')
        if download_config is None and upload_config is not None:
            download_config = StorageDownloadConfig(upload_config.address, upload_config.file_name)
        self.upload_config = upload_config
        self.download_config = download_config
        self._options = dict(options or {})
        self._discarded: int | None = None
        self._mine = threading.local()
        self._publishing = threading.Lock()
        for config in (upload_config, download_config):
            if config is not None:
                open_store(parse_address(config.address, options=self._options))  # says now what is missing

    def _local_name(self) -> str:
        return f"storage-{clock.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(2)}"

    def _to_write(self) -> StorageUploadConfig:
        if self.upload_config is None:
            raise ArgumentError("upload_config", None, "this connector only fetches agents", "Give an address for it.")
        return self.upload_config

    @property
    def address(self) -> Address:
        """Where things go.

        Raises:
            ArgumentError: This connector only fetches.
        """
        return parse_address(self._to_write().address, options=self._options)

    def _place(self) -> Place:
        # Clients are not made for several threads at once.
        mine = getattr(self._mine, "place", None)
        if mine is None or mine[0] != os.getpid():
            address = self.address
            mine = self._mine.place = os.getpid(), Place(open_store(address), address.path)
        return mine[1]

    # While training

    @property
    def service(self) -> str:
        """Whom it goes to, for messages."""
        return str(self.address)

    def destination(self) -> dict[str, Any]:
        """Returns the address without a password, as JSON-able data."""
        address = self.address
        shown = str(Path(address.path).absolute()) if address.scheme == "file" else str(replace(address, user=None))
        # By itself: in front of a host it would be taken for a secret, and hidden.
        return {"service": "storage", "address": shown, "user": address.user}

    def is_transient(self, error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        return is_transient(error)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        return explain(error)

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record on this machine and sends it."""
        super().log_record(record)
        begins_after = record.get("start", 0) if self._discarded is None else self._discarded
        self._discarded = None
        if self._to_write().upload_checkpoints:
            run = run_of(self.local.directory)
            self.delivery.put("begin", {"run": run, "timestep": begins_after})
            self.delivery.put("file", {"name": RECORD}, self.local.directory / RECORD)

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Sends a checkpoint, and what was measured until then."""
        super().log_checkpoint(path, timestep)
        if self._to_write().upload_checkpoints:
            self._put_measurements()

    def discard_after(self, timestep: int) -> None:
        """Takes out the metrics after a timestep; later checkpoints are moved aside."""
        super().discard_after(timestep)
        self._discarded = timestep

    def on_event(self, event: Event, training: Training) -> None:
        """Turns events into items; at the end of training, sends what was measured, and the agent."""
        if isinstance(event, TrainingEnded | TrainingFailed):
            config = self._to_write()
            if config.upload_checkpoints:
                self._put_measurements()
            if config.upload_bundle and isinstance(event, TrainingEnded):
                self._put_agent(training.agent, config)
        super().on_event(event, training)

    def _put_measurements(self) -> None:
        self.local.flush()
        for name in MEASURED:
            path = self.local.directory / name
            if path.exists():
                self.delivery.put("measured", {"name": name}, path)

    def _put_agent(self, agent: Any, config: StorageUploadConfig) -> None:
        path = self.local.directory / Path(config.file_name).name
        try:
            self.delivery.put("file", {"name": config.file_name}, agent.save_to_file(path))
        except OSError as error:
            logger.error("the agent cannot be saved as %s, to be sent to %s: %s", path, self.service, error)

    def deliver(self, item: Item) -> None:
        """Publishes what an item holds; a second time changes nothing."""
        config, place, data = self._to_write(), self._place(), item.data
        with self._publishing:
            if item.kind == "begin":
                run, timestep = str(data["run"]), int(data["timestep"])
                place.below(CHECKPOINTS).publish({}, change=lambda manifest: superseded(manifest, timestep, run))
                place.publish({}, change=lambda manifest: of_this_run(manifest, run))
                return
            if item.file is None:
                raise StoreError(f"the file of {item.kind!r} is gone")
            name = str(data["name"])
            if item.kind == "file":
                place.publish({name: item.file})
                return
            if item.kind == "measured":
                with temporary_copies() as folder:  # it may grow meanwhile
                    place.publish({name: redacted_copy(item.file, folder / name)})
                return
            name = Path(name).name
            if item.kind == "video":
                name = f"{name}-{int(data['timestep']):012d}{item.file.suffix}"
                place.below(VIDEOS).publish({name: item.file})
                return
            checkpoints = place.below(CHECKPOINTS)
            surplus = surplus_checkpoints([*checkpoints.names(), name], config.keep_last)
            if name not in surplus:  # else newer ones were delivered already
                checkpoints.publish({name: item.file}, removals=surplus)

    # Agents

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        """Evaluates and films the agent, and publishes everything in one step.

        Args:
            agent: The agent.
            video_recording_environment: Where to film and to evaluate it; None: no film, and the evaluation takes
                place in the environment that the agent's record names, if its id is all that it takes to make it.

        Returns:
            The address, for `load_agent`.

        Raises:
            ConnectorError: The store does not take it. Everything that was to go there is in the folder that the
                message names.
            RecordingError: The environment cannot be filmed; nothing was sent.
        """
        config = self._to_write()
        self.flush()
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=self.local.directory))
        try:
            files = prepare_upload(
                folder,
                agent,
                config,
                measured=self.local.directory,
                environment=video_recording_environment,
                evaluation=self._evaluation,
            ).files
        except OSError as error:
            raise ConnectorError(f"what was to be uploaded could not be written to {folder}: {error}") from error
        if self._delivery is not None and self._delivery.n_left:
            self._delivery.drain(self.patience)  # what happened before arrives before, as far as it does in time
        try:
            self._publish(self._place(), files)
        except ConnectorError as error:
            raise ConnectorError(f"{error}. Everything that was to go there is in {folder}") from None
        shutil.rmtree(folder)
        self._sync_quietly()
        return self.service

    def _publish(self, place: Place, files: Mapping[str, Path], *, is_all: bool = False) -> None:
        attempt = retrying(f"the upload to {place}", self.retry)
        with self._publishing:
            surplus = set(place.names(attempt)) - set(files) if is_all else ()
            place.publish(files, removals=surplus, change=_dated, attempt=attempt)

    def _sync_quietly(self) -> None:
        """Delivers what could not be sent while training, now that the store answers."""
        if self._delivery is None or not self._delivery.n_left:
            return
        try:
            self.sync()
        except ConnectorError as error:
            logger.warning("the agent was uploaded, and what was left of its training was not: %s", error)

    def download(self, agent: Any = None) -> Any:
        """Fetches an agent; its checksums are verified.

        Args:
            agent: What becomes the fetched agent; None: a new one of whatever kind it is.

        Returns:
            The agent.

        Raises:
            ConnectorError: It could not be fetched, or is not what was published.
            BundleError: What was fetched is no agent, or one of another kind; `agent` is as it was.
        """
        config = self.download_config
        assert config is not None  # seen to in __init__
        with temporary_copies() as folder:
            path = copy_of_file(config.parsed(), folder, options=self._options, retry=self.retry)
            return load_agent(path) if agent is None else agent.load_from_file(path)


def _dated(manifest: Manifest) -> Manifest:
    now = clock.strftime("%Y-%m-%dT%H:%M:%SZ", clock.gmtime())
    return replace(manifest, information={**manifest.information, "published": f"{now} {secrets.token_hex(4)}"})
