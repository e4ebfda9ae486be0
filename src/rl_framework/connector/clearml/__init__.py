"""ClearML: experiment tracking, models, data sets, and training elsewhere."""

from rl_framework.connector.clearml.configuration import ClearMLDownloadConfig, ClearMLUploadConfig
from rl_framework.connector.clearml.connector import ClearMLConnector
from rl_framework.connector.clearml.sdk import init_task

__all__ = ["ClearMLConnector", "ClearMLDownloadConfig", "ClearMLUploadConfig", "init_task"]
