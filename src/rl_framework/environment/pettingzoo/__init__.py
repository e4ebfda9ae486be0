"""PettingZoo's environments, parallel and turn by turn."""

from rl_framework.environment.pettingzoo.seats import ChangingAgents

__all__ = ["ChangingAgents"]
