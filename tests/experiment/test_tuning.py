"""A search tries what its space says, survives the death of its processes, and does not boast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rl_framework
from rl_framework.errors import ArgumentError, TuningError
from rl_framework.experiment import Experiment, Run, Tuning, load_config, tune
from rl_framework.experiment.tuning.confirmation import (
    Candidate,
    confirm,
    fresh_seeds,
    is_open,
    train_for_confirmation,
)
from rl_framework.experiment.tuning.result import Confirmation, TrialRecord, TuningResult
from rl_framework.training import Callback, Evaluated, Training, TrainingStarted

pytest.importorskip("optuna")

RATE, STEPS = "agent.parameters.learning_rate", "agent.parameters.n_steps"


def small(**tuning: Any) -> dict[str, Any]:
    """A search whose trials take a moment."""
    return {
        "name": "small",
        "seed": 5,
        "agent": {"algorithm": "ppo", "parameters": {"n_steps": 16, "batch_size": 16, "n_epochs": 1}},
        "environment": {"id": "CartPole-v1"},
        "training": {"total_timesteps": 96, "checkpoint_every": 32, "evaluate_every": 48, "n_eval_episodes": 1},
        "evaluation": {"n_episodes": 2},
        "video": {"length": 5},
        "tuning": {
            "trials": 3,
            "confirm": {"seeds": 2},
            "search": {RATE: "auto", STEPS: {"choices": [16, 32]}},
            **tuning,
        },
    }


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.connector.local.plot_learning_curve", lambda *_: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TuningResult:
    """A search that nothing happened to; nobody may change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rl_framework.connector.local.plot_learning_curve", lambda *_: None)
        return tune({**small(), "run_directory": str(tmp_path_factory.mktemp("finished"))})


def test_a_search_ends_with_a_configuration_and_what_it_is_worth(finished: TuningResult) -> None:
    assert [trial.state for trial in finished.trials] == ["complete"] * 3
    for trial in finished.trials:
        run = Run.open(finished.folder / f"trial-{trial.number:04d}")
        assert run.status == "finished"
        assert run.results is not None
        assert run.results.mean == trial.value
        parameters = run.settings["agent"]["parameters"]
        assert (parameters["learning_rate"], parameters["n_steps"]) == (trial.parameters[RATE], trial.parameters[STEPS])
        assert sorted(trial.intermediate) == [1, 2]
        assert run.settings["video"] is None
        assert run.checkpoints == []
    assert len({Run.open(path).settings["seed"] for path in finished.folder.glob("trial-*")}) == 3
    best = finished.best
    assert best is not None
    assert best.value == max(trial.value or 0.0 for trial in finished.trials)
    confirmed = finished.confirmed
    assert confirmed is not None
    seeds = {int(run.settings["seed"]) for run in Run.open(confirmed.folder).seeds}
    assert seeds == set(confirmed.scores)
    assert not seeds & {Run.open(path).settings["seed"] for path in finished.folder.glob("trial-*")}
    assert confirmed.value == pytest.approx(sum(confirmed.scores.values()) / 2)
    assert json.loads((finished.folder / "results.json").read_text())["words"] == finished.words()


def test_the_best_configuration_is_one_to_train_with(finished: TuningResult) -> None:
    path = finished.best_config
    assert path == finished.folder / "best.yaml"
    assert finished.words() in path.read_text()
    assert "the same run again" not in path.read_text()  # it has no seed
    config = load_config(path)
    assert config.name == "small-best"
    assert config.tuning is None
    assert config.agent is not None
    assert config.agent.given()["parameters"]["learning_rate"] == finished.best_parameters[RATE]
    assert config.video is not None
    overrides = ["video=null", "training.total_timesteps=32", "evaluation=null", "run_directory=runs"]
    assert Experiment.from_yaml(path, overrides).run().status == "finished"


def test_the_same_call_goes_on_and_another_configuration_is_refused(finished: TuningResult) -> None:
    directory = str(finished.folder.parent)
    config = {**small(), "run_directory": directory}
    seen: list[TrialRecord] = []
    again = Tuning.from_config(config)
    assert [trial.value for trial in again.run(seen.append).trials] == [trial.value for trial in finished.trials]
    assert seen == []
    with pytest.raises(ArgumentError, match=r"evaluation\.n_episodes is 2 there and 3 here"):
        Tuning.from_config(config, ["evaluation.n_episodes=3"]).run()
    with pytest.raises(ArgumentError, match="no study"):
        Tuning.from_yaml(directory)


KILLED = """
import os, signal, sys
from rl_framework.connector import local
from rl_framework.experiment import tune
from rl_framework.experiment.tuning import trial
from rl_framework.training import CheckpointSaved

local.plot_learning_curve = lambda *_: None
listen = trial._Reports.on_event

def on_event(self, event, training):
    listen(self, event, training)
    is_first = self._trial.number == 1 and self._trial.user_attrs["attempts"] == 1
    if is_first and isinstance(event, CheckpointSaved) and event.timestep >= 64:
        os.kill(os.getpid(), signal.SIGKILL)

trial._Reports.on_event = on_event

if __name__ == "__main__":
    result = tune("small.yaml", sys.argv[1:], on_trial=lambda trial: print(trial.number, trial.state))
    print(result.words())
"""


def _in_a_process(*overrides: str) -> subprocess.CompletedProcess[str]:
    Path("small.yaml").write_text(json.dumps(small()))
    Path("killed.py").write_text(KILLED)
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "killed.py", *overrides]
    return subprocess.run(command, capture_output=True, text=True, env=quiet, check=False, timeout=600)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_search_loses_no_trial_and_goes_on_with_the_running_one(finished: TuningResult) -> None:
    killed = _in_a_process()
    assert killed.returncode == -9, killed.stderr
    left = Tuning.from_yaml("runs/small-tuning").result()
    assert [trial.state for trial in left.trials] == ["complete", "running"]
    before = Run.open(left.folder / "trial-0000").records
    with (left.folder / "journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "worker')  # as a power failure leaves it
    seen: list[TrialRecord] = []
    result = tune("small.yaml", on_trial=seen.append)
    assert [trial.number for trial in seen] == [1, 2]
    assert [trial.attempts for trial in result.trials] == [1, 2, 1]
    assert Run.open(left.folder / "trial-0000").records == before
    _, second = Run.open(left.folder / "trial-0001").records
    assert second["resumed_from"] == "checkpoint_000000000064.zip"
    # Nobody could tell that anything happened.
    assert [trial.parameters for trial in result.trials] == [trial.parameters for trial in finished.trials]
    assert [trial.value for trial in result.trials] == [trial.value for trial in finished.trials]
    assert [trial.intermediate for trial in result.trials] == [trial.intermediate for trial in finished.trials]
    assert result.confirmed is not None
    assert finished.confirmed is not None
    assert result.confirmed.scores == finished.confirmed.scores


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("storage", "seeds"), [("null", 2), ("study.db", 0)])
def test_two_workers_of_which_one_is_killed_finish_the_search(finished: TuningResult, storage: str, seeds: int) -> None:
    ended = _in_a_process("tuning.workers=2", f"tuning.storage={storage}", f"tuning.confirm.seeds={seeds}")
    assert ended.returncode == 0, ended.stderr
    assert "a worker ended with signal 9" in ended.stderr
    assert sorted(ended.stdout.splitlines()[:3]) == ["0 complete", "1 complete", "2 complete"]
    result = Tuning.from_yaml("runs/small-tuning").result()
    assert [trial.attempts for trial in result.trials] == [1, 2, 1]
    # The values proposed do not depend on who finishes first while the sampler draws its first trials at random.
    assert [trial.value for trial in result.trials] == [trial.value for trial in finished.trials]
    assert Path("study.db").is_file() == (storage != "null")


def test_a_trial_that_fails_is_told_and_the_search_goes_on() -> None:
    search = {RATE: {"choices": [1e-3, 1e30]}}
    result = tune(small(search=search, sampler="grid", trials=9, confirm={"seeds": 0}))
    assert len(result.trials) == 2
    assert result.counts() == {"complete": 1, "failed": 1}
    (failed,) = [trial for trial in result.trials if trial.state == "failed"]
    assert failed.parameters == {RATE: 1e30}
    assert failed.reason is not None
    assert "nan" in failed.reason.lower()
    assert "Traceback" in (result.folder / f"trial-{failed.number:04d}" / "error.log").read_text()
    assert result.best_parameters == {RATE: 1e-3}
    assert "not confirmed on fresh seeds" in result.words()


class _BreaksAfterTheSearch(Callback):
    def __init__(self) -> None:
        self.trainings = 0

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        self.trainings += 1
        if self.trainings > 1:
            raise RuntimeError("the simulator is gone")


def test_a_confirmation_that_fails_is_told_and_the_search_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    result = tune(small(trials=1, confirm={"seeds": 2}), callbacks=[_BreaksAfterTheSearch()])
    assert result.counts() == {"complete": 1}
    assert result.best is not None
    (confirmation,) = result.confirmations
    assert confirmation.reason is not None
    assert "the simulator is gone" in confirmation.reason
    assert confirmation.value is None
    assert "could not be confirmed" in caplog.text
    assert "the simulator is gone" in result.words()


class _BreaksOnce(Callback):
    def __init__(self) -> None:
        self.is_whole = False

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        if not self.is_whole:
            self.is_whole = True
            raise RuntimeError("the simulator is gone")


def test_a_worker_leaves_a_run_that_fails_and_the_search_goes_on_with_it(caplog: pytest.LogCaptureFixture) -> None:
    setting = Tuning.from_config(small(), callbacks=[_BreaksOnce()])._setting()
    candidate = Candidate(0, {RATE: 1e-3, STEPS: 16})
    train_for_confirmation(setting, [candidate])
    assert "the simulator is gone" in caplog.text
    failed, trained = (setting.folder / "confirm-0000" / f"seed-{seed}" for seed in fresh_seeds(setting))
    assert Run(failed).status != "finished"
    assert Run(trained).status == "finished"
    assert is_open(setting, [candidate])
    confirmation = confirm(setting, candidate)
    assert (confirmation.reason, sorted(confirmation.scores)) == (None, sorted(fresh_seeds(setting)))
    assert not is_open(setting, [candidate])


def test_if_every_trial_fails_so_does_the_search() -> None:
    search = {RATE: {"choices": [1e29, 1e30]}}
    with pytest.raises(TuningError, match=r"all 2 trials failed\. The first \(agent\.parameters\.learning_rate=1e"):
        tune(small(search=search, sampler="grid", trials=2))


def test_a_pruned_trial_ends_early() -> None:
    result = tune(small(pruner={"type": "threshold", "lower": 1e6}, trials=1))
    (trial,) = result.trials
    assert (trial.state, list(trial.intermediate)) == ("pruned", [1])
    run = Run.open(result.folder / "trial-0000")
    assert run.results is None
    assert run.records[-1]["total_timesteps"] < 96 or run.metrics()[-1].timestep < 96
    assert result.best is None
    assert result.words() == "no trial is complete"


def test_several_seeds_have_one_value() -> None:
    result = tune(small(seeds=[1, 2], trials=1, confirm={"seeds": 0}))
    run = Run.open(result.folder / "trial-0000")
    scores = {each.name: each.results.mean for each in run.seeds if each.results is not None}
    assert list(scores) == ["seed-1", "seed-2"]
    assert result.trials[0].value == pytest.approx(sum(scores.values()) / 2)
    assert run.status == "finished"


class _Interrupts(Callback):
    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_trial_is_gone_on_with() -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(small(trials=1, confirm={"seeds": 0}), callbacks=[_Interrupts()])
    result = tune(small(trials=1, confirm={"seeds": 0}))
    assert [(trial.state, trial.attempts) for trial in result.trials] == [("complete", 2)]


@pytest.mark.parametrize(
    "sampler", ["random", "cmaes", {"type": "qmc", "qmc_type": "halton"}, {"type": "tpe", "n_startup_trials": 1}]
)
def test_samplers_are_seeded(sampler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.experiment.tuning import trial

    monkeypatch.setattr(trial, "_value", lambda setting, trial, folder, values: -abs(values[RATE] - 1e-3))
    config = small(sampler=sampler, trials=4, confirm={"seeds": 0}, study="one")
    one = tune(config)
    # In two sessions, as after an interruption, and for another study.
    tune(config, ["tuning.study=two", "tuning.trials=2"])
    two = tune(config, ["tuning.study=two"])
    assert [trial.parameters for trial in one.trials] == [trial.parameters for trial in two.trials]
    assert len({trial.parameters[RATE] for trial in one.trials}) == 4
    other = tune(config, ["tuning.study=three", "seed=6"])
    if not isinstance(sampler, dict) or sampler["type"] != "qmc":
        assert [trial.parameters for trial in one.trials] != [trial.parameters for trial in other.trials]


def test_importance_names_the_parameter_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.experiment.tuning import trial

    monkeypatch.setattr(trial, "_value", lambda setting, trial, folder, values: -abs(values[RATE] - 1e-3))
    result = tune(small(sampler="random", trials=40, confirm={"seeds": 0}))
    assert next(iter(result.importance)) == RATE
    assert sum(result.importance.values()) == pytest.approx(1)


class _Gone(BaseException):
    """A process that goes away."""


def test_a_process_that_is_always_killed_at_the_same_point_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.experiment.tuning import trial

    endings: list[type[BaseException]] = [_Gone, KeyboardInterrupt, _Gone, KeyboardInterrupt, _Gone]

    def ended(*_: Any) -> float:
        raise endings.pop(0)

    config = small(trials=1, confirm={"seeds": 0})
    monkeypatch.setattr(trial, "_value", ended)
    for _ in range(5):
        with pytest.raises((_Gone, KeyboardInterrupt)):
            tune(config)
    with pytest.raises(TuningError, match="was killed 3 times at the same point"):
        tune(config)
    # One that gets further is gone on with.
    endings = [_Gone] * 5
    timesteps = iter(range(1, 20))
    monkeypatch.setattr(trial, "_timestep", lambda folder: next(timesteps))
    for _ in range(5):
        with pytest.raises(_Gone):
            tune(config, ["tuning.study=further"])
    monkeypatch.setattr(trial, "_value", lambda *_: 1.0)
    assert tune(config, ["tuning.study=further"]).trials[0].attempts == 6


def _result(scores: dict[int, float], interval: tuple[float, float], direction: Any = "maximize") -> TuningResult:
    trials = [TrialRecord(0, "complete", 30.0), TrialRecord(1, "complete", 20.0), TrialRecord(2, "pruned", 99.0)]
    value = sum(scores.values()) / len(scores)
    number = 0 if direction == "maximize" else 1
    seen = trials[number].value or 0.0
    confirmed = Confirmation(number, {}, seen, Path("c"), scores, value, interval)
    return TuningResult(Path("f"), "evaluation/mean_return", direction, trials, [confirmed])


def test_the_difference_between_search_and_confirmation_is_told() -> None:
    assert _result({1: 10.0, 2: 20.0}, (10.0, 20.0)).words() == (
        "On 2 fresh seeds: IQM 15, 95 % interval 10 to 20; in the search trial 0 had evaluation/mean_return 30, the "
        "highest of 2 complete trials. The search saw 15 too much, as the best of several noisy values does: count on "
        "the value on fresh seeds."
    )
    assert "too much, which is within what other seeds vary by" in _result({1: 20.0, 2: 32.0}, (20.0, 32.0)).words()
    assert "too little" in _result({1: 40.0, 2: 50.0}, (40.0, 50.0)).words()
    assert "too little, as the best of" in _result({1: 40.0, 2: 50.0}, (40.0, 50.0), "minimize").words()


def test_collaborators_can_be_given_to_one_worker() -> None:
    with pytest.raises(ArgumentError, match="further processes"):
        Tuning.from_config(small(workers=2), training_environments="CartPole-v1")
    with pytest.raises(ArgumentError, match="each trial needs its own"):
        Tuning.from_config(small(), agent=object())
    assert rl_framework.Tuning is Tuning


def test_a_storage_of_another_study_is_refused(finished: TuningResult) -> None:
    storage = str(finished.folder / "journal.log")
    with pytest.raises(ArgumentError, match="has a study 'small-tuning' of another folder"):
        tune(small(storage=storage))


@pytest.mark.parametrize(
    ("pruner", "prunes"),
    [
        ({"type": "median", "n_startup_trials": 2}, True),
        ({"type": "percentile", "percentile": 25.0, "n_startup_trials": 2}, True),
        ({"type": "successive_halving", "min_resource": 1, "reduction_factor": 2}, True),
        ({"type": "hyperband", "max_resource": 4}, True),
        ("none", False),
    ],
)
def test_pruners_count_evaluations(pruner: Any, prunes: bool) -> None:
    import optuna

    from rl_framework.experiment.tuning.choosing import make_pruner
    from rl_framework.experiment.tuning.storage import quiet_optuna
    from rl_framework.experiment.tuning.trial import _Reports

    class Trained:
        seed = 1
        stop_reason = ""

        def stop(self, reason: str) -> None:
            self.stop_reason = reason

    reasons = []
    with quiet_optuna():
        study = optuna.create_study(direction="maximize", pruner=make_pruner(pruner), study_name="fixed")
        for goodness in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0):
            trial, training = study.ask(), Trained()
            reports = _Reports(trial, "evaluation/mean_return", 100, seed=1)
            for timestep in (104, 208, 304, 400):
                metrics = {"evaluation/mean_return": float(goodness)}
                reports.on_event(Evaluated(timestep=timestep, metrics=metrics, result=None), training)  # type: ignore[arg-type]
                if reports.was_pruned:
                    break
            state = optuna.trial.TrialState.PRUNED if reports.was_pruned else optuna.trial.TrialState.COMPLETE
            study.tell(trial, None if reports.was_pruned else goodness, state)
            reasons.append(training.stop_reason)
    assert ("pruned" in reasons[-3:]) == prunes
    assert set(study.trials[0].intermediate_values) == {1, 2, 3, 4}


def test_a_search_without_environment_compares_what_validations_measure() -> None:
    data = Path(__file__).resolve().parents[2] / "data" / "cartpole_expert"
    config = {
        "name": "clone",
        "agent": {"algorithm": "bc"},
        "episodes": {"path": str(data), "n_episodes": 4, "validation_fraction": 0.25},
        "training": {"total_timesteps": 500},
        "tuning": {
            "trials": 1,
            "metric": "validation/neglogp",
            "direction": "minimize",
            "confirm": {"seeds": 2},
            "search": {"agent.parameters.batch_size": {"choices": [32, 64]}},
        },
    }
    pytest.importorskip("imitation")
    result = tune(config)
    (trial,) = result.trials
    measured = Run.open(result.folder / "trial-0000").metrics()
    assert (
        trial.value
        == [each.metrics["validation/neglogp"] for each in measured if each.metrics.get("validation/neglogp")][-1]
    )
    assert result.confirmed is not None
    assert result.confirmed.value == pytest.approx(sum(result.confirmed.scores.values()) / 2)
    assert result.confirmed.n_episodes == 0


def test_without_optuna_only_the_search_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(rl_framework.MissingExtraError, match=r"rl-framework\[tuning\]"):
        Tuning.from_config(small())
