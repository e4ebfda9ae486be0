"""What an overlay can show: named parts of a moment of an episode."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError

__all__ = ["Component", "Moment", "numbers_in"]

_ROOTS = ("episode", "step", "reward", "return", "action", "value", "observation", "info")
_LABELLED = re.compile(r"""(?P<label>[^='"]+)=(?P<name>.+)""")
_PART = re.compile(r"""\.(?P<name>[A-Za-z_]\w*)|\[(?P<index>-?\d+)\]|\[(?P<quote>['"])(?P<key>[^'"]+)(?P=quote)\]""")


@dataclass(slots=True)
class Moment:
    """What is known when a frame is drawn.

    Attributes:
        episode: Which episode of this environment, from 1.
        step: Steps since the episode began.
        reward: What the last step brought; None at the beginning of an episode.
        episode_return: Undiscounted sum of the rewards so far.
        action: What led here; None at the beginning of an episode.
        value: The agent's estimate of what is to come, or None.
        observation: What the agent sees.
        info: What the environment says besides.
        previous_return: Return of the episode before, or None.
    """

    episode: int
    step: int
    reward: float | None
    episode_return: float
    action: Any
    value: float | None
    observation: Any
    info: Mapping[str, Any]
    previous_return: float | None = None


class Component:
    """A named part of a `Moment`.

    Args:
        name: "episode", "step", "reward", "return", "action", "value", "observation" or "info", and, of the last four,
            any part of it: "observation[2]", "observation['camera'][0]", "info.x_position", "info['x_position']". With
            a label of one's own before it: "hull angle=observation[0]".
        argument: What to call it in errors.

    Attributes:
        name: The name without the label.
        label: What to call it for people.

    Raises:
        ArgumentError: It is no such name.
    """

    def __init__(self, name: str, argument: str = "overlay") -> None:
        labelled = _LABELLED.fullmatch(name) if isinstance(name, str) else None
        self.label = name if labelled is None else labelled["label"].strip()
        name = name if labelled is None else labelled["name"].strip()
        self.name = name
        root = re.match(r"\w*", name)
        self.root = root.group() if root is not None and isinstance(name, str) else ""
        self.path: list[str | int] = []
        position = len(self.root)
        while position < len(name) and (part := _PART.match(name, position)) is not None:
            index = part["index"]
            self.path.append(part["name"] or part["key"] if index is None else int(index))
            position = part.end()
        whole = position == len(name)
        may_have_parts = self.root in ("action", "observation", "info")
        if self.root not in _ROOTS or not whole or (self.path and not may_have_parts) or name == "info":
            raise ArgumentError(
                argument,
                name,
                "is nothing that can be shown",
                f'Known: {", ".join(_ROOTS[:-1])}, and parts such as "observation[2]", "observation[\'camera\'][0]", '
                '"action[0]", "info.x_position" and "info[\'x_position\']".',
            )

    def read(self, moment: Moment) -> Any:
        """Returns the part, or None if it is not there now."""
        if self.root == "return":
            return moment.episode_return
        value = getattr(moment, self.root)
        for step in self.path:
            if value is None:
                return None
            value = _part_of(value, step)
        return value

    def check_observation(self, observation: Any) -> None:
        """Checks that an observation has the part, which is always there or never.

        Raises:
            ArgumentError: It has not.
        """
        if self.root != "observation":
            return
        value = observation
        for step in self.path:
            value = _part_of(value, step)
            if value is None:
                raise ArgumentError("overlay", self.name, f"an observation has no such part: {_form(observation)}")


def _part_of(value: Any, step: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(step, int) and isinstance(value, np.ndarray | Sequence) and not isinstance(value, str):
        size = len(value) if np.ndim(value) or not isinstance(value, np.ndarray) else 0
        return value[step] if -size <= step < size else None
    return None


def _form(observation: Any) -> str:
    if isinstance(observation, Mapping):
        return f"it has the keys {', '.join(map(repr, observation))}"
    return f"it has the shape {np.shape(observation)}"


def numbers_in(value: Any, most: int) -> list[float]:
    """Returns the numbers in a value, at most so many, for a line that moves; none if it has no numbers."""
    try:
        flat = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return []
    return [float(number) for number in flat[:most]]
