"""Infos as Minari stores them: one array a key, over all steps of an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from rl_framework.errors import EpisodeDataError

__all__ = ["StackedInfos"]


class StackedInfos(Sequence[Mapping[str, Any]]):
    """The infos of an episode, read when one of them is asked for first.

    Args:
        length: Steps of the episode.
        read: Returns arrays or lists, in dicts that may be nested, each with one entry a step. If there is one more,
            the first is of the reset and left out.
        where: The episode, for an error.
    """

    def __init__(self, length: int, read: Callable[[], Mapping[str, Any]], where: str) -> None:
        self._length = length
        self._read = read
        self._where = where
        self._columns: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Mapping[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | list[Mapping[str, Any]]:
        if isinstance(index, slice):
            return [self[step] for step in range(*index.indices(self._length))]
        if self._columns is None:
            self._columns = self._read()
        return self._row(self._columns, range(self._length)[index], "infos")

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[step] for step in range(self._length))

    def __repr__(self) -> str:
        return f"StackedInfos({self._length})"

    def _row(self, columns: Mapping[str, Any], step: int, name: str) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, column in columns.items():
            if isinstance(column, Mapping):
                row[key] = self._row(column, step, f"{name}[{key!r}]")
                continue
            more = len(column) - self._length
            if more not in (0, 1):
                raise EpisodeDataError(
                    f"{self._where}: {name}[{key!r}] has {len(column)} entries for {self._length} steps"
                )
            value = column[step + more]
            row[key] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return row
