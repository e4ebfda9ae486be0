"""Checks of the sizes of layers."""

from __future__ import annotations

from collections.abc import Sequence

from rl_framework.errors import ArgumentError

__all__ = ["check_size", "check_sizes"]


def check_sizes(argument: str, sizes: Sequence[int]) -> list[int]:
    """Returns the sizes of layers as a list.

    Raises:
        ArgumentError: They are not whole numbers above 0.
    """
    if not isinstance(sizes, list | tuple) or not all(_is_size(size) for size in sizes):
        raise ArgumentError(argument, sizes, "has to be a list of whole numbers above 0, such as [64, 64]")
    return list(sizes)


def check_size(argument: str, size: int) -> int:
    """Returns the size of a layer.

    Raises:
        ArgumentError: It is not a whole number above 0.
    """
    if not _is_size(size):
        raise ArgumentError(argument, size, "has to be a whole number above 0")
    return size


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
