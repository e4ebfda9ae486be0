"""Schedules as data: a learning rate or clip range that changes while training goes on.

A schedule is a function of the progress that remains, which falls from 1 at the start to 0 at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_framework import registry
from rl_framework.errors import ArgumentError

__all__ = ["ConstantSchedule", "CosineSchedule", "ExponentialSchedule", "LinearSchedule", "StepSchedule", "to_schedule"]


@dataclass(frozen=True)
class ConstantSchedule:
    """`{"type": "constant", "value": v}`: always the same."""

    value: float

    def __post_init__(self) -> None:
        _check_numbers(self, self.value)

    def __call__(self, progress_remaining: float) -> float:
        """Returns the value."""
        return float(self.value)


@dataclass(frozen=True)
class LinearSchedule:
    """`{"type": "linear", "start": a, "end": b, "end_fraction": 1.0}`: a straight line from a to b.

    Attributes:
        start: Value at the beginning.
        end: Value from `end_fraction` of the training on.
        end_fraction: Part of the training after which `end` is reached, in (0, 1].
    """

    start: float
    end: float = 0.0
    end_fraction: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers(self, self.start, self.end, self.end_fraction)
        if not 0 < self.end_fraction <= 1:
            raise ArgumentError("end_fraction", self.end_fraction, "must be above 0 and at most 1")

    def __call__(self, progress_remaining: float) -> float:
        """Returns the value at this point of the training."""
        passed = 1.0 - progress_remaining
        if passed > self.end_fraction:
            return float(self.end)
        return float(self.start + passed * (self.end - self.start) / self.end_fraction)


@dataclass(frozen=True)
class ExponentialSchedule:
    """`{"type": "exponential", "start": a, "end": b}`: the same factor every step, from a to b; both above 0."""

    start: float
    end: float

    def __post_init__(self) -> None:
        _check_numbers(self, self.start, self.end)
        if self.start <= 0 or self.end <= 0:
            raise ArgumentError("schedule", self, "start and end of an exponential schedule must be above 0")

    def __call__(self, progress_remaining: float) -> float:
        """Returns the value at this point of the training."""
        return float(self.start * (self.end / self.start) ** (1.0 - progress_remaining))


@dataclass(frozen=True)
class CosineSchedule:
    """`{"type": "cosine", "start": a, "end": b}`: half a cosine from a to b (Loshchilov and Hutter 2017)."""

    start: float
    end: float = 0.0

    def __post_init__(self) -> None:
        _check_numbers(self, self.start, self.end)

    def __call__(self, progress_remaining: float) -> float:
        """Returns the value at this point of the training."""
        share = 0.5 * (1.0 + math.cos(math.pi * (1.0 - progress_remaining)))
        return float(self.end + share * (self.start - self.end))


@dataclass(frozen=True)
class StepSchedule:
    """`{"type": "step", "values": [a, b, c], "at": [0.5, 0.8]}`: a until half the training is over, then b, then c."""

    values: Sequence[float]
    at: Sequence[float]

    def __post_init__(self) -> None:
        _check_numbers(self, *self.values, *self.at)
        if len(self.values) != len(self.at) + 1 or list(self.at) != sorted(self.at):
            raise ArgumentError("schedule", self, "a step schedule has one value more than rising points in `at`")

    def __call__(self, progress_remaining: float) -> float:
        """Returns the value at this point of the training."""
        passed = 1.0 - progress_remaining
        return float(self.values[sum(point <= passed for point in self.at)])


def _check_numbers(schedule: object, *numbers: object) -> None:
    # A schedule is asked for its values one after the other, and a mistake in the last must not wait until then.
    for number in numbers:
        usable = isinstance(number, int | float | np.number) and not isinstance(number, bool)
        if not usable or not math.isfinite(number):  # type: ignore[arg-type]
            raise ArgumentError("schedule", schedule, f"{number!r} is no finite number")


registry.register_schedule("constant", ConstantSchedule)
registry.register_schedule("linear", LinearSchedule)
registry.register_schedule("exponential", ExponentialSchedule)
registry.register_schedule("cosine", CosineSchedule)
registry.register_schedule("step", StepSchedule)


def to_schedule(value: Any, argument: str) -> float | Callable[[float], float]:
    """Makes a schedule of its data; a number stays a number.

    Args:
        value: A number, `{"type": name, ...}`, or an object that is a schedule already.
        argument: Name of the argument, for errors.

    Raises:
        UnknownNameError: No schedule of that type.
        ArgumentError: A field is missing, unknown, or no finite number.
    """
    if not isinstance(value, dict):
        return value
    fields = dict(value)
    kind = fields.pop("type", None)
    if kind is None:
        raise ArgumentError(argument, value, "a schedule needs a type", 'Such as {"type": "linear", "start": 3e-4}.')
    schedule_class = registry.schedules.get(kind, f"{argument}['type']")
    try:
        schedule = schedule_class(**fields)
        schedule(1.0), schedule(0.0)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ArgumentError(argument, value, f"does not fit a {kind} schedule: {error}") from error
    return schedule


@contextmanager
def progress_over_all_trainings(algorithm: Any) -> Iterator[None]:
    """Lets ARS measure the progress of a continued training as the other algorithms do.

    It compares the steps of all trainings with the length of the last one, so that what remains would be negative.
    """
    if type(algorithm).__name__ != "ARS":
        yield
        return
    original = algorithm._update_current_progress_remaining
    algorithm._update_current_progress_remaining = lambda done, _: original(done, algorithm._total_timesteps)
    try:
        yield
    finally:
        del algorithm._update_current_progress_remaining
