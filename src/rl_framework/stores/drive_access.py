"""Logging in to Google Drive, and what its refusals mean."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.errors import ArgumentError, require_extra
from rl_framework.retry import may_pass
from rl_framework.secrecy import describe_error, remember_secret
from rl_framework.stores.base import StoreError

__all__ = ["DriveAccess"]

_SCOPES = ("https://www.googleapis.com/auth/drive",)
_ANSWER_SECONDS = 60.0
_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_ENDPOINT: str | None = None
"""Address of another service than Google's."""

_RATE_LIMITS = {"rateLimitExceeded", "userRateLimitExceeded"}
_FULL = {"storageQuotaExceeded", "quotaExceeded", "teamDriveFileLimitExceeded", "numChildrenInNonRootLimitExceeded"}
_HOW_TO_LOG_IN = (
    "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account (or of a user, as `gcloud auth "
    "application-default login --scopes=https://www.googleapis.com/auth/drive,"
    "https://www.googleapis.com/auth/cloud-platform` writes it), or give options={'credentials': ...}"
)


class DriveAccess:
    """The client of Google Drive.

    Args:
        options: `credentials` (an object of google-auth, or the path of a file of a service account or a user) and
            `endpoint` (address of another service than Google's).

    Raises:
        MissingExtraError: The client is not installed.
        ArgumentError: An option is not known.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        require_extra("storage", "gdrive:// addresses", "googleapiclient", "google_auth_httplib2")
        unknown = set(options) - {"credentials", "endpoint"}
        if unknown:
            raise ArgumentError("options", sorted(unknown), "are not known", "Known: credentials, endpoint.")
        self._given, self._endpoint = options.get("credentials"), options.get("endpoint") or _ENDPOINT
        self._credentials: Any = None
        self._service: Any = None
        if isinstance(self._given, str | Path) or (self._given is None and os.environ.get(_VARIABLE)):
            # A file on this machine: what is wrong with it is said now, and what is secret in it is known from now on.
            self._log_in_with_file(str(self._given or os.environ[_VARIABLE]))

    @property
    def files(self) -> Any:
        """The client's calls for files; logs in when it is first asked for."""
        if self._service is None:
            import google.auth
            import google_auth_httplib2
            from googleapiclient.discovery import build_from_document
            from googleapiclient.discovery_cache import get_static_doc
            from googleapiclient.http import build_http

            # The description of the service that comes with the client: nothing is fetched for it.
            description = json.loads(get_static_doc("drive", "v3"))
            if self._endpoint is not None:
                root = self._endpoint.rstrip("/")
                description |= {"rootUrl": f"{root}/", "baseUrl": f"{root}/drive/v3/"}
                description.pop("mtlsRootUrl", None)
            if self._credentials is None:
                self._credentials = google.auth.default(scopes=_SCOPES)[0] if self._given is None else self._given
            connection = build_http()
            connection.timeout = _ANSWER_SECONDS
            self._service = build_from_document(
                description, http=google_auth_httplib2.AuthorizedHttp(self._credentials, http=connection)
            )
        return self._service.files()

    def _log_in_with_file(self, path: str) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.oauth2 import credentials, service_account

        try:
            login = json.loads(Path(path).read_text(encoding="utf-8"))
            kind = login["type"]
            if kind == "service_account":
                self._credentials = service_account.Credentials.from_service_account_info(login, scopes=_SCOPES)
            elif kind == "authorized_user":
                self._credentials = credentials.Credentials.from_authorized_user_info(login, scopes=_SCOPES)
            elif self._given is None:
                return  # another kind, which the client takes from the same variable
            else:
                raise ValueError(f"of type {kind!r}, and neither of a service account nor of a user")
        except (GoogleAuthError, OSError, ValueError, KeyError, TypeError) as error:
            # Not chained: it may hold what is in the file.
            reason = describe_error(error)
        else:
            self._remember_tokens()
            return
        raise ArgumentError("credentials", path, f"is no login that can be used ({reason})", f"Or {_HOW_TO_LOG_IN}.")

    def close(self) -> None:
        """Ends the connection; the next call makes another one."""
        service, self._service = self._service, None
        if service is not None:
            service.close()

    @property
    def account(self) -> str | None:
        """Address of the service account, if it is one."""
        return getattr(self._credentials, "service_account_email", None)

    # Failures

    def judge(self, error: Exception, place: str) -> StoreError | None:
        """Says what a failure of the client means, or None if it is none of the client's."""
        import google.auth.exceptions as refusals
        import httplib2
        from googleapiclient.errors import HttpError

        self._remember_tokens()
        if isinstance(error, HttpError):
            return self._judge_answer(error, place)
        if isinstance(error, refusals.TransportError):
            return StoreError(f"{place}: {describe_error(error)}", transient=True)
        if isinstance(error, refusals.RefreshError):
            passes = bool(getattr(error, "retryable", False))
            advice = "" if passes else f". The login has expired or was withdrawn: {_HOW_TO_LOG_IN}"
            return StoreError(f"{place}: {describe_error(error)}{advice}", 503 if passes else 401, transient=passes)
        if isinstance(error, refusals.GoogleAuthError):
            return StoreError(f"{place}: Google Drive needs a login ({describe_error(error)}): {_HOW_TO_LOG_IN}", 401)
        if isinstance(error, httplib2.HttpLib2Error | http.client.HTTPException) or may_pass(error):
            return StoreError(f"{place}: {describe_error(error)}", transient=True)
        return None

    def _remember_tokens(self) -> None:
        # Those of this hour, and the one that fetches them.
        for name in ("token", "refresh_token", "client_secret"):
            token = getattr(self._credentials, name, None)
            remember_secret(token if isinstance(token, str) else None)

    def _judge_answer(self, error: Any, place: str) -> StoreError:
        status = int(error.resp.status)
        headers = {"Retry-After": error.resp["retry-after"]} if "retry-after" in error.resp else None
        reason, message = _reason(error.content)
        told = describe_error(Exception(f"{status} {reason} {message}")).removeprefix("Exception: ")
        if reason in _FULL:
            own = (
                f" {self.account} is a service account, which has no room of its own: use a folder of a shared drive."
                if self.account
                else ""
            )
            return StoreError(
                f"{place}: there is no room left on this Google Drive ({told}).{own} Remove files and empty the "
                "bin, or buy room: https://one.google.com/storage; then try again",
                403,
            )
        if reason in _RATE_LIMITS or status in (408, 429) or status >= 500:
            return StoreError(f"{place}: Google Drive is busy ({told})", status, transient=True, headers=headers)
        if status == 401:
            return StoreError(f"{place}: Google Drive does not accept the login ({told}): {_HOW_TO_LOG_IN}", 401)
        if status == 403:
            who = self.account or "the account that is logged in"
            return StoreError(
                f"{place}: {who} may not do this ({told}): share the folder with it as an editor, enable the Google "
                f"Drive API in its project, or log in as somebody else: {_HOW_TO_LOG_IN}",
                403,
            )
        return StoreError(f"{place}: Google Drive refused ({told})", status, headers=headers)


def _reason(content: bytes) -> tuple[str, str]:
    try:
        error = json.loads(content)["error"]
        errors = error.get("errors") or [{}]
        return str(errors[0].get("reason", "")), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "", content[:200].decode(errors="replace")
