"""Training: what happens, and who listens."""

from rl_framework.training.action_distribution import ActionDistribution
from rl_framework.training.callback import Callback, Training
from rl_framework.training.callbacks import PeriodicCheckpoint, PeriodicEvaluation, ProgressBar
from rl_framework.training.events import (
    CheckpointSaved,
    EpisodeEnded,
    Evaluated,
    Event,
    RolloutEnded,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
    Updated,
    Validated,
    VideoRecorded,
)
from rl_framework.training.norms import TrackNorms

__all__ = [
    "ActionDistribution",
    "Callback",
    "CheckpointSaved",
    "EpisodeEnded",
    "Evaluated",
    "Event",
    "PeriodicCheckpoint",
    "PeriodicEvaluation",
    "ProgressBar",
    "RolloutEnded",
    "TrackNorms",
    "Training",
    "TrainingEnded",
    "TrainingFailed",
    "TrainingStarted",
    "Updated",
    "Validated",
    "VideoRecorded",
]
