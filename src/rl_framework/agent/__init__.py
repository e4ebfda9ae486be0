"""Agents: what can be trained, evaluated, asked for an action, and saved."""

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.imitation_learning_agent import ILAgent
from rl_framework.agent.load import load_agent
from rl_framework.agent.reinforcement_learning_agent import RLAgent

__all__ = ["Agent", "ILAgent", "RLAgent", "load_agent"]
