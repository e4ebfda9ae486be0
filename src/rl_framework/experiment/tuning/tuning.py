"""The mediator of a search: folder, study, workers, and what comes of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rl_framework.errors import ArgumentError, ConfigurationError, ConfigurationProblem, TuningError, require_extra
from rl_framework.experiment.config import ExperimentConfig, load_config
from rl_framework.experiment.folders import CONFIG, RESULTS, write_config, write_json
from rl_framework.experiment.resolution import resolved
from rl_framework.experiment.tuning.confirmation import (
    Candidate,
    confirm,
    is_open,
    train_for_confirmation,
)
from rl_framework.experiment.tuning.locks import locked
from rl_framework.experiment.tuning.result import Confirmation, TrialRecord, TuningResult, importance_in, trials_in
from rl_framework.experiment.tuning.space import search_space
from rl_framework.experiment.tuning.storage import absolute_storage, check_new, quiet_optuna
from rl_framework.experiment.tuning.trial import SCORES, Setting
from rl_framework.experiment.tuning.workers import LOCKS, in_processes, n_trials, own_study, search
from rl_framework.seeding import fresh_seed

__all__ = ["Tuning", "tune"]

logger = logging.getLogger(__name__)

TUNING = "tuning.yaml"
BEST = "best.yaml"

_MAY_CHANGE = (
    "tuning.trials",
    "tuning.timeout",
    "tuning.workers",
    "tuning.sampler",
    "tuning.pruner",
    "tuning.keep_checkpoints",
    "tuning.confirm",
    "run_directory",
    "device",
    "training.progress_bar",
)
"""What may be another in a study that goes on: trials stay comparable."""


class Tuning:
    """A search for the parameters of an experiment.

    What lies on disk is enough to go on: a search that is interrupted, or whose processes are killed, is continued by
    the same call. Finished trials are kept, and those that were running go on from their checkpoints.

    Args:
        config: An experiment with a section `tuning`.
        injected: Collaborators of every trial; see `Experiment`. Only without further workers.

    Attributes:
        config: The configuration of the study.
        folder: Of the study: `<run_directory>/<study>`.

    Raises:
        ConfigurationError: There is no section `tuning`.
        MissingExtraError: Optuna is not installed.
        ArgumentError: The folder holds something else, or a study with another configuration.
    """

    def __init__(self, config: ExperimentConfig, **injected: Any) -> None:
        require_extra("tuning", "tuning", "optuna")
        if config.tuning is None:
            remedy = "is needed, such as {search: {agent.parameters.learning_rate: auto}}"
            raise ConfigurationError([ConfigurationProblem(remedy, "tuning")])
        for name in ("agent", "connectors"):
            if name in injected:
                raise ArgumentError(name, injected[name], "is one object, and each trial needs its own")
        if injected and config.tuning.workers > 1:
            problem = "further processes have their own objects, so that nothing can be given to them"
            raise ArgumentError(
                "workers", config.tuning.workers, problem, "Use one worker, or register what they need."
            )
        run_name = resolved(config.changed(tuning=None)).name
        self.folder = Path(config.run_directory) / (config.tuning.study or f"{run_name}-tuning")
        tuning = config.tuning.changed(
            storage=absolute_storage(config.tuning.storage),
            seeds=config.tuning.seeds or config.seeds,
            study=self.folder.name,
        )
        self.config = config.changed(tuning=tuning, seeds=None)
        self._injected = injected

    # Where searches come from

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Iterable[str] = (), **injected: Any) -> Self:
        """Reads the file of an experiment with a section `tuning`; or the folder of a study, which goes on.

        Args:
            path: A YAML file, or the folder.
            overrides: Such as "tuning.trials=50".
            injected: See the class.

        Raises:
            ConfigurationError: Everything that is wrong with the file, each with line and key.
        """
        source = Path(path)
        is_folder = source.is_dir()
        if is_folder and not (source / TUNING).is_file():
            raise ArgumentError("path", str(path), f"has no {TUNING}, so that it is no study", "Name a YAML file.")
        config = load_config(source / TUNING if is_folder else source, overrides, injected=injected.keys())
        if is_folder:
            # It may have been moved.
            config = config.changed(run_directory=str(source.parent))
            assert config.tuning is not None  # it was written with one
            config = config.changed(tuning=config.tuning.changed(study=source.resolve().name))
        return cls(config, **injected)

    @classmethod
    def from_config(
        cls, config: ExperimentConfig | Mapping[str, Any], overrides: Iterable[str] = (), **injected: Any
    ) -> Self:
        """Takes a configuration, or data of the form of a file; otherwise as `from_yaml`."""
        data = _data(config) if isinstance(config, ExperimentConfig) else config
        return cls(load_config(data, overrides, injected=injected.keys()), **injected)

    # The search

    def run(self, on_trial: Callable[[TrialRecord], None] = lambda trial: None) -> TuningResult:
        """Searches, measures the best candidates again, and writes best.yaml and results.json.

        Args:
            on_trial: Is called with each trial that is over.

        Raises:
            TuningError: Every trial failed.
            KeyboardInterrupt: It was interrupted; the same call goes on.
        """
        setting = self._begin()
        tuning = setting.tuning
        deadline = None if tuning.timeout is None else time.time() + tuning.timeout
        watch = _Watch(setting, on_trial)
        if tuning.workers == 1:
            search(setting, deadline, watch)
        else:
            arguments = (str(self.folder), deadline)
            in_processes(_search_there, arguments, tuning.workers, watch, lambda: watch.is_left(deadline))
        result = self.result()
        if result.best is None:
            self._refuse_if_all_failed(result)
            self._write(result)
            return result
        return self._finish(setting, result)

    def result(self, confirmations: Sequence[Confirmation] = (), best_config: Path | None = None) -> TuningResult:
        """Returns what is known so far, also of a search that is going on."""
        setting = self._setting()
        with quiet_optuna():
            study = own_study(setting)
            trials, importance = trials_in(study, setting.space), importance_in(study)
        is_done = len(trials) >= n_trials(setting) and not any(trial.state == "running" for trial in trials)
        tuning = setting.tuning
        return TuningResult(
            self.folder, tuning.metric, tuning.direction, trials, confirmations, importance, best_config, is_done
        )

    # Inside

    def _begin(self) -> Setting:
        """Makes the folder of the study, or sees to it that the one that is there may be gone on with."""
        path = self.folder / TUNING
        if (self.folder / CONFIG).exists():
            raise ArgumentError("study", self.folder.name, f"{self.folder} is a run", "Name the study otherwise.")
        with locked(self.folder / LOCKS / "take"):
            is_new = not path.is_file()
            if is_new:
                seed = fresh_seed() if self.config.seed is None else self.config.seed
                self.config = self.config.changed(seed=seed)
                with quiet_optuna():
                    check_new(self._setting().tuning.storage, self.folder.name)
            else:
                self._join(load_config(path, injected=self._injected.keys()))
            setting = self._setting()
            write_config(path, _data(self.config), "The study; rl-framework tune <this folder> goes on with it.")
            with quiet_optuna():
                own_study(setting)
        return setting

    def _join(self, there: ExperimentConfig) -> None:
        """Takes the seed of a study that is there, and compares the rest.

        Raises:
            ArgumentError: Its trials could not be compared with new ones.
        """
        if self.config.seed is None:
            self.config = self.config.changed(seed=there.seed)
        before, now = dict(_flat(_data(there))), dict(_flat(_data(self.config)))
        differing = [
            f"{key} is {before.get(key)!r} there and {now.get(key)!r} here"
            for key in dict.fromkeys((*before, *now))
            if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE)
        ]
        if differing:
            problem = f"{self.folder} has trials of another configuration: {'; '.join(differing)}"
            raise ArgumentError("study", self.folder.name, problem, "Name another study, or put that right.")
        logger.info("%s goes on", self.folder)

    def _setting(self) -> Setting:
        return Setting(self.config, self.folder, search_space(self.config, self._injected.keys()), self._injected)

    def _finish(self, setting: Setting, result: TuningResult) -> TuningResult:
        asked = setting.tuning.confirm
        candidates = [Candidate.of(trial) for trial in result.ranked()[: asked.candidates]] if asked.seeds else []
        if setting.tuning.metric in SCORES and not setting.can_evaluate:
            candidates = []
        if candidates and setting.tuning.workers > 1 and is_open(setting, candidates):
            arguments = (str(self.folder), candidates)
            count = min(setting.tuning.workers, len(candidates) * asked.seeds)
            in_processes(_confirm_there, arguments, count, lambda: 0, lambda: is_open(setting, candidates))
        found = [confirm(setting, candidate) for candidate in candidates]
        sign = -1 if setting.tuning.direction == "maximize" else 1
        found.sort(key=lambda each: (each.value is None, sign * (each.value or 0.0)))
        result = self.result(found, self.folder / BEST)
        config = setting.configured(result.best_parameters).changed(seed=None, tuning=None)
        name = resolved(config.changed(seed=0)).name
        write_config(self.folder / BEST, config.changed(name=f"{name}-best").to_data(), result.words())
        self._write(result)
        return result

    def _write(self, result: TuningResult) -> None:
        write_json(self.folder / RESULTS, result.to_data())

    def _refuse_if_all_failed(self, result: TuningResult) -> None:
        failed = [trial for trial in result.trials if trial.state == "failed"]
        if not failed or len(failed) < len(result.trials):
            return
        self._write(result)
        first = failed[0]
        raise TuningError(
            f"all {len(failed)} trials failed. The first ({shown(first)}): {first.reason}. Their tracebacks are in "
            f"{self.folder}, each in the folder of its trial. To try the same again, name another study"
        )


def shown(trial: TrialRecord) -> str:
    """Writes what a trial tried."""
    return ", ".join(f"{key}={value!r}" for key, value in trial.parameters.items()) or "without values"


class _Watch:
    """Tells of every trial that is over, once."""

    def __init__(self, setting: Setting, on_trial: Callable[[TrialRecord], None]) -> None:
        self._setting, self._on_trial = setting, on_trial
        with quiet_optuna():
            self._study = own_study(setting)
        self._told = {trial.number for trial in self._over()}

    def _over(self) -> list[TrialRecord]:
        return [trial for trial in trials_in(self._study, self._setting.space) if trial.state != "running"]

    def __call__(self) -> int:
        """Returns how many are over."""
        over = self._over()
        for trial in over:
            if trial.number not in self._told:
                self._told.add(trial.number)
                self._on_trial(trial)
        return len(over)

    def is_left(self, deadline: float | None) -> bool:
        """Tells whether a further process would find a trial."""
        trials = trials_in(self._study, self._setting.space)
        if any(trial.state == "running" for trial in trials):
            return True
        return len(trials) < n_trials(self._setting) and (deadline is None or time.time() < deadline)


def _search_there(folder: str, deadline: float | None) -> None:
    search(Tuning.from_yaml(folder)._setting(), deadline)


def _confirm_there(folder: str, candidates: Sequence[Candidate]) -> None:
    train_for_confirmation(Tuning.from_yaml(folder)._setting(), candidates)


def _data(config: ExperimentConfig) -> dict[str, Any]:
    data = config.to_data()
    return data if config.tuning is None else {**data, "tuning": config.tuning.to_data()}


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def tune(
    source: str | Path | Mapping[str, Any] | ExperimentConfig,
    overrides: Iterable[str] = (),
    *,
    on_trial: Callable[[TrialRecord], None] = lambda trial: None,
    **injected: Any,
) -> TuningResult:
    """Searches for the parameters of an experiment.

    Args:
        source: A YAML file with a section `tuning`, data of the same form, or the folder of a study, which goes on.
        overrides: Such as "tuning.trials=50" and "training.total_timesteps=20_000".
        on_trial: Is called with each trial that is over.
        injected: Collaborators of every trial; see `Experiment`.

    Returns:
        The best configuration with its value on fresh seeds, and all trials.

    Raises:
        ConfigurationError: Something in the configuration cannot be used.
        MissingExtraError: Optuna is not installed.
        TuningError: Every trial failed.
        KeyboardInterrupt: It was interrupted; the same call goes on.
    """
    if isinstance(source, str | Path):
        return Tuning.from_yaml(source, overrides, **injected).run(on_trial)
    return Tuning.from_config(source, overrides, **injected).run(on_trial)
