"""`rl_framework.json`, which says which files belong together, where each of them is, and what has to be in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_framework.errors import ArgumentError
from rl_framework.whole_file import TEMPORARY_PREFIX

__all__ = ["MANIFEST", "MAXIMUM_SIZE", "Entry", "Manifest", "ManifestError", "check_name", "digest_of"]

MANIFEST = "rl_framework.json"
FORMAT = "rl_framework.files"
FORMAT_VERSION = 1
MAXIMUM_SIZE = 16 << 20

_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
# No separators of Windows, no drives, no control characters.
_PART = re.compile(r"[^/\\:*?\"<>|\x00-\x1f\x7f]{1,200}")


class ManifestError(Exception):
    """Why a manifest is not followed."""


@dataclass(frozen=True)
class Entry:
    """A file of a publication.

    Attributes:
        location: Its path, from the manifest's folder.
        size: In bytes.
        sha256: Of its content.
    """

    location: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a publication, by name.

    Attributes:
        files: By name.
        information: What the writer tells besides; JSON data.
    """

    files: Mapping[str, Entry] = field(default_factory=dict)
    information: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> bytes:
        """Returns what is in the file."""
        files = {
            name: {"location": entry.location, "size": entry.size, "sha256": entry.sha256}
            for name, entry in sorted(self.files.items())
        }
        data = {"format": FORMAT, "version": FORMAT_VERSION, "files": files, "information": dict(self.information)}
        return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Reads what is in the file.

        Raises:
            ManifestError: It is damaged, hostile, or of a later version.
        """
        if len(content) > MAXIMUM_SIZE:
            raise ManifestError(f"it has more than {MAXIMUM_SIZE} bytes")
        try:
            data = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"it is no JSON, or was cut short ({type(error).__name__})") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ManifestError(f"its format is not {FORMAT!r}")
        version, files, information = data.get("version"), data.get("files"), data.get("information")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise ManifestError(f"its version is not one up to {FORMAT_VERSION}: pip install --upgrade rl-framework")
        if not isinstance(files, dict) or not isinstance(information, dict):
            raise ManifestError("its files or its information is no object")
        return cls({name: _entry(name, described) for name, described in files.items()}, information)


def _entry(name: str, described: Any) -> Entry:
    if not isinstance(described, dict) or described.keys() != {"location", "size", "sha256"}:
        raise ManifestError(f"it describes {name[:100]!r} by something other than location, size and sha256")
    location, size, sha256 = described["location"], described["size"], described["sha256"]
    for text in (name, location):
        if not _stays_below(text):
            raise ManifestError(f"it names the file {str(text)[:100]!r}, which does not lie in its folder")
    if type(size) is not int or not 0 <= size < 1 << 50:
        raise ManifestError(f"the size of {name[:100]!r} is no number of bytes")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ManifestError(f"the sha256 of {name[:100]!r} is malformed")
    return Entry(location, size, sha256)


def _stays_below(path: Any) -> bool:
    if not isinstance(path, str) or len(path) > 1000 or path.startswith("~"):
        return False
    parts = path.split("/")
    return all(_PART.fullmatch(part) and part not in (".", "..") and not part.endswith((" ", ".")) for part in parts)


def check_name(name: Any, argument: str = "name") -> str:
    """Checks the name under which a file is to be published.

    Raises:
        ArgumentError: It leads elsewhere, or is one of our own.
    """
    if not _stays_below(name) or any(
        part == MANIFEST or part.startswith(TEMPORARY_PREFIX) for part in str(name).split("/")
    ):
        raise ArgumentError(argument, name, "must be a path below the address", 'Such as "reports/run.html".')
    return str(name)


def digest_of(path: Path) -> tuple[int, str]:
    """Returns the size and the SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
