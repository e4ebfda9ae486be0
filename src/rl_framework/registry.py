"""One plug-in registry for everything that is called by a short name.

A bundle or a configuration names classes by these names and never by an import path, so that opening somebody
else's file can only lead to classes that the user has already chosen to have.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from rl_framework.errors import ArgumentError, UnknownNameError, require_extra

__all__ = [
    "Registry",
    "activations",
    "agents",
    "algorithms",
    "connectors",
    "environment_adapters",
    "features_extractors",
    "imitation_algorithms",
    "offline_algorithms",
    "optimizers",
    "policies",
    "register_activation",
    "register_algorithm",
    "register_environment_adapter",
    "register_features_extractor",
    "register_offline_algorithm",
    "register_optimizer",
    "register_policy",
    "register_replay_buffer",
    "register_reward_network",
    "register_schedule",
    "replay_buffers",
    "reward_networks",
    "schedules",
]


class Registry:
    """Names for objects of one kind.

    An entry is the object itself or a lazy `"module:attribute"` string, imported when it is first asked for.

    Args:
        kind: What the entries are, in words ("activation"); also the name of the argument in errors.
        register_call: The call that adds an entry, shown to users whose object has no name yet.
    """

    def __init__(self, kind: str, register_call: str = "") -> None:
        self.kind = kind
        self.register_call = register_call
        self._entries: dict[str, Any] = {}

    def register(self, name: str, target: Any, *, replace: bool = False) -> None:
        """Gives an object a name.

        Args:
            name: Short name; lower case by convention, compared without regard to case.
            target: The object, or `"module:attribute"`.
            replace: Whether another object of that name may be replaced.

        Raises:
            ArgumentError: The name is empty or taken by another object, or the lazy address is malformed.
        """
        if not name or not isinstance(name, str):
            raise ArgumentError("name", name, f"the name of a {self.kind} must be a non-empty string")
        if isinstance(target, str) and target.count(":") != 1:
            raise ArgumentError("target", target, "a lazy entry is written 'module:attribute'")
        key = name.lower()
        taken = self._entries.get(key)
        if taken is not None and taken is not target and taken != target and not replace:
            raise ArgumentError(
                "name", name, f"there is already a {self.kind} of that name ({taken!r})", "Pass replace=True."
            )
        self._entries[key] = target

    def get(self, name: str, argument: str | None = None) -> Any:
        """Returns the object of that name, importing it if it was registered lazily.

        Raises:
            UnknownNameError: No such name; the nearest names are suggested.
            MissingExtraError: It is of the imitation library, which is not installed.
        """
        key = str(name).lower()
        if key not in self._entries:
            remedy = f"Add your own with {self.register_call}." if self.register_call else ""
            raise UnknownNameError(argument or self.kind, name, self._entries, remedy)
        target = self._entries[key]
        if isinstance(target, str):
            module_name, _, attribute = target.partition(":")
            if module_name.startswith("imitation."):
                require_extra("imitation", f"{argument or self.kind}={name!r}", "imitation")
            target = getattr(importlib.import_module(module_name), attribute)
            self._entries[key] = target
        return target

    def name_of(self, target: Any) -> str | None:
        """Returns the name under which an object is registered, or None.

        Lazy entries are compared by address, so that asking imports nothing.
        """
        address = f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
        for name, entry in self._entries.items():
            if entry is target or (isinstance(entry, str) and (entry == address or self._is_lazily(entry, target))):
                return name
        return None

    @staticmethod
    def _is_lazily(entry: str, target: Any) -> bool:
        # A class may be exported from another module than the one that defines it.
        module_name, _, attribute = entry.partition(":")
        if getattr(target, "__qualname__", None) != attribute:
            return False
        root = str(getattr(target, "__module__", "")).partition(".")[0]
        if root != module_name.partition(".")[0]:
            return False
        return getattr(importlib.import_module(module_name), attribute, None) is target

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


agents = Registry("agent")
algorithms = Registry("algorithm", "rl_framework.register_algorithm('my_algorithm', MyAlgorithm)")
imitation_algorithms = Registry("imitation_algorithm")
offline_algorithms = Registry(
    "offline_algorithm", "rl_framework.register_offline_algorithm('my_algorithm', MyAlgorithm)"
)
policies = Registry("policy", "rl_framework.register_policy('my_policy', MyPolicy)")
features_extractors = Registry(
    "features_extractor", "rl_framework.register_features_extractor('my_extractor', MyExtractor)"
)
activations = Registry("activation", "rl_framework.register_activation('my_activation', MyActivation)")
optimizers = Registry("optimizer", "rl_framework.register_optimizer('my_optimizer', MyOptimizer)")
replay_buffers = Registry("replay_buffer", "rl_framework.register_replay_buffer('my_buffer', MyBuffer)")
reward_networks = Registry("reward_network", "rl_framework.register_reward_network('my_network', MyRewardNet)")
schedules = Registry("schedule", "rl_framework.register_schedule('my_schedule', MySchedule)")
environment_adapters = Registry(
    "environment_adapter", "rl_framework.register_environment_adapter('my_simulator', MyAdapter)"
)
connectors = Registry("connector")

register_algorithm = algorithms.register
register_policy = policies.register
register_features_extractor = features_extractors.register
register_activation = activations.register
register_offline_algorithm = offline_algorithms.register
register_optimizer = optimizers.register
register_replay_buffer = replay_buffers.register
register_reward_network = reward_networks.register
register_schedule = schedules.register
register_environment_adapter = environment_adapters.register
