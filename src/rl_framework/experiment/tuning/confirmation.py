"""The best candidates once more, on seeds and episodes that the search has not seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.experiment.config import EvaluationConfig, ExperimentConfig
from rl_framework.experiment.experiment import Experiment
from rl_framework.experiment.folders import CONFIG
from rl_framework.experiment.resolution import with_seed
from rl_framework.experiment.run import Run
from rl_framework.experiment.tuning.locks import Lock
from rl_framework.experiment.tuning.result import Confirmation, TrialRecord
from rl_framework.experiment.tuning.trial import Setting, measured, run_config
from rl_framework.experiment.tuning.workers import LOCKS
from rl_framework.secrecy import redact
from rl_framework.seeding import derive_seed

__all__ = ["Candidate", "confirm", "fresh_seeds", "is_open", "train_for_confirmation"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A trial that is measured again.

    Attributes:
        number: Of the trial.
        values: By dotted key.
        seen: Its value in the search.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    seen: float = 0.0

    @classmethod
    def of(cls, trial: TrialRecord) -> Candidate:
        """Returns the candidate for a trial that is complete."""
        assert trial.value is not None  # it is complete
        return cls(trial.number, trial.parameters, trial.value)


def fresh_seeds(setting: Setting) -> list[int]:
    """Returns seeds that no trial has had: always the same ones for a study."""
    tuning = setting.tuning
    used = set(tuning.seeds or ()) | {derive_seed(setting.seed, "trial", number) for number in range(tuning.trials)}
    found: list[int] = []
    index = 0
    while len(found) < tuning.confirm.seeds:
        seed = derive_seed(setting.seed, "confirm", index)
        index += 1
        if seed not in used and seed not in found:
            found.append(seed)
    return found


def _folder(setting: Setting, number: int) -> Path:
    return setting.folder / f"confirm-{number:04d}"


def _config(setting: Setting, candidate: Candidate) -> ExperimentConfig:
    folder = _folder(setting, candidate.number)
    config = run_config(setting, candidate.values, folder.name)
    evaluation = config.evaluation or EvaluationConfig()
    n_episodes = setting.tuning.confirm.n_episodes or evaluation.n_episodes
    # Of its own seed, so that no run is measured with the episodes of another one.
    evaluation = evaluation.changed(seed=None, n_episodes=n_episodes)
    return config.changed(seed=None, seeds=fresh_seeds(setting), evaluation=evaluation)


def is_open(setting: Setting, candidates: Sequence[Candidate]) -> bool:
    """Tells whether there is a run without a result."""
    folders = [_folder(setting, each.number) / f"seed-{seed}" for each in candidates for seed in fresh_seeds(setting)]
    is_over = ("trained", "finished")
    return any(not (folder / CONFIG).is_file() or Run(folder).status not in is_over for folder in folders)


def train_for_confirmation(setting: Setting, candidates: Sequence[Candidate]) -> None:
    """Does what is left of the trainings and no other process is doing.

    A run that fails is logged and left as it is, so that the others are done: it has no result then, and `confirm`, in
    the process of the search, goes on with it and tells why it fails there too.
    """
    for candidate in candidates:
        config = _config(setting, candidate)
        for seed in config.seeds or ():
            folder = _folder(setting, candidate.number) / f"seed-{seed}"
            lock = Lock.take(setting.folder / LOCKS / f"{folder.parent.name}-{seed}")
            if lock is None:
                continue
            try:
                experiment = Experiment(with_seed(config, seed), folder=folder, **setting.injected)
                experiment.run(resume=(folder / CONFIG).is_file())
            except Exception:  # whatever a user's environment raises; the run stays open, and `confirm` takes it up
                logger.exception("confirming trial %d with seed %d failed", candidate.number, seed)
            finally:
                lock.release()


def confirm(setting: Setting, candidate: Candidate) -> Confirmation:
    """Trains a candidate on the fresh seeds as far as that has not been done, and returns what came of it."""
    from rl_framework.evaluation import stratified_bootstrap

    folder = _folder(setting, candidate.number)
    seeds = fresh_seeds(setting)
    more: dict[str, Any] = {"number": candidate.number, "parameters": dict(candidate.values), "seen": candidate.seen}
    is_begun = folder.is_dir()
    if not is_begun:
        logger.info("trial %d is measured again, on %d fresh seeds", candidate.number, len(seeds))
    try:
        run = Experiment(_config(setting, candidate), folder=folder, **setting.injected).run(resume=is_begun)
        scores = {seed: measured(each, setting.tuning.metric) for seed, each in zip(seeds, run.seeds, strict=True)}
    except Exception as error:  # noqa: BLE001  # the result of the search is worth more than this
        logger.warning("trial %d could not be confirmed: %s", candidate.number, error)
        return Confirmation(**more, folder=folder, reason=redact(f"{type(error).__name__}: {error}"))
    estimate = stratified_bootstrap(np.array(list(scores.values()))[:, np.newaxis], "iqm")
    interval = (float(estimate.low), float(estimate.high))
    n_episodes = sum(each.results.n_episodes for each in run.seeds if each.results is not None)
    return Confirmation(
        **more, folder=folder, scores=scores, value=float(estimate.value), interval=interval, n_episodes=n_episodes
    )
