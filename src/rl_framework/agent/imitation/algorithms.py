"""The table of imitation algorithms: for each name the library's class, and what makes an agent of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from rl_framework import registry
from rl_framework.agent.imitation.learner import Learner
from rl_framework.errors import ArgumentError, require_extra

__all__ = ["ImitationAlgorithm", "resolve_imitation_algorithm"]


@dataclass(frozen=True)
class ImitationAlgorithm:
    """A row of the table.

    Attributes:
        name: Registered name.
        library: Address of the library's class, "module:attribute".
        learner: Address of the `Learner` that builds, runs, saves and resumes it.
    """

    name: str
    library: str
    learner: str

    def library_class(self) -> type[Any]:
        """Returns the library's class.

        Raises:
            MissingExtraError: imitation is not installed.
        """
        require_extra("imitation", f"algorithm_class={self.name!r}", "imitation")
        return _resolve(self.library)

    def learner_class(self) -> type[Learner]:
        """Returns what makes an agent of it."""
        return _resolve(self.learner)


def _resolve(address: str) -> Any:
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


_LIBRARY, _LEARNERS = "imitation.algorithms", "rl_framework.agent.imitation.learners"

for _name, _class, _learner in (
    ("bc", "bc:BC", "behavioural_cloning:BehaviouralCloningLearner"),
    ("dagger", "dagger:SimpleDAggerTrainer", "dagger:DAggerLearner"),
    ("gail", "adversarial.gail:GAIL", "adversarial:AdversarialLearner"),
    ("airl", "adversarial.airl:AIRL", "adversarial:AdversarialLearner"),
    ("sqil", "sqil:SQIL", "sqil:SQILLearner"),
    ("density", "density:DensityAlgorithm", "density:DensityLearner"),
    ("preference_comparisons", "preference_comparisons:PreferenceComparisons", "preferences:PreferencesLearner"),
    ("mce_irl", "mce_irl:MCEIRL", "tabular:TabularLearner"),
):
    registry.imitation_algorithms.register(
        _name, ImitationAlgorithm(_name, f"{_LIBRARY}.{_class}", f"{_LEARNERS}.{_learner}")
    )


def resolve_imitation_algorithm(algorithm_class: str | type[Any]) -> ImitationAlgorithm:
    """Returns the row for a class of the library or a registered name.

    Raises:
        UnknownNameError: No such name; the nearest names are suggested.
        ArgumentError: It is no algorithm of imitation.
    """
    if isinstance(algorithm_class, str):
        row: ImitationAlgorithm = registry.imitation_algorithms.get(algorithm_class, "algorithm_class")
        return row
    address = f"{getattr(algorithm_class, '__module__', '')}:{getattr(algorithm_class, '__qualname__', '')}"
    for name in registry.imitation_algorithms:
        row = registry.imitation_algorithms.get(name)
        if row.library == address:
            return row
    raise ArgumentError(
        "algorithm_class",
        algorithm_class,
        "is no algorithm class of imitation",
        f"Give a class such as imitation.algorithms.bc.BC, or one of {', '.join(registry.imitation_algorithms)}.",
    )
