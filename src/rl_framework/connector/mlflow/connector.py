"""The connector to MLflow."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
import time as clock
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rl_framework.connector.delivery import Item
from rl_framework.connector.mlflow.model import bundle_in, write_model
from rl_framework.connector.mlflow.runs import Point, RunWriter, flattened
from rl_framework.connector.mlflow.service import MLflowService
from rl_framework.connector.remote import RemoteConnector
from rl_framework.connector.upload_files import UploadSettings, prepare_upload
from rl_framework.errors import ArgumentError, ConnectorError, require_extra
from rl_framework.retry import RetryPolicy, call_with_retries
from rl_framework.secrecy import redact
from rl_framework.training import Training, TrainingEnded, TrainingFailed, TrainingStarted
from rl_framework.training.metrics import histogram

__all__ = ["MLflowConnector"]

_BUFFERED_POINTS = 500
_BUFFERED_SECONDS = 2.0
_BUNDLE, _MODEL = "agent.zip", "agent"
_RUN_ID = re.compile(r"[0-9a-f]{32}")

Answer = TypeVar("Answer")


class MLflowConnector(RemoteConnector):
    """Tracks a training in MLflow and keeps agents there as models.

        connector = MLflowConnector(experiment_name="walking", register_model_as="walker")
        agent.train("BipedalWalker-v3", 1_000_000, connector=connector)
        agent.upload(connector, video_recording_environment="BipedalWalker-v3")

        again = StableBaselinesAgent("ppo").download(MLflowConnector(model_uri="models:/walker/1"))
        actions = mlflow.pyfunc.load_model("models:/walker/1").predict(observations)

    A run has the metrics, the record of the training as parameters and as `record.json`, and the folders
    `checkpoints`, `videos` and `histograms` (one JSON file for each timestep at which some were taken). `upload` adds
    the agent as a model, `upload/results.json`, `upload/replay.mp4` and so on. No pickle is written or read.

    Training never waits for MLflow: what happens goes through a queue on disk, also to a local store; see
    `RemoteConnector`. Every number is there once. Several values of one timestep are told apart by their time, to the
    millisecond. A resumed training goes on in the same run. MLflow deletes no points, so what it reports exactly as
    before is left out, and where it differs (as times do) both values are there, the later one with the later time.

    A tracking server is asked as the user of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or of
    MLFLOW_TRACKING_TOKEN.

    Args:
        tracking_uri: Address of a server or of a database; a folder, for a database and files in it; None: what MLflow
            uses: MLFLOW_TRACKING_URI, or "sqlite:///mlflow.db" and `mlruns` in the working directory.
        experiment_name: The experiment; made if it is missing.
        run_name: Of the run; None: what is trained on what, such as "ppo on CartPole-v1".
        tags: Of the run.
        register_model_as: Name in the registry of models that uploaded agents become versions of; None: none.
        model_uri: Which agent `download` fetches: "models:/name/1", "models:/name@alias", "runs:/<run id>/agent",
            "runs:/<run id>/checkpoints/checkpoint_000000000128.zip", or just the id of a run, whose uploaded agent is
            taken; None: what this connector uploaded last.
        n_eval_episodes: Episodes of the evaluation whose results are uploaded with the agent; 0: no evaluation.
        video_length: Frames of the replay.
        upload_checkpoints: Whether checkpoints go there while the agent is trained.
        spool_directory: See `RemoteConnector`.
        patience: See `RemoteConnector`.
        retry: See `RemoteConnector`. MLflow's own retries are off, unless MLFLOW_HTTP_REQUEST_MAX_RETRIES is set.

    Raises:
        ArgumentError: A value cannot be used.
        MissingExtraError: The extra "mlflow" is not installed.
    """

    def __init__(
        self,
        tracking_uri: str | Path | None = None,
        experiment_name: str = "rl_framework",
        run_name: str | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        register_model_as: str | None = None,
        model_uri: str | None = None,
        n_eval_episodes: int = 10,
        video_length: int = 500,
        upload_checkpoints: bool = True,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        require_extra("mlflow", "MLflowConnector", "mlflow")
        super().__init__(spool_directory=spool_directory, patience=patience, retry=retry)
        if not experiment_name:
            raise ArgumentError("experiment_name", experiment_name, "is empty", "Give the experiment a name.")
        self._settings = UploadSettings(_BUNDLE, n_eval_episodes, video_length)
        self.register_model_as, self.model_uri = register_model_as, model_uri
        self.upload_checkpoints = upload_checkpoints
        self._mlflow = MLflowService(tracking_uri)
        self._writer = RunWriter(self._mlflow)
        self._run: dict[str, Any] = {
            "token": secrets.token_hex(8),
            "experiment": experiment_name,
            "name": run_name,
            "tags": {str(name): str(value) for name, value in (tags or {}).items()},
        }
        self._session: dict[str, Any] = {"at": int(clock.time() * 1000), "after": None}
        self._is_opened = self._is_training = False
        self._ending = "FINISHED"
        self._buffer: list[Point] = []
        self._buffered_since = 0.0
        self._newest: dict[str, int] = {}
        self._at_step: dict[str, tuple[int, list[float]]] = {}
        self._uploaded: str | None = None

    # Delivery

    @property
    def service(self) -> str:
        """Whom it goes to, for messages."""
        return f"MLflow at {self._mlflow.address}"

    def destination(self) -> dict[str, Any]:
        """Returns the address: every process with access to it can deliver."""
        return {"service": "mlflow", "address": self._mlflow.address}

    def is_transient(self, error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        return self._mlflow.is_transient(error)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        return self._mlflow.explain(error)

    def deliver(self, item: Item) -> None:
        """Delivers one item; a second time changes nothing."""
        data, writer = item.data, self._writer
        session = data["session"]
        run_id = writer.run_id(data["run"])
        # What an interrupted training has left may come after what the resumed one reported in its place.
        is_late = session["at"] != self._session["at"]
        limit = writer.superseded_after(run_id, session) if is_late else float("inf")
        if item.kind == "begin":
            writer.begin(run_id, session)
        elif item.kind == "metrics":
            points = [Point(*point) for point in data["points"]]
            points = [point for point in points if point.step <= limit]
            writer.add_points(run_id, points, session, again=item.attempts > 0)
        elif item.kind == "record":
            writer.add_parameters(run_id, flattened(data["record"]))
            writer.add_text(run_id, data["name"], json.dumps(data["record"], indent=2))
        elif item.kind == "text":
            if data["timestep"] <= limit:
                writer.add_text(run_id, data["name"], data["text"])
        elif item.kind == "status":
            if limit == float("inf"):
                writer.end(run_id, data["status"], data["at"])
        elif item.file is None:
            raise ConnectorError(f"an item {item.kind!r} is not known, or has lost its file")
        elif data["timestep"] <= limit:
            writer.add_file(run_id, item.file, data["name"])

    def _put(self, kind: str, data: Mapping[str, Any], file: Path | None = None) -> None:
        self.put_buffered()
        self._open()
        self.delivery.put(kind, {"run": self._run, "session": self._session, **data}, file)

    def put_buffered(self) -> None:
        """Puts the numbers that were gathered, as one item."""
        if self._buffer:
            points, self._buffer = self._buffer, []
            self._open()
            self.delivery.put("metrics", {"run": self._run, "session": self._session, "points": points})

    def _open(self, default_name: str | None = None) -> None:
        if not self._is_opened:
            self._is_opened = True
            self._run["name"] = self._run["name"] or default_name

    @property
    def run(self) -> str | None:
        """Id of the run in MLflow, or None while there is none or the server has not been reached."""
        return self._writer.known_id(self._run)

    # What happens in training

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Makes the run, or goes on with it."""
        what = event.record.get("algorithm") or event.record.get("agent")
        where = event.record.get("environment")
        self._open(f"{what} on {where}" if what and where else None)
        self.put_buffered()
        self._is_training = True
        self._session = {"at": int(clock.time() * 1000), "after": event.timestep if event.resumed else None}
        self._newest.clear()
        self._at_step.clear()
        self._put("begin", {})

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Marks the run as finished, or as killed if the user interrupted it."""
        self._end("KILLED" if event.interrupted else "FINISHED")

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Marks the run as failed."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        self._is_training, self._ending = False, status
        self._put("status", {"status": status, "at": int(clock.time() * 1000)})

    def log_metrics(self, metrics: Mapping[str, float], timestep: int, time: float) -> None:
        """Reports numbers, with a few seconds' delay. NaN is shown as such, infinity as the largest number."""
        now = clock.monotonic()
        if not self._buffer:
            self._buffered_since = now
        for name, value in metrics.items():
            number = float(value)
            # MLflow takes equal values of the same millisecond and step for one.
            milliseconds = self._newest[name] = max(int(time * 1000), self._newest.get(name, -1) + 1)
            step, before = self._at_step.get(name, (timestep, []))
            before = before if step == timestep else []
            self._at_step[name] = timestep, [*before, number]
            self._buffer.append(Point(name, number, milliseconds, timestep, before.count(number)))
        if len(self._buffer) >= _BUFFERED_POINTS or now - self._buffered_since > _BUFFERED_SECONDS:
            self.put_buffered()

    def log_histograms(self, histograms: Mapping[str, Any], timestep: int, time: float) -> None:
        """Keeps how samples are distributed, as a JSON file: at most 64 counts for each."""
        found = {name: histogram(samples) for name, samples in histograms.items()}
        name = f"histograms/{timestep:012d}.json"
        self._put("text", {"name": name, "timestep": timestep, "text": json.dumps(found)})

    def log_record(self, record: Mapping[str, Any]) -> None:
        """Keeps the record of a call of `train`, as a file and as parameters."""
        start = 0 if self._session["after"] is None else self._session["after"]
        start = start or int(record.get("start") or 0)
        name = f"record from timestep {start}.json" if start else "record.json"
        self._put("record", {"name": name, "record": dict(record)})

    def log_checkpoint(self, path: Path, timestep: int) -> None:
        """Sends a checkpoint."""
        if self.upload_checkpoints:
            self._put("file", {"name": f"checkpoints/{path.name}", "timestep": timestep}, path)

    def log_video(self, path: Path, name: str, timestep: int) -> None:
        """Sends a video."""
        clean = re.sub(r"[^\w-]", "_", name)
        self._put("file", {"name": f"videos/{clean}-{timestep:012d}{path.suffix}", "timestep": timestep}, path)

    def discard_after(self, timestep: int) -> None:
        """Does nothing: see the class about what is reported again."""

    def run_id(self) -> str | None:
        """Returns the mark by which this connector finds its run."""
        return str(self._run["token"])

    def rejoin(self, run_id: str) -> None:
        """Goes on in the run of an earlier training."""
        if re.fullmatch(r"[0-9a-f]{16}", run_id) and not self._is_opened:
            self._run["token"] = run_id

    # Agents

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        """Evaluates and films the agent, and adds it to the run as a model, with the results.

        Args:
            agent: The agent.
            video_recording_environment: Where to film and to evaluate it; None: no film, and the evaluation takes
                place in the environment that the agent's record names, if its id is all that it takes to make it.

        Returns:
            The address of the model: "models:/walker/3" if it is registered, otherwise "models:/m-...".

        Raises:
            ConnectorError: Something could not be uploaded. The message says where the files are kept.
            RecordingError: The environment cannot be filmed.
        """
        self.flush()
        folder = self.delivery.spool.with_name(f"{self.delivery.spool.name}-upload")
        files = self._prepared(agent, folder, video_recording_environment)
        self._open()
        if self.delivery.n_left:
            self.delivery.drain(self.patience)  # what happened before arrives before, as far as it does in time
        timestep, writer, run = int(getattr(agent, "num_timesteps", 0)), self._writer, self._run
        bundle, mark = files.pop(_BUNDLE), secrets.token_hex(8)
        note = f"the files are kept in {folder}"
        run_id = self._ask(lambda: writer.run_id(run), note)
        for name, path in files.items():
            self._ask(lambda path=path, name=name: writer.add_file(run_id, path, f"upload/{name}"), note)  # type: ignore[misc]
        with tempfile.TemporaryDirectory(prefix="rl_framework-") as temporary:
            model = write_model(Path(temporary) / _MODEL, bundle)
            model_id = self._ask(lambda: writer.add_model(run_id, model, _MODEL, timestep, mark), note)
        self._uploaded = f"models:/{model_id}"
        if (registered := self.register_model_as) is not None:
            self._uploaded = self._ask(lambda: writer.register_model(run_id, model_id, registered), note)
        if not self._is_training:
            self._ask(lambda: writer.end(run_id, self._ending, int(clock.time() * 1000)), note)
            self.delivery.release()
        shutil.rmtree(folder)
        return self._uploaded

    def _prepared(self, agent: Any, folder: Path, environment: Any) -> dict[str, Path]:
        try:
            return prepare_upload(folder, agent, self._settings, environment=environment).files
        except OSError as error:
            raise ConnectorError(f"the agent could not be saved in {folder}: {error}") from error

    def _ask(self, call: Callable[[], Answer], note: str = "") -> Answer:
        what = f"the upload to {self.service} ({note})" if note else f"the download from {self.service}"
        return call_with_retries(
            call, what=what, is_transient=self.is_transient, explain=self.explain, policy=self.retry
        )

    def download(self, agent: Any) -> str:
        """Loads an agent from MLflow; the checksums in its file are verified.

        Returns:
            The address that it was fetched from.

        Raises:
            ConnectorError: It cannot be fetched, or it is not said which.
            BundleError: The file is no agent.
        """
        address = self.model_uri or self._uploaded
        if address is None:
            raise ConnectorError('there is nothing to download: pass MLflowConnector(model_uri="models:/name/1")')
        if _RUN_ID.fullmatch(address):
            address = f"runs:/{address}/{_MODEL}"
        with tempfile.TemporaryDirectory(prefix="rl_framework-") as folder:
            where, place = address, Path(folder) / "download"
            agent.load_from_file(bundle_in(self._ask(lambda: self._writer.fetch(where, place))))
        return redact(address)
