from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.evaluation import EvaluationResult
from rl_framework.progress import progress_bar
from rl_framework.training import (
    Callback,
    CheckpointSaved,
    EpisodeEnded,
    Evaluated,
    Event,
    PeriodicCheckpoint,
    PeriodicEvaluation,
    ProgressBar,
    RolloutEnded,
    Training,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
    Updated,
)

RESULT = EvaluationResult(returns=np.array([1.0, 3.0]), lengths=np.array([1, 3]))
EVENTS: dict[str, Event] = {
    "on_training_start": TrainingStarted(timestep=0, total_timesteps=10),
    "on_rollout_end": RolloutEnded(timestep=1),
    "on_update": Updated(timestep=1, n_updates=1),
    "on_episode_end": EpisodeEnded(timestep=1, episode_return=1.0, length=1, slot=0),
    "on_evaluation": Evaluated(timestep=1, result=RESULT),
    "on_checkpoint": CheckpointSaved(timestep=1, path=Path("c.zip")),
    "on_training_end": TrainingEnded(timestep=2),
    "on_failure": TrainingFailed(timestep=2, error=ValueError("no")),
}


class Agent:
    """Stands for an agent: notes what callbacks ask of it."""

    def __init__(self) -> None:
        self.evaluations: list[dict[str, Any]] = []
        self.saved: list[Path] = []

    def evaluate(self, **kwargs: Any) -> EvaluationResult:
        self.evaluations.append(kwargs)
        return RESULT

    def save_checkpoint(self, path: Path, training: Training) -> None:
        self.saved.append(path)


class Recorder(Callback):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event, training: Training) -> None:
        self.events.append(event)


def _run(callback: Callback, timesteps: list[int], start: int = 0) -> tuple[Agent, Recorder]:
    agent, recorder = Agent(), Recorder()
    training = Training(agent, [callback, recorder], seed=3, timestep=start)
    training.total_timesteps = timesteps[-1] + 1
    training.emit(TrainingStarted(timestep=start, total_timesteps=timesteps[-1]))
    for timestep in timesteps:
        training.step(timestep)
        training.boundary(timestep)
    return agent, recorder


@pytest.mark.parametrize("method", EVENTS)
def test_each_event_calls_its_own_method(method: str) -> None:
    called = []

    class Listener(Callback):
        pass

    for name in EVENTS:
        setattr(Listener, name, lambda self, event, training, name=name: called.append((name, event)))
    Training(None, [Listener()], seed=0).emit(EVENTS[method])
    assert called == [(method, EVENTS[method])]


def test_a_callback_that_overrides_nothing_is_fine_with_everything() -> None:
    training = Training(None, [Callback()], seed=0)
    for event in EVENTS.values():
        training.emit(event)
    training.step(5)
    assert training.timestep == 5


def test_everybody_hears_of_a_failure_even_if_one_fails_at_that(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Callback):
        def on_failure(self, event: TrainingFailed, training: Training) -> None:
            raise RuntimeError("disk full")

    recorder = Recorder()
    error = ValueError("the cause")
    with caplog.at_level(logging.ERROR):
        Training(None, [Clumsy(), recorder], seed=0).emit_failure(error)
    assert [event.error for event in recorder.events if isinstance(event, TrainingFailed)] == [error]
    assert "Clumsy" in caplog.text
    assert "disk full" in error.__notes__[0]


def test_periodic_evaluation_acts_at_the_first_step_past_each_period() -> None:
    callback = PeriodicEvaluation("CartPole-v1", every=10, n_eval_episodes=4)
    agent, recorder = _run(callback, [4, 8, 12, 16, 20, 24, 48])
    evaluated = [event for event in recorder.events if isinstance(event, Evaluated)]
    assert [event.timestep for event in evaluated] == [12, 20, 48]
    assert evaluated[0].result is RESULT
    assert evaluated[0].metrics["evaluation/mean_return"] == 2.0
    assert {e["n_eval_episodes"] for e in agent.evaluations} == {4}
    assert len({e["seed"] for e in agent.evaluations}) == 1


def test_periods_go_on_where_an_earlier_training_ended() -> None:
    agent, _ = _run(PeriodicEvaluation("CartPole-v1", every=10), [16, 19, 22], start=15)
    assert len(agent.evaluations) == 1


def test_periodic_checkpoints_are_named_by_timestep() -> None:
    agent, recorder = _run(PeriodicCheckpoint("checkpoints", every=100), [60, 120, 240])
    assert [path.name for path in agent.saved] == ["checkpoint_000000000120.zip", "checkpoint_000000000240.zip"]
    assert [event.path for event in recorder.events if isinstance(event, CheckpointSaved)] == agent.saved


def test_everybody_brings_to_safety_what_they_have_before_a_checkpoint_is_written() -> None:
    order: list[str] = []

    class Tracker(Callback):
        def flush(self) -> None:
            order.append("flush")

        def on_checkpoint(self, event: CheckpointSaved, training: Training) -> None:
            order.append("told")

    class Saving(Agent):
        def save_checkpoint(self, path: Path, training: Training) -> None:
            order.append("save")
            path.touch()

    training = Training(Saving(), [Tracker(), PeriodicCheckpoint("checkpoints", every=100)], seed=0)
    training.total_timesteps = 200
    training.emit(TrainingStarted(timestep=0, total_timesteps=200))
    training.boundary(100)
    assert order == ["flush", "save", "told"]


def test_the_end_is_saved_though_no_period_is_over() -> None:
    agent, recorder = Agent(), Recorder()
    training = Training(agent, [PeriodicCheckpoint("checkpoints", every=1000), recorder], seed=0)
    training.total_timesteps = 150
    training.emit(TrainingStarted(timestep=0, total_timesteps=150))
    training.boundary(149)
    assert agent.saved == []
    training.boundary(152)
    assert [path.name for path in agent.saved] == ["checkpoint_000000000152.zip"]


@pytest.mark.parametrize("every", [0, -5, 1.5, True])
def test_a_period_is_a_number_of_timesteps(every: Any) -> None:
    with pytest.raises(ArgumentError, match="checkpoint_every"):
        PeriodicCheckpoint("checkpoints", every)


class Bar:
    """Stands for a bar of tqdm."""

    def __init__(self, total: int, *args: Any, initial: int = 0, **kwargs: Any) -> None:
        self.total, self.n, self.text, self.disable, self.closed = total, initial, "", False, False

    def update(self, n: int) -> None:
        self.n += n

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.text = text

    def close(self) -> None:
        self.closed = True


def test_the_progress_bar_of_a_resumed_training_shows_all_of_it() -> None:
    callback = ProgressBar(Bar)
    training = Training(None, [callback], seed=0, timestep=140)
    training.start = 100  # a second call of `train`, interrupted and resumed
    training.emit(TrainingStarted(timestep=140, total_timesteps=150, resumed=True))
    assert (callback._bar.total, callback._bar.n) == (50, 40)
    training.step(145)
    assert callback._bar.n == 45


def test_a_real_progress_bar_begins_where_it_should() -> None:
    with progress_bar(50, "training", enabled=False, initial=40) as bar:
        assert bar.n == 40


def test_run_ids_find_back_to_their_callbacks() -> None:
    class Tracker(Callback):
        def __init__(self, own: str | None) -> None:
            self.own, self.joined = own, ""

        def run_id(self) -> str | None:
            return self.own

        def rejoin(self, run_id: str) -> None:
            self.joined = run_id

    run_ids = Training(None, [Tracker("a"), Callback(), Tracker(None), Tracker("c")], seed=0).run_ids()
    assert run_ids == {"Tracker 1": "a", "Tracker 3": "c"}
    later = [Tracker("x"), Tracker("y"), Tracker("z")]
    Training(None, [later[0], Callback(), *later[1:]], seed=0).rejoin({**run_ids, "Tracker 2": 5, "Other 1": "b"})
    assert [tracker.joined for tracker in later] == ["a", "", "c"]


def test_the_progress_bar_counts_steps_and_shows_the_return() -> None:
    callback = ProgressBar(Bar)
    training = Training(None, [callback], seed=0, timestep=100)
    training.emit(TrainingStarted(timestep=100, total_timesteps=150))
    training.step(108)
    training.emit(EpisodeEnded(timestep=108, episode_return=3.0, length=8, slot=0))
    training.emit(EpisodeEnded(timestep=108, episode_return=4.0, length=8, slot=0))
    training.step(150)
    bar = callback._bar
    assert (bar.total, bar.n, bar.text) == (50, 50, "return 3.5")
    training.emit(TrainingEnded(timestep=150))
    assert bar.closed
