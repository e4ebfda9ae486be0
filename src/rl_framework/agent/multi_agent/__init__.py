"""Several agents that are trained in one world."""

from rl_framework.agent.multi_agent.group_training import GroupEvent
from rl_framework.agent.multi_agent.multi_agent import MultiAgent

__all__ = ["GroupEvent", "MultiAgent"]
