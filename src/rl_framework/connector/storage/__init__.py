"""Storage anywhere: agents, checkpoints, videos, reports and data sets under an address."""

from rl_framework.connector.storage.config import StorageDownloadConfig, StorageUploadConfig
from rl_framework.connector.storage.connector import StorageConnector

__all__ = ["StorageConnector", "StorageDownloadConfig", "StorageUploadConfig"]
