"""`episodes.json`, which says what a data set holds."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_framework.episode.checks import check_spaces, space_leaves
from rl_framework.episode.observation_tree import leaf_name
from rl_framework.episode.storage.npy import FileRecord, is_storable
from rl_framework.errors import BundleError, EpisodeDataError, UnsupportedSpaceError, shorten
from rl_framework.json_spaces import decode_space, encode_space

__all__ = ["FORMAT", "FORMAT_VERSION", "MANIFEST", "Manifest", "is_ours", "observation_file"]

FORMAT = "rl_framework.episodes"
FORMAT_VERSION = 1
MANIFEST = "episodes.json"
ACTIONS, REWARDS, LENGTHS, FLAGS = "actions.npy", "rewards.npy", "lengths.npy", "flags.npy"
INFOS, INFO_OFFSETS = "infos.jsonl", "infos-offsets.npy"

_KEYS = {
    "format",
    "version",
    "episodes",
    "transitions",
    "observation_space",
    "action_space",
    "spaces_are_inferred",
    "observations",
    "files",
    "information",
}
_MAXIMUM_SIZE = 64 << 20
_OBSERVATIONS = re.compile(r"observations(-[0-9]{1,5})?\.npy")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def observation_file(path: tuple[str, ...], index: int) -> str:
    """Names the file of an array of observations. Keys of dicts are not in it: they may hold any character."""
    return f"observations-{index}.npy" if path else "observations.npy"


def is_ours(name: str) -> bool:
    """Tells whether a data set may hold a file of this name."""
    return name in (MANIFEST, ACTIONS, REWARDS, LENGTHS, FLAGS, INFOS, INFO_OFFSETS) or (
        _OBSERVATIONS.fullmatch(name) is not None
    )


@dataclass(frozen=True)
class Manifest:
    """What a data set holds.

    Attributes:
        episodes: How many, `E`.
        transitions: Actions in all of them, `N`.
        observation_space: Space of one observation.
        action_space: Space of one action.
        spaces_are_inferred: Whether they were guessed.
        observations: File of each array of observations, by the keys that lead to it.
        files: What is known about each file, by its name.
        information: What whoever wrote it tells about it; JSON data.
    """

    episodes: int
    transitions: int
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    spaces_are_inferred: bool
    observations: Mapping[tuple[str, ...], str]
    files: Mapping[str, FileRecord]
    information: Mapping[str, Any]

    def text(self) -> str:
        """Returns the content of the file.

        Raises:
            UnsavableError: A space cannot be saved.
        """
        data = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "episodes": self.episodes,
            "transitions": self.transitions,
            "observation_space": encode_space(self.observation_space, "observation_space"),
            "action_space": encode_space(self.action_space, "action_space"),
            "spaces_are_inferred": self.spaces_are_inferred,
            "observations": [{"keys": list(path), "file": name} for path, name in self.observations.items()],
            "files": {name: record.data() for name, record in self.files.items()},
            "information": dict(self.information),
        }
        return json.dumps(data, indent=1, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Reads the content of the file and checks that it is consistent.

        Raises:
            EpisodeDataError: It is malformed, contradicts itself, or is of a later version.
        """
        data = _parse_json(content)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise EpisodeDataError(f"it does not have the format {FORMAT!r}")
        version = data.get("version")
        if type(version) is not int or version < 1:
            raise EpisodeDataError(f"its version is {shorten(version)}")
        if version > FORMAT_VERSION:
            raise EpisodeDataError(
                f"its version is {version}, and this rl_framework reads up to {FORMAT_VERSION}: "
                "pip install --upgrade rl-framework"
            )
        _require(data.keys() == _KEYS, f"it needs the keys {', '.join(sorted(_KEYS))}")
        for key in ("episodes", "transitions"):
            _require(type(data[key]) is int and 0 < data[key] < 1 << 58, f"{key} is {shorten(data[key])}")
        _require(type(data["spaces_are_inferred"]) is bool, "spaces_are_inferred is no boolean")
        _require(isinstance(data["information"], dict), "information is no object")
        try:
            observation_space, action_space = (
                decode_space(data["observation_space"]),
                decode_space(data["action_space"]),
            )
            check_spaces(observation_space, action_space)
        except (BundleError, UnsupportedSpaceError) as error:
            raise EpisodeDataError(f"a space is not one that episodes have: {error}") from error
        manifest = cls(
            data["episodes"],
            data["transitions"],
            observation_space,
            action_space,
            data["spaces_are_inferred"],
            _parse_observations(data["observations"]),
            _parse_files(data["files"]),
            data["information"],
        )
        manifest.check()
        return manifest

    def check(self) -> None:
        """Checks that the files are those that the spaces and counts ask for.

        Raises:
            EpisodeDataError: They are not.
        """
        rows = {ACTIONS: self.transitions, REWARDS: self.transitions, LENGTHS: self.episodes, FLAGS: self.episodes}
        expected = {*rows, *self.observations.values()}
        if INFOS in self.files:
            expected |= {INFOS, INFO_OFFSETS}
            rows[INFO_OFFSETS] = self.transitions + 1
        _require(self.files.keys() == expected, f"it lists the files {sorted(self.files)}, not {sorted(expected)}")
        parts = dict(space_leaves(self.observation_space))
        _require(
            parts.keys() == self.observations.keys(),
            f"it has {', '.join(map(leaf_name, self.observations))}, but the space {', '.join(map(leaf_name, parts))}",
        )
        for path, part in parts.items():
            self._check_array(self.observations[path], self.transitions + self.episodes, part)
        self._check_array(ACTIONS, self.transitions, self.action_space)
        for name, dtype in ((REWARDS, "<f8"), (LENGTHS, "<i8"), (FLAGS, "|u1"), (INFO_OFFSETS, "<i8")):
            if name in rows:
                record = self.files[name]
                _require(
                    (record.dtype, record.shape) == (dtype, (rows[name],)),
                    f"{name} is of {record.dtype} {record.shape}, not of {dtype} ({rows[name]},)",
                )

    def _check_array(self, name: str, rows: int, space: Any) -> None:
        record = self.files[name]
        shape = (rows, *space.shape)
        _require(record.shape == shape, f"{name} has the shape {record.shape}, not {shape}")
        fits = (np.dtype(record.dtype).kind == "f") == (np.dtype(space.dtype).kind == "f")
        _require(fits, f"{name} holds {record.dtype}, which is not of {shorten(space)}")


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Reads and checks the manifest of a data set.

    Returns:
        The manifest and its bytes.

    Raises:
        EpisodeDataError: It is missing, damaged or hostile.
    """
    path = folder / MANIFEST
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAXIMUM_SIZE:
            raise EpisodeDataError(f"{path} is no ordinary file of at most {_MAXIMUM_SIZE} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise EpisodeDataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return Manifest.parse(content), content
    except EpisodeDataError as error:
        raise EpisodeDataError(f"{path}: {error}") from error


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise EpisodeDataError(f"it is damaged, no JSON: {shorten(str(error))}") from error


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice")
    return data


def _parse_observations(data: Any) -> dict[tuple[str, ...], str]:
    _require(isinstance(data, list), "observations is no list")
    files: dict[tuple[str, ...], str] = {}
    for entry in data:
        _require(isinstance(entry, dict) and entry.keys() == {"keys", "file"}, "observations is malformed")
        keys, name = entry["keys"], entry["file"]
        _require(isinstance(keys, list) and all(isinstance(key, str) for key in keys), "observations is malformed")
        _require(
            isinstance(name, str) and _OBSERVATIONS.fullmatch(name) is not None,
            f"a file of observations has the name {shorten(name)}",
        )
        files[tuple(keys)] = name
    _require(len(files) == len(data) == len(set(files.values())), "a file or key of observations occurs twice")
    return files


def _parse_files(data: Any) -> dict[str, FileRecord]:
    _require(isinstance(data, dict), "files is no object")
    records = {}
    for name, entry in data.items():
        # Only these names: none has a separator, so none leads out of the folder.
        _require(is_ours(name) and name != MANIFEST, f"it names the file {shorten(name)}, which no data set has")
        keys = {"size", "sha256"} | (set() if name == INFOS else {"dtype", "shape"})
        _require(isinstance(entry, dict) and entry.keys() == keys, f"{name} needs {', '.join(sorted(keys))}")
        _require(
            type(entry["size"]) is int and isinstance(entry["sha256"], str) and _SHA256.fullmatch(entry["sha256"]),
            f"the size or the checksum of {name} is malformed",
        )
        if name != INFOS:
            _require(is_storable(entry["dtype"], entry["shape"]), f"the type or the shape of {name} is malformed")
        records[name] = FileRecord(entry["size"], entry["sha256"], entry.get("dtype"), tuple(entry.get("shape", ())))
    return records


def _require(condition: Any, problem: str) -> None:
    if not condition:
        raise EpisodeDataError(problem)
