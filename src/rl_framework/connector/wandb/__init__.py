"""Weights & Biases: experiment tracking, and agents as artifacts."""

from rl_framework.connector.wandb.connector import WandbConnector

__all__ = ["WandbConnector"]
