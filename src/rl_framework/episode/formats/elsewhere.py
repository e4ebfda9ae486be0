"""Data sets under an address: S3, Google Drive, SFTP and the like."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl_framework.episode.storage import EpisodeStorage
from rl_framework.stores import copy_of_files, parse_address

__all__ = ["read_from_address"]


def read_from_address(address: Any, open_copy: Callable[[Path], EpisodeStorage]) -> EpisodeStorage:
    """Opens a verified copy of a data set, which goes when nothing refers to it any more.

    Args:
        address: Of its folder or file.
        open_copy: Opens the copy.

    Raises:
        ConnectorError: It could not be fetched, or is not what was published.
        EpisodeDataError: It holds no episodes, or they are damaged or hostile.
    """
    folder = Path(tempfile.mkdtemp(prefix="rl_framework-episodes-"))
    try:
        storage = open_copy(copy_of_files(address, folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    storage.source = str(parse_address(address))
    weakref.finalize(storage, _remove, str(folder), os.getpid())
    return storage


def _remove(folder: str, process: int) -> None:
    # A forked process has a copy of the object, and is not the one to decide.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
