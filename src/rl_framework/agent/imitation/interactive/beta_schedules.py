"""How often DAgger follows the expert, as data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["build_beta_schedule", "describe_beta_schedule"]

_ARGUMENT = "algorithm_parameters['beta_schedule']"
_SCHEDULES: dict[str, tuple[str, str, Any]] = {
    "linear": ("LinearBetaSchedule", "rampdown_rounds", 15),
    "exponential": ("ExponentialBetaSchedule", "decay_probability", None),
}
"""For each name the library's class, its argument, and the library's default."""


def describe_beta_schedule(schedule: Any) -> dict[str, Any]:
    """Returns a schedule as data: `{"type": "linear", "rampdown_rounds": 15}`.

    Args:
        schedule: Such data, the name alone, a schedule of the library, or None for the library's default.

    Raises:
        UnknownNameError: No schedule or argument has that name.
        ArgumentError: A value cannot be used.
    """
    if schedule is None or isinstance(schedule, str):
        schedule = {"type": schedule or "linear"}
    for name, (kind, argument, _) in _SCHEDULES.items():
        if type(schedule).__name__ == kind:
            schedule = {"type": name, argument: getattr(schedule, argument)}
    if not isinstance(schedule, dict):
        remedy = 'Describe it: {"type": "linear", "rampdown_rounds": 15} or {"type": "exponential", ...}.'
        raise ArgumentError(_ARGUMENT, schedule, "is no schedule that a saved agent could tell", remedy)
    chosen = str(schedule.get("type"))
    if chosen not in _SCHEDULES:
        raise UnknownNameError(f"{_ARGUMENT}['type']", chosen, _SCHEDULES)
    _, argument, default = _SCHEDULES[chosen]
    for given in schedule:
        if given not in ("type", argument):
            raise UnknownNameError(_ARGUMENT, given, ["type", argument])
    value = schedule.get(argument, default)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    if not number or (chosen == "exponential" and value > 1):
        allowed = "a number above 0 and at most 1" if chosen == "exponential" else "a number above 0"
        raise ArgumentError(f"{_ARGUMENT}[{argument!r}]", value, f"must be {allowed}")
    return {"type": chosen, argument: value}


def build_beta_schedule(described: dict[str, Any]) -> Callable[[int], float]:
    """Makes the library's schedule of what `describe_beta_schedule` returned."""
    from imitation.algorithms import dagger

    kind, argument, _ = _SCHEDULES[described["type"]]
    schedule: Callable[[int], float] = getattr(dagger, kind)(described[argument])
    return schedule
