"""Folders of runs: a new one for each, and what is written there."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

import rl_framework
from rl_framework.errors import ArgumentError
from rl_framework.experiment.reading.documents import implicit_resolvers, read_file
from rl_framework.stores import refuse_address
from rl_framework.whole_file import written_whole

__all__ = [
    "AGENT",
    "CHECKPOINTS",
    "CONFIG",
    "RESULTS",
    "VIDEOS",
    "begin_run",
    "new_folder",
    "remove_unused",
    "write_config",
    "write_json",
]

CONFIG = "config.yaml"
AGENT = "agent.zip"
CHECKPOINTS = "checkpoints"
RESULTS = "results.json"
VIDEOS = "videos"


def begin_run(folder: Path | None, data: dict[str, Any], resume: bool, note: str = "") -> tuple[Path, bool]:
    """Makes the folder of a run and writes its configuration, or sees to it that the one that there is may be used.

    Args:
        folder: Of the run; None: it has none.
        data: The configuration.
        resume: Whether to go on in a folder that holds a run.
        note: A comment for the configuration.

    Returns:
        The folder, and whether it is new.

    Raises:
        ArgumentError: There is nothing to go on with, or the folder holds a run and `resume` was not asked for.
    """
    if folder is None and resume:
        remedy = "Run.open(folder).experiment().train(resume=True) goes on with a run."
        raise ArgumentError("resume", True, "this experiment has no run to go on with", remedy)
    if folder is None:
        folder = new_folder(data["run_directory"], data["name"])
    path = folder / CONFIG
    is_new = not path.exists()
    if not is_new and not resume:
        remedy = "Go on with train(resume=True), or make another Experiment, which gets a folder of its own."
        raise ArgumentError("resume", False, f"{folder} holds a run already", remedy)
    if is_new or read_file(path).data != data:
        write_config(path, data, note, keep_earlier=True)
    return folder, is_new


def new_folder(run_directory: str | Path, name: str) -> Path:
    """Makes a folder that was not there: `<name>`, or `<name>-2` and so on.

    Raises:
        ArgumentError: The run directory cannot be written to.
    """
    refuse_address(
        Path(run_directory), "run_directory", "Name a folder, and send the run there with a connector 'storage'."
    )
    number = 1
    while True:
        folder = Path(run_directory) / (name if number == 1 else f"{name}-{number}")
        try:
            # Making a folder succeeds for one process only, whoever else tries at the same moment.
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.parent.is_dir():
                raise ArgumentError("run_directory", str(run_directory), "is no folder") from None
            number += 1
        except OSError as error:
            raise ArgumentError("run_directory", str(run_directory), f"cannot be written to: {error}") from error
        else:
            return folder


def remove_unused(folder: Path) -> bool:
    """Removes a folder that was made for a run which never began, if nothing but its configuration is in it.

    Returns:
        Whether it was removed.
    """
    left = [path for path in folder.rglob("*") if path.is_file()]
    if left not in ([], [folder / CONFIG]):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


class _Dumper(yaml.SafeDumper):
    """Puts quotes around every text that this package's reader would take for something else."""

    yaml_implicit_resolvers = implicit_resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_config(path: Path, data: dict[str, Any], note: str = "", *, keep_earlier: bool = False) -> None:
    """Writes a configuration that `load_config` reads as the same.

    Args:
        path: The file.
        data: What `ExperimentConfig.to_data` returned.
        note: A comment.
        keep_earlier: Whether a file that is there is kept under another name, such as config.1.yaml.
    """
    if keep_earlier and path.exists():
        numbers = (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(1))
        earlier = next(candidate for candidate in numbers if not candidate.exists())
        shutil.copyfile(path, earlier)
    is_certain = data.get("tuning") is None and (data.get("seed") is not None or data.get("seeds") is not None)
    promise = "; it makes the same run again" if is_certain else ""
    comments = f"# Written by rl_framework {rl_framework.__version__}{promise}.\n"
    comments += "".join(f"# {line}\n" for line in note.splitlines())
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    with written_whole(path) as temporary:
        temporary.write_text(comments + text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with an indent."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
