"""What a run leaves in ClearML, call by call; everything may be done twice and is there once."""

from __future__ import annotations

import itertools
import json
import mimetypes
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rl_framework.connector.clearml.service import ClearMLService, ServiceError, file_digest
from rl_framework.errors import ConnectorError

__all__ = ["TaskWriter", "histogram_plot"]

Result = TypeVar("Result")

_INVALID_STATUS = 110
_ENDINGS = ("completed", "stopped", "failed")
_EVENTS_AT_ONCE = 500
_PREVIEW_LENGTH = 10_000
_LATE_SECONDS = 60.0


class TaskWriter:
    """Writes to tasks.

    A run says which task it writes to: `{"task": id}`, or `{"token", "project", "name", "type", "tags", "output_uri"}`
    for a task that is found by its token, and made if there is none. The token stands in the task's comment.

    Args:
        service: The server.
        on_open: Told of the id and the web page of each task that is opened.
    """

    def __init__(self, service: ClearMLService, on_open: Callable[[str, str], None] | None = None) -> None:
        self.service = service
        self._on_open = on_open
        self._ids: dict[str, str] = {}
        self._told_of: set[str] = set()
        self._lock = threading.Lock()

    # Tasks

    def task_id(self, run: Mapping[str, Any]) -> str:
        """Returns the id of a run's task, which is made if there is none."""
        if run.get("task"):
            return str(run["task"])
        token = str(run["token"])
        with self._lock:
            if token not in self._ids:
                self._ids[token] = self.find(token) or self._create(run, token)
            return self._ids[token]

    def known_task_id(self, run: Mapping[str, Any]) -> str | None:
        """Returns the id of a run's task if it has been opened."""
        return run.get("task") or self._ids.get(str(run.get("token")))

    def find(self, token: str) -> str | None:
        """Returns the id of the task with a token, or None."""
        query = {
            "_all_": {"pattern": re.escape(_comment(token)), "fields": ["comment"]},
            "only_fields": ["id", "project"],
            "order_by": ["created"],
            "page": 0,
            "page_size": 1,
        }
        tasks = self.service.call("tasks.get_all_ex", query)["tasks"]
        if not tasks:
            return None
        self._opened(tasks[0]["id"], tasks[0].get("project"))
        return str(tasks[0]["id"])

    def _create(self, run: Mapping[str, Any], token: str) -> str:
        project = self._project_id(str(run["project"]))
        task = {
            "name": run["name"],
            "type": run["type"],
            "project": project,
            "tags": list(run.get("tags", ())),
            "system_tags": ["development"],  # as the SDK marks what was not started by an agent
            "comment": _comment(token),
            **({"output_dest": run["output_uri"]} if run.get("output_uri") else {}),
        }
        task_id = str(self.service.call("tasks.create", task)["id"])
        self._opened(task_id, project)
        return task_id

    def _project_id(self, name: str) -> str:
        found = self.service.call("projects.get_all", {"name": f"^{re.escape(name)}$", "only_fields": ["id", "name"]})
        for project in found["projects"]:
            if project["name"] == name:
                return str(project["id"])
        return str(self.service.call("projects.create", {"name": name, "description": ""})["id"])

    def _opened(self, task_id: str, project: str | None) -> None:
        if self._on_open is not None:
            self._on_open(task_id, self.service.web_page(project, task_id))

    def read(self, task_id: str) -> dict[str, Any]:
        """Returns a task as the server has it."""
        task: dict[str, Any] = self.service.call("tasks.get_by_id", {"task": task_id})["task"]
        return task

    def set_status(self, task_id: str, status: str, reason: str = "", at: float | None = None) -> None:
        """Marks a task as "started", "completed", "stopped" or "failed".

        Args:
            task_id: The task.
            status: The status.
            reason: For people.
            at: Unix time at which it was so. If it is told late, an end that was told since then by another process,
                which went on with the run, stays. None: now.
        """
        if at is None or not self._has_ended_since(task_id, at):
            self._change_status(task_id, status, reason)
            self._told_of.add(task_id)

    def _change_status(self, task_id: str, status: str, reason: str = "") -> None:
        self.service.call(f"tasks.{status}", {"task": task_id, "force": True, "status_reason": reason})

    def _has_ended_since(self, task_id: str, at: float) -> bool:
        if time.time() - at < _LATE_SECONDS or task_id in self._told_of:
            return False
        task = self.read(task_id)
        try:
            changed = datetime.fromisoformat(str(task.get("status_changed")))
        except ValueError:
            return False
        changed = changed if changed.tzinfo is not None else changed.replace(tzinfo=UTC)
        return task.get("status") in _ENDINGS and changed.timestamp() > at

    def _while_editable(self, task_id: str, change: Callable[[], Result]) -> Result:
        """Makes a change, for which the server wants a task that has not ended."""
        try:
            return change()
        except ServiceError as error:
            if error.subcode != _INVALID_STATUS:
                raise
        status = self.read(task_id)["status"]
        self._change_status(task_id, "started")
        try:
            return change()
        finally:
            if status in _ENDINGS:
                self._change_status(task_id, status)

    def describe_code(self, task_id: str, script: Mapping[str, Any]) -> None:
        """Records what a clone of the task has to run."""
        self._edit(task_id, "tasks.edit", {"script": dict(script)})

    def set_parameters(self, task_id: str, section: str, texts: Mapping[str, str]) -> None:
        """Records hyperparameters, which people can change in a clone."""
        entries = [{"section": section, "name": name, "value": text} for name, text in texts.items()]
        if entries:
            self._edit(task_id, "tasks.edit_hyper_params", {"hyperparams": entries})

    def set_configuration(self, task_id: str, name: str, value: Any) -> None:
        """Records JSON-able data as a configuration object."""
        entry = {"name": name, "value": json.dumps(value, indent=2), "type": "json"}
        self._edit(task_id, "tasks.edit_configuration", {"configuration": [entry]})

    def _edit(self, task_id: str, endpoint: str, body: Mapping[str, Any]) -> None:
        self._while_editable(task_id, lambda: self.service.call(endpoint, {"task": task_id, "force": True, **body}))

    # What is measured

    def add_events(self, task_id: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Adds scalars, plots and media. The server keeps one event for each name and iteration: the last."""
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            part = events[start : start + _EVENTS_AT_ONCE]
            answer = self.service.call_batch("events.add_batch", [{"task": task_id, **event} for event in part])
            if answer.get("errors"):
                raise ServiceError(f"events.add_batch: {answer.get('errors_info')}", 400)

    def add_media(self, task_id: str, run: Mapping[str, Any], event: Mapping[str, Any], file: Path) -> None:
        """Uploads a video and adds it to the debug samples."""
        place = f"metrics/{_clean(event['metric'])}/{_clean(event['variant'])}/{int(event['iter']):08d}{file.suffix}"
        address, path = self._upload(task_id, run, file, place)
        self.add_events(task_id, [{**event, "type": "training_debug_image", "url": address, "key": f"/{path}"}])

    def add_artifact(self, task_id: str, run: Mapping[str, Any], key: str, name: str, file: Path) -> None:
        """Uploads a file as an artifact."""
        digest = file_digest(file)
        address, _ = self._upload(task_id, run, file, f"artifacts/{_clean(key)}/{_clean(name)}")
        preview = file.read_text(encoding="utf-8")[:_PREVIEW_LENGTH] if name.endswith(".json") else name
        artifact = {
            "key": key,
            "type": "custom",
            "mode": "output",
            "uri": address,
            "hash": digest,
            "content_size": file.stat().st_size,
            "timestamp": int(time.time()),
            "type_data": {"preview": preview, "content_type": mimetypes.guess_type(name)[0]},
        }
        self._edit(task_id, "tasks.add_or_update_artifacts", {"artifacts": [artifact]})

    def add_model(self, task_id: str, run: Mapping[str, Any], model: Mapping[str, Any], file: Path) -> str:
        """Uploads a bundle as an output model, and returns the model's id.

        Args:
            task_id: The task.
            run: The run.
            model: `name` of the model within the task, `file_name`, and `iteration`, or None.
            file: The bundle.
        """
        digest = file_digest(file)
        address, _ = self._upload(task_id, run, file, f"models/{_clean(model['file_name'])}")
        task = self.read(task_id)
        found = self.service.call("models.get_all_ex", {"uri": [address], "only_fields": ["id", "uri"]})["models"]
        known = [entry["id"] for entry in found if entry.get("uri") == address]
        fields = {
            "name": f"{task['name']} - {model['name']}",
            "uri": address,
            "framework": "rl_framework",
            "tags": list(run.get("tags", ())),
            "task": task_id,
            **({"project": task["project"]} if task.get("project") else {}),
        }
        model_id = str(known[0] if known else self.service.call("models.create", fields)["id"])
        notes = {"sha256": digest, "file_name": model["file_name"], "iteration": model.get("iteration")}
        metadata = [
            {"key": key, "type": "str", "value": str(value)} for key, value in notes.items() if value is not None
        ]
        self.service.call("models.add_or_update_metadata", {"model": model_id, "metadata": metadata})
        link = {"task": task_id, "type": "output", "name": model["name"], "model": model_id}
        if model.get("iteration") is not None:
            link["iteration"] = model["iteration"]
        self._while_editable(task_id, lambda: self.service.call("tasks.add_or_update_model", link))
        return model_id

    def _upload(self, task_id: str, run: Mapping[str, Any], file: Path, place: str) -> tuple[str, str]:
        parts = [*str(run.get("project") or "rl_framework").split("/"), f"{run.get('name') or 'task'}.{task_id}"]
        path = "/".join([*map(_clean, parts), place])
        return self.service.upload(file, run.get("output_uri"), path), path

    # What is fetched

    def model_of(self, task_id: str, name: str) -> str:
        """Returns the id of a task's output model of a name, or its newest.

        Raises:
            ConnectorError: The task has none.
        """
        models = self.read(task_id).get("models", {}).get("output", [])
        chosen = next((model for model in models if model["name"] == name), models[-1] if models else None)
        if chosen is None:
            raise ConnectorError(f"the ClearML task {task_id} has no output model: upload an agent to it first")
        model = chosen["model"]
        return str(model["id"] if isinstance(model, dict) else model)

    def download_model(self, model_id: str, path: Path) -> str:
        """Downloads a model's file, and returns its address.

        Raises:
            ConnectorError: The file is not the one that was uploaded.
        """
        model = self.service.call("models.get_by_id", {"model": model_id})["model"]
        metadata = model.get("metadata") or {}
        entries: Iterable[Any] = metadata.values() if isinstance(metadata, dict) else metadata
        digest = next((entry["value"] for entry in entries if entry.get("key") == "sha256"), None)
        address = str(model["uri"])
        self.service.download(address, path, digest)
        return address


def histogram_plot(name: str, counts: Sequence[int], edges: Sequence[float]) -> str:
    """Returns a histogram as ClearML wants its plots: Plotly's JSON."""
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    bars = {
        "type": "bar",
        "name": name,
        "x": middles,
        "y": list(counts),
        "width": [high - low for low, high in itertools.pairwise(edges)],
    }
    layout = {"title": {"text": name}, "bargap": 0, "xaxis": {"title": name}, "yaxis": {"title": "count"}}
    return json.dumps({"data": [bars], "layout": layout})


def _comment(token: str) -> str:
    return f"rl_framework run {token}"


def _clean(part: object) -> str:
    """Makes a name fit for an address and for a file server's folders."""
    text = re.sub(r"[^A-Za-z0-9._ -]+", "-", str(part)).strip(". ")
    return text or "unnamed"
