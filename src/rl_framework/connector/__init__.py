"""Connectors: where metrics, models and videos go and come from."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rl_framework import registry
from rl_framework.connector.base import Connector
from rl_framework.connector.local import LocalConnector
from rl_framework.connector.tensorboard import TensorBoardConnector

if TYPE_CHECKING:
    from rl_framework.connector.clearml import ClearMLConnector, ClearMLDownloadConfig, ClearMLUploadConfig
    from rl_framework.connector.huggingface import (
        HuggingFaceConnector,
        HuggingFaceDownloadConfig,
        HuggingFaceUploadConfig,
    )
    from rl_framework.connector.mlflow import MLflowConnector
    from rl_framework.connector.storage import StorageConnector, StorageDownloadConfig, StorageUploadConfig
    from rl_framework.connector.wandb import WandbConnector

__all__ = [
    "ClearMLConnector",
    "ClearMLDownloadConfig",
    "ClearMLUploadConfig",
    "Connector",
    "HuggingFaceConnector",
    "HuggingFaceDownloadConfig",
    "HuggingFaceUploadConfig",
    "LocalConnector",
    "MLflowConnector",
    "StorageConnector",
    "StorageDownloadConfig",
    "StorageUploadConfig",
    "TensorBoardConnector",
    "WandbConnector",
]

# They know agents, and so torch: imported when first used.
_LOCATIONS = {
    "ClearMLConnector": "rl_framework.connector.clearml",
    "ClearMLDownloadConfig": "rl_framework.connector.clearml",
    "ClearMLUploadConfig": "rl_framework.connector.clearml",
    "HuggingFaceConnector": "rl_framework.connector.huggingface",
    "HuggingFaceDownloadConfig": "rl_framework.connector.huggingface",
    "HuggingFaceUploadConfig": "rl_framework.connector.huggingface",
    "MLflowConnector": "rl_framework.connector.mlflow",
    "StorageConnector": "rl_framework.connector.storage",
    "StorageDownloadConfig": "rl_framework.connector.storage",
    "StorageUploadConfig": "rl_framework.connector.storage",
    "WandbConnector": "rl_framework.connector.wandb",
}

registry.connectors.register("clearml", "rl_framework.connector.clearml:ClearMLConnector")
registry.connectors.register("huggingface", "rl_framework.connector.huggingface:HuggingFaceConnector")
registry.connectors.register("mlflow", "rl_framework.connector.mlflow:MLflowConnector")
registry.connectors.register("storage", "rl_framework.connector.storage:StorageConnector")
registry.connectors.register("wandb", "rl_framework.connector.wandb:WandbConnector")


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LOCATIONS[name]), name)
    globals()[name] = value
    return value
