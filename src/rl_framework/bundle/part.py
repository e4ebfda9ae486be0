"""A part of a bundle, read as if it were one: for agents that hold other agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl_framework.bundle.format import Bundle

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["BundlePart", "part_members"]


def part_members(part: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Returns members under names that begin with the name of a part."""
    return {f"{part}/{name}": member for name, member in members.items()}


class BundlePart(Bundle):
    """The members of a bundle whose names begin with the name of a part, without that beginning.

    Args:
        whole: The bundle, which stays open as long as its owner keeps it open.
        part: Name of the part.
        kind: What the part is a bundle of.
    """

    def __init__(self, whole: Bundle, part: str, kind: str = "") -> None:
        self.path = whole.path
        self.version = whole.version
        self._whole = whole
        self._part = part
        self._kind = kind or whole.kind

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the whole bundle."""
        return self._whole.manifest

    @property
    def kind(self) -> str:
        """Name in the registry `agents` of the class that the part belongs to."""
        return self._kind

    @property
    def information(self) -> dict[str, Any]:
        """What the writer of the whole bundle told about itself."""
        return self._whole.information

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members of this part."""
        beginning = f"{self._part}/"
        return tuple(name.removeprefix(beginning) for name in self._whole.names if name.startswith(beginning))

    def __contains__(self, name: object) -> bool:
        return f"{self._part}/{name}" in self._whole

    def json(self, name: str) -> Any:
        """Returns the value of a `.json` member; see `Bundle.json`."""
        return self._whole.json(f"{self._part}/{name}")

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Returns the tensors of a `.safetensors` member; see `Bundle.tensors`."""
        return self._whole.tensors(f"{self._part}/{name}")

    def arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the arrays of an `.npz` member; see `Bundle.arrays`."""
        return self._whole.arrays(f"{self._part}/{name}")

    def close(self) -> None:
        """Leaves the whole bundle open, which is its owner's."""

    def __repr__(self) -> str:
        return f"BundlePart({self._whole!r}, {self._part!r})"
