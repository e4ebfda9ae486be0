"""Several agents that are trained in one world."""

from rl_framework.agent.multi_agent.multi_agent import MultiAgent
from rl_framework.agent.multi_agent.group_training import GroupEvent

__all__ = ["GroupEvent", "MultiAgent"]
