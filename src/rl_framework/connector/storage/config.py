"""What goes to a store and what comes from it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rl_framework.errors import ArgumentError
from rl_framework.stores import BUNDLE_NAME, Address, check_name, parse_address

__all__ = ["StorageDownloadConfig", "StorageUploadConfig"]


@dataclass(frozen=True)
class StorageUploadConfig:
    """Where an agent goes, and what goes with it.

    Attributes:
        address: "s3://bucket/path", "gs://bucket/path", "gdrive://folder/path", "hf://user/name/path",
            "sftp://user@host/path", "memory://path", the path of a folder, or a `UPath`. A password in it is shown
            nowhere.
        file_name: Name of the agent below the address.
        n_eval_episodes: Episodes of the evaluation whose results are uploaded with the agent; 0: no evaluation.
        video_length: Frames of the replay.
        upload_checkpoints: Whether checkpoints, videos and metrics go there while the agent is trained.
        upload_bundle: Whether the agent goes there when its training ends, without `upload`.
        keep_last: How many checkpoints stay there; None: all.

    Raises:
        ArgumentError: A value cannot be used.
    """

    address: str | os.PathLike[str]
    file_name: str = BUNDLE_NAME
    n_eval_episodes: int = 10
    video_length: int = 500
    upload_checkpoints: bool = True
    upload_bundle: bool = True
    keep_last: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        for name, value, least in (
            ("n_eval_episodes", self.n_eval_episodes, 0),
            ("video_length", self.video_length, 1),
            ("keep_last", self.keep_last, 1),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ArgumentError(name, value, f"must be an integer of at least {least}")

    def __repr__(self) -> str:
        return f"StorageUploadConfig({str(self.parsed())!r}, file_name={self.file_name!r})"

    def parsed(self) -> Address:
        """Returns the address in its parts."""
        return parse_address(self.address)


@dataclass(frozen=True)
class StorageDownloadConfig:
    """Where an agent comes from.

    Attributes:
        address: As in `StorageUploadConfig`; of a folder that was published to, or of a bundle in it.
        file_name: Name of the agent below the address, such as "checkpoints/checkpoint_000000100000.zip"; None:
            "agent.zip", or the only .zip file.

    Raises:
        ArgumentError: A value cannot be used.
    """

    address: str | os.PathLike[str]
    file_name: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        return f"StorageDownloadConfig({str(self.parsed())!r}, file_name={self.file_name!r})"

    def parsed(self) -> Address:
        """Returns the address of the agent in its parts."""
        address = parse_address(self.address)
        return address if self.file_name is None else address / self.file_name


def _check(config: StorageUploadConfig | StorageDownloadConfig) -> None:
    parse_address(config.address)
    if config.file_name is not None:
        check_name(config.file_name, "file_name")
        if not config.file_name.endswith(".zip"):
            raise ArgumentError("file_name", config.file_name, "must end with .zip", 'Such as "agent.zip".')
