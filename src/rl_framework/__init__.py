"""One interface to train, evaluate, record, share and resume reinforcement- and imitation-learning agents."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public names and where they live. They are imported when first used (PEP 562), so that importing the package, or
# asking the command line for help, does not load torch.
_LOCATIONS = {
    "Agent": "rl_framework.agent",
    "ArgumentError": "rl_framework.errors",
    "BundleError": "rl_framework.errors",
    "Callback": "rl_framework.training",
    "ClearMLConnector": "rl_framework.connector",
    "ClearMLDownloadConfig": "rl_framework.connector",
    "ClearMLUploadConfig": "rl_framework.connector",
    "Comparison": "rl_framework.evaluation",
    "ConfigurationError": "rl_framework.errors",
    "Connector": "rl_framework.connector",
    "ComposedAgent": "rl_framework.agent.reinforcement",
    "CustomAgent": "rl_framework.agent.reinforcement",
    "CustomAlgorithm": "rl_framework.agent.reinforcement",
    "EnvironmentAdapter": "rl_framework.environment",
    "Episode": "rl_framework.episode",
    "EpisodeDataError": "rl_framework.errors",
    "EpisodeSequence": "rl_framework.episode",
    "EvaluationResult": "rl_framework.evaluation",
    "Experiment": "rl_framework.experiment",
    "ExperimentConfig": "rl_framework.experiment",
    "FeaturesExtractor": "rl_framework.agent.network",
    "HuggingFaceConnector": "rl_framework.connector",
    "HuggingFaceDownloadConfig": "rl_framework.connector",
    "HuggingFaceUploadConfig": "rl_framework.connector",
    "ILAgent": "rl_framework.agent",
    "ImitationAgent": "rl_framework.agent.imitation",
    "LiveCurve": "rl_framework.report",
    "LocalConnector": "rl_framework.connector",
    "MLflowConnector": "rl_framework.connector",
    "MissingExtraError": "rl_framework.errors",
    "MultiAgent": "rl_framework.agent.multi_agent",
    "MultiSlotAdapter": "rl_framework.environment",
    "OfflineAgent": "rl_framework.agent.imitation.offline",
    "Overlay": "rl_framework.report",
    "PeriodicEvaluation": "rl_framework.training",
    "PeriodicVideo": "rl_framework.report",
    "PluginError": "rl_framework.errors",
    "RLAgent": "rl_framework.agent",
    "RLFrameworkError": "rl_framework.errors",
    "Reproduction": "rl_framework.agent.reproduce",
    "Run": "rl_framework.experiment",
    "StableBaselinesAgent": "rl_framework.agent.reinforcement",
    "StorageConnector": "rl_framework.connector",
    "StorageDownloadConfig": "rl_framework.connector",
    "StorageUploadConfig": "rl_framework.connector",
    "TensorBoardConnector": "rl_framework.connector",
    "TrackNorms": "rl_framework.training",
    "Tuning": "rl_framework.experiment",
    "TuningError": "rl_framework.errors",
    "TuningResult": "rl_framework.experiment.tuning.result",
    "WandbConnector": "rl_framework.connector",
    "compare": "rl_framework.evaluation",
    "load_agent": "rl_framework.agent",
    "record_video": "rl_framework.report",
    "reproduce": "rl_framework.agent.reproduce",
    "register_activation": "rl_framework.registry",
    "register_agent": "rl_framework.registry",
    "register_algorithm": "rl_framework.registry",
    "register_connector": "rl_framework.registry",
    "register_environment_adapter": "rl_framework.registry",
    "register_features_extractor": "rl_framework.registry",
    "register_network": "rl_framework.registry",
    "register_offline_algorithm": "rl_framework.registry",
    "register_optimizer": "rl_framework.registry",
    "register_part": "rl_framework.registry",
    "register_policy": "rl_framework.registry",
    "register_preset": "rl_framework.registry",
    "register_replay_buffer": "rl_framework.registry",
    "register_reward_network": "rl_framework.registry",
    "register_schedule": "rl_framework.registry",
    "register_wrapper": "rl_framework.registry",
    "tune": "rl_framework.experiment",
    "show_video": "rl_framework.report",
    "write_report": "rl_framework.report",
}

__all__ = [*sorted(_LOCATIONS), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "report":
        return importlib.import_module("rl_framework.report")
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LOCATIONS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOCATIONS})
