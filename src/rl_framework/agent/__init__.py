"""Agents: what can be trained, evaluated, asked for an action, and saved."""

from rl_framework import registry
from rl_framework.agent.base_agent import Agent
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.agent.load import load_agent
from rl_framework.agent.reinforcement_learning_agent import RLAgent

__all__ = ["Agent", "ILAgent", "RLAgent", "load_agent"]

# Lazily, so that a bundle finds the class of its agent and nothing is loaded before.
registry.agents.register("stable_baselines", "rl_framework.agent.reinforcement.stable_baselines:StableBaselinesAgent")
registry.agents.register("composed", "rl_framework.agent.reinforcement.composed_agent:ComposedAgent")
registry.agents.register("custom", "rl_framework.agent.reinforcement.custom:CustomAgent")
registry.agents.register("imitation", "rl_framework.agent.imitation.imitation:ImitationAgent")
registry.agents.register("offline", "rl_framework.agent.imitation.offline:OfflineAgent")
registry.agents.register("multi", "rl_framework.agent.multi_agent.multi_agent:MultiAgent")
