"""MLflow: experiment tracking and models, in a store on this machine or on a tracking server."""

from rl_framework.connector.mlflow.connector import MLflowConnector

__all__ = ["MLflowConnector"]
