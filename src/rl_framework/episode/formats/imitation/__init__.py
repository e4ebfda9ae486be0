"""Trajectories of the imitation library: reading its data sets, without its reader, and writing them.

The library reads infos with `jsonpickle.decode` and old files with `numpy.load(allow_pickle=True)`. Both run what a
file says. Nothing here does, unless the caller says that the file can be trusted.
"""

from rl_framework.episode.formats.imitation.reading import read_imitation_dataset
from rl_framework.episode.formats.imitation.writing import to_imitation_episodes, write_imitation_dataset

__all__ = ["read_imitation_dataset", "to_imitation_episodes", "write_imitation_dataset"]
