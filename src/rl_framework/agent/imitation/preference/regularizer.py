"""How the weights of a reward network are kept small while it learns from preferences, as data.

| type | class of `imitation.regularization.regularizers` | arguments |
|---|---|---|
| `lp` | `LpRegularizer` | `initial_lambda`, `p`, `lambda_updater`, `val_split` |
| `weight_decay` | `WeightDecayRegularizer` | `initial_lambda`, `lambda_updater`, `val_split` |

`lambda_updater` is `{"scaling_factor": 0.5, "tolerable_interval": [0.9, 1.5]}` (the library's `IntervalParamScaler`):
it changes how strong the regularizer is by the loss on a share `val_split` of the comparisons, which are then not
learned from. Neither of the two is given without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["check_enough_comparisons", "give_strengths", "regularizer_data", "regularizer_factory", "take_strengths"]

_TYPES = {
    "lp": ("LpRegularizer", ("initial_lambda", "p", "lambda_updater", "val_split")),
    "weight_decay": ("WeightDecayRegularizer", ("initial_lambda", "lambda_updater", "val_split")),
}
_UPDATER = ("scaling_factor", "tolerable_interval")


def regularizer_data(value: Any, argument: str) -> dict[str, Any] | None:
    """Returns a regularizer as data.

    Args:
        value: `{"type": name, ...}`, or None for none.
        argument: What to call it in errors.

    Raises:
        UnknownNameError: No type or argument has that name.
        ArgumentError: It is something else.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ArgumentError(
            argument, value, "is an object", 'Describe it: {"type": "lp", "p": 2, "initial_lambda": 0.1}.'
        )
    kind = value.get("type")
    if kind not in _TYPES:
        raise UnknownNameError(f"{argument}['type']", str(kind), _TYPES)
    for name in value:
        if name != "type" and name not in _TYPES[kind][1]:
            raise UnknownNameError(argument, str(name), _TYPES[kind][1])
    for name in ("initial_lambda", "p"):
        if name in _TYPES[kind][1] and name not in value:
            raise ArgumentError(argument, value, f"does not say {name}")
    updater = value.get("lambda_updater")
    if updater is not None and not (isinstance(updater, Mapping) and set(updater) == set(_UPDATER)):
        raise ArgumentError(f"{argument}['lambda_updater']", updater, f"has to say {' and '.join(_UPDATER)}")
    return dict(value)


def regularizer_factory(data: Mapping[str, Any] | None) -> Any:
    """Returns what a trainer of the library makes its regularizer with, or None.

    Args:
        data: From `regularizer_data`.
    """
    if data is None:
        return None
    from imitation.regularization import regularizers
    from imitation.regularization.updaters import IntervalParamScaler

    arguments = {"val_split": None, **data}  # the library's default of 0.0 is one that it refuses
    name, _ = _TYPES[arguments.pop("type")]
    updater = arguments.pop("lambda_updater", None)
    if updater is not None:
        updater = IntervalParamScaler(float(updater["scaling_factor"]), tuple(updater["tolerable_interval"]))
    strength = float(arguments.pop("initial_lambda"))
    return getattr(regularizers, name).create(strength, updater, **arguments)


def check_enough_comparisons(trainer: Any, count: int) -> None:
    """Checks that there are comparisons both to learn from and to measure against.

    Raises:
        ArgumentError: There are too few.
    """
    share = None if trainer.regularizer is None else trainer.regularizer.val_split
    if share is not None and not 0 < int(count * share) < count:
        raise ArgumentError(
            "algorithm_parameters['reward_trainer']['regularizer_factory']['val_split']",
            share,
            f"there are {count} comparisons, too few to measure against a share of them",
            "Give a larger initial_comparison_frac, or more total_comparisons.",
        )


def take_strengths(trainers: Iterable[Any]) -> list[float | None]:
    """Returns how strong the regularizers are now, for a checkpoint; None for a trainer without."""
    return [None if one.regularizer is None else float(one.regularizer.lambda_) for one in trainers]


def give_strengths(trainers: Iterable[Any], strengths: list[Any]) -> None:
    """Gives back what `take_strengths` took.

    Raises:
        ValueError: It does not fit.
    """
    for trainer, strength in zip(trainers, strengths, strict=True):
        if (trainer.regularizer is None) != (strength is None):
            raise ValueError(f"a regularizer has the strength {strength!r}")
        if trainer.regularizer is not None:
            if not isinstance(strength, float) or not 0 <= strength < np.inf:
                raise ValueError(f"a regularizer has the strength {strength!r}")
            trainer.regularizer.lambda_ = strength
