"""A run in MLflow: how it is found again, and what of a metric is there already."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rl_framework.connector.mlflow.service import MLflowService
from rl_framework.connector.spool_folder import keep_file

__all__ = ["Point", "RunWriter", "flattened"]

_MARK = "rl_framework.run"
_SESSIONS = "rl_framework.resumed"
_MOST_SESSIONS = 200
_MOST_POINTS, _MOST_PARAMETERS = 1000, 100
_LONGEST_VALUE, _LONGEST_NAME = 6000, 250
_LARGEST = 1.7976931348623157e308


class Point(NamedTuple):
    """One number of a metric.

    Attributes:
        name: Of the metric.
        value: The number.
        milliseconds: Unix time, different for all points of a metric.
        step: Environment steps so far.
        n_equal: How many equal ones of this metric at this step came before it since training began or was resumed.
    """

    name: str
    value: float
    milliseconds: int
    step: int
    n_equal: int


class RunWriter:
    """Writes to runs that are found again by a mark, so that it may happen twice."""

    def __init__(self, service: MLflowService) -> None:
        self._service = service
        self._ids: dict[str, str] = {}
        self._histories: dict[tuple[str, str, int], dict[int, list[float]]] = {}
        self._lock = threading.Lock()

    def known_id(self, run: Mapping[str, Any]) -> str | None:
        """Returns the id of a run that was found or made by this process."""
        return self._ids.get(run["token"])

    def run_id(self, run: Mapping[str, Any]) -> str:
        """Returns the id of a run, which is made if there is none with its mark."""
        token = run["token"]
        with self._lock:  # or what is uploaded while something is delivered would be in a run of its own
            if token not in self._ids:
                self._ids[token] = self._found_or_made(run)
            return self._ids[token]

    def _found_or_made(self, run: Mapping[str, Any]) -> str:
        with self._service.asking() as client:
            experiment = self._experiment_id(client, run["experiment"])
            found = client.search_runs([experiment], f"tags.`{_MARK}` = '{run['token']}'", max_results=1)
            if not found:
                tags = {**run["tags"], _MARK: run["token"]}
                found = [client.create_run(experiment, tags=tags, run_name=run["name"])]
            return str(found[0].info.run_id)

    def _experiment_id(self, client: Any, name: str) -> str:
        from mlflow.exceptions import MlflowException

        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(client.create_experiment(name, self._service.artifact_location(name)))
            except MlflowException:
                experiment = client.get_experiment_by_name(name)
                if experiment is None:  # not that another process was quicker
                    raise
        return str(experiment.experiment_id)

    def begin(self, run_id: str, session: Mapping[str, Any]) -> None:
        """Marks a run as running; of a resumed one, tells from when on earlier values are out of date."""
        with self._service.asking() as client:
            if session["after"] is not None:
                known = self._sessions(client, run_id)
                here = [session["at"], session["after"]]
                if here not in known:
                    client.set_tag(run_id, _SESSIONS, json.dumps([*known, here][-_MOST_SESSIONS:]))
            client.update_run(run_id, status="RUNNING")

    def superseded_after(self, run_id: str, session: Mapping[str, Any]) -> float:
        """Returns the timestep after which a later, resumed session has reported the same once more."""
        with self._service.asking() as client:
            later = [after for at, after in self._sessions(client, run_id) if at > session["at"]]
        return min(later, default=math.inf)

    def _sessions(self, client: Any, run_id: str) -> list[list[int]]:
        try:
            told = json.loads(client.get_run(run_id).data.tags.get(_SESSIONS, "[]"))
            return [[int(at), int(after)] for at, after in told]
        except (ValueError, TypeError):  # somebody else has written it
            return []

    def end(self, run_id: str, status: str, milliseconds: int) -> None:
        """Marks a run as "FINISHED", "KILLED" or "FAILED"."""
        with self._service.asking() as client:
            client.set_terminated(run_id, status, milliseconds)

    def add_points(self, run_id: str, points: Iterable[Point], session: Mapping[str, Any], again: bool) -> None:
        """Adds to metrics, but nothing that is there already.

        MLflow deletes no points. What a resumed training reports exactly as before is therefore left out.

        Args:
            run_id: Of the run.
            points: What to add.
            session: When this training began or was resumed (`at`), and after which timestep (`after`; None: it began).
            again: Whether the same points may have arrived before.
        """
        from mlflow.entities import Metric

        with self._service.asking() as client:
            metrics = []
            for point in points:
                value = max(-_LARGEST, min(_LARGEST, point.value)) if not math.isnan(point.value) else point.value
                if session["after"] is not None and self._was_reported(client, run_id, point, value, session):
                    continue
                if again and self._has_arrived(client, run_id, point):
                    continue
                metrics.append(Metric(clean_name(point.name), value, point.milliseconds, point.step))
            for start in range(0, len(metrics), _MOST_POINTS):
                client.log_batch(run_id, metrics=metrics[start : start + _MOST_POINTS])

    def _was_reported(self, client: Any, run_id: str, point: Point, value: float, session: Mapping[str, Any]) -> bool:
        key = run_id, clean_name(point.name), int(session["at"])
        if key not in self._histories:
            history: dict[int, list[float]] = {}
            for entry in client.get_metric_history(run_id, key[1]):
                if entry.step > session["after"] and entry.timestamp < session["at"]:
                    history.setdefault(entry.step, []).append(entry.value)
            self._histories[key] = history
        before = self._histories[key].get(point.step, [])
        equal = sum(known == value or (math.isnan(known) and math.isnan(value)) for known in before)
        return equal > point.n_equal

    @staticmethod
    def _has_arrived(client: Any, run_id: str, point: Point) -> bool:
        history = client.get_metric_history(run_id, clean_name(point.name))
        return any((entry.step, entry.timestamp) == (point.step, point.milliseconds) for entry in history)

    def add_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Adds parameters; those that are there stay, because MLflow lets nobody change them."""
        from mlflow.entities import Param

        with self._service.asking() as client:
            there = client.get_run(run_id).data.params
            new = [Param(name, value) for name, value in parameters.items() if name not in there]
            for start in range(0, len(new), _MOST_PARAMETERS):
                client.log_batch(run_id, params=new[start : start + _MOST_PARAMETERS])

    def add_file(self, run_id: str, path: Path, name: str) -> None:
        """Adds a file under a name such as "checkpoints/x.zip", in the place of what was there."""
        folder, _, base = name.rpartition("/")
        with tempfile.TemporaryDirectory(prefix="rl_framework-") as temporary:
            named = Path(temporary) / base
            keep_file(path, named)
            with self._service.asking() as client:
                client.log_artifact(run_id, str(named), folder or None)

    def add_text(self, run_id: str, name: str, text: str) -> None:
        """Adds a file with a text in it."""
        with self._service.asking() as client:
            client.log_text(run_id, text, name)

    def add_model(self, run_id: str, folder: Path, name: str, step: int, mark: str) -> str:
        """Adds a model to a run, once for each mark, and returns its id."""
        from mlflow.entities import LoggedModelOutput

        with self._service.asking() as client:
            experiment = client.get_run(run_id).info.experiment_id
            query = f"tags.`{_MARK}` = '{mark}'"
            found = list(client.search_logged_models([experiment], filter_string=query, max_results=1))
            model = found[0] if found else client.create_logged_model(experiment, name, run_id, tags={_MARK: mark})
            client.log_model_artifacts(model.model_id, str(folder))
            client.finalize_logged_model(model.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
            return str(model.model_id)

    def register_model(self, run_id: str, model_id: str, name: str) -> str:
        """Makes a model the newest version under a registered name, and returns its address."""
        with self._service.asking() as client:
            try:
                client.create_registered_model(name)
            except Exception as error:
                if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                    raise
            source = client.get_logged_model(model_id).artifact_location
            there = client.search_model_versions(f"name={_quoted(name)}")
            version = next((known for known in there if known.source == source), None)
            if version is None:
                version = client.create_model_version(name, source, run_id, model_id=model_id)
            return f"models:/{name}/{version.version}"

    def fetch(self, address: str, folder: Path) -> Path:
        """Downloads what an address such as "models:/name/1" or "runs:/id/path" stands for."""
        import mlflow

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with self._service.asking() as client:
            # Given a name of its own, MLflow would look it up in the store that is set for the whole process.
            place = _location(client, address)
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=place, dst_path=str(folder), tracking_uri=self._service.uri
            )
        return Path(found)


def _location(client: Any, address: str) -> str:
    """Returns where the files of a model or a run are."""
    kind, _, rest = address.partition(":/")
    rest = rest.strip("/")
    if kind == "models":
        name, _, version = rest.partition("/")
        if "@" in rest:
            source = client.get_model_version_by_alias(*rest.rsplit("@", 1)).source
        elif not version:
            source = client.get_logged_model(name).artifact_location
        elif version == "latest":
            known = client.search_model_versions(f"name={_quoted(name)}")
            source = max(known, key=lambda found: int(found.version)).source if known else f"models:/{name}/1"
        else:
            source = client.get_model_version(name, version).source
        return _location(client, source) if source.startswith(("models:/", "runs:/")) else str(source)
    if kind == "runs":
        run_id, _, path = rest.partition("/")
        info = client.get_run(run_id).info
        query = f"source_run_id = {_quoted(run_id)} AND name = {_quoted(path)}"
        models = client.search_logged_models([info.experiment_id], filter_string=query)
        if models:
            return str(max(models, key=lambda model: model.creation_timestamp).artifact_location)
        return f"{info.artifact_uri.rstrip('/')}/{path}"
    return address


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "\\'"))


def clean_name(name: str) -> str:
    """Returns a name of which MLflow takes every sign."""
    return re.sub(r"[^\w\-./ :]", "_", name, flags=re.ASCII)[:_LONGEST_NAME]


def flattened(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns a nested record as parameters: "algorithm_parameters.policy_kwargs.net_arch"."""
    found: dict[str, str] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            shortened = text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
            found[clean_name(name)] = shortened
    return found
