"""Who proposes values, and who ends trials early: Optuna's samplers and pruners by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic_core import InitErrorDetails

from rl_framework.errors import ArgumentError, UnknownNameError, require_extra
from rl_framework.experiment.sections.section import complaint, unknown_key

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["GRID", "PRUNERS", "SAMPLERS", "Choice", "complaints_about", "make_pruner", "make_sampler"]

GRID = "grid"

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    GRID: None,
    "cmaes": "CmaEsSampler",
    "qmc": "QMCSampler",
    "gp": "GPSampler",
}
"""Names of samplers, and their classes in Optuna; a grid is counted through here."""

PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "threshold": "ThresholdPruner",
    "none": "NopPruner",
}
"""Names of pruners, and their classes in Optuna."""

_NEEDS = {"cmaes": ("cmaes",), "qmc": ("scipy",), "gp": ("scipy", "torch")}

_QUIET = {"warn_independent_sampling": False, "warn_asynchronous_seeding": False, "constant_liar": True}
"""Given to every sampler that takes it. With a constant liar, workers do not all try the same place at once."""


@dataclass(frozen=True)
class Choice:
    """A name with arguments.

    Attributes:
        name: Of a sampler or pruner.
        arguments: For its constructor.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, written: str | Mapping[str, Any]) -> Choice:
        """Reads `tpe` or `{type: tpe, n_startup_trials: 20}`."""
        if isinstance(written, str):
            return cls(written.lower())
        return cls(str(written.get("type", "")).lower(), {key: part for key, part in written.items() if key != "type"})


def complaints_about(
    key: str, written: str | Mapping[str, Any], known: Mapping[str, str | None]
) -> Iterable[InitErrorDetails]:
    """Returns what is wrong with the name of a sampler or pruner, and, where Optuna is installed, its arguments."""
    choice = Choice.of(written)
    if choice.name not in known:
        error = UnknownNameError(key, choice.name, known)
        yield complaint(str(error).removeprefix(f"{key}="), (key,))
        return
    if not all(find_spec(module) for module in ("optuna", *_NEEDS.get(choice.name, ()))):
        return  # told when it is used
    if known[choice.name] is None and choice.arguments:
        yield complaint(f"{choice.name} has no arguments", (key,))
        return
    target = _class(key, known[choice.name])
    taken = [] if target is None else [name for name in inspect.signature(target).parameters if name != "seed"]
    for name in choice.arguments:
        if name not in taken:
            yield complaint(unknown_key(name, taken), (key, name))
    if target is not None and all(name in taken for name in choice.arguments):
        try:
            _made(target, choice.arguments)
        except (TypeError, ValueError, AssertionError) as error:
            yield complaint(f"{choice.name} refuses its arguments: {error}", (key,))


def make_sampler(written: str | Mapping[str, Any], seed: int, fixed_seed: int) -> BaseSampler:
    """Makes the sampler for one trial.

    Args:
        written: What the configuration says; not a grid.
        seed: Of this trial, so that a study that goes on proposes what it would have proposed anyway.
        fixed_seed: The same for all trials, for a sequence of points that all trials share.

    Raises:
        MissingExtraError: It needs a package that is not installed.
    """
    choice = Choice.of(written)
    require_extra("tuning", f"the sampler {choice.name}", "optuna", *_NEEDS.get(choice.name, ()))
    target = _class("sampler", SAMPLERS[choice.name])
    taken = inspect.signature(target).parameters
    quiet = {name: value for name, value in _QUIET.items() if name in taken}
    arguments = {**quiet, "seed": fixed_seed if choice.name == "qmc" else seed, **choice.arguments}
    made: BaseSampler = _made(target, arguments)
    return made


def make_pruner(written: str | Mapping[str, Any]) -> BasePruner:
    """Makes the pruner; it counts evaluations.

    Raises:
        ArgumentError: It refuses its arguments.
    """
    choice = Choice.of(written)
    require_extra("tuning", f"the pruner {choice.name}", "optuna")
    try:
        made: BasePruner = _made(_class("pruner", PRUNERS[choice.name]), choice.arguments)
    except (TypeError, ValueError) as error:
        raise ArgumentError("pruner", choice.name, f"refuses its arguments: {error}") from error
    return made


def _class(kind: str, name: str | None) -> Any:
    if name is None:
        return None
    import optuna

    return getattr(optuna.samplers if kind == "sampler" else optuna.pruners, name)


def _made(target: Any, arguments: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls half of its arguments experimental
        return target(**arguments)
