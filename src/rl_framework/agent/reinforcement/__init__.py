"""Reinforcement-learning agents."""

from rl_framework import registry
from rl_framework.agent.reinforcement import parts as parts
from rl_framework.agent.reinforcement.composed_agent import ComposedAgent
from rl_framework.agent.reinforcement.custom import CustomAgent, CustomAlgorithm, Transitions
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent

__all__ = ["ComposedAgent", "CustomAgent", "CustomAlgorithm", "StableBaselinesAgent", "Transitions"]

registry.register_algorithm("q_learning", "rl_framework.agent.reinforcement.q_learning:QLearning")
