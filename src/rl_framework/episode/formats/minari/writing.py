"""Writing Minari's data sets, with Minari."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.minari.reading import datasets_folder
from rl_framework.errors import ArgumentError, require_extra
from rl_framework.whole_file import temporary_folder

if TYPE_CHECKING:
    from minari import MinariDataset

    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["save_minari"]

_logger = logging.getLogger(__name__)

_NAME = re.compile(r"([-_\w]+/)*[-_\w]+-v\d+")
_NAMESPACE_FILE = "namespace_metadata.json"


def save_minari(
    sequence: EpisodeSequence,
    name: str,
    path: str | os.PathLike[str] | None = None,
    data_format: str = "hdf5",
    environment_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> MinariDataset:
    """Writes a Minari data set. One episode is in memory at a time, and images are stored as they are, not as JPEG.

    Infos are stored where each step of an episode has them and they are numbers, texts, or arrays of one shape; a
    warning in the log names the others. Minari has an info of the reset too, for which the first step's is repeated.

    Args:
        sequence: The episodes, at least one.
        name: Such as `"cartpole/expert-v0"`.
        path: Folder for data sets; None: where Minari keeps them.
        data_format: `"hdf5"` or `"arrow"`.
        environment_id: The gymnasium id of the environment, which lets Minari users make it.
        metadata: More entries for the data set's metadata, such as `{"algorithm_name": "ppo", "author": {"me"}}`.

    Returns:
        Minari's data set.

    Raises:
        ArgumentError: The name is malformed or taken, there is no episode, or the format is unknown.
        MissingExtraError: Minari, or what the format needs, is not installed.
    """
    require_extra("minari", "data sets of Minari", "minari", "PIL", "pyarrow" if data_format == "arrow" else "h5py")
    if not _NAME.fullmatch(name):
        raise ArgumentError("name", name, "is no name of a Minari data set", 'Use one such as "cartpole/expert-v0".')
    if data_format not in ("hdf5", "arrow"):
        raise ArgumentError("data_format", data_format, "is unknown", 'Use "hdf5" or "arrow".')
    if not len(sequence):
        raise ArgumentError("sequence", sequence, "has no episodes")
    root = Path(path) if path is not None else datasets_folder()
    destination = root / name
    if destination.exists():
        raise ArgumentError("name", name, f"is taken: {destination} exists", "Use another name or version.")
    with temporary_folder(destination) as temporary:
        _write(sequence, name, temporary / "data", data_format, environment_id, dict(metadata or {}))
        temporary.rename(destination)
    for namespace in list(Path(name).parents)[:-1]:
        file = root / namespace / _NAMESPACE_FILE
        if not file.exists():
            file.write_text(json.dumps({}))
    from minari import MinariDataset

    return MinariDataset(destination / "data")


def _write(
    sequence: EpisodeSequence,
    name: str,
    folder: Path,
    data_format: str,
    environment_id: str | None,
    metadata: dict[str, Any],
) -> None:
    import gymnasium
    import minari
    from minari.dataset.minari_storage import MinariStorage

    storage = MinariStorage.new(
        folder,
        observation_space=sequence.observation_space,
        action_space=sequence.action_space,
        env_spec=None if environment_id is None else gymnasium.spec(environment_id),
        data_format=data_format,
        jpeg_encoding=False,
    )
    storage.update_metadata({**metadata, "dataset_id": name, "minari_version": minari.__version__})
    left_out: set[str] = set()
    storage.update_episodes(_buffers(sequence, left_out))
    if left_out:
        _logger.warning(
            "%s: Minari cannot store these infos, which were left out: %s", name, ", ".join(sorted(left_out))
        )


def _buffers(sequence: EpisodeSequence, left_out: set[str]) -> Iterator[Any]:
    from minari.data_collector import EpisodeBuffer

    for index, episode in enumerate(sequence):
        last = np.zeros(len(episode), np.bool_)
        last[-1] = True
        yield EpisodeBuffer(
            id=index,
            observations=episode.observations,
            actions=episode.actions,
            rewards=episode.rewards,
            terminations=last & episode.terminated,
            truncations=last & episode.truncated,
            infos=_stacked(episode, left_out) or None,
        )


def _stacked(episode: Episode, left_out: set[str]) -> dict[str, Any]:
    if episode.infos is None:
        return {}
    infos = list(episode.infos)
    return _columns([infos[0], *infos], "", left_out)


def _columns(infos: Sequence[Mapping[str, Any]], name: str, left_out: set[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        values = [info[key] for info in infos if key in info]
        complete = len(values) == len(infos) and isinstance(key, str) and "/" not in key and key not in ("", ".")
        column: Any = None
        if complete and all(isinstance(value, Mapping) for value in values):
            column = _columns(values, f"{name}{key}.", left_out)
        elif complete and all(isinstance(value, str) for value in values):
            column = values
        elif complete:
            column = _numbers(values)
        if column is None:
            left_out.add(f"{name}{key}")
        elif len(column):
            columns[key] = column
    return columns


def _numbers(values: list[Any]) -> Any:
    arrays = [np.asarray(value) for value in values if isinstance(value, bool | int | float | np.generic | np.ndarray)]
    if len(arrays) != len(values) or len({array.shape for array in arrays}) != 1:
        return None
    stacked = np.stack(arrays)
    if stacked.dtype.kind not in "biuf":
        return None
    # Minari's "arrow" cannot read an array of single numbers that it wrote; a list of them it can.
    return list(stacked) if stacked.ndim == 1 else stacked
