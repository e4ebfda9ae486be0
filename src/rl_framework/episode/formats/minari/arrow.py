"""Minari's storage "arrow": one folder an episode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rl_framework.episode.formats.arrow_columns import Column, NumberColumn, TextColumn, read_record_batches
from rl_framework.episode.formats.minari.jpeg import decode_images
from rl_framework.episode.formats.minari.stored_space import is_stored_as_jpeg
from rl_framework.errors import EpisodeDataError, require_extra

__all__ = ["ArrowReader"]


class ArrowReader:
    """Reads episodes from one Arrow file each.

    Args:
        folder: The folder of the data.
        jpeg: Whether images are stored as JPEG.
    """

    def __init__(self, folder: Path, jpeg: bool) -> None:
        require_extra("minari", "data sets of Minari in its storage 'arrow'", "pyarrow")
        self.path = folder
        self._jpeg = jpeg
        self._opened: tuple[int, dict[str, Column]] = (-1, {})

    def count(self) -> int:
        """Returns how many episodes there are."""
        return sum(1 for path in self.path.iterdir() if path.name.isdecimal())

    def signals(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Returns the rewards, terminations and truncations of an episode."""
        columns = self._columns(index)
        # They have a last row that means nothing, so that they are as long as the observations.
        rewards, terminations, truncations = (
            _numbers(columns, name, ())[:-1] for name in ("rewards", "terminations", "truncations")
        )
        return rewards, terminations, truncations

    def observations(self, index: int, space: gymnasium.Space[Any]) -> Any:
        """Returns the observations of an episode: an array, or a dict of arrays."""
        return self._decoded(self._columns(index), "observations", space)

    def actions(self, index: int, space: gymnasium.Space[Any]) -> Any:
        """Returns the actions of an episode."""
        actions = self._decoded(self._columns(index), "actions", space)
        return actions if isinstance(actions, dict) else actions[:-1]

    def has_infos(self, index: int) -> bool:
        """Tells whether an episode has infos."""
        return bool(self._columns(index).get("infos"))

    def infos(self, index: int) -> dict[str, Any] | None:
        """Returns the infos of an episode as arrays over the steps, or None if it has none."""
        infos = self._columns(index).get("infos")
        return _tree(infos) if isinstance(infos, dict) else None

    def _columns(self, index: int) -> dict[str, Column]:
        number, columns = self._opened
        if number == index:
            return columns
        folder = self.path / str(index)
        files = sorted(path for path in folder.glob("*.arrow") if path.name[0] not in "._")
        if len(files) != 1:
            raise EpisodeDataError(f"{folder} has {len(files)} Arrow files, not 1")
        batches = read_record_batches(files[0])
        if len(batches) != 1:
            raise EpisodeDataError(f"{files[0]} has {len(batches)} record batches, not 1")
        self._opened = (index, batches[0])
        return batches[0]

    def _decoded(self, columns: dict[str, Column], name: str, space: gymnasium.Space[Any]) -> Any:
        if isinstance(space, spaces.Dict | spaces.Tuple):
            parts = columns.get(name)
            if not isinstance(parts, dict):
                raise EpisodeDataError(f"{name} is missing, or not in parts")
            children = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
            return {str(key): self._decoded(parts, str(key), part) for key, part in children}
        assert space.shape is not None
        if self._jpeg and is_stored_as_jpeg(space):
            images = columns.get(name)
            if not isinstance(images, TextColumn):
                raise EpisodeDataError(f"{name} holds no images")
            return decode_images((images.text(row) for row in range(images.length)), space.shape, images.where)
        return _numbers(columns, name, space.shape)


def _numbers(columns: dict[str, Column], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    column = columns.get(name)
    if not isinstance(column, NumberColumn):
        raise EpisodeDataError(f"{name} is missing, or holds no numbers")
    rows = column.rows(0, column.length)
    if rows.size != column.length * int(np.prod(shape)):
        raise EpisodeDataError(f"{column.where} has {rows.size} numbers, not {column.length} times {shape}")
    return rows.reshape(column.length, *shape)


def _tree(columns: dict[str, Column]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, dict):
            tree[name] = _tree(column)
        elif isinstance(column, TextColumn):
            tree[name] = [column.text(row) for row in range(column.length)]
        else:
            rows = column.rows(0, column.length)
            # Minari writes arrays flat, one list a step.
            tree[name] = rows.reshape(column.length, -1) if column.levels else rows
    return tree
