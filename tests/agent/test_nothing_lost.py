"""Nothing is lost: signals, crashes and full disks cost at most the steps since the last checkpoint."""

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.agent.samples import make, same, weights

from rl_framework import Callback, LocalConnector, TensorBoardConnector, load_agent
from rl_framework.bundle import list_checkpoints, open_checkpoint, read_bundle
from rl_framework.errors import ArgumentError
from rl_framework.evaluation import EvaluationResult
from rl_framework.training import CheckpointSaved, TrainingEnded, TrainingStarted
from rl_framework.training.metrics import read_metrics

STEPS = 320
# The learning rate falls over the whole training, so that a schedule that began anew would be seen.
PARAMETERS = {"learning_rate": {"type": "linear", "start": 1e-2, "end": 1e-4}}


class Log(Callback):
    def __init__(self):
        self.events = []

    def on_event(self, event, training):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class CrashError(Exception):
    pass


class At(Callback):
    """Does something once, at a timestep in the middle of a rollout."""

    def __init__(self, timestep, action):
        self.timestep, self.action = timestep, action

    def on_step(self, training):
        if training.timestep == self.timestep:
            self.action()


def crash():
    raise CrashError


def run(callbacks=(), total_timesteps=STEPS, **arguments):
    """The same call with the same arguments, as a script would make it in every process."""
    agent = make("ppo", PARAMETERS)
    arguments = {
        "n_environments": 2,
        "seed": 7,
        "checkpoint_every": 64,
        "checkpoint_directory": "checkpoints",
        "resume_from": "checkpoints",
        **arguments,
    }
    return agent.train("CartPole-v1", total_timesteps, callbacks=callbacks, progress_bar=False, **arguments)


def send(signum):
    return lambda: os.kill(os.getpid(), signum)


def timesteps_saved():
    return sorted(timestep for timestep, _ in list_checkpoints("checkpoints"))


@pytest.fixture(scope="module")
def uninterrupted():
    return weights(run(checkpoint_every=None, checkpoint_directory=None, resume_from=None))


@pytest.fixture(autouse=True)
def _handlers_are_put_back():
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    for signum, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(signum, handler)
    assert after == before


@pytest.fixture
def handle():
    """Sets a handler of the user's own for the test."""
    before = {}

    def set_handler(signum, handler):
        before[signum] = signal.signal(signum, handler)

    yield set_handler
    for signum, handler in before.items():
        signal.signal(signum, handler)


# The same call again


def test_the_same_call_goes_on_after_a_crash_and_trains_nothing_once_finished(uninterrupted):
    with pytest.raises(CrashError):
        run([At(150, crash)])
    assert timesteps_saved() == [64, 128]
    log = Log()
    assert same(weights(run([log])), uninterrupted)
    (started,) = log.of(TrainingStarted)
    assert (started.timestep, started.total_timesteps, started.resumed) == (128, STEPS, True)
    assert started.record["resumed_from"] == "checkpoint_000000000128.zip"
    assert timesteps_saved() == [64, 128, 192, 256, 320]
    hashes = {path: hashlib.sha256(path.read_bytes()).digest() for path in Path("checkpoints").iterdir()}
    log = Log()
    assert same(weights(run([log])), uninterrupted)
    assert log.events == []
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in Path("checkpoints").iterdir()} == hashes


def test_a_first_call_begins_and_says_that_it_is_no_resumption(uninterrupted):
    log = Log()
    assert same(weights(run([log], keep_last=2)), uninterrupted)
    assert [event.resumed for event in log.of(TrainingStarted)] == [False]
    assert timesteps_saved() == [256, 320]


def test_the_end_is_saved_before_it_is_told_and_an_early_end_is_not():
    log = Log()
    run([log], total_timesteps=96)
    assert timesteps_saved() == [64, 96]
    assert isinstance(log.events[-1], TrainingEnded)

    class Stop(Callback):
        def on_step(self, training):
            if training.timestep == 74:
                training.stop("solved")

    run([Stop()], checkpoint_directory="stopped", resume_from=None)
    assert [timestep for timestep, _ in list_checkpoints("stopped")] == [64]


def test_a_longer_training_goes_on_from_a_finished_one():
    run(total_timesteps=64)
    assert run(total_timesteps=128).num_timesteps == 128


def test_a_folder_with_another_training_is_left_alone():
    run(total_timesteps=128)
    with pytest.raises(ArgumentError, match=r"checkpoint_directory=.*up to timestep 128"):
        run(total_timesteps=128, resume_from=None)
    assert timesteps_saved() == [64, 128]


def test_with_keep_last_the_only_whole_checkpoint_survives_until_there_is_another(uninterrupted):
    with pytest.raises(CrashError):
        run([At(200, crash)])
    newest = Path("checkpoints/checkpoint_000000000192.zip")
    newest.write_bytes(newest.read_bytes()[:-100])

    for crash_at, expected in ((150, [64, 128, 192]), (170, [160, 192])):  # before and after the next one is written
        with pytest.raises(CrashError):
            run([At(crash_at, crash)], keep_last=1, checkpoint_every=32)
        assert timesteps_saved() == expected
    assert same(weights(run(keep_last=1)), uninterrupted)
    assert timesteps_saved() == [STEPS]


# Signals


def test_ctrl_c_writes_a_checkpoint_and_goes_on_to_the_caller(uninterrupted):
    log = Log()
    with pytest.raises(KeyboardInterrupt):
        run([log, At(74, send(signal.SIGINT))])
    assert timesteps_saved() == [64, 96]  # the next boundary, though no period is over
    assert [event.timestep for event in log.of(CheckpointSaved)] == [64, 96]
    assert log.events[-1].interrupted
    assert same(weights(run()), uninterrupted)


def test_a_checkpoint_that_is_due_at_the_same_boundary_is_written_once():
    log = Log()
    with pytest.raises(KeyboardInterrupt):
        run([log, At(42, send(signal.SIGINT))])
    assert [event.timestep for event in log.of(CheckpointSaved)] == [64]


def test_a_second_ctrl_c_ends_at_once():
    agents = []

    def twice():
        send(signal.SIGINT)()
        send(signal.SIGINT)()
        agents.append("went on")

    log = Log()
    with pytest.raises(KeyboardInterrupt):
        run([log, At(74, twice)])
    assert timesteps_saved() == [64]
    assert log.events[-1].timestep == 74
    assert agents == []


def test_in_a_notebook_ctrl_c_returns_the_agent_after_a_checkpoint(monkeypatch):
    for module in ("trainable_agent", "interruption"):
        monkeypatch.setattr(f"rl_framework.agent.{module}.in_notebook", lambda: True)
    assert run([At(74, send(signal.SIGINT))]).num_timesteps == 96
    assert timesteps_saved() == [64, 96]


def test_a_signal_after_the_last_boundary_is_not_lost(uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        run([At(STEPS, send(signal.SIGINT))])
    assert same(weights(run()), uninterrupted)
    assert timesteps_saved()[-1] == STEPS


def test_a_handler_of_the_users_own_is_called_after_the_checkpoint(handle, uninterrupted):
    seen = []
    handle(signal.SIGTERM, lambda signum, frame: seen.append((signum, timesteps_saved())))
    assert same(weights(run([At(74, send(signal.SIGTERM))])), uninterrupted)  # it returned, so training went on
    assert seen == [(signal.SIGTERM, [64, 96])]


def test_a_handler_that_exits_does_so_after_the_checkpoint(handle):
    handle(signal.SIGTERM, lambda signum, frame: sys.exit(3))
    log = Log()
    with pytest.raises(SystemExit) as caught:
        run([log, At(74, send(signal.SIGTERM))])
    assert caught.value.code == 3
    assert timesteps_saved() == [64, 96]
    assert isinstance(log.events[-1], TrainingEnded)
    assert log.events[-1].interrupted


def test_a_signal_that_is_ignored_stays_ignored(handle, uninterrupted):
    handle(signal.SIGTERM, signal.SIG_IGN)
    assert same(weights(run([At(74, send(signal.SIGTERM))])), uninterrupted)
    assert 96 not in timesteps_saved()


def test_in_another_thread_signals_are_left_alone(uninterrupted):
    found, handlers = [], []

    def look():
        handlers.extend(signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM))

    thread = threading.Thread(target=lambda: found.append(run([At(74, look)])))
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    assert same(weights(found[0]), uninterrupted)


def test_handlers_are_put_back_after_an_error():
    with pytest.raises(CrashError):
        run([At(74, crash)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from tests.agent.test_nothing_lost import At, run

def wait():
    print("READY", flush=True)
    sys.stdin.readline()

if __name__ == "__main__":
    run([At(74, wait)], vectorization=sys.argv[1])
    print("FINISHED", flush=True)
"""


def _interrupted_process(signum, vectorization="auto", to_all=False):
    Path("script.py").write_text(SCRIPT)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "script.py", vectorization],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout.readline() == "READY\n", process.stderr.read()
        (os.killpg if to_all else os.kill)(process.pid, signum)
        printed, error = process.communicate("go\n", timeout=120)
    assert printed == "", error
    return process.returncode, error


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_process_leaves_with_the_usual_exit_code_and_another_goes_on(signum, uninterrupted):
    code, error = _interrupted_process(signum)
    assert code == -signum, error
    assert timesteps_saved() == [64, 96]
    assert same(weights(run()), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_terminal_or_job_ends_no_worker_too_early(signum, uninterrupted):
    code, error = _interrupted_process(signum, "subprocess", to_all=True)
    assert code == -signum, error
    assert timesteps_saved() == [64, 96], error
    assert same(weights(run()), uninterrupted)


# Full disks


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(monkeypatch, caplog, uninterrupted):
    log, full = Log(), []
    fsync = os.fsync

    def fsync_on_a_disk(descriptor):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_on_a_disk)
    with caplog.at_level(logging.ERROR):
        agent = run([log, At(100, lambda: full.append(1)), At(200, full.clear)])
    assert same(weights(agent), uninterrupted)
    assert [event.timestep for event in log.of(CheckpointSaved)] == [64, 256, 320]
    messages = [record.getMessage() for record in caplog.records]
    assert [
        f"{timestep}.zip could not be written" in message
        for timestep, message in zip((128, 192), messages, strict=True)
    ] == [
        True,
        True,
    ]
    assert "No space left" in messages[0]


def test_a_folder_that_cannot_be_written_to_is_an_error_before_the_first_step():
    Path("checkpoints").touch()
    log = Log()
    with pytest.raises(ArgumentError, match="checkpoint_directory"):
        run([log], resume_from=None)
    assert log.events[-1].timestep == 0


# The best model


def _judge(monkeypatch, returns):
    """Lets the evaluations of a training come out as listed."""
    left = iter(returns)

    def evaluate(self, **arguments):
        return EvaluationResult(returns=np.array([next(left)] * 2), lengths=np.array([1, 1]))

    monkeypatch.setattr("rl_framework.agent.base_agent.Agent.evaluate", evaluate)


def _best():
    with read_bundle("checkpoints/best_model.zip") as bundle:
        evaluation = bundle.information["evaluation"]
    return evaluation["timestep"], evaluation["evaluation/mean_return"]


def test_the_best_model_is_kept_and_survives_a_resumption(monkeypatch):
    _judge(monkeypatch, [1.0, 5.0, 3.0])
    with pytest.raises(CrashError):
        run([At(200, crash)], evaluate_every=64)
    assert _best() == (128, 5.0)
    acting = load_agent("checkpoints/best_model.zip")
    assert acting.num_timesteps == 128
    assert "best_model.zip" not in [path.name for _, path in list_checkpoints("checkpoints")]
    _judge(monkeypatch, [4.0, 6.0])
    run(evaluate_every=64)
    assert _best() == (320, 6.0)


def test_a_worse_model_never_takes_its_place(monkeypatch):
    _judge(monkeypatch, [2.0, 1.0, 1.9, 2.0, 1.5])
    run(evaluate_every=64)
    assert _best() == (64, 2.0)


def test_a_damaged_best_model_is_replaced(monkeypatch, caplog):
    _judge(monkeypatch, [1.0] * 5)
    Path("checkpoints").mkdir()
    Path("checkpoints/best_model.zip").write_bytes(b"nothing")
    run(evaluate_every=64)
    assert _best() == (64, 1.0)
    assert "best_model.zip" in caplog.text


# Trackers go on where they were


def _points(metrics):
    return [(record.timestep, name, value) for record in metrics for name, value in record.metrics.items()]


def _without_times(points):
    return [point for point in points if not point[1].startswith("time/")]


def _interrupt(how, connectors):
    if how == "signal":
        with pytest.raises(KeyboardInterrupt):
            run([At(190, send(signal.SIGINT))], connector=connectors, **EVALUATING)
    elif how == "crash":
        with pytest.raises(CrashError):
            run([At(190, crash)], connector=connectors, **EVALUATING)
    else:  # a kill or a power cut: what is on the disk in that moment, and no goodbye
        folders = ("runs", "board", "checkpoints")
        run([At(190, lambda: [shutil.copytree(f, f"killed/{f}") for f in folders])], connector=connectors, **EVALUATING)
        os.chdir("killed")  # the test's folder is put back by its fixture


EVALUATING = {"evaluate_every": 100, "n_eval_episodes": 2}


@pytest.mark.parametrize("how", ["crash", "kill", "signal"])
def test_metrics_are_those_of_an_uninterrupted_training(how):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    expected = LocalConnector("expected")
    run(connector=expected, checkpoint_every=None, checkpoint_directory=None, resume_from=None, **EVALUATING)
    wanted_points = _without_times(_points(read_metrics(expected.metrics_path)))
    local = LocalConnector(root="runs", name="mine")
    _interrupt(how, [local, TensorBoardConnector("board")])
    again = LocalConnector(root="runs", name="mine")
    assert again.directory.name == "mine-2"
    tensorboard = TensorBoardConnector("board")
    run(connector=[again, tensorboard], **EVALUATING)
    tensorboard.close()
    assert again.directory == local.directory
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]
    points = _without_times(_points(read_metrics(again.metrics_path)))
    assert points == wanted_points
    begun, resumed = json.loads((again.directory / "record.json").read_text())
    assert "resumed_from" not in begun
    assert resumed["resumed_from"] == f"checkpoint_{192 if how == 'signal' else 128:012d}.zip"
    assert (local.directory / "metrics.discarded.jsonl").exists() == (how != "signal")
    board = EventAccumulator("board").Reload()
    for name in {name for _, name, _ in points}:
        wanted = [(timestep, value) for timestep, other, value in points if other == name]
        found = [(event.step, event.value) for event in board.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in wanted]
        np.testing.assert_allclose([value for _, value in found], [value for _, value in wanted], rtol=1e-6)


def test_a_checkpoint_cannot_send_a_connector_elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "record.json").write_text("[]")
    for run_id in ("../elsewhere", str(tmp_path / "elsewhere"), "..", "", "not there"):
        local = LocalConnector(root="runs")
        directory = local.directory
        local.rejoin(run_id)
        assert local.directory == directory


def test_a_checkpoint_tells_no_paths(tmp_path):
    run(connector=LocalConnector(root=tmp_path / "runs", name="mine"), total_timesteps=64)
    with open_checkpoint("checkpoints") as bundle:
        assert bundle.information["training"]["runs"] == {"LocalConnector 1": "mine"}
        assert str(tmp_path) not in str(bundle.information["training"])
