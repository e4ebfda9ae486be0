"""The Hugging Face Hub as a store of agents, and of what happens while they are trained."""

from rl_framework.connector.huggingface.config import HuggingFaceDownloadConfig, HuggingFaceUploadConfig
from rl_framework.connector.huggingface.connector import HuggingFaceConnector

__all__ = ["HuggingFaceConnector", "HuggingFaceDownloadConfig", "HuggingFaceUploadConfig"]
