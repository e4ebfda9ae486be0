"""PEP 517 build backend: a published wheel with its dependency metadata rewritten, and nothing else.

The wheel is named and its sha256 is pinned in `[tool.repackage]` of the `pyproject.toml` beside this file; its new
dependencies are `[project] dependencies`. Every other byte of every other file stays as published, and building twice
gives the same wheel.

The wheel is fetched with pip, so the user's own pip configuration (index, mirror, proxy, certificates, cache, a folder
of wheels) applies.

`prepare_metadata_for_build_wheel` is left out on purpose: frontends then build the wheel, read its metadata and keep
it, which downloads once; with the hook they would download twice.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Options of the user's pip that do not fit a single download whose hash is checked here.
_FOREIGN_PIP_OPTIONS = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT", "PIP_REQUIRE_HASHES")
_SDIST_FILES = ("README.md", "pyproject.toml", "repackage.py")


class RepackageError(Exception):
    """The wheel could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Specification:
    """What is repackaged, and what it is to depend on.

    Attributes:
        name: Name of the distribution.
        version: Version of the distribution.
        wheel: File name of the published wheel.
        sha256: Hash of the published wheel, in hexadecimal.
        dependencies: Requirements that replace the published ones.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    dependencies: tuple[str, ...]

    @classmethod
    def read(cls, pyproject: Path) -> Specification:
        """Reads the specification from a `pyproject.toml`."""
        tables = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        project, pinned = tables["project"], tables["tool"]["repackage"]
        return cls(
            name=project["name"],
            version=project["version"],
            wheel=pinned["wheel"],
            sha256=pinned["sha256"],
            dependencies=tuple(project["dependencies"]),
        )


def download(specification: Specification, directory: Path) -> Path:
    """Fetches the published wheel into a directory with pip, and checks its hash.

    Raises:
        RepackageError: pip could not fetch the wheel, or its hash is not the pinned one.
    """
    requirement = f"{specification.name}=={specification.version}"
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(directory)]
    environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN_PIP_OPTIONS}
    finished = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wheel = directory / specification.wheel
    if finished.returncode or not wheel.is_file():
        raise RepackageError(
            f"{specification.wheel} could not be fetched with `pip download {requirement}`, which said:\n\n"
            f"{finished.stdout.strip()}\n\n"
            "Its dependency metadata is rewritten here, but the wheel itself comes from your package index, once. "
            "Try again with a connection; or, without one, put that file into a folder and set PIP_FIND_LINKS to it."
        )
    check_hash(wheel, specification.sha256)
    return wheel


def check_hash(wheel: Path, expected: str) -> None:
    """Refuses a wheel whose sha256 is not the expected one.

    Raises:
        RepackageError: The hash differs.
    """
    actual = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if actual != expected:
        raise RepackageError(
            f"{wheel.name} is not the wheel that was pinned: expected sha256 {expected}, got {actual}. "
            "Nothing of it was installed."
        )


def rewrite_dependencies(metadata: bytes, dependencies: tuple[str, ...]) -> bytes:
    """Replaces the `Requires-Dist` and `Provides-Extra` lines of a `METADATA` file; the rest stays byte for byte."""
    head, separator, description = metadata.partition(b"\n\n")
    kept: list[bytes] = []
    position: int | None = None
    inside = False
    for line in head.split(b"\n"):
        # A line that begins with a blank continues the field before it.
        inside = inside if line[:1] in (b" ", b"\t") else line.startswith((b"Requires-Dist:", b"Provides-Extra:"))
        if not inside:
            kept.append(line)
        elif position is None:
            position = len(kept)
    position = len(kept) if position is None else position
    kept[position:position] = [f"Requires-Dist: {dependency}".encode() for dependency in dependencies]
    return b"\n".join(kept) + separator + description


def rewrite_record(record: bytes, name: str, content: bytes) -> bytes:
    """Gives one file of a `RECORD` its new hash and size; the other rows stay as they are."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    rows = list(csv.reader(io.StringIO(record.decode("utf-8"), newline="")))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(
        [name, f"sha256={digest}", str(len(content))] if row[:1] == [name] else row for row in rows
    )
    return text.getvalue().encode("utf-8")


def repackage(published: Path, rewritten: Path, dependencies: tuple[str, ...]) -> None:
    """Writes a copy of a wheel that declares other dependencies."""
    with zipfile.ZipFile(published) as source, zipfile.ZipFile(rewritten, "w") as target:
        metadata_name = _only(source, ".dist-info/METADATA")
        record_name = _only(source, ".dist-info/RECORD")
        metadata = rewrite_dependencies(source.read(metadata_name), dependencies)
        changed = {
            metadata_name: metadata,
            record_name: rewrite_record(source.read(record_name), metadata_name, metadata),
        }
        for entry in source.infolist():
            # With the entry itself, its time and mode are kept.
            target.writestr(entry, changed.get(entry.filename, source.read(entry)), compress_type=zipfile.ZIP_DEFLATED)


def _only(archive: zipfile.ZipFile, ending: str) -> str:
    names = [name for name in archive.namelist() if name.endswith(ending) and name.count("/") == 1]
    if len(names) != 1:
        raise RepackageError(f"{archive.filename}: expected one file that ends in {ending}, found {names}")
    return names[0]


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Hook of PEP 517: nothing beyond `[build-system] requires`."""
    return []


def get_requires_for_build_sdist(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Hook of PEP 517: nothing beyond `[build-system] requires`."""
    return []


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Hook of PEP 517: fetches, checks and rewrites the wheel; returns its file name."""
    specification = Specification.read(Path("pyproject.toml"))
    with tempfile.TemporaryDirectory() as directory:
        published = download(specification, Path(directory))
        repackage(published, Path(wheel_directory) / specification.wheel, specification.dependencies)
    return specification.wheel


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """Hook of PEP 517: these few files, from which the same wheel can be built; returns the file name."""
    specification = Specification.read(Path("pyproject.toml"))
    stem = f"{specification.name}-{specification.version}"
    contents = {name: Path(name).read_bytes() for name in _SDIST_FILES}
    required = "".join(f"Requires-Dist: {dependency}\n" for dependency in specification.dependencies)
    contents["PKG-INFO"] = (
        f"Metadata-Version: 2.1\nName: {specification.name}\nVersion: {specification.version}\n{required}".encode()
    )
    with (
        (Path(sdist_directory) / f"{stem}.tar.gz").open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(f"{stem}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return f"{stem}.tar.gz"
