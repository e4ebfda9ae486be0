"""Connectors: where metrics, models and videos go and come from."""

from rl_framework.connector.base import Connector
from rl_framework.connector.local import LocalConnector
from rl_framework.connector.tensorboard import TensorBoardConnector

__all__ = ["Connector", "LocalConnector", "TensorBoardConnector"]
