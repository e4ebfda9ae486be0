"""Environments: whatever can be stepped, behind one door, as one batched environment."""

from rl_framework import registry
from rl_framework.environment.adapter import EnvironmentAdapter, MultiSlotAdapter
from rl_framework.environment.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.door import open_environments

__all__ = ["BatchedEnvironment", "EnvironmentAdapter", "MultiSlotAdapter", "SlotStep", "open_environments"]

# Lazily, so that nobody needs the packages of what is not used.
registry.register_environment_adapter("pettingzoo", "rl_framework.environment.pettingzoo.adapter:PettingZooAdapter")
registry.register_environment_adapter("unity", "rl_framework.environment.unity.adapter:UnityEnvironmentAdapter")
