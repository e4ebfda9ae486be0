"""What a ClearMLConnector uploads and downloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["SHORTEST_NAME", "ClearMLDownloadConfig", "ClearMLUploadConfig"]

SHORTEST_NAME = 3
"""ClearML refuses names of tasks and projects that are shorter."""

_TASK_TYPES = (
    "training",
    "testing",
    "inference",
    "data_processing",
    "application",
    "monitor",
    "controller",
    "optimizer",
    "service",
    "qc",
    "custom",
)


@dataclass(frozen=True)
class ClearMLUploadConfig:
    """How a run appears in ClearML.

    Attributes:
        project_name: The project; "/" makes sub-projects. It is made if it is missing.
        task_name: The task; None: what is trained on what, such as "ppo on CartPole-v1".
        task_type: "training", "testing", "inference", or another of ClearML's types.
        file_name: Name of the uploaded agent, ending with .zip.
        video_length: Frames of the replay; 0: none.
        n_eval_episodes: Episodes of the evaluation whose results are uploaded with the agent; 0: no evaluation.
        tags: Tags of the task and of its models.
        output_uri: Where files go: "s3://bucket/folder", "gs://...", "azure://...", "/mnt/share"; None: ClearML's
            file server.
        upload_checkpoints: Whether every checkpoint becomes an output model.
        describe_code: Whether the repository, the commit, uncommitted changes (or the script itself) and the packages
            are recorded, as ClearML does by default. Without them a clone of the task cannot be run.
    """

    project_name: str = "rl_framework"
    task_name: str | None = None
    task_type: str = "training"
    file_name: str = "agent.zip"
    video_length: int = 500
    n_eval_episodes: int = 10
    tags: Sequence[str] = ()
    output_uri: str | None = None
    upload_checkpoints: bool = True
    describe_code: bool = True

    def __post_init__(self) -> None:
        for argument in ("project_name", "task_name"):
            name = getattr(self, argument)
            if name is None and argument == "task_name":
                continue
            if not isinstance(name, str) or len(name.strip()) < SHORTEST_NAME:
                raise ArgumentError(
                    argument, name, f"must be a text of at least {SHORTEST_NAME} characters for ClearML"
                )
        if self.task_type not in _TASK_TYPES:
            raise UnknownNameError("task_type", self.task_type, _TASK_TYPES)
        if not isinstance(self.file_name, str) or "/" in self.file_name or not self.file_name.endswith(".zip"):
            raise ArgumentError("file_name", self.file_name, "must be the name of a file that ends with .zip")
        for argument in ("video_length", "n_eval_episodes"):
            number = getattr(self, argument)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ArgumentError(argument, number, "must be an integer of at least 0")
        if isinstance(self.tags, str):
            raise ArgumentError("tags", self.tags, "must be a list of texts", f"Write [{self.tags!r}].")


@dataclass(frozen=True)
class ClearMLDownloadConfig:
    """Which agent to download.

    Attributes:
        model_id: Id of a model in ClearML.
        task_id: Id of a task, whose final model is taken, or without one its newest.
        file_name: Name under which the task's agent was uploaded.
    """

    model_id: str | None = None
    task_id: str | None = None
    file_name: str = "agent.zip"

    def __post_init__(self) -> None:
        if (self.model_id is None) == (self.task_id is None):
            raise ArgumentError("model_id", self.model_id, "either model_id or task_id must be given, and not both")
