"""What lies on disk of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rl_framework.errors import ArgumentError, BundleError
from rl_framework.experiment.config import ExperimentConfig, load_config
from rl_framework.experiment.folders import AGENT, CHECKPOINTS, CONFIG, RESULTS, VIDEOS
from rl_framework.experiment.reading.documents import read_file
from rl_framework.html_table import html_table

if TYPE_CHECKING:
    from rl_framework.agent import Agent
    from rl_framework.evaluation import EvaluationResult
    from rl_framework.experiment.experiment import Experiment
    from rl_framework.training.metrics import MetricsRecord

__all__ = ["Run"]

Status = Literal["empty", "unfinished", "trained", "finished"]


class Run:
    """The folder of a run, or, of an experiment with several seeds, the folder above its runs.

    Make one with `Run.open` or `Run.list`. It reads when it is asked, so that it can look at a run that is going on.

    Attributes:
        folder: The folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Returns the run in a folder.

        Raises:
            ArgumentError: There is none.
        """
        run = cls(folder)
        if not (run.folder / CONFIG).is_file():
            remedy = "Run.list(run_directory) lists the runs there are."
            raise ArgumentError("folder", str(folder), f"has no {CONFIG}, so that it is no run", remedy)
        return run

    @classmethod
    def list(cls, run_directory: str | Path = "runs") -> list[Run]:
        """Returns the runs in a directory, in the order in which their configurations were written.

        An experiment with several seeds is one of them; `seeds` has its runs.
        """
        directory = Path(run_directory)
        if not directory.is_dir():
            return []
        found = [path for path in directory.iterdir() if (path / CONFIG).is_file()]
        return [cls(path) for path in sorted(found, key=lambda path: ((path / CONFIG).stat().st_mtime, path.name))]

    # What it was made with

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration as data, unchecked: it can be shown where what it names is not installed."""
        data = read_file(self.folder / CONFIG).data
        return data if isinstance(data, dict) else {}

    @property
    def config(self) -> ExperimentConfig:
        """The configuration.

        Raises:
            ConfigurationError: It cannot be used here.
        """
        return load_config(self.folder / CONFIG, injected=_ANYTHING)

    @property
    def records(self) -> Sequence[dict[str, Any]]:
        """What each call of `train` was made with: parameters, seeds, versions, machine; the oldest first."""
        found = _read_json(self.folder / "record.json")
        return found if isinstance(found, list) else []

    # What came of it

    @property
    def seeds(self) -> Sequence[Run]:
        """The run of each seed, if there are several."""
        seeds = self.settings.get("seeds")
        folders = [self.folder / f"seed-{seed}" for seed in seeds] if isinstance(seeds, list) else []
        return [Run(folder) for folder in folders if (folder / CONFIG).is_file()]

    @property
    def agent_path(self) -> Path:
        """Where the trained agent is, or will be."""
        return self.folder / AGENT

    @property
    def best_model_path(self) -> Path:
        """Where the agent with the best evaluation while training is, if there were any."""
        return self.folder / CHECKPOINTS / "best_model.zip"

    @property
    def checkpoints(self) -> Sequence[tuple[int, Path]]:
        """Timestep and file of each checkpoint, the newest first."""
        from rl_framework.bundle.checkpoint import list_checkpoints

        return list_checkpoints(self.folder / CHECKPOINTS)

    @property
    def videos(self) -> Sequence[Path]:
        """The videos, in the order of their names."""
        folder = self.folder / VIDEOS
        return sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".gif")) if folder.is_dir() else []

    @property
    def results(self) -> EvaluationResult | None:
        """The evaluation after training; None if there is none, or several seeds."""
        from rl_framework.evaluation import EvaluationResult, MultiAgentResult

        found = _read_json(self.folder / RESULTS)
        if not isinstance(found, dict) or "returns" not in found:
            return None
        return (MultiAgentResult if "team" in found else EvaluationResult).from_dict(found)

    @property
    def summary(self) -> dict[str, Any] | None:
        """What results.json holds: of an evaluation mean, IQM and interval; of several seeds those over the seeds."""
        found = _read_json(self.folder / RESULTS)
        return found if isinstance(found, dict) else None

    @property
    def timestep(self) -> int:
        """How far training has got, as far as the files tell: of a run that goes on, at its last checkpoint."""
        if self.seeds:
            return min(run.timestep for run in self.seeds)
        if self.agent_path.is_file():
            recorded = [record.get("total_timesteps") for record in self.records]
            trained = self.summary.get("timestep") if self.summary is not None else None
            known = [value for value in (trained, *recorded) if isinstance(value, int)]
            return max([*known, *(timestep for timestep, _ in self.checkpoints)], default=0)
        return max((timestep for timestep, _ in self.checkpoints), default=0)

    @property
    def status(self) -> Status:
        """How far it is.

        "finished": trained, and evaluated if that was asked for; "trained"; "unfinished": training goes on, or was
        interrupted; "empty": it has not begun.
        """
        if self.settings.get("seeds") is not None:
            each = [run.status for run in self.seeds]
            if len(each) < len(self.settings["seeds"]):
                return "unfinished" if each else "empty"
            return min(each, key=_ORDER.index)
        if self.agent_path.is_file():
            is_done = (self.folder / RESULTS).is_file() or self.settings.get("evaluation") is None
            return "finished" if is_done else "trained"
        return "unfinished" if self.records or self.checkpoints else "empty"

    def metrics(self) -> Sequence[MetricsRecord]:
        """Returns everything that was measured while it was trained, in its order."""
        from rl_framework.training.metrics import read_metrics

        path = self.folder / "metrics.jsonl"
        return list(read_metrics(path)) if path.is_file() else []

    def load_agent(self, which: Literal["final", "best", "checkpoint"] = "final") -> Agent:
        """Opens an agent.

        Args:
            which: The one at the end of training; the one with the best evaluation; or that of the newest checkpoint
                that is whole.

        Raises:
            ArgumentError: There is none.
            BundleError: Its file is damaged.
        """
        from rl_framework.agent import load_agent

        if which == "checkpoint":
            damaged: BundleError | None = None
            for _, path in self.checkpoints:
                try:
                    return load_agent(path)
                except BundleError as error:
                    damaged = damaged or error
            if damaged is not None:
                raise damaged
        path = {"final": self.agent_path, "best": self.best_model_path}.get(which, self.folder / CHECKPOINTS)
        if not path.is_file():
            there = [
                name for name, file in (("final", self.agent_path), ("best", self.best_model_path)) if file.is_file()
            ]
            there += ["checkpoint"] if self.checkpoints else []
            remedy = f"There is: {', '.join(there)}." if there else "It has not been trained so far."
            raise ArgumentError("which", which, f"{self.folder} has no such agent", remedy)
        return load_agent(path)

    def experiment(self, overrides: Iterable[str] = (), **injected: Any) -> Experiment:
        """Returns the experiment of this run, which goes on with it: `run.experiment().train(resume=True)`.

        Args:
            overrides: Such as "training.total_timesteps=2_000_000" or "device=cpu".
            injected: See `Experiment`.

        Raises:
            ConfigurationError: The configuration cannot be used here.
        """
        from rl_framework.experiment.experiment import Experiment

        config = load_config(self.folder / CONFIG, overrides, injected=injected.keys())
        return Experiment(config, folder=self.folder, **injected)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status})"

    def _repr_html_(self) -> str:
        """Shows the run as a table in a notebook."""
        rows = [*_asked(self.settings), ("status", self.status), ("timesteps", f"{self.timestep:,}")]
        found, each = self.summary, "" if not self.seeds else " of the seeds"
        if found is not None:
            low, high = found["interval_95"]
            rows += [(f"mean return{each}", f"{found['mean']:.2f}"), (f"IQM{each}", f"{found['iqm']:.2f}")]
            rows.append((f"95 % interval of the {'IQM' if each else 'mean'}", f"{low:.2f} to {high:.2f}"))
        rows += [(run.name, run.status) for run in self.seeds]
        if self.videos:
            rows.append(("videos", ", ".join(video.name for video in self.videos)))
        rows.append(("folder", str(self.folder)))
        return html_table(f"Run {self.name}", rows)


_ORDER: list[Status] = ["empty", "unfinished", "trained", "finished"]
_ANYTHING = ("agent", "training_environments", "evaluation_environment", "connectors", "callbacks", "episode_sequence")


def _asked(settings: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Returns what a configuration asks for, in two rows; of one that was changed by hand as much as can be read."""
    agent, environment = (settings.get(name) for name in ("agent", "environment"))
    agent, environment = (section if isinstance(section, dict) else {} for section in (agent, environment))
    parts = agent.get("parts")
    kinds = [part.get("type") if isinstance(part, dict) else part for part in parts] if isinstance(parts, list) else []
    algorithm = agent.get("algorithm") or "+".join(map(str, kinds)) or agent.get("type", "")
    place = environment.get("id") or environment.get("type", "")
    return [(label, str(value)) for label, value in (("algorithm", algorithm), ("environment", place)) if value]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
