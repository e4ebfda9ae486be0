"""Parts of composed algorithms; what a part is, is told in `rl_framework.agent.reinforcement.parts.part`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_framework import registry

if TYPE_CHECKING:
    from rl_framework.agent.reinforcement.parts.a2c import A2C
    from rl_framework.agent.reinforcement.parts.demonstration import Demonstration
    from rl_framework.agent.reinforcement.parts.icm import ICM
    from rl_framework.agent.reinforcement.parts.off_policy.replay import Replay
    from rl_framework.agent.reinforcement.parts.off_policy.sac import SAC
    from rl_framework.agent.reinforcement.parts.part import Part
    from rl_framework.agent.reinforcement.parts.ppo import PPO
    from rl_framework.agent.reinforcement.parts.regularisers import Entropy, KLPenalty
    from rl_framework.agent.reinforcement.parts.rnd import RND
    from rl_framework.agent.reinforcement.parts.self_imitation import SelfImitation

__all__ = [
    "A2C",
    "ICM",
    "PPO",
    "RND",
    "SAC",
    "Demonstration",
    "Entropy",
    "KLPenalty",
    "Part",
    "Replay",
    "SelfImitation",
]

_NAMES = {
    "A2C": ("a2c", "a2c"),
    "Demonstration": ("demonstration", "demonstration"),
    "Entropy": ("entropy", "regularisers"),
    "ICM": ("icm", "icm"),
    "KLPenalty": ("kl_penalty", "regularisers"),
    "PPO": ("ppo", "ppo"),
    "RND": ("rnd", "rnd"),
    "Replay": ("replay", "off_policy.replay"),
    "SAC": ("sac", "off_policy.sac"),
    "SelfImitation": ("self_imitation", "self_imitation"),
}
"""Class, and under which name it is registered and in which module it is."""

for _class, (_name, _module) in _NAMES.items():
    registry.parts.register(_name, f"{__name__}.{_module}:{_class}")


def __getattr__(name: str) -> Any:
    if name == "Part":
        from rl_framework.agent.reinforcement.parts.part import Part

        return Part
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.parts.get(_NAMES[name][0])
