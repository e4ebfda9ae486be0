"""Environments: whatever can be stepped, behind one door, as one batched environment."""

from rl_framework.environment.adapter import EnvironmentAdapter, MultiSlotAdapter
from rl_framework.environment.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.door import open_environments

__all__ = ["BatchedEnvironment", "EnvironmentAdapter", "MultiSlotAdapter", "SlotStep", "open_environments"]
