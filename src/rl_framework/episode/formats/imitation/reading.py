"""Reading the imitation library's data sets, of any version, without its reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium

from rl_framework.episode.formats.imitation.arrow import STATE_FILE, read_folder
from rl_framework.episode.formats.imitation.npz import read_npz
from rl_framework.episode.storage import EpisodeStorage
from rl_framework.errors import EpisodeDataError, require_extra

__all__ = ["read_imitation_dataset"]

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"


def read_imitation_dataset(
    path: str | os.PathLike[str],
    trust: bool = False,
    observation_space: gymnasium.Space[Any] | None = None,
    action_space: gymnasium.Space[Any] | None = None,
) -> EpisodeStorage:
    """Opens what `imitation.data.serialize.save` wrote, of any version of the library.

    | version | on disk | read |
    |---|---|---|
    | 0.4 and later | folder with Arrow files | memory-mapped, not copied; see `infos` for its infos |
    | up to 0.3 | `.npz` file | into memory; its infos, which are pickled, only with `trust` |
    | first ones | pickle | only with `trust`, by the library itself |

    The library's `terminal` does not tell a limit of time from a terminal state: an episode whose last info has
    `TimeLimit.truncated` is truncated, another one with `terminal` is terminated.

    Args:
        path: Folder or file.
        trust: Whether to unpickle what is pickled. A pickle can run any code: only for files whose origin you trust.
        observation_space: Space of one observation; None: guessed, because the formats do not hold it.
        action_space: The same for actions.

    Raises:
        EpisodeDataError: The data is damaged, empty, or would have to be unpickled; the message says where.
        MissingExtraError: pyarrow, or imitation for pickles, is not installed.
    """
    location = Path(path)
    if location.is_dir():
        return read_folder(location, observation_space, action_space)
    if not location.is_file():
        raise EpisodeDataError(f"{location}: does not exist")
    with location.open("rb") as file:
        magic = file.read(len(_ZIP_MAGIC))
    if magic == _ZIP_MAGIC:
        return read_npz(location, trust, observation_space, action_space)
    if not magic.startswith(_PICKLE_MAGIC):
        raise EpisodeDataError(
            f"{location}: is no data set of the imitation library, which is a folder with {STATE_FILE}, or an .npz file"
        )
    if not trust:
        raise EpisodeDataError(
            f"{location}: is a pickle, and a pickle can run any code when it is read. If you trust its origin, read it "
            "with trust=True and save it in another format"
        )
    return _unpickled(location, observation_space, action_space)


def _unpickled(path: Path, observation_space: Any, action_space: Any) -> EpisodeStorage:
    # Reached only if the user said that the file can be trusted.
    require_extra("imitation", "pickled data sets of the imitation library", "imitation")
    from imitation.data import serialize

    from rl_framework.episode.storage import in_memory

    trajectories = serialize.load(path)
    return in_memory(trajectories, observation_space, action_space)
