"""Recorded episodes, lazily read, in any library's format."""

from rl_framework.episode.episode import Episode
from rl_framework.episode.inferred_spaces import infer_spaces
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.episode.statistics import EpisodeStatistics
from rl_framework.episode.storage import Batch, EpisodeStorage, TransitionArrays
from rl_framework.episode.transitions import Transitions

__all__ = [
    "Batch",
    "Episode",
    "EpisodeSequence",
    "EpisodeStatistics",
    "EpisodeStorage",
    "TransitionArrays",
    "Transitions",
    "infer_spaces",
]
