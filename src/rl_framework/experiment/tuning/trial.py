"""One trial: a run of its own, with the values that were proposed for it."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.bundle.checkpoint import list_checkpoints
from rl_framework.errors import RLFrameworkError
from rl_framework.experiment.config import ExperimentConfig, load_config
from rl_framework.experiment.experiment import Experiment
from rl_framework.experiment.folders import CHECKPOINTS, CONFIG
from rl_framework.experiment.resolution import with_seed
from rl_framework.experiment.run import Run
from rl_framework.experiment.tuning.space import Dimension, override
from rl_framework.experiment.watching import Ending
from rl_framework.secrecy import redact
from rl_framework.seeding import derive_seed
from rl_framework.training import Callback, Evaluated, Event, Training, Validated
from rl_framework.whole_file import written_whole

if TYPE_CHECKING:
    import optuna

    from rl_framework.experiment.tuning.section import TuningConfig

__all__ = [
    "ATTEMPTS",
    "REASON",
    "SCORES",
    "Setting",
    "measured",
    "run_config",
    "run_trial",
    "trial_folder",
    "values_of",
]

logger = logging.getLogger(__name__)

ATTEMPTS, REASON, _PRUNED, _BEGUN_AT = "attempts", "reason", "pruned", "begun_at"
"""What is noted with a trial in the study."""

MOST_ATTEMPTS = 3
"""A trial whose process is killed every time before it gets any further (for memory, say) is not tried for ever."""

SCORES = {"evaluation/mean_return": "mean", "evaluation/iqm": "iqm"}
"""Metrics that the evaluation at the end of a run has too, and their names there."""

_EVALUATIONS = 10


@dataclass(frozen=True)
class Setting:
    """What all trials of a study have in common.

    Attributes:
        config: The experiment, with the root of all seeds as its seed.
        folder: Of the study.
        space: What is searched.
        injected: Collaborators of the experiments; see `Experiment`.
    """

    config: ExperimentConfig
    folder: Path
    space: Sequence[Dimension]
    injected: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tuning(self) -> TuningConfig:
        """The section `tuning`."""
        assert self.config.tuning is not None  # a study has been configured
        return self.config.tuning

    @property
    def seed(self) -> int:
        """Root of all seeds of the study."""
        assert self.config.seed is not None  # drawn when the study began
        return self.config.seed

    @property
    def can_evaluate(self) -> bool:
        """Whether there is an environment."""
        given = ("training_environments", "evaluation_environment")
        return self.config.environment is not None or any(name in self.injected for name in given)

    def configured(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """Returns the experiment with values of the search.

        Raises:
            ConfigurationError: They do not go together.
        """
        overrides = [override(key, value) for key, value in values.items()]
        return load_config(self.config.to_data(), overrides, injected=self.injected.keys())


class _DivergedError(RLFrameworkError):
    """What is compared is no number any more."""


class _KilledError(RLFrameworkError):
    """The process of a trial does not live."""


class _Reports(Callback):
    """Tells the study how good the agent is in between, and ends training when the pruner says so."""

    def __init__(self, trial: optuna.Trial, metric: str, every: int, seed: int) -> None:
        self._trial, self._metric, self._every, self._seed = trial, metric, every, seed
        self._told = set(_frozen(trial).intermediate_values)
        self.was_pruned = False

    def on_event(self, event: Event, training: Training) -> None:
        """Takes evaluations and validations."""
        if not isinstance(event, Evaluated | Validated) or self._metric not in event.metrics:
            return
        value = float(event.metrics[self._metric])
        if not math.isfinite(value):
            raise _DivergedError(f"{self._metric} is {value} at timestep {event.timestep:,}")
        if training.seed != self._seed:
            return  # of several seeds the first one decides whether the others are worth their time
        step = max(1, event.timestep // self._every)
        if step not in self._told:  # after an interruption, training passes what it had passed before
            self._told.add(step)
            self._trial.report(value, step)
            logger.info("trial %d: %s %.4g at timestep %s", self._trial.number, self._metric, value, event.timestep)
        if self._trial.should_prune():
            self.was_pruned = True
            self._trial.set_user_attr(_PRUNED, event.timestep)
            training.stop("pruned")


def trial_folder(folder: Path, number: int) -> Path:
    """Returns the folder of a trial's run."""
    return folder / f"trial-{number:04d}"


def values_of(parameters: Mapping[str, Any], space: Sequence[Dimension]) -> dict[str, Any]:
    """Returns values by dotted key for what Optuna stores."""
    return {each.key: each.value(parameters[each.key]) for each in space if each.key in parameters}


def run_trial(setting: Setting, study: optuna.Study, trial: optuna.Trial) -> None:
    """Trains and evaluates with what is proposed, on from its newest checkpoint if it was begun before.

    Whatever goes wrong is noted with the trial and in its folder, and the study goes on.

    Raises:
        KeyboardInterrupt: It was interrupted; the trial is left to be gone on with.
    """
    from optuna.trial import TrialState

    folder = trial_folder(setting.folder, trial.number)
    timestep = _timestep(folder)
    begun_at = [at for at in trial.user_attrs.get(_BEGUN_AT, []) if at == timestep]
    trial.set_user_attr(ATTEMPTS, int(trial.user_attrs.get(ATTEMPTS, 0)) + 1)
    trial.set_user_attr(_BEGUN_AT, [*begun_at, timestep])
    try:
        if len(begun_at) >= MOST_ATTEMPTS:
            raise _KilledError(f"its process was killed {len(begun_at)} times at the same point (timestep {timestep})")
        if _PRUNED in trial.user_attrs:
            value = None
        else:
            # Values that it has already stay as they are; only what it lacks is asked for.
            values = {each.key: each.suggest(trial) for each in setting.space}
            value = _value(setting, trial, folder, values)
    except KeyboardInterrupt:
        trial.set_user_attr(_BEGUN_AT, begun_at)  # that was no fault of its own
        raise
    except Exception as error:  # noqa: BLE001  # told with the trial, and kept with its traceback
        _note_failure(folder, trial, error)
        study.tell(trial, state=TrialState.FAIL)
        return
    if value is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)
    if not setting.tuning.keep_checkpoints:
        _remove_checkpoints(folder)


def _value(setting: Setting, trial: optuna.Trial, folder: Path, values: Mapping[str, Any]) -> float | None:
    """Returns the value of a trial; None: it was pruned."""
    tuning = setting.tuning
    config = run_config(setting, values, folder.name)
    seeds = tuning.seeds or [derive_seed(setting.seed, "trial", trial.number)]
    every = config.training.evaluate_every or config.training.total_timesteps
    reports = _Reports(trial, tuning.metric, every, seeds[0])
    found = []
    for seed in seeds:
        run_folder = folder if tuning.seeds is None else folder / f"seed-{seed}"
        value = _value_of_run(setting, with_seed(config, seed), run_folder, reports)
        if reports.was_pruned:
            return None
        found.append(value)
    if tuning.seeds is not None:
        # Everything is done; this writes what is above the runs.
        Experiment(config.changed(seeds=list(seeds), seed=None), folder=folder).run(resume=True)
    return sum(found) / len(found)


def run_config(setting: Setting, values: Mapping[str, Any], name: str) -> ExperimentConfig:
    """Returns the configuration of a run of the study, without connectors and videos: these are for what is found."""
    config = setting.configured(values)
    training = config.training.changed(progress_bar=False)
    if training.evaluate_every is None and setting.can_evaluate:
        training = training.changed(evaluate_every=max(1, training.total_timesteps // _EVALUATIONS))
    directory = str(setting.folder)
    return config.changed(name=name, run_directory=directory, training=training, connectors=[], video=None, tuning=None)


def _value_of_run(setting: Setting, config: ExperimentConfig, folder: Path, reports: _Reports) -> float:
    metric = setting.tuning.metric
    ending = Ending()
    given = {**setting.injected, "callbacks": [*setting.injected.get("callbacks", ()), reports, ending]}
    experiment = Experiment(config, folder=folder, **given)
    run = Run(folder)
    if run.results is None:
        experiment.train(resume=(folder / CONFIG).is_file())
        if ending.was_interrupted:  # in a notebook this is how it is told
            raise KeyboardInterrupt
        if reports.was_pruned:
            return math.nan
        experiment.evaluate()
    return measured(run, metric)


def measured(run: Run, metric: str) -> float:
    """Returns how good the agent of a run is: by the evaluation at its end, or what was tracked last.

    Raises:
        RLFrameworkError: It was never measured, or is not finite.
    """
    result = run.results
    if metric in SCORES and result is not None:
        value = float(getattr(result, SCORES[metric]))
    else:
        tracked = [record.metrics[metric] for record in run.metrics() if metric in record.metrics]
        if not tracked:
            known = sorted({name for record in run.metrics() for name in record.metrics})
            raise _DivergedError(f"{metric} was never measured; known here: {', '.join(known) or 'none'}")
        value = float(tracked[-1])
    if not math.isfinite(value):
        raise _DivergedError(f"{metric} is {value} at the end")
    return value


def _note_failure(folder: Path, trial: optuna.Trial, error: Exception) -> None:
    told = redact(str(error)) if isinstance(error, RLFrameworkError) else redact(f"{type(error).__name__}: {error}")
    logger.debug("trial %d failed: %s", trial.number, told)
    trial.set_user_attr(REASON, told)
    text = redact("".join(traceback.format_exception(error)))
    try:
        with written_whole(folder / "error.log") as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as failure:
        logger.warning("the traceback of trial %d could not be kept: %s", trial.number, failure)


def _timestep(folder: Path) -> int:
    """Returns how far a trial has got, over all of its seeds."""
    found = [list_checkpoints(path) for path in folder.glob(f"**/{CHECKPOINTS}")]
    return sum(checkpoints[0][0] for checkpoints in found if checkpoints)


def _remove_checkpoints(folder: Path) -> None:
    """Removes what only an unfinished training needs; the best agent stays."""
    for path in folder.glob(f"**/{CHECKPOINTS}/checkpoint_*.zip"):
        path.unlink(missing_ok=True)


def _frozen(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    found: optuna.trial.FrozenTrial = trial.storage.get_trial(trial._trial_id)
    return found
