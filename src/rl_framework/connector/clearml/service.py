"""Calls to a ClearML server that fail in bounded time.

The SDK's own calls never give up: `Task` repeats one for as long as there is no connection, in `close()` and at the end
of the process too (clearml 2.1, `InterfaceBase._send`). So this module speaks ClearML's REST interface itself, with the
SDK's settings: the same file, environment variables, hosts and keys.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from rl_framework.errors import ConnectorError, require_extra
from rl_framework.secrecy import describe_error, redact, remember_secret
from rl_framework.whole_file import written_whole

__all__ = ["API_VERSION", "ClearMLService", "ServiceError", "file_digest"]

Result = TypeVar("Result")

API_VERSION = "2.13"
"""Of ClearML server 1.0 (2021), and understood by every later one."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_FILE_SECONDS = 60.0
_UNKNOWN_KEYS = 401
_FORBIDDEN = 403


class ServiceError(Exception):
    """ClearML answered that it will not do something.

    Attributes:
        status_code: HTTP status.
        subcode: ClearML's own code, such as 110: "invalid task status".
        headers: Headers of the answer.
    """

    def __init__(self, message: str, status_code: int, subcode: int = 0, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status_code = status_code
        self.subcode = subcode
        self.headers = dict(headers or {})


class ClearMLService:
    """A ClearML server, as the SDK's settings name it. It can be used from several threads.

    Attributes:
        host: Address of the API server.
        files_host: Address of the file server.

    Raises:
        MissingExtraError: The extra "clearml" is not installed.
        ConnectorError: There are no keys.
    """

    def __init__(self) -> None:
        require_extra("clearml", "ClearMLConnector", "clearml")
        from clearml.backend_api import Session
        from clearml.backend_api.session import defs
        from clearml.config import config_obj

        settings: Any = config_obj
        self.host: str = Session.get_api_server_host(config=settings).rstrip("/")
        self.files_host: str = Session.get_files_server_host(config=settings).rstrip("/")
        try:
            self._web_host = Session.get_app_server_host(config=settings).rstrip("/")
        except ValueError:  # it cannot be told from the API server's address
            self._web_host = ""
        self._verify: bool | str = _verification(
            defs.ENV_HOST_VERIFY_CERT.get(default=settings.get("api.verify_certificate", True))
        )
        self._token: str | None = defs.ENV_AUTH_TOKEN.get()
        access_key = defs.ENV_ACCESS_KEY.get() or settings.get("api.credentials.access_key", None)
        secret_key = defs.ENV_SECRET_KEY.get() or settings.get("api.credentials.secret_key", None)
        self._keys = (access_key, secret_key) if access_key and secret_key else None
        if self._keys is None and self._token is None:
            raise ConnectorError(
                "ClearML has no keys: run clearml-init, or set CLEARML_API_HOST, CLEARML_API_ACCESS_KEY and "
                "CLEARML_API_SECRET_KEY"
            )
        remember_secret(access_key, secret_key, self._token)
        self._lock = threading.Lock()
        self._local = threading.local()

    def web_page(self, project_id: str | None, task_id: str) -> str:
        """Returns the address of a task for people, or "" if it is not known."""
        return f"{self._web_host}/projects/{project_id or '*'}/experiments/{task_id}" if self._web_host else ""

    # The API

    def call(self, endpoint: str, body: Mapping[str, Any] | None = None, version: str = API_VERSION) -> dict[str, Any]:
        """Calls an endpoint of the API, such as "tasks.create", and returns the answer's data.

        Raises:
            ServiceError: The server refuses.
            Exception: Of requests: it cannot be reached, or does not answer in time.
        """
        data = json.dumps(body or {}, allow_nan=False).encode()
        return self._authorized(endpoint, data, "application/json", version)

    def call_batch(self, endpoint: str, bodies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Calls an endpoint that takes many bodies at once."""
        data = "\n".join(json.dumps(body, allow_nan=False) for body in bodies).encode()
        return self._authorized(endpoint, data, "application/json-lines", API_VERSION)

    def _authorized(self, endpoint: str, data: bytes, content_type: str, version: str) -> dict[str, Any]:
        return self._with_token(lambda token: self._post(endpoint, data, content_type, version, _bearer(token)))

    def _with_token(self, call: Callable[[str], Result]) -> Result:
        """Calls with a valid token: once more with a new one if it has expired in the meantime."""
        token = self._valid_token()
        try:
            return call(token)
        except ServiceError as error:
            if error.status_code != _UNKNOWN_KEYS or self._keys is None:
                raise
        with self._lock:
            if self._token == token:
                self._token = None
        return call(self._valid_token())

    def _valid_token(self) -> str:
        with self._lock:
            if self._token is None:
                answer = self._post("auth.login", b"{}", "application/json", API_VERSION, self._keys)
                self._token = str(answer["token"])
                remember_secret(self._token)
            return self._token

    def _post(self, endpoint: str, data: bytes, content_type: str, version: str, auth: Any) -> dict[str, Any]:
        response = self._session().post(
            f"{self.host}/v{version}/{endpoint}",
            data=data,
            headers={"Content-Type": content_type},
            auth=auth,
            timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS),
        )
        try:
            answer = response.json()
            meta = answer["meta"]
        except (ValueError, KeyError, TypeError):
            answer, meta = {}, {}
        if response.status_code != 200 or "data" not in answer:
            message = redact(str(meta.get("result_msg") or response.reason))
            if response.status_code == 200:
                message = f"{self.host} does not answer like ClearML's API server: check CLEARML_API_HOST"
            subcode = meta.get("result_subcode")
            raise ServiceError(
                f"{endpoint}: {message} (status {response.status_code})",
                response.status_code if response.status_code != 200 else 404,
                subcode if isinstance(subcode, int) else 0,
                response.headers,
            )
        data_of_answer: dict[str, Any] = answer["data"]
        return data_of_answer

    def _session(self) -> Any:
        # One for each thread, because requests' are not made to be shared.
        if not hasattr(self._local, "session"):
            import requests

            self._local.session = requests.Session()
            self._local.session.verify = self._verify
        return self._local.session

    # Files

    def upload(self, file: Path, destination: str | None, path: str) -> str:
        """Uploads a file, replacing what is at its place.

        Args:
            file: The file.
            destination: Where to: None for the file server, or what ClearML calls an output URI.
            path: Place below it.

        Returns:
            Its address.
        """
        base = (destination or self.files_host).rstrip("/")
        address = f"{base}/{quote(path)}"
        if base != self.files_host:
            from clearml import StorageManager

            StorageManager.upload_file(str(file), address, wait_for_upload=True, retries=1)
            return address
        self._with_token(lambda token: self._upload_to_file_server(file, path, token))
        return address

    def _upload_to_file_server(self, file: Path, path: str, token: str) -> None:
        from clearml.utilities.requests_toolbelt import MultipartEncoder

        with file.open("rb") as stream:
            form = MultipartEncoder(fields={path: (path, stream, "application/octet-stream")})
            response = self._session().post(
                f"{self.files_host}/",
                data=form,
                headers={"Content-Type": form.content_type},
                auth=_bearer(token),
                timeout=(_CONNECT_SECONDS, _FILE_SECONDS),
            )
        _check_file_answer(response, f"the upload of {file.name}")

    def download(self, address: str, path: Path, digest: str | None = None) -> Path:
        """Downloads a file; it appears when it is whole.

        Args:
            address: Where it is.
            path: Where to put it.
            digest: Its SHA-256, if that is known.

        Raises:
            ConnectorError: The file is not the one that was uploaded.
            ServiceError: The file server refuses.
            Exception: Of requests, or of the SDK for other storages.
        """
        with written_whole(path) as temporary:
            if address.startswith(f"{self.files_host}/"):
                self._with_token(lambda token: self._download_from_file_server(address, temporary, token))
            else:
                from clearml import StorageManager

                copy = StorageManager.get_local_copy(address, extract_archive=False, force_download=True)
                if copy is None:
                    raise ServiceError(f"{redact(address)} could not be downloaded", 404)
                shutil.copyfile(copy, temporary)
            if digest is not None and file_digest(temporary) != digest:
                raise ConnectorError(
                    f"{redact(address)} is not the file that was uploaded (its SHA-256 differs): it is damaged or "
                    "was replaced"
                )
        return path

    def _download_from_file_server(self, address: str, path: Path, token: str) -> None:
        with self._session().get(
            address,
            auth=_bearer(token),
            stream=True,
            timeout=(_CONNECT_SECONDS, _FILE_SECONDS),
        ) as response:
            _check_file_answer(response, f"the download of {redact(address)}")
            with path.open("wb") as stream:
                for chunk in response.iter_content(1 << 20):
                    stream.write(chunk)

    def explain(self, error: Exception) -> str:
        """Says what to do about a failure, without secrets."""
        reason = describe_error(error)
        if getattr(error, "status_code", None) == _UNKNOWN_KEYS:
            return (
                f"{self.host} does not accept the keys ({reason}). Make new ones in ClearML's web page under Settings, "
                "Workspace, and put them into CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY, or run clearml-init"
            )
        if getattr(error, "status_code", None) == _FORBIDDEN:
            return (
                f"{self.host} does not let the owner of the keys do this ({reason}). Put keys of somebody who may "
                "write in this workspace into CLEARML_API_ACCESS_KEY and CLEARML_API_SECRET_KEY"
            )
        return reason


def file_digest(path: Path) -> str:
    """Returns a file's SHA-256."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bearer(token: str) -> Any:
    # As an object, because requests puts what it finds in a .netrc in the place of a plain header.
    def authorize(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def _check_file_answer(response: Any, what: str) -> None:
    if response.status_code != 200:
        raise ServiceError(
            f"{what}: {redact(str(response.reason))} (status {response.status_code})",
            response.status_code,
            headers=response.headers,
        )


def _verification(value: Any) -> bool | str:
    words: dict[str, bool] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words.get(value.lower(), value) if isinstance(value, str) else bool(value)
