"""What RUN stands for: a folder of a run, a saved agent, a checkpoint, or an address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium

from rl_framework.environment.backends import environment_source
from rl_framework.environment.known_packages import register_package_of
from rl_framework.errors import ArgumentError, BundleError, UnknownNameError
from rl_framework.experiment import Run
from rl_framework.experiment.environments import filmable, source_of
from rl_framework.experiment.folders import CONFIG
from rl_framework.stores import is_address, is_published, parse_address, refuse_address

if TYPE_CHECKING:
    from rl_framework.agent import Agent

__all__ = ["Trained", "find_run", "free_path", "hub_repository", "open_trained", "runs_of"]

_AGENT = "agent.zip"
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/?")


@dataclass
class Trained:
    """A trained agent, and where it acts.

    Attributes:
        agent: The agent.
        name: What to call files about it.
        run: The run that it is of, if its folder is on this machine.
        place: The file that it was read from, or its address.
    """

    agent: Agent
    name: str
    run: Run | None
    place: str

    def environment(
        self, identifier: str | None = None, backend: str | None = None
    ) -> tuple[Any, dict[str, Any] | None]:
        """Returns where it acts: what is asked for, or where it was trained.

        Returns:
            What `evaluate` takes, and its `environment_kwargs`.

        Raises:
            ArgumentError: Neither says.
            RLFrameworkError: The environment cannot be had here.
        """
        trained_in = None if self.run is None else self.run.settings.get("environment")
        trained_in = trained_in if isinstance(trained_in, Mapping) else None
        is_same = trained_in is not None and identifier in (None, trained_in.get("id"))
        if self.run is not None and is_same and backend in (None, (trained_in or {}).get("type")):
            return source_of(self.run.config.environment)
        if identifier is not None or backend is not None:
            source, arguments = environment_source(backend or "gymnasium", identifier)
            return source, arguments or None
        return self._recorded()

    def _recorded(self) -> tuple[Any, dict[str, Any] | None]:
        runs = self.agent.history().get("runs", [])
        record = runs[-1] if runs else {}
        identifier, arguments = record.get("environment"), record.get("environment_kwargs")
        # What a stranger's record names is not imported, as "module:Name-v0" would be.
        if isinstance(identifier, str) and ":" not in identifier:
            register_package_of(identifier, "--env")
            if identifier in gymnasium.registry:
                return identifier, arguments if isinstance(arguments, dict) else None
        problem = f"{self.place} does not say where it was trained so that it could be made again"
        raise ArgumentError("--env", None, problem, "Give --env, and --backend if it is not gymnasium's.")

    def filmed_in(self) -> Any:
        """Returns where a connector is to film it, or None if nobody knows."""
        try:
            return filmable(self.environment())
        except ArgumentError:
            return None


def find_run(name: str) -> Run:
    """Returns the run in a folder, or that a file in it belongs to.

    Raises:
        UnknownNameError: There is none; runs with names like it are told.
        ArgumentError: It is an address.
    """
    remedy = "A run goes on in its folder; in Python, train(..., resume_from=ADDRESS) goes on from a checkpoint there."
    refuse_address(name, "RUN", remedy)
    path = Path(name)
    found = _run_around(path)
    if found is None or not path.exists():
        raise _unknown(name)
    return found


def _run_around(path: Path) -> Run | None:
    """Returns the run that a folder is, or that it or a file belongs to."""
    if (path / CONFIG).is_file():
        return Run.open(path)
    for folder in (path.parent, path.parent.parent):
        # Beside an agent there may be a configuration that somebody wrote, which makes no run.
        if (folder / CONFIG).is_file() and (folder / "record.json").is_file():
            return Run.open(folder)
    return None


def _unknown(name: str) -> UnknownNameError:
    directories = dict.fromkeys((Path(name).parent, Path("runs")))
    known = [str(run.folder) for directory in directories for run in Run.list(directory)]
    error = UnknownNameError("RUN", name, known, "See rl-framework list runs.")
    error.args = (str(error).replace("not known", "there is no run, no agent and no checkpoint of that name", 1),)
    return error


def runs_of(name: str) -> list[Run]:
    """Returns the runs of an experiment with several seeds; none for everything else."""
    path = Path(name)
    return [] if is_address(name) or not (path / CONFIG).is_file() else list(Run.open(path).seeds)


def open_trained(name: str, which: Literal["final", "best", "checkpoint"] = "final") -> Trained:
    """Opens an agent.

    Args:
        name: What the user wrote for RUN.
        which: Of a run: which of its agents.

    Raises:
        UnknownNameError: There is nothing of that name.
        ArgumentError: The run has several seeds, or no such agent.
        BundleError: What is there is no agent, or damaged.
        ConnectorError: It could not be fetched.
    """
    from rl_framework.agent import load_agent

    hub = hub_repository(name)
    if hub is not None:
        from rl_framework.connector import HuggingFaceConnector, HuggingFaceDownloadConfig

        agent = HuggingFaceConnector(download_config=HuggingFaceDownloadConfig(hub[0], revision=hub[1])).download()
        return Trained(agent, hub[0].replace("/", "-"), None, name)
    if is_address(name):
        address = parse_address(name, "RUN")
        return Trained(load_agent(name), Path(address.name).stem or "agent", None, str(address))
    path = Path(name)
    if (path / CONFIG).is_file():
        run = Run.open(path)
        if run.seeds:
            seeds = ", ".join(str(each.folder) for each in run.seeds)
            raise ArgumentError("RUN", name, "has several seeds", f"Name one: {seeds}.")
        return Trained(run.load_agent(which), run.name, run, str(run.folder))
    if path.is_file():
        return Trained(load_agent(path), path.stem, _run_around(path), name)
    if path.is_dir() and is_published(path):
        return Trained(load_agent(path), path.name, None, name)
    if path.is_dir():
        return Trained(load_agent(_file_in(path)), path.resolve().name, _run_around(path), name)
    raise _unknown(name)


def _file_in(folder: Path) -> Path:
    from rl_framework.bundle.checkpoint import list_checkpoints

    checkpoints = list_checkpoints(folder)
    if (folder / _AGENT).is_file():
        return folder / _AGENT
    if not checkpoints:
        raise BundleError(f"{folder} holds no {_AGENT} and no checkpoint")
    return checkpoints[0][1]


def hub_repository(name: str) -> tuple[str, str | None] | None:
    """Returns repository and revision of `hf://user/name@revision`; None for everything else, also files in one."""
    found = _HUB.fullmatch(name)
    return None if found is None else (found[1], found[2])


def free_path(folder: Path, stem: str, ending: str) -> Path:
    """Returns the path of a file or folder that is not there yet: `<stem><ending>`, or `<stem>-2<ending>` and so on."""
    names: Iterable[str] = chain([stem], (f"{stem}-{number}" for number in count(2)))
    return next(path for name in names if not (path := folder / f"{name}{ending}").exists())
