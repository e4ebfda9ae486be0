"""What is asked of the ClearML SDK itself: tasks of the user's own, agents, and what a clone needs to run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rl_framework.errors import ArgumentError, require_extra

__all__ = ["adopted_task", "code_description", "init_task", "remote_task_id", "stop_tensorboard_capture"]

logger = logging.getLogger(__name__)


def init_task(project_name: str, task_name: str, **options: Any) -> Any:
    """Makes a `clearml.Task` that a ClearMLConnector can use beside the SDK's own automation.

    The connector needs none: use this for what only the SDK does, such as recording the console or the machine's load.
    It is `Task.init` with two settings that avoid known harm. The reporter runs in a thread: as a forked process, the
    default on Linux, it sometimes deadlocks in `task.close()` (setting
    `sdk.development.report_use_subprocess: false` in `clearml.conf` does the same). And TensorBoard is not captured,
    because the connector reports the same numbers.

    Args:
        project_name: The project.
        task_name: The task.
        options: Further arguments of `Task.init`. `auto_connect_frameworks`, `auto_connect_arg_parser` are off unless
            they are given.

    Returns:
        The task. When the process ends, the SDK waits for its server, for as long as that takes.

    Raises:
        MissingExtraError: The extra "clearml" is not installed.
    """
    require_extra("clearml", "init_task", "clearml")
    from clearml import Task
    from clearml.config import config, config_obj

    config_obj.set_overrides({"sdk": {"development": {"report_use_subprocess": False}}})
    config.clear_config_impl()  # it holds what was read before
    frameworks = options.pop("auto_connect_frameworks", False)
    if frameworks:
        frameworks = {**(frameworks if isinstance(frameworks, Mapping) else {}), "tensorboard": False}
    options.setdefault("auto_connect_arg_parser", False)
    return Task.init(project_name, task_name, auto_connect_frameworks=frameworks, **options)


def adopted_task(task: Any, capture_tensorboard: bool) -> dict[str, Any]:
    """Returns a run that writes to a task of the user's own.

    Args:
        task: The `clearml.Task`.
        capture_tensorboard: Whether the SDK may go on capturing what is written with TensorBoard.

    Raises:
        ArgumentError: It is no task, or one that was made offline.
    """
    task_id = getattr(task, "id", None)
    if not isinstance(task_id, str) or not task_id:
        raise ArgumentError("task", task, "must be a clearml.Task", "Make one with init_task(...), or leave it out.")
    if task_id.startswith("offline"):
        raise ArgumentError(
            "task",
            task_id,
            "was made in ClearML's offline mode",
            "Leave it out: the connector keeps by itself what cannot be delivered.",
        )
    if getattr(task, "is_main_task", bool)():
        if not capture_tensorboard:
            stop_tensorboard_capture()
            logger.info("ClearML captures no TensorBoard any more: capture_tensorboard=True lets it")
        if bool(getattr(type(task), "_report_subprocess_enabled", False)):
            logger.warning(
                "ClearML's reporter runs as a forked process, which can deadlock in task.close(): make the task with "
                "rl_framework.connector.clearml.init_task, or set sdk.development.report_use_subprocess: false in "
                "clearml.conf"
            )
    return {"task": task_id, "project": task.get_project_name(), "name": task.name}


def stop_tensorboard_capture() -> None:
    """Makes the SDK leave TensorBoard's writers alone, as `Task.init` without TensorBoard does."""
    from clearml.binding.frameworks.tensorflow_bind import TensorflowBinding

    TensorflowBinding.update_current_task(None, patch_model_io=False)


def remote_task_id() -> str | None:
    """Returns the task that a ClearML agent runs this process for, or None."""
    from clearml.config import get_remote_task_id

    task_id = get_remote_task_id()
    return str(task_id) if task_id else None


def code_description() -> dict[str, Any] | None:
    """Returns the repository, commit, changes and packages of this program; None if the SDK cannot tell."""
    from clearml.backend_interface.task.repo import ScriptInfo
    from clearml.config import config

    uncommitted = bool(config.get("development.store_uncommitted_code_diff", True))
    found, _ = ScriptInfo.get(check_uncommitted=uncommitted, create_requirements=True)
    if not found.script:
        return None
    fields = ("repository", "branch", "version_num", "entry_point", "working_dir", "diff", "binary", "requirements")
    return {field: found.script[field] for field in fields if found.script.get(field)}
