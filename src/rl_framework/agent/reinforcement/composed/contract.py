"""Whether a part keeps to the contract: what is wrong is said with the name of the part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rl_framework.agent.reinforcement.parts.part import Part
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.errors import ArgumentError

__all__ = ["check_declared", "check_numbers"]


def check_declared(part: Part) -> None:
    """Checks what a part says of itself: attributes of its class, and the arguments that may be schedules.

    Raises:
        ArgumentError: Something is of another kind than the contract says.
    """
    own = type(part).__name__
    if "_modules" not in vars(part):
        raise ArgumentError(
            "parts", own, "its __init__ does not begin with super().__init__()", "A part is a torch.nn.Module: call it."
        )
    for attribute in ("records", "provides", "needs"):
        names = getattr(part, attribute)
        if not isinstance(names, set | frozenset):
            raise ArgumentError(f"{own}.{attribute}", names, "must be a set of names", 'Such as frozenset({"policy"}).')
    if not isinstance(part.schedules, tuple | list):
        raise ArgumentError(f"{own}.schedules", part.schedules, "must be a tuple of names", 'Such as ("weight",).')
    for name in part.schedules:
        if not hasattr(part, name):
            raise ArgumentError(
                f"{own}.schedules", name, "the part has no such attribute", f"Set self.{name} in its __init__."
            )
        value = to_schedule(getattr(part, name), f"{own}({name})")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number or value is None or callable(value)):
            raise ArgumentError(f"{own}({name})", value, "must be a number or a schedule")


def check_numbers(part: Part, terms: Any, reported: Mapping[str, Any]) -> None:
    """Checks what the loss of a part gave: numbers by name, as tensors without axes.

    Args:
        part: The part.
        terms: What `loss` returned.
        reported: What was reported to the batch.

    Raises:
        ArgumentError: They are something else.
    """
    own = type(part).__name__
    if not isinstance(terms, Mapping):
        raise ArgumentError(
            f"{own}.loss", terms, "must return a dictionary", 'Such as {"prediction": error}, or {} for no loss.'
        )
    for what, numbers in ((f"{own}.loss", terms), ("batch.report", reported)):
        for name, number in numbers.items():
            if not isinstance(number, Tensor) or number.ndim:
                found = f"a tensor of shape {tuple(number.shape)}" if isinstance(number, Tensor) else repr(number)
                raise ArgumentError(
                    f"{what}: {name}", found, "must be a tensor without axes", "Such as errors.mean(), or error.sum()."
                )
