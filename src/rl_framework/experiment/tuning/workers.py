"""Taking trials, here or in several processes, of which any may die at any moment."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from rl_framework.experiment.tuning.choosing import GRID, Choice, make_pruner, make_sampler
from rl_framework.experiment.tuning.locks import Lock, locked
from rl_framework.experiment.tuning.space import grid
from rl_framework.experiment.tuning.storage import open_study, quiet_optuna
from rl_framework.experiment.tuning.trial import Setting, run_trial
from rl_framework.seeding import derive_seed

if TYPE_CHECKING:
    import optuna

__all__ = ["in_processes", "n_trials", "own_study", "search"]

logger = logging.getLogger(__name__)

LOCKS = ".locks"

_ALL_FAIL = 10
"""If all of so many trials have failed, so will the others."""
_LOOK_SECONDS = 0.5
_DEATHS = 3
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def own_study(setting: Setting) -> optuna.Study:
    """Opens the study of a setting."""
    tuning = setting.tuning
    return open_study(tuning.storage, setting.folder, setting.folder.name, tuning.direction)


def n_trials(setting: Setting) -> int:
    """Returns how many trials there are to be; a grid has no more than its points."""
    wanted = setting.tuning.trials
    if Choice.of(setting.tuning.sampler).name != GRID:
        return wanted
    return min(wanted, math.prod(len(each.points()) for each in setting.space))


def search(setting: Setting, deadline: float | None, told: Callable[[], object] = lambda: None) -> None:
    """Runs trials until there are enough, or it is time.

    Args:
        setting: What to search.
        deadline: By `time.time()`; None: no end.
        told: Is called after each trial.

    Raises:
        KeyboardInterrupt: Somebody interrupted it; what was begun can be gone on with.
    """
    with quiet_optuna():
        study = own_study(setting)
        study.pruner = make_pruner(setting.tuning.pruner)
        while (taken := _take(setting, study, deadline)) is not None:
            trial, lock = taken
            try:
                run_trial(setting, study, trial)
            finally:
                lock.release()
            told()


def _take(setting: Setting, study: optuna.Study, deadline: float | None) -> tuple[optuna.Trial, Lock] | None:
    """Returns a trial that its process has left behind, or a new one; None: nothing is left to do."""
    from optuna.trial import Trial, TrialState

    locks = setting.folder / LOCKS
    # One process at a time: between making a trial and locking it, it would look left behind.
    with locked(locks / "take"):
        trials = study.get_trials(deepcopy=False)
        for frozen in trials:
            lock = Lock.take(locks / _name(frozen.number)) if frozen.state is TrialState.RUNNING else None
            if lock is not None:
                logger.info("trial %d goes on", frozen.number)
                study.sampler = _sampler(setting, frozen.number)
                return Trial(study, frozen._trial_id), lock
        is_late = deadline is not None and time.time() >= deadline
        if is_late or len(trials) >= n_trials(setting) or _all_fail(trials):
            return None
        number = len(trials)
        study.sampler = _sampler(setting, number)
        lock = Lock.wait(locks / _name(number))
        trial = study.ask({each.key: each.distribution() for each in setting.space})
        return trial, lock


def _name(number: int) -> str:
    return f"trial-{number:04d}"


def _all_fail(trials: list[optuna.trial.FrozenTrial]) -> bool:
    from optuna.trial import TrialState

    over = [trial for trial in trials if trial.state.is_finished()]
    return len(over) >= _ALL_FAIL and all(trial.state is TrialState.FAIL for trial in over)


def _sampler(setting: Setting, number: int) -> Any:
    """Returns the sampler for a trial, whose seed depends on nothing but the study and the trial."""
    written = setting.tuning.sampler
    fixed = derive_seed(setting.seed, "sampler")
    if Choice.of(written).name != GRID:
        return make_sampler(written, derive_seed(fixed, number), fixed)
    import numpy as np
    from optuna.samplers import PartialFixedSampler

    points = grid(setting.space)
    point = points[int(np.random.default_rng(fixed).permutation(len(points))[number])]
    return PartialFixedSampler(point, make_sampler("random", fixed, fixed))


# In several processes


def in_processes(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    progress: Callable[[], int],
    is_left: Callable[[], bool],
) -> None:
    """Runs a function in several processes, and puts another one in the place of one that is killed.

    Args:
        target: What to run, of the top level of a module; it shares the work with its copies.
        arguments: For it.
        count: How many processes.
        progress: Is called about twice a second; returns how much is done.
        is_left: Tells whether there is work for another process.

    Raises:
        KeyboardInterrupt: It was interrupted; the processes have ended.
    """
    context = multiprocessing.get_context("spawn")

    def start() -> Any:
        # No daemons: those could not have environments in processes of their own.
        process = context.Process(target=_work, args=(target, arguments), daemon=False)
        process.start()
        return process

    with _one_thread_each():
        processes = [start() for _ in range(count)]
    done, deaths = progress(), 0
    try:
        while processes:
            connection.wait([process.sentinel for process in processes], timeout=_LOOK_SECONDS)
            if (now := progress()) > done:
                done, deaths = now, 0
            for process in [each for each in processes if not each.is_alive()]:
                process.join()
                processes.remove(process)
                if process.exitcode == 0:
                    continue
                deaths += 1
                logger.warning("a worker ended with %s", _ending(process.exitcode))
                if deaths <= _DEATHS * count and is_left():
                    with _one_thread_each():
                        processes.append(start())
    except KeyboardInterrupt:
        for process in processes:
            _interrupt(process)
        for process in processes:
            process.join()
        raise
    finally:
        progress()


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {-exit_code}"
    return f"exit code {exit_code}"


def _interrupt(process: Any) -> None:
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGINT if os.name == "posix" else signal.SIGTERM)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Lets processes that are started meanwhile begin with one thread; two that share a core wait for each other."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(_THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The whole life of a worker."""
    import torch

    torch.set_num_threads(1)
    # What a shell starts in the background, and all that this starts, ignores it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.name == "posix":
        # A terminal's Ctrl-C is for the parent, which passes it on: told twice, training ends without a checkpoint.
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        target(*arguments)
    except KeyboardInterrupt:
        os._exit(0)  # the parent tells it


def _end_with_parent() -> None:
    """Interrupts this process, which then writes a checkpoint, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
