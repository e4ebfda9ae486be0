"""What holds episodes: the interface, episodes in memory, and the framework's own format on disk."""

from rl_framework.episode.storage.columns import ColumnStorage
from rl_framework.episode.storage.interface import Batch, EpisodeStorage, TransitionArrays
from rl_framework.episode.storage.stored import StoredEpisodes, is_data_set, open_data_set
from rl_framework.episode.storage.writer import in_memory, temporary_data_set, write_data_set

__all__ = [
    "Batch",
    "ColumnStorage",
    "EpisodeStorage",
    "StoredEpisodes",
    "TransitionArrays",
    "in_memory",
    "is_data_set",
    "open_data_set",
    "temporary_data_set",
    "write_data_set",
]
