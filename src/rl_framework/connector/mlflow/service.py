"""MLflow's own client, asked in a way that does not keep anybody waiting, and whose failures can be judged."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rl_framework.connector.mlflow.database import make_database
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import may_pass, status_of
from rl_framework.secrecy import describe_error, redact, remember_secret

__all__ = ["MLflowError", "MLflowService"]

_ANSWER_SECONDS = 60
_DATABASE = "mlflow.db"
_LONGEST_MESSAGE = 400

_RIGHTS = (
    "log in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as a user who may "
    "write to the experiment"
)
_HALF_MADE = "MLflow was interrupted making this database: move it away, and sync() delivers what is kept"


class MLflowError(Exception):
    """A failure that MLflow's client reported.

    Attributes:
        status_code: As in HTTP; None: no answer came.
    """

    def __init__(self, message: str, status_code: int | None) -> None:
        self.status_code = status_code
        super().__init__(message)


class MLflowService:
    """The client for one tracking server or store.

    Args:
        tracking_uri: Address of a server or database; a folder, for a database in it; None: what MLflow uses, which is
            MLFLOW_TRACKING_URI or "sqlite:///mlflow.db" in the working directory.

    Raises:
        ArgumentError: It cannot be used.
    """

    def __init__(self, tracking_uri: str | os.PathLike[str] | None) -> None:
        self._given = tracking_uri
        self._folder: Path | None = None
        self._uri: str | None = None
        self._client: Any = None
        self._lock = threading.Lock()
        text = "" if tracking_uri is None else os.fspath(tracking_uri)
        if tracking_uri is not None and not text:
            raise ArgumentError("tracking_uri", tracking_uri, "is empty", "Give an address, a folder, or None.")
        if tracking_uri is not None and "://" not in text and not text.startswith(("databricks", "file:")):
            self._folder = Path(text).absolute()
        elif text:
            remember_secret(urlsplit(text).password)

    @property
    def uri(self) -> str:
        """The address, which may hold a password."""
        if self._uri is None:
            if self._folder is not None:
                self._uri = f"sqlite:///{self._folder / _DATABASE}"
            elif self._given is not None:
                self._uri = os.fspath(self._given)
            else:
                import mlflow

                self._uri = str(mlflow.get_tracking_uri())
                remember_secret(urlsplit(self._uri).password)
        return self._uri

    @property
    def address(self) -> str:
        """The address without who is calling."""
        parts = urlsplit(self.uri)
        if "@" not in parts.netloc:
            return self.uri
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def client(self) -> Any:
        """The `mlflow.MlflowClient`; made when it is first asked for, which for a new database takes seconds."""
        with self._lock:
            if self._client is None:
                from mlflow import MlflowClient

                if self._folder is not None:
                    self._folder.mkdir(parents=True, exist_ok=True)
                make_database(self.uri)
                self._client = MlflowClient(self.uri, registry_uri=self.registry_uri)
            return self._client

    @property
    def registry_uri(self) -> str:
        """Address of the registry of models."""
        return os.environ.get("MLFLOW_REGISTRY_URI") or self.uri

    def artifact_location(self, experiment_name: str) -> str | None:
        """Returns where files of a new experiment go; None: where MLflow puts them."""
        if self._folder is None:
            return None
        clean = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in experiment_name)
        return (self._folder / "artifacts" / clean).as_uri()

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Gives the client; failures within the block are told as an `MLflowError`, unless they are ours."""
        failure: Exception | None = None
        with _in_a_hurry():
            try:
                yield self.client
            except (ConnectorError, MLflowError):
                raise
            except Exception as error:  # noqa: BLE001 (judged by `is_transient`)
                failure = _judged(error)
        if failure is not None:
            # Outside of the handler: the client's exceptions may hold what was sent.
            raise failure

    def is_transient(self, error: Exception) -> bool:
        """Tells whether a failure may pass by itself."""
        return may_pass(error) or (isinstance(error, MLflowError) and error.status_code is None)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        text = describe_error(error)
        if "CREATE TABLE" in text:
            return f"{_HALF_MADE}: {text}"
        return f"{text}: {_RIGHTS}" if status_of(error) in (401, 403) else text


def _judged(error: Exception) -> Exception:
    from mlflow.exceptions import MlflowException

    message = redact(" ".join(str(error).split()))[:_LONGEST_MESSAGE]
    cause: BaseException | None = error
    while cause is not None:
        status = status_of(cause)
        if status is not None:
            return MLflowError(message, status)
        if may_pass(cause):
            return MLflowError(message, None)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, MlflowException):
        return MLflowError(message, error.get_http_status_code())
    return error


_settings_lock = threading.Lock()
_settings_made: list[str] = []
_n_in_a_hurry = 0


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    """Lets MLflow's client give up early, unless the user has said otherwise.

    It takes such settings from the environment alone, at every call. Our own retries take the place of its, which last
    for minutes.
    """
    global _n_in_a_hurry
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_ANSWER_SECONDS),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    with _settings_lock:
        if _n_in_a_hurry == 0:
            _settings_made[:] = [name for name in wanted if name not in os.environ]
            os.environ.update({name: wanted[name] for name in _settings_made})
        _n_in_a_hurry += 1
    try:
        yield
    finally:
        with _settings_lock:
            _n_in_a_hurry -= 1
            if _n_in_a_hurry == 0:
                for name in _settings_made:
                    os.environ.pop(name, None)
