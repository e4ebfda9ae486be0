"""Minari's data sets: reading them, without Minari, and writing them with it."""

from rl_framework.episode.formats.minari.reading import read_minari
from rl_framework.episode.formats.minari.writing import save_minari

__all__ = ["read_minari", "save_minari"]
