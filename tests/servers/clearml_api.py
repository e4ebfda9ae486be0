"""The endpoints of the loopback ClearML server; see `tests.servers.clearml`."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

API_VERSION = "2.31"
_EDITABLE = ("created", "queued", "in_progress")
_STATUS = {
    "started": "in_progress",
    "stopped": "stopped",
    "stop": "stopped",
    "completed": "completed",
    "failed": "failed",
    "publish": "published",
    "close": "closed",
    "reset": "created",
}


class RefusalError(Exception):
    """The server will not do it."""

    def __init__(self, status: int, subcode: int, message: str) -> None:
        super().__init__(message)
        self.status, self.subcode = status, subcode


@dataclass
class Contents:
    """Everything the server holds."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    queues: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    event_counts: Counter[tuple[Any, ...]] = field(default_factory=Counter)


class Api:
    """The endpoints."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents

    def call(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        service, _, action = endpoint.partition(".")
        special: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(self, f"{service}_{action}", None)
        if special is not None:
            return special(body)
        if service == "tasks" and action in _STATUS:
            return self._set_status(body, _STATUS[action])
        collection = getattr(self.contents, service, None)
        generic = getattr(self, f"_{action}", None)
        if not isinstance(collection, dict) or generic is None:
            return {}  # pings, worker reports, and what the SDK asks for besides
        data: dict[str, Any] = generic(service, collection, body)
        return data

    # Every collection

    def _create(self, service: str, collection: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "created": _now(),
            "last_update": _now(),
            "user": "tester",
            "company": "company",
            "tags": [],
            "system_tags": [],
        }
        if service == "tasks":
            if len(body.get("name", "")) < 3:
                raise RefusalError(400, 12, "validation error: String value is too short")
            entry |= {
                "status": "created",
                "last_iteration": 0,
                "hyperparams": {},
                "configuration": {},
                "execution": {"artifacts": []},
                "models": {"input": [], "output": []},
                "last_metrics": {},
                "output": {"destination": body.get("output_dest", "")},
                "script": {"requirements": {}},
                "runtime": {},
            }
        collection[entry["id"]] = entry | body
        return {"id": entry["id"], "created": True}

    def _get_by_id(self, service: str, collection: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        kind = service[:-1]
        return {kind: self._found(service, body.get(kind) or body.get("id"))}

    def _found(self, service: str, key: Any) -> dict[str, Any]:
        entry: dict[str, Any] | None = getattr(self.contents, service).get(key)
        if entry is None:
            raise RefusalError(
                400, {"tasks": 101, "models": 201}.get(service, 401), f"Invalid {service[:-1]} id: id={key}"
            )
        return entry

    def _get_all_ex(self, service: str, collection: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        found = [entry for entry in collection.values() if _matches(entry, body)]
        for key in reversed([key for key in body.get("order_by") or [] if key]):
            found.sort(key=lambda entry: str(entry.get(key.lstrip("-")) or ""), reverse=key.startswith("-"))
        page, size = body.get("page") or 0, body.get("page_size") or 500
        return {service: found[page * size : (page + 1) * size]}

    _get_all = _get_all_ex

    def _update(self, service: str, collection: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        entry = self._found(service, body.pop(service[:-1], None) or body.pop("id", None))
        for key, value in body.items():
            *path, last = key.split(".")
            inner = entry
            for name in path:
                inner = inner.setdefault(name, {})
            inner[last] = value
        entry["last_update"] = _now()
        return {"updated": 1, "fields": body}

    def _add_or_update_metadata(self, service: str, collection: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        metadata = self._found(service, body[service[:-1]]).setdefault("metadata", {})
        metadata.update({entry["key"]: entry for entry in body["metadata"]})
        return {"updated": 1}

    # Tasks

    def _editable(self, body: dict[str, Any], force: bool) -> dict[str, Any]:
        task = self._found("tasks", body["task"])
        if task["status"] not in (_EDITABLE if force else _EDITABLE[:1]):
            raise RefusalError(400, 110, f"Invalid task status: expected=created, status={task['status']}")
        return task

    def _set_status(self, body: dict[str, Any], status: str) -> dict[str, Any]:
        for task_id in [body["task"]] if "task" in body else body.get("ids", []):
            task = self._found("tasks", task_id)
            task |= {"status": status, "status_reason": body.get("status_reason", ""), "status_changed": _now()}
            if status == "in_progress":
                task["started"] = _now()
        return {"updated": 1, "started": 1, "fields": {"status": status}}

    def tasks_edit(self, body: dict[str, Any]) -> dict[str, Any]:
        self._editable(body, bool(body.pop("force", False)))
        return self._update("tasks", self.contents.tasks, body)

    def tasks_set_requirements(self, body: dict[str, Any]) -> dict[str, Any]:
        self._found("tasks", body["task"]).setdefault("script", {})["requirements"] = body["requirements"]
        return {"updated": 1}

    def tasks_edit_hyper_params(self, body: dict[str, Any]) -> dict[str, Any]:
        sections = self._editable(body, bool(body.get("force")))["hyperparams"]
        if body.get("replace_hyperparams") == "all":
            sections.clear()
        for entry in body["hyperparams"]:
            sections.setdefault(entry["section"], {})[entry["name"]] = entry
        return {"updated": 1}

    def tasks_edit_configuration(self, body: dict[str, Any]) -> dict[str, Any]:
        configuration = self._editable(body, bool(body.get("force")))["configuration"]
        configuration.update({entry["name"]: entry for entry in body["configuration"]})
        return {"updated": 1}

    def tasks_get_hyper_params(self, body: dict[str, Any]) -> dict[str, Any]:
        def parameters(task_id: str) -> list[Any]:
            return [
                entry for section in self._found("tasks", task_id)["hyperparams"].values() for entry in section.values()
            ]

        return {"params": [{"task": task_id, "hyperparams": parameters(task_id)} for task_id in body["tasks"]]}

    def tasks_get_configurations(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [(task_id, self._found("tasks", task_id)["configuration"]) for task_id in body["tasks"]]
        return {"configurations": [{"task": task_id, "configuration": list(c.values())} for task_id, c in found]}

    def tasks_add_or_update_artifacts(self, body: dict[str, Any]) -> dict[str, Any]:
        artifacts = self._editable(body, bool(body.get("force")))["execution"].setdefault("artifacts", [])
        for new in body["artifacts"]:
            same = [old for old in artifacts if (old["key"], old.get("mode")) == (new["key"], new.get("mode"))]
            for old in same:
                artifacts.remove(old)
            artifacts.append(new)
        return {"updated": 1}

    def tasks_add_or_update_model(self, body: dict[str, Any]) -> dict[str, Any]:
        models = self._editable(body, force=True)["models"][body["type"]]
        models[:] = [old for old in models if old["name"] != body["name"]]
        models.append({"name": body["name"], "model": body["model"]})
        return {"updated": 1}

    def tasks_enqueue(self, body: dict[str, Any]) -> dict[str, Any]:
        task = self._found("tasks", body["task"])
        task["status"] = "queued"
        name = body.get("queue_name") or self.contents.queues.get(body.get("queue"), {}).get("name")
        self.contents.queues.setdefault(str(name), {"id": str(name), "name": name, "entries": []})["entries"].append(
            body["task"]
        )
        return {"queued": 1, "updated": 1, "fields": {"status": "queued"}}

    # The rest

    def events_add_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        for event in body["lines"]:
            self._found("tasks", event["task"])
            if event["type"] == "log":
                self.contents.logs.append(event)
                continue
            key = tuple(event.get(name) for name in ("task", "type", "iter", "metric", "variant", "key"))
            self.contents.events[key] = event
            self.contents.event_counts[key] += 1
        return {"added": len(body["lines"]), "errors": 0, "errors_info": {}}

    def events_scalar_metrics_iter_histogram(self, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for event in self.contents.events.values():
            if event["task"] == body["task"] and event["type"] == "training_stats_scalar":
                metric = found.setdefault(event["metric"], {})
                series = metric.setdefault(event["variant"], {"name": event["variant"], "x": [], "y": []})
                series["x"].append(event["iter"])
                series["y"].append(event["value"])
        return found

    def users_get_current_user(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"user": {"id": "tester", "name": "tester", "company": {"id": "company", "name": "company"}}}

    def auth_login(self, body: dict[str, Any]) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "identity": {"user": "tester", "company": "company", "role": "admin"},
            "iat": now,
            "exp": now + 86400,
            "auth_type": "Bearer",
            "api_version": API_VERSION,
            "server_version": "2.3.0",
            "feature_set": "basic",
            "env": "loopback",
        }
        return {"token": jwt.encode(claims, "k" * 32, "HS256")}


def _matches(entry: dict[str, Any], query: dict[str, Any]) -> bool:
    ids = query.get("id")
    if ids and entry["id"] not in (ids if isinstance(ids, list) else [ids]):
        return False
    if query.get("name") and not re.search(query["name"], entry.get("name") or ""):
        return False
    for name in ("project", "status", "type", "uri", "task"):
        wanted = query.get(name)
        if wanted not in (None, [], "") and entry.get(name) not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    tags = {*(entry.get("tags") or []), *(entry.get("system_tags") or [])}
    is_not = False
    for tag in [*(query.get("tags") or []), *(query.get("system_tags") or [])]:
        if tag.startswith("__$"):
            is_not = tag == "__$not"
            continue
        if (tag.lstrip("-") in tags) == (is_not or tag.startswith("-")):
            return False
        is_not = False
    texts = query.get("_all_") or query.get("_any_")
    if texts and texts.get("pattern"):
        return any(re.search(texts["pattern"], str(entry.get(name) or "")) for name in texts.get("fields", ["name"]))
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def answer(endpoint: str, data: dict[str, Any], status: int = 200, subcode: int = 0, message: str = "OK") -> bytes:
    meta = {
        "id": uuid.uuid4().hex,
        "trx": uuid.uuid4().hex,
        "endpoint": {"name": endpoint, "requested_version": API_VERSION, "actual_version": API_VERSION},
        "result_code": status,
        "result_subcode": subcode,
        "result_msg": message,
        "error_stack": None,
        "error_data": {},
    }
    return json.dumps({"meta": meta, "data": data}).encode()
