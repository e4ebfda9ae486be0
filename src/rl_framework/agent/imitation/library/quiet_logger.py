"""The library's logger, which by default prints, and writes into the folder of temporary files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

__all__ = ["quiet_logger"]


def quiet_logger(writers: Sequence[KVWriter] = ()) -> Any:
    """Returns a logger of the library that neither prints nor writes files.

    Args:
        writers: Receive what is logged.
    """
    from imitation.util.logger import HierarchicalLogger

    return HierarchicalLogger(Logger(folder=None, output_formats=list(writers)), [])
