"""Addresses of files elsewhere: `s3://bucket/path`, `gdrive://folder/path`, `sftp://user@host/path` and the like."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from rl_framework.errors import ArgumentError
from rl_framework.secrecy import redact, remember_secret

__all__ = ["SCHEMES", "Address", "is_address", "parse_address", "refuse_address"]

SCHEMES = ("s3", "gs", "gdrive", "hf", "sftp", "memory", "file")
_ALIASES = {"s3a": "s3", "gcs": "gs", "ssh": "sftp", "local": "file"}
_FOLDER = "file"
_WITH_HOST = ("s3", "gs", "sftp")

# A letter by itself is a drive of Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_FLATTENED = re.compile(rf"({'|'.join((*SCHEMES, *_ALIASES))}):[/\\](?![/\\])")
_AUTHORITY = re.compile(r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<host>[^@/:]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Address:
    """Where files are.

    Attributes:
        scheme: One of `SCHEMES`; "file": a folder of this machine, mounted ones among them.
        host: The bucket, or the machine; "" where there is none.
        path: Below that, without slashes around it; for "file" a path of this machine.
        user: Who logs in, or None.
        port: Or None.
        password: Or None; it is never shown.
        options: What the client of the service is given besides; never shown.
    """

    scheme: str
    host: str
    path: str
    user: str | None = None
    port: int | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        if self.scheme == _FOLDER:
            return self.path
        user = "" if self.user is None else f"{quote(self.user, safe='')}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{user}{self.host}{port}{'/' if self.host and self.path else ''}{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.replace(os.sep, "/").rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The folder above."""
        if self.scheme == _FOLDER:
            return replace(self, path=str(Path(self.path).parent))
        return replace(self, path=self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> Address:
        if self.scheme == _FOLDER:
            return replace(self, path=str(Path(self.path) / name))
        return replace(self, path=f"{self.path}/{name}" if self.path else name)


def is_address(value: Any) -> bool:
    """Tells whether something names a place elsewhere, and no path of this machine.

    Raises:
        ArgumentError: It is an address that was made a `pathlib.Path`, which loses a slash.
    """
    if isinstance(value, str):
        return _ADDRESS.fullmatch(value) is not None
    if isinstance(value, Address) or _is_universal(value):
        return True
    if _is_flattened(value):
        raise ArgumentError("path", os.fspath(value), "is an address that was made a Path", "Give it as a text.")
    return False


def _is_flattened(value: Any) -> bool:
    return isinstance(value, os.PathLike) and _FLATTENED.match(os.fspath(value)) is not None


def _is_universal(value: Any) -> bool:
    # A path of the library universal-pathlib; one to a local file is a path as any other.
    return isinstance(getattr(value, "protocol", None), str) and hasattr(value, "storage_options") and value.protocol


def parse_address(value: Any, argument: str = "address", options: Mapping[str, Any] | None = None) -> Address:
    """Reads an address, or a path of a folder on this machine.

    Args:
        value: A text, a path, or a `UPath` of the library universal-pathlib, whose options are taken over.
        argument: Its name, for errors.
        options: For the client of the service.

    Raises:
        ArgumentError: It is none, or of a kind that is not known here.
    """
    given = dict(options or {})
    if isinstance(value, Address):
        return replace(value, options={**value.options, **given})
    if _is_universal(value):
        given = {**value.storage_options, **given}
        value = str(value)
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ArgumentError(argument, value, "is no address", _KNOWN)
    is_address(value)  # refuses what lost a slash
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return Address(_FOLDER, "", os.fspath(value), options=given)
    scheme = _ALIASES.get(found[1].lower(), found[1].lower())
    if scheme not in SCHEMES:
        raise ArgumentError(argument, redact(str(value)), f"{scheme}:// is not known here", _KNOWN)
    if scheme == _FOLDER:
        return Address(_FOLDER, "", found[2], options=given)
    host, rest = "", found[2]
    user = password = port = None
    if scheme in _WITH_HOST:
        authority, _, rest = rest.partition("/")
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None or (scheme != "sftp" and (parts["user"] or parts["port"])):
            raise ArgumentError(argument, redact(str(value)), "does not name a bucket or a machine", _KNOWN)
        host, port = parts["host"], None if parts["port"] is None else int(parts["port"])
        user = unquote(parts["user"]) if parts["user"] else None
        password = unquote(parts["password"]) if parts["password"] else None
        remember_secret(password)
    steps = [step for step in rest.split("/") if step]
    if ".." in steps or "." in steps or any(ord(letter) < 32 for letter in rest):
        raise ArgumentError(argument, redact(str(value)), 'has a part ".", ".." or a control character', _KNOWN)
    return Address(scheme, host, "/".join(steps), user, port, password, given)


def refuse_address(value: Any, argument: str, remedy: str) -> None:
    """Refuses an address where only a path of this machine will do; "s3://x" would become a folder called "s3:".

    Raises:
        ArgumentError: It is an address.
    """
    if _is_flattened(value) or is_address(value):
        raise ArgumentError(argument, redact(str(value)), "is no path of this machine", remedy)


_KNOWN = (
    'Write "s3://bucket/path", "gs://bucket/path", "gdrive://folder/path", "hf://user/name/path", '
    '"sftp://user@host/path", "memory://path", or the path of a folder.'
)
