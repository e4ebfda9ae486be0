"""A run that W&B's client has open, whatever becomes of its service process and of the network."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.wandb.transaction_log import is_complete, read_later, read_rows, row_of
from rl_framework.secrecy import describe_error

__all__ = ["STEP", "ServiceLostError", "WandbSession"]

logger = logging.getLogger(__name__)

STEP = "timestep"
_INIT_SECONDS = 30.0
"""For W&B's server to answer."""
_OFFLINE_INIT_SECONDS = 90.0
"""For the service process alone, which a machine that has much to do may keep waiting."""
_PATIENCE_WITH_SERVICE = 5.0
_PATIENCE_WITH_LOG = 3.0
_PATIENCE_WITH_FILE = 10.0
"""For the service process to write down that it has been given a file."""
_MOST_HANDED_OVER = 20_000

_SETTINGS: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "host": "",
    # System metrics, and the machine, user, program and arguments.
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    # What a kill of the service loses at most is handed over again, or waited for; see `WandbSession`.
    "x_transaction_log_flush_interval": 0.2,
}
"""Only those that the installed version knows are given to it."""

_LOST = frozenset(
    {"HandleAbandonedError", "MailboxClosedError", "ServiceStartTimeoutError", "WandbServiceConnectionError"}
)

_open_sessions: weakref.WeakSet[WandbSession] = weakref.WeakSet()


class ServiceLostError(ConnectionError):
    """W&B's service process is gone."""


class WandbSession:
    """Opens runs, and opens them again under the same id when the service process has ended.

    W&B's client hands everything to a process of its own, which writes it into a log and sends it. Numbers that were
    handed over in vain are found by comparing with that log, and handed over again; files are waited for until they
    stand in it.

    Args:
        mode: "online" or "offline".
        directory: Where W&B makes its folder `wandb`; None: the working directory, or WANDB_DIR.
        settings: More of W&B's settings, by name.
        patience: Seconds that the end of a run may take.
        run: A run of the user's own to write to, which is not ended.
    """

    def __init__(
        self, mode: str, directory: Path | None, settings: Mapping[str, Any], patience: float, run: Any = None
    ) -> None:
        self.mode, self._patience = mode, patience
        # The service has a working directory of its own.
        self._directory = Path(directory or os.environ.get("WANDB_DIR") or ".").absolute()
        self._settings = dict(settings)
        self._adopted = run
        self._run: Any = run
        self._described: dict[str, Any] = {}
        self._defined: set[str] = set()
        self._handed_over: deque[dict[str, Any]] = deque(maxlen=_MOST_HANDED_OVER)
        self._known: Counter[tuple[str, int, Any]] | None = None
        self._configuration: dict[str, Any] = {}
        self._was_lost = False
        self._lock = threading.RLock()

    @property
    def run(self) -> Any:
        """The `wandb.Run`, or None while none is open."""
        return self._run

    @property
    def folder(self) -> Path:
        """W&B's folder, with a folder in it for each run."""
        if self._run is not None:
            return Path(self._run.settings.sync_dir).absolute().parent
        return self._directory / "wandb"

    def opened(self, described: Mapping[str, Any]) -> Any:
        """Returns the run, which is opened, or continued if there was one with its id.

        Args:
            described: `id`, `project`, `entity`, `name`, `group`, `tags`.
        """
        with self._lock:
            if self._adopted is not None and described["id"] == self._adopted.id:
                return self._adopted
            if self._described.get("id") != described["id"]:
                self.finish()
                self._configuration.clear()
            if self._run is None:
                self._described = dict(described)
                self._open()
            return self._run

    def _open(self) -> None:
        from wandb.errors import Error

        try:
            self._run = self._init(self.mode)
        except Exception as error:
            if not isinstance(error, Error) and not _is_lost(error):
                raise
            reason, is_lost = describe_error(error), _is_lost(error)
            self._end_service()  # a service that has failed holds on to the id
            if is_lost:
                raise ServiceLostError(f"W&B's service process has ended: {reason}") from None
            if self.mode != "online":
                raise
            logger.warning(
                "W&B cannot be reached, or refuses us: %s. Training goes on; the run is kept in %s, to be sent by "
                "WandbConnector(...).sync()",
                reason,
                self.folder,
            )
            self._run = self._init("offline")
        _open_sessions.add(self)
        self._defined.clear()
        self._known = None
        if self._configuration:
            self.configure({})

    def _init(self, mode: Any) -> Any:
        import wandb

        self._directory.mkdir(parents=True, exist_ok=True)
        patience = _INIT_SECONDS if mode == "online" else _OFFLINE_INIT_SECONDS
        wanted = {**_SETTINGS, "init_timeout": patience, "finish_timeout": max(self._patience, 1.0)}
        known = wandb.Settings.model_fields
        settings = wandb.Settings(**{name: value for name, value in wanted.items() if name in known}, **self._settings)
        described = self._described
        return wandb.init(
            id=described["id"],
            project=described["project"],
            entity=described["entity"],
            name=described["name"],
            group=described["group"],
            tags=described["tags"],
            dir=str(self._directory),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def call(self, action: Callable[[Any], Any]) -> Any:
        """Calls something of the run.

        Raises:
            ServiceLostError: The service process has ended; the next call opens the run again.
        """
        with self._lock:
            run = self._still_open()
            try:
                return action(run)
            except Exception as error:
                if not _is_lost(error):
                    raise
                reason = describe_error(error)
                self._lose()
        raise ServiceLostError(f"W&B's service process has ended: {reason}")

    def _still_open(self) -> Any:
        if self._run is None:  # `close` did not wait for this
            raise ServiceLostError("the W&B run was ended meanwhile; it is opened again")
        return self._run

    def _lose(self) -> None:
        if self._adopted is None:
            self._run, self._was_lost = None, bool(self._handed_over)
            self._end_service()

    def _end_service(self) -> None:
        """Lets W&B's client forget its service, unless somebody else may be using it."""
        import wandb

        _open_sessions.discard(self)
        if wandb.run is None and not any(other.run is not None for other in _open_sessions):
            try:
                wandb.teardown()
            except Exception as error:  # noqa: BLE001 (it is gone already)
                logger.debug("W&B's service was gone: %s", describe_error(error))

    def configure(self, configuration: Mapping[str, Any]) -> None:
        """Adds to the run's configuration, and does so again where the run is opened again."""
        with self._lock:
            self._configuration.update(configuration)
            self.call(lambda run: run.config.update(self._configuration, allow_val_change=True))

    def log_artifact(self, artifact: Any, aliases: list[str]) -> Any:
        """Hands over an artifact, and returns it when the service has written that down.

        Raises:
            ServiceLostError: The service process has ended.
            TimeoutError: It has not written that down.
        """
        return self._written(
            lambda run: run.log_artifact(artifact, aliases=aliases),
            lambda record: record.artifact.digest == artifact.digest,
        )

    def _written(self, action: Callable[[Any], Any], is_it: Callable[[Any], bool]) -> Any:
        """Calls something of the run whose files may go away afterwards, which a kill of the service must not lose."""
        with self._lock:
            log = None if self._adopted is not None else Path(self._still_open().settings.sync_file)
            before = log.stat().st_size if log is not None and log.exists() else 0
            result = self.call(action)
        if log is None:
            return result
        end = time.monotonic() + _PATIENCE_WITH_FILE
        while not (log.exists() and any(map(is_it, read_later(log, before)))):
            if time.monotonic() > end:
                if not log.exists():  # the user wants none
                    break
                raise TimeoutError("W&B's service process does not write down what it is given")
            time.sleep(0.01)
        return result

    # Rows

    def log(self, row: Mapping[str, Any], *, after: int | None = None, again: bool = False) -> None:
        """Logs numbers or media at a timestep, each of them once.

        Args:
            row: By name; with `STEP`.
            after: The timestep from which a training was resumed: what was logged after it, and is the same, is left
                out. None: it was not resumed.
            again: Whether the same row may have been logged before.
        """
        with self._lock:
            self._still_open()
            self._hand_over_again()
            timestep = int(row[STEP])
            if again or (after is not None and timestep > after):
                row = self._without_known(row, timestep - 1 if after is None else after)
            if not any(not name.startswith("_") and name != STEP for name in row):
                return
            if not any(type(value).__name__ == "Video" for value in row.values()):
                self.call(lambda run: self._log(run, row))
                self._handed_over.append(dict(row))
                return
        self._written(lambda run: self._log(run, row), lambda record: _is_same_row(row, row_of(record)))

    def _log(self, run: Any, row: Mapping[str, Any]) -> None:
        for name in row:
            if name not in self._defined and not name.startswith("_"):
                if name == STEP:
                    run.define_metric(STEP, hidden=True)
                else:
                    run.define_metric(name, step_metric=STEP)
                self._defined.add(name)
        run.log(dict(row))

    def _hand_over_again(self) -> None:
        """Logs again what a service that has ended took and did not write down."""
        if not self._was_lost:
            return
        rows, self._was_lost = list(self._handed_over), False
        for row in rows:
            missing = self._without_known(row, min(int(known[STEP]) for known in rows) - 1)
            if any(not name.startswith("_") and name != STEP for name in missing):
                self.call(lambda run, missing=missing: self._log(run, missing))  # type: ignore[misc]

    def _without_known(self, row: Mapping[str, Any], after: int) -> dict[str, Any]:
        if self._known is None:
            self._known = self._read_known(after)
        left = {}
        for name, value in row.items():
            key = name, int(row[STEP]), _comparable(value)
            if name != STEP and not name.startswith("_") and self._known[key] > 0:
                self._known[key] -= 1
            else:
                left[name] = value
        return left

    def _read_known(self, after: int) -> Counter[tuple[str, int, Any]]:
        run_id, own = self._run.id, Path(self._run.settings.sync_dir).name
        known: Counter[tuple[str, int, Any]] = Counter()
        for path in sorted(self.folder.glob(f"*run-*-{run_id}*/run-{run_id}.wandb")):
            if path.parent.name == own:
                continue
            for row in read_rows(path):
                timestep = row.get(STEP)
                if isinstance(timestep, int) and timestep > after:
                    known.update((name, timestep, _comparable(value)) for name, value in row.items())
        return known

    def finish(self, exit_code: int = 0) -> None:
        """Ends the run, in bounded time; a run of the user's own stays open."""
        if self._adopted is not None or self._run is None:
            return
        folder = Path(self._run.settings.sync_dir)
        # Whoever is in the middle of a call may be waiting for a service that does not answer.
        if not self._lock.acquire(timeout=self._patience):
            logger.warning("the W&B run in %s was not ended: its service process does not answer", folder)
            return
        try:
            reason = self._ended(exit_code)
            if reason is not None and self._run is None:  # the service is gone: what it has lost is handed over again
                self._open()
                self._hand_over_again()
                reason = self._ended(exit_code)
            if reason is not None:
                logger.warning("the W&B run in %s was not ended: %s", folder, reason)
        finally:
            self._run = None
            _open_sessions.discard(self)
            self._handed_over.clear()
            self._lock.release()

    def _ended(self, exit_code: int) -> str | None:
        """Ends the run and returns why it was not possible, or None."""
        run, failures = self._run, list[Exception]()

        def end() -> None:
            try:
                run.finish(exit_code)
            except Exception as error:  # noqa: BLE001 (told by the caller)
                failures.append(error)

        thread = threading.Thread(target=end, name="the end of a W&B run", daemon=True)
        thread.start()
        thread.join(self._patience + _PATIENCE_WITH_SERVICE)
        if thread.is_alive():
            return "its service process does not answer"
        if failures and _is_lost(failures[0]):
            self._lose()
        if not failures:
            _wait_for_log(Path(run.settings.sync_file))
        return describe_error(failures[0]) if failures else None


def _wait_for_log(path: Path) -> None:
    """Waits until the service has written down all of a run, which it does a little after its end."""
    end = time.monotonic() + _PATIENCE_WITH_LOG
    while time.monotonic() < end and path.exists() and not is_complete(path):
        time.sleep(0.01)


def _is_same_row(row: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    return row.keys() <= written.keys() and row[STEP] == written[STEP]


def _is_lost(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__name__ in _LOST


def _comparable(value: Any) -> Any:
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "media"
    return "NaN" if math.isnan(number) else number
