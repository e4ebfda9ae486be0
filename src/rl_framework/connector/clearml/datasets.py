"""Recorded episodes as ClearML data sets."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rl_framework.connector.clearml.service import ClearMLService
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, ConnectorError

__all__ = ["ClearMLDatasets"]

logger = logging.getLogger(__name__)

_FOLDER = "episodes"


class ClearMLDatasets:
    """The part of a ClearMLConnector that stores and fetches data sets, through the SDK's `Dataset`."""

    _service: ClearMLService
    _ask: Callable[[Any, str], Any]
    service: Any
    upload_config: Any

    def push_episodes(
        self,
        sequence: EpisodeSequence,
        name: str,
        project: str | None = None,
        *,
        version: str | None = None,
        tags: Sequence[str] = (),
        timeout: float | None = 3600.0,
    ) -> str:
        """Stores episodes as a ClearML data set.

        Args:
            sequence: The episodes.
            name: Name of the data set.
            project: Its project; None: that of the upload configuration.
            version: Its version, such as "1.0.0"; None: the next one.
            tags: Its tags.
            timeout: Seconds to wait for the SDK, which by itself waits for ever for a server that went away; None: no
                limit.

        Returns:
            Its id, for `pull_episodes`.

        Raises:
            ConnectorError: It could not be stored.
        """
        from clearml import Dataset

        def store() -> str:
            dataset = Dataset.create(
                dataset_name=name,
                dataset_project=project or self.upload_config.project_name,
                dataset_tags=list(tags),
                dataset_version=version,
            )
            dataset.add_files(folder, verbose=False)
            dataset.upload(show_progress=False, verbose=False)
            if not dataset.finalize(verbose=False):
                raise ConnectorError(f"ClearML did not finalize the data set {dataset.id}")
            return str(dataset.id)

        with tempfile.TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as folder:
            sequence.save(Path(folder) / _FOLDER)
            dataset_id: str = self._with_the_sdk(store, f"storing the data set {name!r}", timeout)
        return dataset_id

    def pull_episodes(
        self,
        dataset_id: str | None = None,
        *,
        name: str | None = None,
        project: str | None = None,
        version: str | None = None,
        directory: str | Path | None = None,
        timeout: float | None = 3600.0,
    ) -> EpisodeSequence:
        """Fetches episodes that `push_episodes` stored.

        Args:
            dataset_id: Id of the data set.
            name: Its name, if the id is not given.
            project: Its project; None: that of the upload configuration.
            version: Its version; None: the newest.
            directory: Folder to copy it to, which must be new or empty; None: the SDK's cache, which removes old data
                sets when others come.
            timeout: As for `push_episodes`.

        Raises:
            ArgumentError: Neither or both of `dataset_id` and `name` are given.
            ConnectorError: It could not be fetched.
            EpisodeDataError: Its files are damaged.
        """
        if (dataset_id is None) == (name is None):
            raise ArgumentError("dataset_id", dataset_id, "either dataset_id or name must be given, and not both")
        from clearml import Dataset

        where: dict[str, Any] = {"dataset_id": dataset_id}
        if dataset_id is None:
            where = {
                "dataset_name": name,
                "dataset_project": project or self.upload_config.project_name,
                "dataset_version": version,
            }

        def fetch() -> str:
            dataset = Dataset.get(**where)
            found: str | None
            if directory is None:
                found = dataset.get_local_copy()
            else:
                found = dataset.get_mutable_local_copy(str(directory), raise_on_error=True)
            if found is None:
                raise ConnectorError("ClearML gave no copy of it")
            return str(found)

        copy: str = self._with_the_sdk(fetch, f"fetching the data set {dataset_id or name!r}", timeout)
        return EpisodeSequence.load(Path(copy) / _FOLDER)

    def _with_the_sdk(self, call: Callable[[], Any], what: str, timeout: float | None) -> Any:
        """Calls the SDK, which may neither return nor raise, and turns what it prints into messages of the log."""
        self._ask(lambda: self._service.call("users.get_current_user"), f"reaching {self.service}")
        results: list[Any] = []
        failures: list[str] = []

        def work() -> None:
            try:
                results.append(call())
            except Exception as error:  # noqa: BLE001 (whatever the SDK and its storages raise)
                failures.append(self._service.explain(error))

        printed = io.StringIO()
        thread = threading.Thread(target=work, name="ClearML data set", daemon=True)
        with redirect_stdout(printed):
            thread.start()
            thread.join(timeout)
        for line in filter(None, map(str.strip, printed.getvalue().splitlines())):
            logger.info("%s", line)
        if not results:
            raise ConnectorError(f"{what} failed: {failures[0] if failures else f'no answer in {timeout} seconds'}")
        return results[0]
