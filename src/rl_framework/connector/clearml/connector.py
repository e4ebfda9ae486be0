"""The connector to ClearML."""

from __future__ import annotations

import logging
import tempfile
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.clearml.configuration import ClearMLDownloadConfig, ClearMLUploadConfig
from rl_framework.connector.clearml.datasets import ClearMLDatasets
from rl_framework.connector.clearml.parameters import merged, shown
from rl_framework.connector.clearml.tracking import ClearMLTracker, named_event
from rl_framework.connector.delivery import Item
from rl_framework.connector.upload_files import prepare_upload
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import RetryPolicy, call_with_retries
from rl_framework.secrecy import redact_values

__all__ = ["ClearMLConnector"]

logger = logging.getLogger(__name__)

_DEFAULT_SECTION = "General"


class ClearMLConnector(ClearMLDatasets, ClearMLTracker):
    """Tracks a training in ClearML, keeps agents there, and lets ClearML train with other hyperparameters.

        connector = ClearMLConnector(ClearMLUploadConfig("my project"))
        parameters = connector.hyperparameters({"learning_rate": 1e-3, "n_steps": 256})
        agent = StableBaselinesAgent("ppo", parameters)
        agent.train("CartPole-v1", 100_000, connector=connector)
        agent.upload(connector=connector, video_recording_environment="CartPole-v1")

    The server and the keys are those of the SDK: `clearml.conf` (`clearml-init` makes one) or the variables
    `CLEARML_API_HOST`, `CLEARML_API_ACCESS_KEY`, `CLEARML_API_SECRET_KEY`.

    Training never waits for the server. What cannot be delivered is kept on disk, tried again, and delivered by a later
    `sync()`. The connector does not call `Task.init`: the SDK's own reporting retries for ever when the server is away,
    also at the end of the process, forks a reporter that can deadlock, and patches argparse, matplotlib, sys.exit,
    signals and fork. If you want its automation (console, machine load), make a task with `init_task` and pass it in.

    Every number is there once. ClearML keeps the last value of a name at an iteration; several values of one timestep,
    as of episodes that end in the same step of the batch, are told apart by the iterations that follow it. A resumed
    training goes on in the same task, and what it reports again takes the place of what was there. ClearML knows no NaN
    and no infinity: they are left out, with one warning. The last seconds' numbers are lost if the process is killed.

    It was tried with the real SDK and a server on loopback that follows the server's published source, never with a
    real ClearML server.

    Args:
        upload_config: How the run appears, or the name of its project; None: the defaults.
        download_config: Which agent `download` fetches; None: what this connector uploaded last.
        task: A `clearml.Task` of your own to write to; its status is then yours too. None: the task of `Task.init` if
            it was called, the task that an agent runs this process for, or one that is made when training begins.
        capture_tensorboard: Whether the SDK may go on capturing what `task` captures of TensorBoard. A
            TensorBoardConnector beside this one would report everything a second time.
        spool_directory: Where what has not arrived is kept; None: a new folder in `runs/.spool`.
        patience: Seconds for which the end of training waits for the server.
        retry: How soon a failed delivery is tried again, and how often a call that the user waits for.

    Raises:
        ArgumentError: `task`, or a configuration, cannot be used.
        ConnectorError: ClearML has no keys.
        MissingExtraError: The extra "clearml" is not installed.
    """

    def __init__(
        self,
        upload_config: ClearMLUploadConfig | str | None = None,
        download_config: ClearMLDownloadConfig | None = None,
        task: Any = None,
        *,
        capture_tensorboard: bool = False,
        spool_directory: str | Path | None = None,
        patience: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        if isinstance(upload_config, str):
            upload_config = ClearMLUploadConfig(upload_config)
        if not isinstance(upload_config, ClearMLUploadConfig | None):
            raise ArgumentError("upload_config", upload_config, "must be a ClearMLUploadConfig or a project's name")
        if not isinstance(download_config, ClearMLDownloadConfig | None):
            raise ArgumentError("download_config", download_config, "must be a ClearMLDownloadConfig")
        super().__init__(upload_config, task, capture_tensorboard, spool_directory, patience, retry)
        self.download_config = download_config

    # Agents

    def upload(self, agent: Any, *, video_recording_environment: Any = None) -> str:
        """Uploads the agent as the task's final model, its record, results, and, given an environment, a replay.

        Args:
            agent: The agent.
            video_recording_environment: Where to film and to evaluate it; None: no film, and the evaluation takes
                place in the environment that the agent's record names, if its id is all that it takes to make it.

        Returns:
            Address of the task for people, or its id if that is not known.

        Raises:
            ConnectorError: Something could not be uploaded. The message says where the files are kept.
            RecordingError: The environment cannot be filmed.
        """
        self._open()
        self.flush()
        folder = self.delivery.spool.with_name(f"{self.delivery.spool.name}-upload")
        items = self._prepared(agent, folder, video_recording_environment)
        if self._is_own and not self._is_training:
            items = [("status", {"status": "started"}, None), *items, ("status", {"status": self._ending}, None)]
        self._delivery_first()
        for kind, data, file in items:
            self._deliver_now(kind, data, file, f"the files are kept in {folder}")
        for _, _, file in items:
            if file is not None:
                file.unlink(missing_ok=True)
        folder.rmdir()
        if not self._is_training:
            self.delivery.release()
        return self.web_page or str(self.task_id)

    def _delivery_first(self) -> None:
        """Lets what was reported before arrive before, as far as it does in time."""
        if self.delivery.n_left:
            self.delivery.drain(self.patience)

    def _prepared(self, agent: Any, folder: Path, environment: Any) -> list[tuple[str, dict[str, Any], Path | None]]:
        timestep = int(getattr(agent, "num_timesteps", 0))
        try:
            files = prepare_upload(folder, agent, self.upload_config, environment=environment).files
        except OSError as error:
            raise ConnectorError(f"the agent could not be saved in {folder}: {error}") from error
        bundle = files.pop(self.upload_config.file_name)
        model = {"name": bundle.stem, "file_name": bundle.name, "iteration": timestep}
        items: list[tuple[str, dict[str, Any], Path | None]] = [
            ("model", {"model": model}, bundle),
            ("artifact", {"key": "agent", "name": bundle.name}, bundle),
        ]
        for name, path in files.items():
            if name == "replay.mp4":
                items.append(("media", {"event": named_event("video/replay", timestep, clock.time())}, path))
            else:
                items.append(("artifact", {"key": path.stem, "name": name}, path))
        return items

    def _deliver_now(self, kind: str, data: dict[str, Any], file: Path | None = None, note: str = "") -> None:
        item = Item(-1, kind, redact_values({"run": self._run, **data}), file)
        what = f"the upload of {file.name if file else kind} to {self.service}"
        self._ask(lambda: self.deliver(item), f"{what} ({note})" if note else what)

    def _ask(self, call: Any, what: str) -> Any:
        return call_with_retries(
            call, what=what, is_transient=self.is_transient, explain=self.explain, policy=self.retry
        )

    def download(self, agent: Any) -> str:
        """Loads an agent from ClearML; its checksum is verified.

        Returns:
            Address of the file.

        Raises:
            ConnectorError: It cannot be fetched, is not what was uploaded, or it is not said which.
            BundleError: The file is no agent.
        """
        config, model_id = self.download_config, self._uploaded_model
        if config is None and model_id is None and self.task_id is None:
            raise ConnectorError(
                "there is nothing to download: pass ClearMLDownloadConfig(model_id=...) or (task_id=...)"
            )

        def fetch(path: Path) -> str:
            if config is None:
                chosen = model_id or self._writer.model_of(str(self.task_id), Path(self.upload_config.file_name).stem)
            else:
                name = Path(config.file_name).stem
                chosen = config.model_id or self._writer.model_of(str(config.task_id), name)
            return self._writer.download_model(chosen, path)

        with tempfile.TemporaryDirectory(prefix="rl_framework-") as folder:
            path = Path(folder) / "agent.zip"
            address: str = self._ask(lambda: fetch(path), f"the download from {self.service}")
            agent.load_from_file(path)
        return address

    # Hyperparameters and agents' queues

    def hyperparameters(self, parameters: Mapping[str, Any], section: str = _DEFAULT_SECTION) -> dict[str, Any]:
        """Connects hyperparameters, so that a clone of the task trains with the values that it has in ClearML.

        Call it before the agent is built, and use what it returns:

            parameters = connector.hyperparameters({"learning_rate": 1e-3, "policy_kwargs": {"net_arch": [64, 64]}})
            agent = StableBaselinesAgent("ppo", parameters)

        On your machine the values come back as they are, and are shown in ClearML when training begins. In a process
        that a ClearML agent runs, the task's values come back: what was not changed is the value given here, of
        whatever type; what was changed takes its type. Nested dictionaries are shown under names with "/".

        Args:
            parameters: By name.
            section: Section of the task's configuration.

        Returns:
            The parameters to train with.

        Raises:
            ArgumentError: They are no dictionary, a name is no text, or a value in ClearML is not of its parameter's
                type.
            ConnectorError: An agent runs this process, and the task's values cannot be read.
        """
        if not isinstance(parameters, Mapping):
            raise ArgumentError("parameters", parameters, "must be a dictionary")
        texts = shown(parameters)
        if not self._is_remote:
            self._parameters[section] = texts
            if self._is_opened:
                self._put("parameters", {"section": section, "texts": texts})
            return merged(parameters, {})
        task_id = str(self._run["task"])
        task = self._ask(lambda: self._writer.read(task_id), f"reading hyperparameters from {self.service}")
        there = {name: entry.get("value", "") for name, entry in task.get("hyperparams", {}).get(section, {}).items()}
        self._parameters[section] = {name: text for name, text in texts.items() if name not in there}
        return merged(parameters, {name: "" if value is None else str(value) for name, value in there.items()})

    def execute_remotely(self, queue: str = "default") -> None:
        """Hands the task to a ClearML agent and ends this process; in the agent's process, does nothing.

        Call it before training: everything after it happens in the agent's process only.

        Args:
            queue: Name of the queue.

        Raises:
            ArgumentError: This process has already trained with this connector.
            ConnectorError: The server cannot be reached; nothing was started then.
            SystemExit: When the task is in the queue.
        """
        if self._is_remote:
            return
        if self._has_trained:
            raise ArgumentError("queue", queue, "training has begun in this process", "Call it before training.")
        self._open()
        if self.delivery.drain(self.patience):
            self.delivery.report()
            raise ConnectorError(f"the task could not be handed to a queue, because {self.service} cannot be reached")
        task_id = self._ask(lambda: self._writer.task_id(self._run), f"making a task in {self.service}")
        if self._task is not None:
            if self._task.is_main_task():
                self._task.close()  # which records what a clone needs to run
            self._ask(lambda: self._writer.set_status(task_id, "stopped"), f"stopping the task {task_id}")
        body = {"task": task_id, "queue_name": queue}
        self._ask(lambda: self._service.call("tasks.enqueue", body, "2.19"), f"putting the task into queue {queue!r}")
        self.close()
        logger.info("ClearML task %s waits in queue %r: %s", task_id, queue, self.web_page)
        raise SystemExit(0)
