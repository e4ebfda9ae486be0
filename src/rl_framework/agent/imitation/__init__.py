"""Imitation-learning agents."""

from rl_framework.agent.imitation.imitation import ImitationAgent

__all__ = ["ImitationAgent"]
