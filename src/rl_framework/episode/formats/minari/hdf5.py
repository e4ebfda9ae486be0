"""Minari's storage "hdf5", which is its default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.formats.minari.jpeg import decode_images
from rl_framework.episode.formats.minari.stored_space import is_stored_as_jpeg
from rl_framework.errors import EpisodeDataError, require_extra

__all__ = ["Hdf5Reader"]

_FILE = "main_data.hdf5"
# Space that was declared and never written costs a file nothing, and compression shrinks zeros a thousandfold.
_HONEST_RATIO = 200
_HONEST_BYTES = 1 << 30


class Hdf5Reader:
    """Reads episodes from `main_data.hdf5`.

    HDF5 can point to other files. Such links are refused, as is what is not numbers where numbers should be.

    Args:
        folder: The folder of the data.
        jpeg: Whether images are stored as JPEG.
    """

    def __init__(self, folder: Path, jpeg: bool) -> None:
        require_extra("minari", "data sets of Minari", "h5py")
        self.path = folder / _FILE
        self._jpeg = jpeg
        self._file: Any = None
        self._process = -1

    def count(self) -> int:
        """Returns how many episodes the file holds."""
        return len(self._open())

    def signals(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Returns the rewards, terminations and truncations of an episode."""
        group = self._episode(index)
        rewards, terminations, truncations = (
            self._numbers(group, name) for name in ("rewards", "terminations", "truncations")
        )
        return rewards, terminations, truncations

    def observations(self, index: int, space: gymnasium.Space[Any]) -> Any:
        """Returns the observations of an episode: an array, or a dict of arrays."""
        return self._decoded(self._episode(index), "observations", space)

    def actions(self, index: int, space: gymnasium.Space[Any]) -> Any:
        """Returns the actions of an episode."""
        return self._decoded(self._episode(index), "actions", space)

    def has_infos(self, index: int) -> bool:
        """Tells whether an episode has infos, without reading them."""
        group = self._episode(index)
        return "infos" in group and len(self._child(group, "infos")) > 0

    def infos(self, index: int) -> dict[str, Any] | None:
        """Returns the infos of an episode as arrays over the steps, or None if it has none."""
        group = self._episode(index)
        if "infos" not in group:
            return None
        return self._tree(self._child(group, "infos"))

    def _open(self) -> Any:
        # A file that was opened before a fork cannot be read in both processes.
        if self._file is None or self._process != os.getpid():
            import h5py

            self._file = h5py.File(self.path, "r")
            self._process = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _episode(self, index: int) -> Any:
        return self._child(self._open(), f"episode_{index}")

    def _child(self, group: Any, name: str) -> Any:
        import h5py

        where = f"{group.name.rstrip('/')}/{name}"
        if not isinstance(group, h5py.Group) or name not in group:
            raise EpisodeDataError(f"{where} is missing")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise EpisodeDataError(f"{where} is a link, possibly to another file")
        child = group[name]
        if isinstance(child, h5py.Dataset):
            if child.is_virtual or child.external:
                raise EpisodeDataError(f"{where} lies in another file")
            if child.nbytes > max(_HONEST_BYTES, _HONEST_RATIO * child.id.get_storage_size()):
                raise EpisodeDataError(f"{where} would unpack to {child.nbytes} bytes, too many for what is stored")
        return child

    def _numbers(self, group: Any, name: str) -> NDArray[Any]:
        import h5py

        child = self._child(group, name)
        if not isinstance(child, h5py.Dataset) or child.dtype.kind not in "biuf" or not child.shape:
            raise EpisodeDataError(f"{child.name} is no array of numbers")
        return np.asarray(child[()])

    def _decoded(self, group: Any, name: str, space: gymnasium.Space[Any]) -> Any:
        if isinstance(space, spaces.Dict):
            child = self._child(group, name)
            return {key: self._decoded(child, key, part) for key, part in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            child = self._child(group, name)
            return {str(i): self._decoded(child, f"_index_{i}", part) for i, part in enumerate(space.spaces)}
        if self._jpeg and is_stored_as_jpeg(space):
            child = self._child(group, name)
            assert space.shape is not None
            return decode_images((np.asarray(row, np.uint8).tobytes() for row in child[()]), space.shape, child.name)
        return self._numbers(group, name)

    def _tree(self, group: Any) -> dict[str, Any]:
        import h5py

        tree: dict[str, Any] = {}
        for name in group:
            child = self._child(group, name)
            if isinstance(child, h5py.Group):
                tree[name] = self._tree(child)
            elif child.shape:
                tree[name] = child[()]
        return tree
