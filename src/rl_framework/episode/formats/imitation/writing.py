"""Episodes as trajectories of the imitation library, in memory and on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.converted import ConvertedEpisodes
from rl_framework.episode.formats.imitation.arrow import STATE_FILE, TRUNCATED
from rl_framework.errors import ArgumentError, UnsupportedSpaceError, require_extra
from rl_framework.whole_file import temporary_folder

if TYPE_CHECKING:
    from imitation.data.types import Trajectory

    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["to_imitation_episodes", "write_imitation_dataset"]

_DATA_FILE = "data-00000-of-00001.arrow"
# A record batch is what is in memory while writing. Its lists are counted in 32 bits.
_BATCH_BYTES = 1 << 26
_BATCH_EPISODES = 1_000


def to_imitation_episodes(sequence: EpisodeSequence) -> Sequence[Trajectory]:
    """Returns each episode as a trajectory of the imitation library, made when it is asked for.

    With rewards it is a `TrajectoryWithRew`, without a plain `Trajectory`; dict observations are a `DictObs`. Its
    `terminal` says whether the episode ended, by a terminal state or a limit; what a limit ended has
    `TimeLimit.truncated` in its last info.

    Args:
        sequence: The episodes.

    Raises:
        MissingExtraError: imitation is not installed.
        UnsupportedSpaceError: The observations are dicts of dicts, which the library does not know.
    """
    require_extra("imitation", "episodes in the form of the imitation library", "imitation")
    if any(isinstance(part, spaces.Dict) for part in getattr(sequence.observation_space, "spaces", {}).values()):
        raise UnsupportedSpaceError(
            "observation_space", sequence.observation_space, "the imitation library knows no dict within a dict"
        )
    return ConvertedEpisodes(sequence, _trajectory)


def write_imitation_dataset(sequence: EpisodeSequence, path: str | os.PathLike[str]) -> None:
    """Writes a folder that `imitation.data.serialize.load` opens. Not all episodes are in memory at once.

    The format does not hold the spaces, and the library reads floats in double precision, whatever they were.

    Args:
        sequence: The episodes, at least one.
        path: Folder to make. It appears under its name when all of it is on the disk.

    Raises:
        ArgumentError: There is something at the path, there is no episode, or the rewards of only some are known.
        UnsupportedSpaceError: Observations are dicts, which the library cannot store.
        MissingExtraError: pyarrow or jsonpickle is not installed.
    """
    require_extra("imitation", "data sets of the imitation library", "pyarrow", "jsonpickle")
    if isinstance(sequence.observation_space, spaces.Dict):
        raise UnsupportedSpaceError(
            "observation_space",
            sequence.observation_space,
            "the imitation library cannot store dict observations (its DictObs)",
            "Use `save`, whose format can.",
        )
    if not len(sequence):
        raise ArgumentError("sequence", sequence, "has no episodes")
    known = ~np.isnan(sequence.returns)
    if known.any() and not known.all():
        raise ArgumentError(
            "sequence",
            sequence,
            f"the rewards of {int((~known).sum())} of {len(sequence)} episodes are not known, and the imitation "
            "library stores those of all or none",
            "Take the ones whose returns are not NaN.",
        )
    with _whole_folder(Path(path)) as folder:
        _write_arrow(folder / _DATA_FILE, sequence, bool(known.all()))
        state: dict[str, Any] = {
            "_data_files": [{"filename": _DATA_FILE}],
            "_fingerprint": "0" * 16,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (folder / "dataset_info.json").write_text(json.dumps({"features": None}))
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2))


def _trajectory(episode: Episode) -> Trajectory:
    from imitation.data.types import DictObs, Trajectory, TrajectoryWithRew

    infos = _infos(episode)
    parts: dict[str, Any] = {
        "obs": DictObs(episode.observations) if isinstance(episode.observations, dict) else episode.observations,
        "acts": episode.actions,
        "infos": None if infos is None else np.array(infos, dtype=object),
        "terminal": episode.terminated or episode.truncated,
    }
    if np.isnan(episode.rewards).all():
        return Trajectory(**parts)
    return TrajectoryWithRew(**parts, rews=episode.rewards)


def _infos(episode: Episode) -> list[dict[str, Any]] | None:
    cut = episode.truncated and not episode.terminated
    if episode.infos is None and not cut:
        return None
    infos = [{} for _ in range(len(episode))] if episode.infos is None else [dict(info) for info in episode.infos]
    if cut:
        infos[-1][TRUNCATED] = True
    elif infos[-1].get(TRUNCATED) is True:
        infos[-1][TRUNCATED] = False
    return infos


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    if path.exists():
        raise ArgumentError("path", str(path), "exists already", "Name a new folder, or remove it first.")
    with temporary_folder(path) as temporary:
        yield temporary
        temporary.rename(path)


def _write_arrow(path: Path, sequence: EpisodeSequence, with_rewards: bool) -> None:
    import pyarrow as pa

    with path.open("wb") as file:
        writer = None
        for episodes in _batches(sequence):
            batch = _record_batch(episodes, with_rewards)
            if writer is None:
                writer = pa.ipc.new_stream(file, batch.schema)
            writer.write_batch(batch)
        if writer is not None:
            writer.close()
        file.flush()
        os.fsync(file.fileno())


def _batches(sequence: EpisodeSequence) -> Iterator[list[Episode]]:
    batch: list[Episode] = []
    size = 0
    for episode in sequence:
        batch.append(episode)
        size += getattr(episode.observations, "nbytes", 0)
        if size >= _BATCH_BYTES or len(batch) == _BATCH_EPISODES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _record_batch(episodes: list[Episode], with_rewards: bool) -> Any:
    import jsonpickle  # type: ignore[import-untyped]
    import pyarrow as pa

    # `jsonpickle.encode` warns of a default that it will change; this is what it does today, in one format for all.
    pickler = jsonpickle.Pickler(keys=False)
    texts = []
    for episode in episodes:
        infos = _infos(episode) or [{}] * len(episode)
        texts.append([json.dumps(pickler.flatten(info, reset=True)) if info else "{}" for info in infos])
    columns = {
        "obs": _lists([episode.observations for episode in episodes]),
        "acts": _lists([episode.actions for episode in episodes]),
        "infos": pa.array(texts, pa.list_(pa.string())),
        "terminal": pa.array([episode.terminated or episode.truncated for episode in episodes], pa.bool_()),
    }
    if with_rewards:
        columns["rews"] = _lists([episode.rewards for episode in episodes])
    return pa.RecordBatch.from_pydict(columns)


def _lists(arrays: Sequence[Any]) -> Any:
    import pyarrow as pa

    rows: NDArray[Any] = np.ascontiguousarray(np.concatenate(arrays))
    nested = pa.array(rows.reshape(-1))
    for axis in range(rows.ndim - 1, 0, -1):
        count = math.prod(rows.shape[:axis])
        nested = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * rows.shape[axis]), nested)
    bounds = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), nested)
