"""What can be said about a Unity player, checked before one is started."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["UnityOptions", "make_options"]

_HYBRID_ACTIONS = ("dict", "scores", "bins")
_VISUAL_OBSERVATIONS = ("uint8", "float")
_GROUP_REWARDS = ("add", "info")


@dataclass(frozen=True)
class UnityOptions:
    """Options of a `UnityEnvironmentAdapter`, where they are described."""

    file_name: str | os.PathLike[str] | None = None
    behavior_name: str | None = None
    max_agents: int | Mapping[str, int] | None = None
    time_scale: float | None = 20.0
    no_graphics: bool = False
    environment_parameters: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    hybrid_actions: str = "dict"
    n_bins: int = 5
    visual_observations: str = "uint8"
    group_rewards: str = "add"
    seed: int | None = None
    base_port: int | None = None
    worker_id: int | None = None
    host: str = "localhost"
    timeout: float = 60.0
    max_restarts: int = 10
    num_areas: int = 1
    side_channels: Sequence[Any] = ()
    additional_arguments: Sequence[str] = ()
    log_folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Checks the values that can be checked without a player.

        Raises:
            ArgumentError: One of them cannot be used.
        """
        _check_choice("hybrid_actions", self.hybrid_actions, _HYBRID_ACTIONS)
        _check_choice("visual_observations", self.visual_observations, _VISUAL_OBSERVATIONS)
        _check_choice("group_rewards", self.group_rewards, _GROUP_REWARDS)
        for name, least in (("n_bins", 2), ("max_restarts", 0), ("num_areas", 1)):
            _check_whole(name, getattr(self, name), least)
        for name in ("seed", "base_port", "worker_id"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), 0)
        counts = self.max_agents.values() if isinstance(self.max_agents, Mapping) else [self.max_agents]
        for count in counts:
            if count is not None:
                _check_whole("max_agents", count, 1)
        for name in ("time_scale", "timeout"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not (is_number and value > 0) and (value is not None or name == "timeout"):
                raise ArgumentError(name, value, "must be a number larger than 0")
        for name in ("environment_parameters", "engine"):
            if not isinstance(getattr(self, name), Mapping):
                raise ArgumentError(name, getattr(self, name), "must be a mapping of names to values")
        if not isinstance(self.file_name, str | os.PathLike | None):
            raise ArgumentError("file_name", self.file_name, "must be a path, or None for the Editor")
        if isinstance(self.additional_arguments, str):
            raise ArgumentError(
                "additional_arguments",
                self.additional_arguments,
                "must be a list of strings",
                "Split it at its spaces.",
            )
        if self.file_name is None and self.worker_id:
            raise ArgumentError(
                "worker_id", self.worker_id, "the Editor is always worker 0", "Give base_port to choose another port."
            )

    @property
    def is_editor(self) -> bool:
        """Whether the player is the Unity Editor, which the user starts with its Play button."""
        return self.file_name is None

    @property
    def described(self) -> str:
        """What the player is, for messages."""
        return "the Unity Editor" if self.file_name is None else f"the Unity player {Path(self.file_name).name}"


def make_options(options: Mapping[str, Any]) -> UnityOptions:
    """Returns the options.

    Raises:
        UnknownNameError: There is no option of that name.
        ArgumentError: One of the values cannot be used.
    """
    known = [each.name for each in fields(UnityOptions)]
    for name in options:
        if name not in known:
            raise UnknownNameError("environment_kwargs", name, known)
    return UnityOptions(**options)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(name, value, f"must be one of {', '.join(map(repr, choices))}")


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(name, value, f"must be an integer of at least {least}")
