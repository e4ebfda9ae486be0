"""The algorithms of d3rlpy by name, and which of them fits an action space."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces

from rl_framework import registry
from rl_framework.agent.imitation.algorithms import ImitationAlgorithm
from rl_framework.agent.imitation.offline_library.quiet_import import import_d3rlpy
from rl_framework.errors import ArgumentError, UnsupportedSpaceError

__all__ = [
    "OfflineAlgorithm",
    "configuration_class",
    "discrete_variant",
    "fitting_algorithm",
    "is_transformer",
    "needs_rewards",
    "resolve_offline_algorithm",
    "takes_images",
    "uses_next_actions",
]

_DISCRETE = "discrete_"
_LEARNER = "rl_framework.agent.imitation.offline_library.learner:OfflineLearner"

# All that d3rlpy 2.8.1 has. Where actions are discrete, a name also stands for the one with `discrete_` before it.
for _name, _class in {
    "awac": "AWAC",
    "bc": "BC",
    "bcq": "BCQ",
    "bear": "BEAR",
    "cal_ql": "CalQL",
    "cql": "CQL",
    "crr": "CRR",
    "ddpg": "DDPG",
    "decision_transformer": "DecisionTransformer",
    "discrete_bc": "DiscreteBC",
    "discrete_bcq": "DiscreteBCQ",
    "discrete_cql": "DiscreteCQL",
    "discrete_decision_transformer": "DiscreteDecisionTransformer",
    "discrete_random_policy": "DiscreteRandomPolicy",
    "discrete_sac": "DiscreteSAC",
    "double_dqn": "DoubleDQN",
    "dqn": "DQN",
    "iql": "IQL",
    "nfq": "NFQ",
    "plas": "PLAS",
    "plas_with_perturbation": "PLASWithPerturbation",
    "prdc": "PRDC",
    "random_policy": "RandomPolicy",
    "rebrac": "ReBRAC",
    "sac": "SAC",
    "tacr": "TACR",
    "td3": "TD3",
    "td3_plus_bc": "TD3PlusBC",
}.items():
    registry.offline_algorithms.register(_name, f"d3rlpy.algos:{_class}")


@dataclass(frozen=True)
class OfflineAlgorithm(ImitationAlgorithm):
    """An algorithm of d3rlpy that the user asked for.

    Attributes:
        found: The class of d3rlpy.
    """

    found: type[Any]

    @classmethod
    def of(cls, name: str, found: type[Any]) -> OfflineAlgorithm:
        """Makes one of a registered name and the class."""
        return cls(name, f"{found.__module__}:{found.__qualname__}", _LEARNER, found)

    def library_class(self) -> type[Any]:
        """Returns the class of d3rlpy, or of the user's."""
        return self.found


def resolve_offline_algorithm(algorithm_class: str | type[Any]) -> OfflineAlgorithm:
    """Finds an algorithm by its class, the class of its configuration, or its registered name.

    Raises:
        UnknownNameError: No such name; the nearest names are suggested.
        ArgumentError: It is no algorithm, or one without a name, which could not be saved.
        MissingExtraError: d3rlpy is not installed.
    """
    library = import_d3rlpy(f"algorithm_class={algorithm_class!r}")
    if isinstance(algorithm_class, str):
        found = registry.offline_algorithms.get(algorithm_class, "algorithm_class")
        _check_is_algorithm(library, found)
        return OfflineAlgorithm.of(registry.offline_algorithms.name_for_files(algorithm_class), found)
    found = algorithm_class
    if isinstance(found, type) and issubclass(found, library.base.LearnableConfig):
        found = getattr(sys.modules[found.__module__], found.__name__.removesuffix("Config"), found)
    _check_is_algorithm(library, found)
    name = registry.offline_algorithms.name_of(found)
    if name is None:
        raise ArgumentError(
            "algorithm_class",
            algorithm_class,
            "has no registered name, so that an agent with it could not be saved",
            f"Register it first: rl_framework.register_offline_algorithm({found.__name__.lower()!r}, {found.__name__})",
        )
    return OfflineAlgorithm.of(name, found)


def _check_is_algorithm(library: Any, candidate: Any) -> None:
    kinds = (library.algos.QLearningAlgoBase, library.algos.TransformerAlgoBase)
    if not isinstance(candidate, type) or not issubclass(candidate, kinds):
        raise ArgumentError(
            "algorithm_class",
            candidate,
            "is no algorithm of d3rlpy",
            "Give a class such as d3rlpy.algos.CQL, or 'cql'.",
        )
    configuration_class(candidate)


def configuration_class(algorithm_class: type[Any]) -> type[Any]:
    """Returns the class of an algorithm's configuration, which lies beside it.

    Raises:
        ArgumentError: There is none.
    """
    name = f"{algorithm_class.__name__}Config"
    found = getattr(sys.modules[algorithm_class.__module__], name, None)
    if not isinstance(found, type):
        raise ArgumentError("algorithm_class", algorithm_class, f"there is no {name} in its module")
    return found


def discrete_variant(algorithm_class: type[Any]) -> type[Any] | None:
    """Returns the class that an algorithm has for discrete actions, if it is another one."""
    name = registry.offline_algorithms.name_of(algorithm_class)
    variant = f"{_DISCRETE}{name}"
    return registry.offline_algorithms.get(variant) if variant in registry.offline_algorithms else None


def fitting_algorithm(algorithm_class: type[Any], action_space: spaces.Space[Any]) -> type[Any]:
    """Returns the class for an action space: the given one, or its variant for discrete actions.

    Raises:
        UnsupportedSpaceError: The algorithm cannot take such actions.
    """
    from d3rlpy.constants import ActionSpace

    discrete = isinstance(action_space, spaces.Discrete)
    variant = discrete_variant(algorithm_class)
    chosen = variant if discrete and variant is not None else algorithm_class
    kind = configuration_class(chosen)().create("cpu").get_action_type()
    fits = discrete if kind is ActionSpace.DISCRETE else isinstance(action_space, spaces.Box)
    if not fits and kind is not ActionSpace.BOTH:
        wanted = "Discrete" if kind is ActionSpace.DISCRETE else "Box"
        raise UnsupportedSpaceError("action_space", action_space, f"{chosen.__name__} takes {wanted} actions only")
    return chosen


def is_transformer(algorithm_class: type[Any]) -> bool:
    """Tells whether an algorithm learns from stretches of episodes, and acts on what it remembers of one."""
    from d3rlpy.algos import TransformerAlgoBase

    return issubclass(algorithm_class, TransformerAlgoBase)


def needs_rewards(algorithm_class: type[Any]) -> bool:
    """Tells whether an algorithm cannot learn without rewards."""
    from d3rlpy import algos

    return not issubclass(
        algorithm_class, algos.BC | algos.DiscreteBC | algos.RandomPolicy | algos.DiscreteRandomPolicy
    )


def takes_images(algorithm_class: type[Any]) -> bool:
    """Tells whether an algorithm can learn from images."""
    from d3rlpy.algos import PRDC

    return not issubclass(algorithm_class, PRDC)  # it puts observations beside actions to measure distances


def uses_next_actions(algorithm_class: type[Any]) -> bool:
    """Tells whether an algorithm looks at the action after the next observation."""
    from d3rlpy.algos import ReBRAC

    return issubclass(algorithm_class, ReBRAC)
