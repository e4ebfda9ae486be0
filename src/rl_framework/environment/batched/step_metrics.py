"""Numbers that environments tell at every step, gathered over episodes.

An environment that puts `info["step_metric_<name>"] = number` into the info of a step (of any or of every step) has
three metrics at the end of each episode: `episode/<name>`, the mean over the steps that told it, `episode/<name>_sum`
and `episode/<name>_last`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.errors import ArgumentError

__all__ = ["EPISODE_METRICS_KEY", "StepMetrics", "numbers_of"]

EPISODE_METRICS_KEY = "episode_metrics"
"""Entry of the last info of an episode that has the gathered numbers by name."""

_PREFIX = "step_metric_"
_MOST_NAMES = 1_000
_NUMBERS = (int, float, np.number, np.bool_)


class StepMetrics:
    """Gathers the step metrics of the open episode of every slot.

    Args:
        num_slots: How many slots there are.
    """

    def __init__(self, num_slots: int) -> None:
        # For each slot, by name: count, sum, last.
        self._open: list[dict[str, list[float]]] = [{} for _ in range(num_slots)]
        # Names without prefix of the keys that were met; None for what is no step metric. To look a key up is all that
        # most steps cost.
        self._names: dict[Any, str | None] = {}

    def add(self, infos: Sequence[Mapping[str, Any]], acted: NDArray[np.bool_] | None = None) -> None:
        """Takes the infos of one step.

        Args:
            infos: One a slot.
            acted: Which of them belong to a transition; None: all.

        Raises:
            ArgumentError: A step metric is no number.
        """
        names = self._names
        for slot, info in enumerate(infos):
            if info and (acted is None or acted[slot]):
                for key in info:
                    name = names[key] if key in names else self._learn_name(key)
                    if name is not None:
                        self._add(slot, name, _number(key, info[key]))

    def _learn_name(self, key: Any) -> str | None:
        name = key[len(_PREFIX) :] if type(key) is str and key.startswith(_PREFIX) else None
        if len(self._names) < _MOST_NAMES:  # some environments make keys of numbers that grow
            self._names[key] = name
        return name

    def _add(self, slot: int, name: str, value: float) -> None:
        gathered = self._open[slot].get(name)
        if gathered is None:
            self._open[slot][name] = [1.0, value, value]
        else:
            gathered[0] += 1.0
            gathered[1] += value
            gathered[2] = value

    def finish(self, slot: int) -> dict[str, float]:
        """Returns the metrics of an episode that ended, by name without "episode/", and begins the next one."""
        gathered = self._open[slot]
        if not gathered:
            return {}
        self._open[slot] = {}
        metrics: dict[str, float] = {}
        for name, (count, total, last) in gathered.items():
            metrics[name] = total / count
            metrics[f"{name}_sum"] = total
            metrics[f"{name}_last"] = last
        return metrics

    def clear(self, slots: Iterable[int] | None = None) -> None:
        """Forgets the open episodes of some slots, or of all."""
        for slot in range(len(self._open)) if slots is None else slots:
            self._open[slot] = {}

    def replay(self, slot: int, told: Sequence[Mapping[str, float]]) -> None:
        """Goes to where the open episode of a slot is, from what each of its steps told; see `numbers_of`."""
        self._open[slot] = {}
        for step in told:
            for name, value in step.items():
                self._add(slot, name, value)


def numbers_of(info: Mapping[str, Any]) -> dict[str, float]:
    """Returns the step metrics in an info, by name."""
    return {
        key[len(_PREFIX) :]: _number(key, value)
        for key, value in info.items()
        if type(key) is str and key.startswith(_PREFIX)
    }


def _number(key: str, value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, _NUMBERS):
        return float(value)
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.item())
    raise ArgumentError(
        f"info[{key!r}]", value, "a step metric must be a number", "Put anything else under another key."
    )
