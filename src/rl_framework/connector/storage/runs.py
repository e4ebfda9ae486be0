"""Which run what is published belongs to, so that two runs under one address do not mix."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rl_framework.connector.upload_files import MEASURED, RECORD
from rl_framework.stores import Manifest
from rl_framework.whole_file import written_whole

__all__ = ["of_this_run", "run_of", "superseded", "surplus_checkpoints"]

logger = logging.getLogger(__name__)

_EARLIER = "earlier"
_FILE = "storage.json"
_CHECKPOINT = re.compile(r"checkpoint_(\d{12,})\.zip")
_RUN = re.compile(r"[0-9a-f]{12}")


def run_of(directory: Path) -> str:
    """Returns the name of the run that is kept in a folder of this machine; it stays with the folder."""
    path = directory / _FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))["run"]
        if isinstance(run, str) and _RUN.fullmatch(run):
            return run
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it is the first time
    run = secrets.token_hex(6)
    try:
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("%s cannot be written: %s. A resumed training will not know its metrics again", path, error)
    return run


def superseded(manifest: Manifest, timestep: int, run: str) -> Manifest:
    """Moves checkpoints after a timestep aside, by name: a training that begins there is not the one they are of."""
    files = {}
    for name, entry in manifest.files.items():
        found = _CHECKPOINT.fullmatch(name)
        is_later = found is not None and int(found[1]) > timestep
        files[_aside(name, f"before-{run}", manifest) if is_later else name] = entry
    return replace(manifest, files=files)


def of_this_run(manifest: Manifest, run: str) -> Manifest:
    """Moves what another run measured aside, by name."""
    before = manifest.information.get("run")
    if before == run:
        return manifest
    mark = before if isinstance(before, str) and _RUN.fullmatch(before) else f"before-{run}"
    own = (*MEASURED, RECORD)
    files = {_aside(name, mark, manifest) if name in own else name: entry for name, entry in manifest.files.items()}
    return replace(manifest, files=files, information={**manifest.information, "run": run})


def _aside(name: str, mark: str, manifest: Manifest) -> str:
    moved, number = f"{_EARLIER}/{mark}/{name}", 1
    while moved in manifest.files:
        number += 1
        moved = f"{_EARLIER}/{mark}-{number}/{name}"
    return moved


def surplus_checkpoints(names: Iterable[str], keep_last: int | None) -> list[str]:
    """Returns all but the newest checkpoints of those that are there, and of the one that comes."""
    if keep_last is None:
        return []
    found = sorted({(int(match[1]), name) for name in names if (match := _CHECKPOINT.fullmatch(name))})
    return [name for _, name in found[:-keep_last]]
