"""A folder of checkpoints: which there are, which of them can be used, which may go."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path

from rl_framework.bundle.format import Bundle, read_bundle
from rl_framework.errors import ArgumentError, BundleError
from rl_framework.stores import (
    DamagedError,
    MissingError,
    copy_of_file,
    is_published,
    opened_place,
    parse_address,
    refuse_address,
    temporary_copies,
)
from rl_framework.whole_file import TEMPORARY_PREFIX

__all__ = [
    "checkpoint_path",
    "list_checkpoints",
    "open_checkpoint",
    "prepare_directory",
    "remove_leftovers",
    "remove_old_checkpoints",
]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint_(\d{12,})\.zip")
_ABANDONED_AFTER_SECONDS = 600.0
_SUBFOLDER = "checkpoints"
"""Where a `StorageConnector` keeps them, below its address."""


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
        source: A checkpoint, or a folder of them; or the address of one (see `rl_framework.stores`), or of what a
            `StorageConnector` was given, whose checkpoints are copied and verified.

    Returns:
        The checkpoint, or None if the folder has none (or is not there yet).

    Raises:
        ArgumentError: There is no such file.
        BundleError: The file, or every checkpoint in the folder, is damaged, or a saved agent and no checkpoint.
        ConnectorError: The address could not be read.
    """
    if is_published(source) or is_published(Path(source) / _SUBFOLDER):
        return _open_elsewhere(source)
    path = Path(source)
    if path.is_file():
        return _read_checkpoint(path)
    if path.suffix == ".zip" and not path.is_dir():
        raise ArgumentError("resume_from", str(source), "there is no such file", "Name a checkpoint or its folder.")
    problems = []
    for _, candidate in list_checkpoints(path):
        try:
            bundle = _read_checkpoint(candidate)
        except BundleError as error:
            logger.warning("passed over %s: %s", candidate, error)
            problems.append(str(error))
        else:
            return bundle
    if problems:
        raise BundleError(f"no checkpoint in {path} can be used: {'; '.join(problems)}")
    logger.info("there is no checkpoint in %s: training begins", path)
    return None


def _open_elsewhere(source: str | Path) -> Bundle | None:
    address = parse_address(source, "resume_from")
    with temporary_copies() as folder:
        if address.name.endswith(".zip"):
            return _read_checkpoint(copy_of_file(address, folder, argument="resume_from"))
        with opened_place(address, "resume_from") as (place, attempt):
            problems = []
            for checkpoints in (place.below(_SUBFOLDER), place):
                found = [
                    (int(match[1]), name) for name in checkpoints.names(attempt) if (match := _NAME.fullmatch(name))
                ]
                for _, name in sorted(found, reverse=True):
                    try:
                        return _read_checkpoint(checkpoints.fetch([name], folder, attempt)[name])
                    except (BundleError, DamagedError, MissingError) as error:
                        logger.warning("passed over %s of %s: %s", name, checkpoints, error)
                        problems.append(str(error))
    if problems:
        raise BundleError(f"no checkpoint in {address} can be used: {'; '.join(problems)}")
    logger.info("there is no checkpoint in %s: training begins", address)
    return None


def _read_checkpoint(path: Path) -> Bundle:
    bundle = read_bundle(path)
    information = bundle.information
    training, record = information.get("training"), information.get("record")
    if isinstance(training, dict) and isinstance(record, dict) and type(training.get("start")) is int:
        return bundle
    bundle.close()
    raise BundleError(
        f"{path} is no checkpoint: it does not say where its training stood. Open it with load_agent(path) and train on"
    )


def prepare_directory(directory: str | Path, timestep: int, *, resumed: bool) -> None:
    """Makes a folder for checkpoints, and finds out before the first step whether it can be used.

    Args:
        directory: The folder.
        timestep: Where training begins.
        resumed: Whether it goes on from a checkpoint.

    Raises:
        ArgumentError: It is an address, cannot be written to, or holds later checkpoints, which must be those of
            another training: the new ones would take their place one by one, and resuming would find the others first.
    """
    refuse_address(
        directory,
        "checkpoint_directory",
        "Name a folder, and pass connector=StorageConnector(address), which sends what is written there.",
    )
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArgumentError("checkpoint_directory", str(directory), f"cannot be written to: {error}") from error
    later = [there for there, _ in list_checkpoints(folder) if there > timestep]
    if later and not resumed:
        raise ArgumentError(
            "checkpoint_directory",
            str(directory),
            f"holds checkpoints of another training, up to timestep {later[0]}",
            "Go on with it by resume_from=, or name another folder.",
        )


def remove_old_checkpoints(directory: str | Path, keep_last: int, newest: int | None = None) -> None:
    """Removes all but the newest checkpoints of a folder.

    Args:
        directory: The folder.
        keep_last: How many to keep.
        newest: Timestep of the one that was just saved. Later ones, which are damaged or belong to a training that
            went on from somewhere else, are neither counted nor removed. None: the latest of all.
    """
    found = [path for timestep, path in list_checkpoints(directory) if newest is None or timestep <= newest]
    for path in found[keep_last:]:
        path.unlink(missing_ok=True)


def remove_leftovers(saved: Path) -> None:
    """Removes temporary files that killed processes left beside a file that was just saved.

    One is taken for abandoned when it was last written to long before. Both times come from the same disk, so that no
    clock has to be right; and if another process did live so slowly, only that one save of its fails.
    """
    try:
        limit = saved.stat().st_mtime - _ABANDONED_AFTER_SECONDS
        for path in saved.parent.glob(f"{TEMPORARY_PREFIX}*{saved.suffix}"):
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
                logger.info("removed %s, which a killed process had left", path)
    except OSError as error:
        logger.debug("could not look for leftovers beside %s: %s", saved, error)
