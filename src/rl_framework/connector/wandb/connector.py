"""The connector to Weights & Biases."""

from __future__ import annotations

import json
import netrc
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from rl_framework.connector.delivery import Item
from rl_framework.connector.remote import RemoteConnector
from rl_framework.connector.upload_files import UploadSettings, prepare_upload
from rl_framework.connector.wandb.session import STEP, WandbSession
from rl_framework.errors import ArgumentError, ConnectorError, require_extra
from rl_framework.retry import RetryPolicy, call_with_retries
from rl_framework.secrecy import redact, remember_secret
from rl_framework.training import Event, Training, TrainingFailed, TrainingStarted

__all__ = ["WandbConnector"]

_MODES = ("online", "offline", "disabled")
_BINS = 64
_BUNDLE = "agent.zip"
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UPLOAD_SECONDS = 3600
_PUBLIC = "https://api.wandb.ai"


class WandbConnector(RemoteConnector):
    """Tracks a training in Weights & Biases and keeps agents there as artifacts.

        connector = WandbConnector("walking", tags=["ppo"])
        agent.train("BipedalWalker-v3", 1_000_000, connector=connector)
        agent.upload(connector, video_recording_environment="BipedalWalker-v3")
        connector.close()

        again = StableBaselinesAgent("ppo").download(WandbConnector("walking", artifact="agent-<run id>:latest"))

    The key is WANDB_API_KEY, or what `wandb login` has put into `~/.netrc`. A run has numbers, histograms and videos,
    all over the metric "timestep" (W&B's own step counts rows and means nothing here), the record as its configuration,
    checkpoints as versions of the artifact `checkpoints-<run id>`, and after `upload` the artifact `agent-<run id>`,
    the replay, and the results in its summary.

    Training never waits for W&B. Its client has a queue and files of its own, which are used: our own queue only hands
    things to the client's service process, opens the run again if that process ends, and is empty otherwise. Without a
    network the run is written to the folder `wandb`, which `sync()` sends. `close()`, and the end of the process, wait
    for what is being sent for `patience` seconds.

    Every number is there once. A resumed training goes on under the same id. W&B deletes nothing, so what was logged
    after the checkpoint from this machine, and is reported again exactly as before, is left out; where it differs (as
    times do) both values are there, and the later row holds. A training that is resumed on another machine does not
    know what was logged after its checkpoint: those values are there twice.

    Neither code, console, git, host, user, arguments nor the machine's load are recorded, unless `settings` say so. It
    was tried with the real client offline and without a server, never with W&B's server.

    Args:
        project: The project.
        name: Of the run; None: what is trained on what, such as "ppo on CartPole-v1".
        entity: User or team; None: the user's default.
        mode: "online"; "offline": nothing is sent before `sync()`; "disabled": nothing is done at all.
        directory: Where W&B's folder `wandb` is; None: WANDB_DIR, or the working directory.
        group: Of runs that belong together, such as seeds.
        tags: Of the run.
        run: A `wandb.Run` of your own to write to, which is not ended: pass `wandb.run`.
        artifact: Which agent `download` fetches, as W&B writes it: "entity/project/agent-<run id>:latest"; None: what
            this connector uploaded last.
        settings: More of `wandb.Settings`, by name: `{"x_disable_stats": False}`.
        n_eval_episodes: Episodes of the evaluation whose results are uploaded with the agent; 0: no evaluation.
        video_length: Frames of the replay.
        upload_checkpoints: Whether checkpoints go there while the agent is trained.
        spool_directory: See `RemoteConnector`.
        patience: Seconds for which the end of training waits for W&B's client, and the end of the run for the network.
        retry: See `RemoteConnector`.

    Raises:
        ArgumentError: A value cannot be used.
        ConnectorError: There is no key, and the mode is "online".
        MissingExtraError: The extra "wandb" is not installed.
    """

    def __init__(
        self,
        project: str = "rl_framework",
        name: str | None = None,
        entity: str | None = None,
        mode: str = "online",
        directory: str | Path | None = None,
        *,
        group: str | None = None,
        tags: Sequence[str] = (),
        run: Any = None,
        artifact: str | None = None,
        settings: Mapping[str, Any] | None = None,
        n_eval_episodes: int = 10,
        video_length: int = 500,
        upload_checkpoints: bool = True,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        require_extra("wandb", "WandbConnector", "wandb")
        super().__init__(spool_directory=spool_directory, patience=patience, retry=retry)
        if mode not in _MODES:
            raise ArgumentError("mode", mode, f"must be one of {', '.join(_MODES)}")
        if isinstance(tags, str):
            raise ArgumentError("tags", tags, "must be a list of texts", f"Write [{tags!r}].")
        if run is not None and not _RUN_ID.fullmatch(str(getattr(run, "id", ""))):
            raise ArgumentError("run", run, "must be a wandb.Run", "Pass wandb.run after wandb.init(...).")
        self.mode, self.artifact, self.upload_checkpoints = mode, artifact, upload_checkpoints
        self._directory = None if directory is None else Path(directory)
        self._upload_settings = UploadSettings(_BUNDLE, n_eval_episodes, video_length)
        self._is_own = run is None
        self._described: dict[str, Any] = {
            "id": secrets.token_hex(4) if run is None else run.id,
            "project": project if run is None else run.project,
            "entity": entity if run is None else run.entity,
            "name": name,
            "group": group,
            "tags": list(tags),
        }
        self._after: int | None = None
        self._is_opened = False
        self._uploaded: Any = None
        key = _key()
        remember_secret(key)
        if run is None and mode == "online" and key is None:
            raise ConnectorError(
                'W&B has no key: set WANDB_API_KEY or run "wandb login", or pass mode="offline" and send the run later'
            )
        self._session = WandbSession(mode, self._directory, settings or {}, patience, run)

    # Delivery

    @property
    def service(self) -> str:
        """Whom it goes to, for messages."""
        return f"the W&B project {self._described['project']}"

    def destination(self) -> dict[str, Any]:
        """Returns the server and the project: every process with a key can deliver."""
        described = self._described
        return {"service": "wandb", "host": _host(), "entity": described["entity"], "project": described["project"]}

    def deliver(self, item: Item) -> None:
        """Hands one item to W&B's client, which may happen twice."""
        import wandb

        data, session = item.data, self._session
        run = session.opened(data["run"])
        if item.kind == "record":
            session.configure(data["record"])
        elif item.kind == "failed":
            if session.run is not None:
                session.finish(exit_code=1)
        elif item.kind in ("metrics", "histograms", "video"):
            row = {STEP: data["timestep"], "_timestamp": data["time"]}
            if item.kind == "metrics":
                row |= data["metrics"]
            elif item.kind == "histograms":
                row |= {
                    # Some numbers have the same name, and W&B takes one kind of value under each.
                    f"histograms/{name}": wandb.Histogram(np_histogram=(np.asarray(counts), np.asarray(edges)))
                    for name, (counts, edges) in data["histograms"].items()
                }
            else:
                video = str(_file_of(item))
                row[f"video/{data['name']}"] = wandb.Video(video, format=Path(video).suffix.lstrip(".") or "mp4")  # type: ignore[arg-type]
            session.log(row, after=data["after"], again=item.attempts > 0)
        elif item.kind == "checkpoint":
            artifact = wandb.Artifact(f"checkpoints-{run.id}", "model", metadata={STEP: data["timestep"]})
            artifact.add_file(str(_file_of(item)), name=data["name"])
            session.log_artifact(artifact, ["latest", f"timestep-{data['timestep']}"])
        else:
            raise ConnectorError(f"an item {item.kind!r} is not known")

    def _put(self, kind: str, data: Mapping[str, Any], file: Path | None = None) -> None:
        if self.mode != "disabled":
            self._is_opened = True
            self.delivery.put(kind, {"run": self._described, "after": self._after, **data}, file)

    # What happens in training

    def on_event(self, event: Event, training: Training) -> None:
        """Turns events into items; a run whose training fails is marked as failed."""
        if isinstance(event, TrainingStarted):
            self._after = event.timestep if event.resumed else None
            what = event.record.get("algorithm") or event.record.get("agent")
            where = event.record.get("environment")
            if what and where and not self._is_opened:
                self._described["name"] = self._described["name"] or f"{what} on {where}"
        if isinstance(event, TrainingFailed) and self._is_own:
            self._put("failed", {})
        super().on_event(event, training)

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Logs numbers; NaN and infinity are shown as such."""
        numbers = {name: float(value) for name, value in metrics.items()}
        self._put("metrics", {"metrics": numbers, "timestep": timestep, "time": time})

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Logs how samples are distributed."""
        found = {}
        for name, samples in histograms.items():
            values = np.asarray(samples, dtype=np.float64).ravel()
            values = values[np.isfinite(values)]
            if len(values):
                counts, edges = np.histogram(values, bins=_BINS)
                found[name] = counts.tolist(), edges.tolist()
        if found:
            self._put("histograms", {"histograms": found, "timestep": timestep, "time": time})

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a call of `train` as the run's configuration; a later one takes its place."""
        self._put("record", {"record": dict(record)})

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Sends a checkpoint as a version of an artifact."""
        if self.upload_checkpoints:
            self._put("checkpoint", {"name": path.name, "timestep": timestep}, path)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Logs a video."""
        self._put("video", {"name": name, "timestep": timestep, "time": clock.time()}, path)

    def discard_after(self, timestep: int) -> None:
        """Does nothing: see the class about what is reported again."""

    def run_id(self) -> str | None:
        """Returns the id of the run, unless it is the user's own."""
        return self._described["id"] if self._is_own and self.mode != "disabled" else None

    def rejoin(self, run_id: str) -> None:
        """Goes on under the id of an earlier training, if this connector makes its run by itself."""
        if self._is_own and _RUN_ID.fullmatch(run_id) and not self._is_opened:
            self._described["id"] = run_id

    def close(self) -> None:
        """Waits for what is left, for a bounded time, and ends the run. What comes later continues it."""
        super().close()
        self._session.finish()

    def sync(self) -> int:
        """Delivers what is left of this and earlier processes, and sends runs that were written offline.

        Those are all in W&B's folder that are not marked as sent; the open run is ended first.

        Returns:
            How many items and runs were delivered.

        Raises:
            ConnectorError: Something could not be delivered; it stays where it is. Or there is no key.
        """
        n_delivered = super().sync()
        folder = self._session.folder
        self._session.finish()
        waiting = [
            path for path in sorted(folder.glob("offline-run-*")) if path.is_dir() and not any(path.glob("*.synced"))
        ]
        if not waiting:
            return n_delivered
        if _key() is None:
            raise ConnectorError(f"W&B has no key: set WANDB_API_KEY; {len(waiting)} runs are kept in {folder}")
        command = [sys.executable, "-m", "wandb", "sync", *map(str, waiting)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_UPLOAD_SECONDS, check=False
            )
            answer, failed = done.stdout + done.stderr, done.returncode != 0
        except subprocess.TimeoutExpired:
            answer, failed = f"it took more than {_UPLOAD_SECONDS} s", True
        left = [path for path in waiting if not any(path.glob("*.synced"))]
        if failed or left:
            told = redact(" ".join(answer.split()))[-400:]
            raise ConnectorError(f"{len(left)} of {len(waiting)} W&B runs were not sent: {told}. They are in {folder}")
        return n_delivered + len(waiting)

    # Agents

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        """Evaluates and films the agent, and adds it to the run as an artifact, with the results.

        Args:
            agent: The agent.
            video_recording_environment: Where to film and to evaluate it; None: no film, and the evaluation takes
                place in the environment that the agent's record names, if its id is all that it takes to make it.

        Returns:
            Name of the artifact, for `download`; offline, the folder of the run.

        Raises:
            ConnectorError: It could not be uploaded. The message says where the files are kept.
            RecordingError: The environment cannot be filmed.
        """
        if self.mode == "disabled":
            return "disabled"
        self.flush()
        folder = self.delivery.spool.with_name(f"{self.delivery.spool.name}-upload")
        try:
            files = prepare_upload(folder, agent, self._upload_settings, environment=video_recording_environment).files
        except OSError as error:
            raise ConnectorError(f"the agent could not be saved in {folder}: {error}") from error
        self._is_opened = True
        if self.delivery.n_left:
            self.delivery.drain(self.patience)  # what happened before arrives before, as far as it does in time
        timestep = int(getattr(agent, "num_timesteps", 0))
        place: str = call_with_retries(
            lambda: self._add_agent(files, timestep),
            what=f"the upload to {self.service} (the files are kept in {folder})",
            is_transient=self.is_transient,
            policy=self.retry,
        )
        shutil.rmtree(folder)
        self.delivery.release()
        return place

    def _add_agent(self, files: Mapping[str, Path], timestep: int) -> str:
        import wandb

        run = self._session.opened(self._described)
        artifact = wandb.Artifact(f"agent-{run.id}", "model", metadata={STEP: timestep})
        for name, path in files.items():
            artifact.add_file(str(path), name=name)
        if "replay.mp4" in files:
            row = {STEP: timestep, "video/replay": wandb.Video(str(files["replay.mp4"]), format="mp4")}
            self._session.log(row)
        if "results.json" in files:
            results = json.loads(files["results.json"].read_text(encoding="utf-8"))
            numbers = {f"results/{name}": value for name, value in results.items() if isinstance(value, int | float)}
            self._session.call(lambda run: run.summary.update(numbers))
        logged = self._session.log_artifact(artifact, ["latest", "final"])
        if run.offline:
            return str(Path(run.settings.sync_dir).absolute())
        logged.wait(timeout=_UPLOAD_SECONDS)
        self._uploaded = logged.qualified_name
        return str(self._uploaded)

    def download(self, agent: Any) -> str:
        """Loads an agent from an artifact; W&B's client and the file itself verify its checksums.

        Returns:
            Name of the artifact.

        Raises:
            ConnectorError: It cannot be fetched, or it is not said which.
            BundleError: The file is no agent.
        """
        name = self.artifact or self._uploaded
        if name is None or self.mode == "disabled":
            raise ConnectorError(
                'there is nothing to download: pass WandbConnector(project, artifact="agent-<run id>:latest"); what '
                "was uploaded offline can be fetched after sync()"
            )
        import wandb

        described = self._described
        path = name if "/" in name else "/".join(filter(None, [described["entity"], described["project"], name]))
        with tempfile.TemporaryDirectory(prefix="rl_framework-") as folder:

            def fetch() -> Path:
                found = wandb.Api(timeout=60).artifact(path, type="model").download(root=folder)
                return Path(found)

            where = call_with_retries(
                fetch, what=f"the download of {path} from W&B", is_transient=self.is_transient, policy=self.retry
            )
            bundles = [file for file in where.iterdir() if file.suffix == ".zip"]
            if len(bundles) != 1:
                raise ConnectorError(f"the artifact {path} has {len(bundles)} .zip files, and an agent is one")
            agent.load_from_file(bundles[0])
        return path


def _file_of(item: Item) -> Path:
    if item.file is None:
        raise ConnectorError(f"the file of {item.kind!r} is gone")
    return item.file


def _host() -> str:
    address = urlsplit(os.environ.get("WANDB_BASE_URL") or _PUBLIC)
    return address.netloc.rpartition("@")[2]


def _key() -> str | None:
    """Returns the key that W&B's client is going to find, without asking for it."""
    if key := os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return key
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(_host().partition(":")[0])
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None
