"""Checks of what parts are given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rl_framework import registry
from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from rl_framework.agent.network.trunk import Trunk

__all__ = ["check_fraction", "check_number", "check_positive_integer", "check_without_state"]


def check_positive_integer(part: Any, argument: str) -> None:
    """Refuses an argument of a part that is no integer of at least 1."""
    value = getattr(part, argument)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(_named(part, argument), value, "must be an integer of at least 1")


def check_fraction(part: Any, argument: str) -> None:
    """Refuses an argument of a part that is no number from 0 to 1."""
    check_number(part, argument, 0.0, 1.0)


def check_number(part: Any, argument: str, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuses an argument of a part that is no finite number in a range."""
    value = getattr(part, argument)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not least <= value <= most:
        between = f" from {least:g} to {most:g}" if math.isfinite(most) else f" of at least {least:g}"
        raise ArgumentError(_named(part, argument), value, f"must be a number{between if math.isfinite(least) else ''}")


def check_without_state(trunk: Trunk, why: str) -> None:
    """Refuses a recurrent network, for a reason such as "SAC learns from single transitions"."""
    if trunk.state_size:
        kind = type(trunk.network)
        raise ArgumentError(
            f"networks[{trunk.name!r}]",
            registry.networks.name_of(kind) or kind.__name__,
            f"it is recurrent, and {why}",
            "Use a network without state.",
        )


def _named(part: Any, argument: str) -> str:
    return f"{type(part).__name__}({argument})"
