"""Episodes in the form of another library, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from rl_framework.episode.episode import Episode
    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["ConvertedEpisodes"]

T = TypeVar("T")


class ConvertedEpisodes(Sequence[T], Generic[T]):
    """A lazy sequence over episodes in another form. It holds one at a time, and slices are as lazy.

    Args:
        sequence: The episodes.
        convert: Makes the other form of one.
    """

    def __init__(self, sequence: EpisodeSequence, convert: Callable[[Episode], T]) -> None:
        self._sequence = sequence
        self._convert = convert

    def __len__(self) -> int:
        return len(self._sequence)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> ConvertedEpisodes[T]: ...

    def __getitem__(self, index: int | slice) -> T | ConvertedEpisodes[T]:
        if isinstance(index, slice):
            return ConvertedEpisodes(self._sequence[index], self._convert)
        return self._convert(self._sequence[index])

    def __iter__(self) -> Iterator[T]:
        return (self._convert(episode) for episode in self._sequence)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._sequence!r})"
