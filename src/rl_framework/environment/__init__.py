"""Environments: whatever can be stepped, behind one door, as one batched environment."""

import gymnasium

from rl_framework import registry
from rl_framework.environment.adapter import EnvironmentAdapter, MultiSlotAdapter
from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.door import open_environments
from rl_framework.environment.known_packages import environment_ids, known_environments, standard_wrappers
from rl_framework.environment.wrappers import wrap_environment

__all__ = [
    "BatchedEnvironment",
    "EnvironmentAdapter",
    "MultiSlotAdapter",
    "SlotStep",
    "environment_ids",
    "known_environments",
    "open_environments",
    "standard_wrappers",
    "wrap_environment",
]

# Lazily, so that nobody needs the packages of what is not used.
registry.register_environment_adapter("pettingzoo", "rl_framework.environment.pettingzoo.adapter:PettingZooAdapter")
registry.register_environment_adapter("unity", "rl_framework.environment.unity.adapter:UnityEnvironmentAdapter")
gymnasium.register("rl_framework/DeepSea-v0", entry_point="rl_framework.environment.deep_sea:DeepSea")
gymnasium.register(
    "rl_framework/TensorCartPole-v1", vector_entry_point="rl_framework.environment.tensor.cart_pole:TensorCartPole"
)
