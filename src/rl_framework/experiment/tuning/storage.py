"""Where a study lies: Optuna's journal in a file, or SQLite."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rl_framework.errors import ArgumentError, require_extra
from rl_framework.experiment.tuning.locks import Lock

if TYPE_CHECKING:
    import optuna

__all__ = ["JOURNAL", "absolute_storage", "check_new", "open_study", "quiet_optuna"]

JOURNAL = "journal.log"
_SQLITE = "sqlite:///"
_SQLITE_ENDINGS = (".db", ".sqlite", ".sqlite3")
Direction = Literal["maximize", "minimize"]

_BUSY_SECONDS = 60
"""How long a process waits for another one that writes to the same SQLite file."""


def absolute_storage(storage: str | None) -> str | None:
    """Returns an address that means the same from every folder."""
    if storage is None:
        return None
    path = os.path.abspath(storage.removeprefix(_SQLITE))  # noqa: PTH100  # links stay
    is_sqlite = storage.startswith(_SQLITE) or path.endswith(_SQLITE_ENDINGS)
    return f"{_SQLITE}{path}" if is_sqlite else path


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keeps Optuna from telling every step on standard error; what matters is told by this package."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna\b")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def check_new(storage: str | None, name: str) -> None:
    """Sees to it that a storage has no study of that name.

    Raises:
        ArgumentError: It has.
    """
    if storage is None:
        return
    import optuna

    with _usable(storage):
        known = [summary.study_name for summary in optuna.get_all_study_summaries(_storage(storage, Path()))]
    if name in known:
        problem = f"has a study {name!r} of another folder"
        raise ArgumentError("storage", storage, problem, "Name another study, or another storage.")


@contextmanager
def _usable(storage: str) -> Iterator[None]:
    import optuna

    try:
        yield
    except (OSError, ValueError, optuna.exceptions.StorageInternalError) as error:
        raise ArgumentError("storage", storage, f"cannot be used: {error}") from error


def open_study(storage: str | None, folder: Path, name: str, direction: Direction) -> optuna.Study:
    """Opens a study, or makes it.

    Args:
        storage: From `absolute_storage`; None: a journal in the folder.
        folder: Of the study.
        name: Of the study.
        direction: "maximize" or "minimize".

    Raises:
        MissingExtraError: Optuna is not installed.
        ArgumentError: The storage cannot be used.
    """
    require_extra("tuning", "tuning", "optuna")
    import optuna

    with _usable(storage or str(folder / JOURNAL)):
        # To load what another process has made a moment ago is right.
        return optuna.create_study(
            storage=_storage(storage, folder), study_name=name, direction=direction, load_if_exists=True
        )


def _storage(storage: str | None, folder: Path) -> Any:
    from optuna.storages import JournalStorage, RDBStorage

    if storage is not None and storage.startswith(_SQLITE):
        Path(storage.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}})
    path = folder / JOURNAL if storage is None else Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(_journal(path))


def _journal(path: Path) -> Any:
    from optuna.storages.journal import JournalFileBackend

    lock: Any = _JournalLock(path)
    return JournalFileBackend(str(path), lock_obj=lock)


class _JournalLock:
    """A lock for a journal that does not outlive its process, and mends the journal.

    Optuna's own is a file that a killed process leaves behind; others wait half a minute for it. And a line that was
    cut by a power failure would make the journal unreadable once another line follows.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f"{journal.name}.lock")
        self._held: Lock | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._held = Lock.wait(self._path)
        _remove_cut_line(self._journal)
        return True

    def release(self) -> None:
        """Gives it back."""
        assert self._held is not None  # `acquire` comes first
        self._held.release()


def _remove_cut_line(path: Path) -> None:
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
