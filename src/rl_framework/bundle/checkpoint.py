"""A folder of checkpoints: which there are, which of them can be used, which may go."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from rl_framework.bundle.format import Bundle, read_bundle
from rl_framework.errors import ArgumentError, BundleError

__all__ = ["checkpoint_path", "list_checkpoints", "open_checkpoint", "remove_old_checkpoints"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint_(\d{12,})\.zip")


def checkpoint_path(directory: str | Path, timestep: int) -> Path:
    """Returns the file of a checkpoint taken at a timestep."""
    return Path(directory) / f"checkpoint_{timestep:012d}.zip"


def list_checkpoints(directory: str | Path) -> list[tuple[int, Path]]:
    """Returns timestep and file of the checkpoints in a folder, the newest first."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return sorted(found, reverse=True)


def open_checkpoint(source: str | Path) -> Bundle | None:
    """Opens a checkpoint, or the newest one in a folder that is whole; says which it passed over, and why.

    Args:
        source: A checkpoint, or a folder of them.

    Returns:
        The checkpoint, or None if the folder has none (or is not there yet).

    Raises:
        ArgumentError: There is no such file.
        BundleError: The file, or every checkpoint in the folder, is damaged.
    """
    path = Path(source)
    if path.is_file():
        return read_bundle(path)
    if path.suffix == ".zip" and not path.is_dir():
        raise ArgumentError("resume_from", str(source), "there is no such file", "Name a checkpoint or its folder.")
    problems = []
    for _, candidate in list_checkpoints(path):
        try:
            bundle = read_bundle(candidate)
        except BundleError as error:
            logger.warning("passed over %s: %s", candidate, error)
            problems.append(str(error))
        else:
            return bundle
    if problems:
        raise BundleError(f"no checkpoint in {path} can be used: {'; '.join(problems)}")
    return None


def remove_old_checkpoints(directory: str | Path, keep_last: int) -> None:
    """Removes all but the newest checkpoints of a folder."""
    for _, path in list_checkpoints(directory)[keep_last:]:
        path.unlink(missing_ok=True)
