"""The container of a bundle: one zip file without pickle, code or anything that has to be trusted.

Layout:

    manifest.json            first entry of the file
    <name>.json              strict JSON: no NaN or infinity, no key twice, at most 16 MiB and 100 levels
    <name>.safetensors       tensors by name
    <name>.npz               NumPy arrays of numbers by name, stored

`manifest.json` is an object with exactly these keys:

| key | value |
|---|---|
| `format` | `"rl_framework.bundle"` |
| `version` | version of this layout, an integer; a reader refuses later ones |
| `kind` | name in the registry `agents` of the class that the bundle belongs to, such as `"stable_baselines"` |
| `members` | for each other member its `sha256` (hexadecimal) and `size` (bytes) |
| `information` | what the writer tells about itself, such as the versions of libraries |

Members are stored (a reader accepts deflated ones too), with fixed timestamps, so that the same content makes the same
file. Other extensions, members that the manifest does not list, links, directories and encrypted members are refused.
A file is checked in full before the first of its members can be read; nothing is extracted to disk, unpickled,
imported or executed.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rl_framework.bundle import members as member_types
from rl_framework.bundle.archive import (
    RefusedError,
    check_entries,
    check_name,
    chunks_of,
    open_section,
    read_entry,
    write_entry,
)
from rl_framework.bundle.arrays import check_arrays, read_arrays
from rl_framework.errors import ArgumentError, BundleError
from rl_framework.stores import copy_of_file, is_address, is_published, parse_address, refuse_address, temporary_copies
from rl_framework.whole_file import written_whole

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["FORMAT", "FORMAT_VERSION", "MIGRATIONS", "Bundle", "read_bundle", "write_bundle"]

FORMAT = "rl_framework.bundle"
FORMAT_VERSION = 1

# From the manifest of a version to that of the next one, for every version before the present one.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}

_MANIFEST = "manifest.json"
_KEYS = {"format", "version", "kind", "members", "information"}
_KIND = re.compile(r"([a-z0-9][a-z0-9-]{0,63}:)?[a-z][a-z0-9_]{0,63}")  # "<package>:<name>" for that of a plug-in
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Bundle:
    """A bundle that was checked and can be read, member by member.

    It keeps the file open, so that what is read is what was checked even if a later save takes the path over. Use it
    as a context manager, or let go of it.
    """

    def __init__(
        self, path: Path, file: BinaryIO, archive: zipfile.ZipFile, manifest: dict[str, Any], version: int
    ) -> None:
        self.path = path
        self.version = version
        self._file = file
        self._length = os.fstat(file.fileno()).st_size
        self._archive = archive
        self._manifest = manifest

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of the manifest, as the present version writes it; `version` is the one in the file."""
        return copy.deepcopy(self._manifest)

    @property
    def kind(self) -> str:
        """Name in the registry `agents` of the class that the bundle belongs to."""
        return str(self._manifest["kind"])

    @property
    def information(self) -> dict[str, Any]:
        """What the writer told about itself."""
        return copy.deepcopy(dict(self._manifest["information"]))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members but the manifest, sorted."""
        return tuple(sorted(self._manifest["members"]))

    def __contains__(self, name: object) -> bool:
        return name in self._manifest["members"]

    def json(self, name: str) -> Any:
        """Returns the value of a `.json` member.

        Raises:
            BundleError: The bundle has no such member.
        """
        with self._reading(name, ".json") as entry:
            return member_types.parse_json(read_entry(self._archive, entry))

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Returns the tensors of a `.safetensors` member, on the CPU and writable.

        Raises:
            BundleError: The bundle has no such member.
        """
        with self._reading(name, ".safetensors") as entry:
            return member_types.read_tensors(read_entry(self._archive, entry))

    def arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the arrays of a `.npz` member, writable.

        Raises:
            BundleError: The bundle has no such member.
        """
        with self._reading(name, ".npz") as entry:
            stream = open_section(self._file, self._length, self._archive, entry)
            return read_arrays(stream, entry.file_size)

    def close(self) -> None:
        """Closes the file. What was read stays valid."""
        self._archive.close()
        self._file.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, kind={self.kind!r}, names={list(self.names)})"

    @contextmanager
    def _reading(self, name: str, extension: str) -> Iterator[zipfile.ZipInfo]:
        if not name.endswith(extension):
            raise ArgumentError("name", name, f"has to end with {extension!r}")
        with _explained(self.path):
            if name not in self:
                raise RefusedError(f"it has no member {name!r}, only {', '.join(self.names) or 'none'}")
            with _named(name):
                yield self._archive.getinfo(name)

    def _verify(self) -> None:
        # Everything that can be wrong with a file is found here, before an agent is touched.
        for name, declared in self._manifest["members"].items():
            entry = self._archive.getinfo(name)
            with _named(name):
                digest = hashlib.sha256()
                for chunk in chunks_of(self._archive, entry):
                    digest.update(chunk)
                if entry.file_size != declared["size"] or digest.hexdigest() != declared["sha256"]:
                    raise RefusedError("its content is not what the manifest says: the file is damaged")
                if name.endswith(".json"):
                    member_types.parse_json(read_entry(self._archive, entry))
                    continue
                check = check_arrays if name.endswith(".npz") else member_types.check_tensors
                check(open_section(self._file, self._length, self._archive, entry), entry.file_size)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Opens a bundle, after having checked all of it.

    Args:
        path: The file, or an address (see `rl_framework.stores`), of which a verified copy is made.

    Returns:
        The bundle, whose members are decoded when they are asked for.

    Raises:
        BundleError: There is no such file, or it is damaged, hostile, of a later version, or no bundle.
        ConnectorError: It could not be fetched from the address.
    """
    if is_published(path):
        with temporary_copies() as folder:
            copy = copy_of_file(path, folder)
            try:
                bundle = read_bundle(copy)
            except BundleError as error:
                raise BundleError(f"{parse_address(path)}: {error}") from error
        if not is_address(path):
            bundle.path = Path(path)  # where it can be found again
        return bundle
    path = Path(path)
    with _explained(path):
        # Opening a named pipe would wait for ever.
        if not path.exists():
            raise RefusedError("there is no such file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise RefusedError("it is a directory or a device, not a file")
        file = path.open("rb")
        try:
            return _open(path, file)
        except BaseException:
            file.close()
            raise


def _open(path: Path, file: BinaryIO) -> Bundle:
    length = os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:
        raise RefusedError(f"it is no zip file, or was cut short ({error})") from error
    entries = archive.infolist()
    if _MANIFEST not in archive.namelist():
        hint = ""
        if "data" in archive.namelist() and "policy.pth" in archive.namelist():
            hint = "; it looks like a file of Stable-Baselines3, which holds pickles and has to be trusted"
        raise RefusedError(f"it is no bundle: {_MANIFEST} is missing{hint}")
    check_entries(archive, length, plain_names=True, compressed=True)
    if entries[0].filename != _MANIFEST or entries[0].header_offset != 0:
        raise RefusedError(f"{_MANIFEST} is not at its start")
    with _named(_MANIFEST):
        manifest, version = _read_manifest(archive, entries[0])
    _compare(manifest, entries[1:])
    bundle = Bundle(path, file, archive, manifest, version)
    bundle._verify()
    return bundle


def _read_manifest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[dict[str, Any], int]:
    if entry.file_size > member_types.JSON_SIZE:
        raise RefusedError(f"it declares {entry.file_size} bytes; at most {member_types.JSON_SIZE} are read")
    manifest = member_types.parse_json(read_entry(archive, entry))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise RefusedError(f"its format is not {FORMAT!r}")
    version = manifest.get("version")
    if type(version) is not int or version < 1:
        raise RefusedError("its version is no positive integer")
    if version > FORMAT_VERSION:
        raise RefusedError(
            f"the bundle has format version {version}, and this rl_framework reads up to version {FORMAT_VERSION}: "
            "upgrade rl_framework"
        )
    for past in range(version, FORMAT_VERSION):
        if past not in MIGRATIONS:
            raise RefusedError(f"the bundle has format version {version}, which is no longer read")
        manifest = MIGRATIONS[past](manifest)
    if not isinstance(manifest, dict) or manifest.keys() != _KEYS:
        raise RefusedError(f"it must have the keys {', '.join(sorted(_KEYS))} and no others")
    if not isinstance(manifest["kind"], str) or not _KIND.fullmatch(manifest["kind"]):
        raise RefusedError("its kind is no name")
    if not isinstance(manifest["information"], dict) or not isinstance(manifest["members"], dict):
        raise RefusedError("its members or its information is no object")
    for name, declared in manifest["members"].items():
        _check_declaration(name, declared)
    return manifest, version


def _check_declaration(name: str, declared: Any) -> None:
    if not isinstance(declared, dict) or declared.keys() != {"sha256", "size"}:
        raise RefusedError(f"it describes {name[:100]!r} by something other than sha256 and size")
    if not isinstance(declared["sha256"], str) or not _SHA256.fullmatch(declared["sha256"]):
        raise RefusedError(f"the sha256 of {name[:100]!r} is malformed")
    if type(declared["size"]) is not int or declared["size"] < 0:
        raise RefusedError(f"the size of {name[:100]!r} is no number of bytes")


def _compare(manifest: dict[str, Any], entries: list[zipfile.ZipInfo]) -> None:
    for entry in entries:
        if member_types.extension_of(entry.filename) is None:
            raise RefusedError(
                f"it holds {entry.filename!r}: only {', '.join(member_types.EXTENSIONS)} members are read, "
                "and never a pickle or code"
            )
        if entry.filename.endswith(".json") and entry.file_size > member_types.JSON_SIZE:
            raise RefusedError(f"{entry.filename!r} declares more than {member_types.JSON_SIZE} bytes of JSON")
    there = {entry.filename for entry in entries}
    listed = set(manifest["members"])
    if there - listed:
        raise RefusedError(f"it holds {sorted(there - listed)[0]!r}, which its manifest does not list")
    if listed - there:
        raise RefusedError(f"the member {sorted(listed - there)[0][:100]!r} of its manifest is missing")


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RefusedError(f"{name}: {_reason(error)}") from error


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    # The parsers below (zipfile, zlib, json, struct, safetensors, NumPy) answer a crafted file with exceptions of
    # many types. For who opens the file they all mean the same.
    try:
        yield
    except Exception as error:
        raise BundleError(f"cannot read the bundle {str(path)!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"


def write_bundle(
    path: str | os.PathLike[str],
    *,
    kind: str,
    members: Mapping[str, Any],
    information: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a bundle, entirely or not at all.

    The file appears under its name only when all of it is on the disk. If anything fails, what was there before is
    untouched.

    Args:
        path: Where to; folders that do not exist are created.
        kind: Name of the agent class in the registry `agents`.
        members: By name: a JSON value for `*.json`, a dict of tensors for `*.safetensors`, a dict of arrays of
            numbers for `*.npz`. Tensors that share memory are stored in full each.
        information: What else to tell in the manifest, such as versions of libraries.

    Returns:
        The path.

    Raises:
        ArgumentError: A name or a value is not allowed in a bundle, or the path is an address.
        OSError: The disk is full or not writable.
    """
    refuse_address(path, "path", "Upload the agent there: agent.upload(StorageConnector(address)).")
    path = Path(path)
    prepared = _prepare(kind, members, information)
    with written_whole(path) as temporary, zipfile.ZipFile(temporary, "x") as archive:
        for name, member in prepared.items():
            write_entry(archive, name, member.size, member.write)
    return path


def _prepare(
    kind: str, members: Mapping[str, Any], information: Mapping[str, Any] | None
) -> dict[str, member_types.Member]:
    if not _KIND.fullmatch(str(kind)):
        raise ArgumentError("kind", kind, "has to be a name of lower-case letters, digits and '_'")
    seen = {_MANIFEST}
    for name in members:
        try:
            check_name(name)
        except (RefusedError, TypeError) as error:
            raise ArgumentError("members", name, str(error)) from error
        if member_types.extension_of(name) is None:
            raise ArgumentError("members", name, f"a name has to end with {', '.join(member_types.EXTENSIONS)}")
        if name.casefold() in seen:
            raise ArgumentError("members", name, "the name is taken (upper and lower case do not differ)")
        seen.add(name.casefold())
    prepared = {name: member_types.prepare(name, value) for name, value in sorted(members.items())}
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": kind,
        "members": {name: {"sha256": member.sha256, "size": member.size} for name, member in prepared.items()},
        "information": dict(information or {}),
    }
    data = member_types.to_json(manifest, "information", indent=2)
    return {_MANIFEST: member_types.from_bytes(data), **prepared}
