"""What goes to the Hugging Face Hub and what comes from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from rl_framework.errors import ArgumentError
from rl_framework.hub import check_repository_id, check_revision

__all__ = ["BUNDLE_NAME", "HuggingFaceDownloadConfig", "HuggingFaceUploadConfig"]

BUNDLE_NAME = "agent.zip"


@dataclass(frozen=True)
class HuggingFaceUploadConfig:
    """Where an agent goes, and what goes with it.

    Attributes:
        repository_id: "user/name" or "organisation/name"; made if it is missing.
        environment_name: What the agent was trained on; None: as its record says.
        model_architecture: What the agent is; None: the name of its algorithm.
        file_name: Name of the bundle in the repository.
        commit_message: Of the one commit that `upload` makes.
        n_eval_episodes: Episodes of the evaluation that the card reports; 0: none.
        video_length: Frames of the replay.
        private: Whether a repository that is made is private.
        revision: The branch; made if it is missing. None: the main one.
        upload_checkpoints: Whether checkpoints, and videos made while training, go to the repository too.
        keep_last: How many checkpoints stay there; None: all.

    Raises:
        ArgumentError: A value cannot be used.
    """

    repository_id: str
    environment_name: str | None = None
    model_architecture: str | None = None
    file_name: str = BUNDLE_NAME
    commit_message: str = "Upload an agent of rl_framework"
    n_eval_episodes: int = 10
    video_length: int = 500
    private: bool = False
    revision: str | None = None
    upload_checkpoints: bool = True
    keep_last: int | None = None

    def __post_init__(self) -> None:
        check_repository_id(self.repository_id)
        check_revision(self.revision)
        _check_file_name(self.file_name)
        for name in ("environment_name", "model_architecture", "commit_message"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value.strip()) and (value is not None or name == "commit_message"):
                raise ArgumentError(name, value, "must be a text, and not empty")
        for name in ("private", "upload_checkpoints"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(name, getattr(self, name), "must be True or False")
        for name, value, least in (
            ("n_eval_episodes", self.n_eval_episodes, 0),
            ("video_length", self.video_length, 1),
            ("keep_last", self.keep_last, 1),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ArgumentError(name, value, f"must be an integer of at least {least}")


@dataclass(frozen=True)
class HuggingFaceDownloadConfig:
    """Where an agent comes from.

    Attributes:
        repository_id: "user/name" or "organisation/name".
        file_name: Name of the file in the repository, such as "checkpoints/checkpoint_000000100000.zip"; None:
            "agent.zip", or with `trust` the repository's only .zip file.
        revision: Branch, tag or commit; None: the newest on the main branch.
        trust: Whether a file that Stable-Baselines3 itself wrote may be opened, which runs any code that its author
            put there.

    Raises:
        ArgumentError: A value cannot be used.
    """

    repository_id: str
    file_name: str | None = None
    revision: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        check_repository_id(self.repository_id)
        check_revision(self.revision)
        if self.file_name is not None:
            _check_file_name(self.file_name)


def _check_file_name(name: Any) -> None:
    path = PurePosixPath(name if isinstance(name, str) else "")
    if (
        not isinstance(name, str)
        or not name
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or path.name != name.rpartition("/")[2]
    ):
        raise ArgumentError("file_name", name, "must be a path within the repository", 'Such as "agent.zip".')
