"""Files, folders and data sets in a store, whatever they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.connector.storage.config import StorageDownloadConfig, StorageUploadConfig
from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.stores import Address, Place, check_name, parse_address

__all__ = ["StoredFiles"]


class StoredFiles:
    """The part of a `StorageConnector` that takes anything else than agents."""

    upload_config: StorageUploadConfig | None
    download_config: StorageDownloadConfig | None
    _options: dict[str, Any]

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where things go."""

    @abstractmethod
    def _place(self) -> Place: ...

    @abstractmethod
    def _publish(self, place: Place, files: Mapping[str, Path], *, is_all: bool = False) -> None: ...

    def put(self, path: str | os.PathLike[str], name: str | None = None) -> str:
        """Publishes a file, or a folder with all that is in it: a report, a video, a data set.

        Args:
            path: The file or the folder.
            name: Its name below the address; None: as it is called. Of a folder of that name, what it has and this one
                has not is removed.

        Returns:
            The address of it.

        Raises:
            ArgumentError: There is nothing, or the name leads elsewhere.
            ConnectorError: The store does not take it. The files are as they were.
        """
        source = Path(path)
        name = check_name(source.resolve().name if name is None else name)
        if source.is_file():
            self._publish(self._place(), {name: source})
        else:
            inside = sorted(file for file in source.rglob("*") if file.is_file())
            if not inside:
                raise ArgumentError("path", str(path), "there is no such file, and no folder with files in it")
            files = {file.relative_to(source).as_posix(): file for file in inside}
            self._publish(self._place().below(name), files, is_all=True)
        return str(self.address / name)

    def push_episodes(self, sequence: EpisodeSequence, name: str = "episodes") -> str:
        """Publishes episodes as a data set.

        Args:
            sequence: The episodes.
            name: Of the data set, below the address.

        Returns:
            The address, for `EpisodeSequence.from_dataset`.

        Raises:
            ConnectorError: The store does not take it; the data set is in the folder that the message names.
        """
        check_name(name)
        folder = Path(tempfile.mkdtemp(prefix="rl_framework-push-"))
        data = sequence.save(folder / "episodes")
        try:
            address = self.put(data, name)
        except ConnectorError as error:
            raise ConnectorError(f"{error}. The data set is in {data}") from None
        shutil.rmtree(folder)
        return address

    def pull_episodes(self, name: str = "episodes") -> EpisodeSequence:
        """Fetches a data set that `push_episodes` published; it is removed from this machine when nothing uses it.

        Raises:
            ConnectorError: It could not be fetched.
            EpisodeDataError: It is damaged.
        """
        config = self.upload_config or self.download_config
        assert config is not None  # seen to in __init__
        address: Any = parse_address(config.address, options=self._options) / check_name(name)
        return EpisodeSequence.from_dataset(address)
