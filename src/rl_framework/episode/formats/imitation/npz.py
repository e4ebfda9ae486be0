"""Trajectories as `imitation.data.serialize.save` wrote them up to version 0.3: one `.npz` file, read into memory."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rl_framework.episode.formats.imitation.arrow import TRUNCATED
from rl_framework.episode.formats.in_parts import spaces_of
from rl_framework.episode.storage import ColumnStorage, TransitionArrays
from rl_framework.errors import EpisodeDataError

__all__ = ["NpzTrajectories", "read_npz"]

_logger = logging.getLogger(__name__)

# A small file can unpack to a thousand times its size. What is honest seldom does, and then only to little.
_HONEST_RATIO = 200
_HONEST_BYTES = 1 << 30
_MAXIMUM_HEADER = 10_000
_NEEDED = ("obs", "acts", "terminal", "indices")


class NpzTrajectories(ColumnStorage):
    """Trajectories of an old `.npz` file, in memory."""

    format = "imitation.npz"


def read_npz(
    path: Path,
    trust: bool = False,
    observation_space: gymnasium.Space[Any] | None = None,
    action_space: gymnasium.Space[Any] | None = None,
) -> NpzTrajectories:
    """Reads an `.npz` file of trajectories.

    Its infos are always pickled, even if they are empty. Without `trust` they are left out, which a warning in the log
    says: then an episode that a limit of time ended looks like one that terminated.

    Args:
        path: The file.
        trust: Whether to unpickle the infos. A pickle can run any code: only for files whose origin you trust.
        observation_space: Space of one observation; None: guessed, because the format does not hold it.
        action_space: The same for actions.

    Raises:
        EpisodeDataError: The file is damaged, incomplete, empty, or holds something else; the message says where.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            missing = [name for name in _NEEDED if name not in names]
            if missing:
                raise EpisodeDataError(f"{path}: has no {', '.join(missing)}, so imitation did not write it")
            wanted = [*_NEEDED, *(["rews"] if "rews" in names else [])]
            parts = {name: _read_member(archive, path, names[name]) for name in wanted}
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise EpisodeDataError(f"{path}: is no .npz file, or damaged: {error}") from error
    lengths = _lengths(path, parts)
    infos = None
    if "infos" in names:
        if trust:
            infos = _unpickled_infos(path, lengths)
        else:
            _logger.warning(
                "%s: its infos are pickled and were left out, so episodes that a limit of time ended count as "
                "terminated. If you trust its origin, read it with trust=True",
                path,
            )
    rewards = parts.get("rews", np.full(len(parts["acts"]), np.nan, np.float32))
    arrays = TransitionArrays(
        parts["obs"], parts["acts"], rewards if rewards.dtype.kind == "f" else rewards.astype(np.float64)
    )
    spaces = spaces_of(str(path), [arrays], observation_space, action_space)
    ended = parts["terminal"].astype(np.bool_)
    cut = np.array([bool(infos and infos[index][-1].get(TRUNCATED) is True) for index in range(len(lengths))])
    return NpzTrajectories(
        arrays,
        lengths,
        ended & ~cut,
        ended & cut,
        *spaces,
        spaces_are_inferred=observation_space is None or action_space is None,
        source=str(path),
        infos=infos,
    )


def _read_member(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    where = f"{path}: {name}"
    entry = archive.getinfo(name)
    if entry.file_size > max(_HONEST_BYTES, _HONEST_RATIO * entry.compress_size):
        raise EpisodeDataError(f"{where} unpacks to {entry.file_size} bytes, too many for {entry.compress_size} packed")
    with archive.open(entry) as file:
        try:
            version = npy.read_magic(file)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read_header(file, max_header_size=_MAXIMUM_HEADER)
        except (ValueError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
            raise EpisodeDataError(f"{where} is no array: {error}") from error
        if dtype.kind not in "biuf":
            raise EpisodeDataError(f"{where} holds {dtype}, not numbers: objects would have to be unpickled")
        sizes = [int(size) for size in shape]
        size = dtype.itemsize
        for length in sizes:
            size *= length
        if size != entry.file_size - file.tell() or min(sizes, default=0) < 0 or not sizes:
            raise EpisodeDataError(f"{where} says it has the shape {shape}, but holds another number of bytes")
        content = bytearray(size)
        if file.readinto(content) != size:  # type: ignore[attr-defined]
            raise EpisodeDataError(f"{where} was cut short")
    flat = np.frombuffer(content, dtype)
    array = flat.reshape(sizes, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype.newbyteorder("="))


def _lengths(path: Path, parts: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    observations, actions, ended, indices = (parts[name] for name in _NEEDED)
    if ended.ndim != 1 or indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise EpisodeDataError(f"{path}: terminal and indices are not what imitation writes")
    if len(ended) == 0 or len(actions) == 0:
        raise EpisodeDataError(f"{path}: holds no episodes")
    if len(ended) != len(indices) + 1:
        raise EpisodeDataError(f"{path}: terminal is of {len(ended)} episodes, indices of {len(indices) + 1}")
    bounds = np.concatenate([[0], indices.astype(np.int64), [len(actions)]])
    lengths = np.diff(bounds)
    if (lengths < 1).any():
        index = int(np.argmax(lengths < 1))
        raise EpisodeDataError(f"{path}: episode {index} has {lengths[index]} steps, by its indices")
    if len(observations) != len(actions) + len(ended):
        raise EpisodeDataError(
            f"{path}: {len(actions)} actions in {len(ended)} episodes need {len(actions) + len(ended)} observations, "
            f"not {len(observations)}"
        )
    rewards = parts.get("rews")
    if rewards is not None and rewards.shape != (len(actions),):
        raise EpisodeDataError(f"{path}: {len(actions)} actions have rewards of the shape {rewards.shape}")
    return cast("NDArray[np.int64]", lengths)


def _unpickled_infos(path: Path, lengths: NDArray[np.int64]) -> list[Sequence[Mapping[str, Any]]]:
    # Reached only if the user said that the file can be trusted.
    with np.load(path, allow_pickle=True) as archive:
        infos = archive["infos"].tolist()
    ends = np.cumsum(lengths).tolist()
    if not isinstance(infos, list) or len(infos) != ends[-1] or not all(isinstance(info, Mapping) for info in infos):
        raise EpisodeDataError(f"{path}: infos is not one mapping for each of the {ends[-1]} actions")
    return [infos[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]
