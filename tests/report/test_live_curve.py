"""The learning curve that grows in a notebook."""

import logging
from itertools import pairwise

import IPython.display
import numpy as np
import pytest
from tests.agent.samples import make, same, train, weights

import rl_framework
from rl_framework.errors import ArgumentError
from rl_framework.report import live_curve
from rl_framework.report.live_curve import LiveCurve
from rl_framework.training import EpisodeEnded, Evaluated, Training, TrainingEnded, TrainingFailed, TrainingStarted
from rl_framework.training.metrics import MetricsWriter


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def perf_counter(self):
        return self.now


class Agent:
    pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live_curve, "time", clock)
    return clock


@pytest.fixture
def displays(monkeypatch):
    """A notebook: what each display was given, in the order of time."""
    made = []

    class Display:
        def __init__(self):
            self.images = []
            made.append(self)

        def display(self, image):
            assert not self.images
            self.images.append(image)

        def update(self, image):
            assert self.images
            self.images.append(image)

    monkeypatch.setattr(live_curve, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "DisplayHandle", Display)
    return made


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: timesteps, returns, evaluations."""
    pictures = []

    def draw(timesteps, returns, evaluations, *arguments, **options):
        pictures.append((timesteps.tolist(), returns.tolist(), evaluations.tolist()))
        return b"\x89PNG\r\n\x1a\n"

    monkeypatch.setattr(live_curve, "draw_curve", draw)
    return pictures


def begun(curve, agent=None, timestep=0, others=(), resumed=False):
    training = Training(Agent() if agent is None else agent, [*others, curve], 0, timestep)
    training.emit(TrainingStarted(timestep=timestep, total_timesteps=1_000, resumed=resumed))
    return training


def episode(training, timestep, episode_return):
    training.emit(EpisodeEnded(timestep=timestep, episode_return=episode_return, length=10, slot=0))


def evaluated(training, timestep, mean, low, high):
    names = ("mean_return", "low", "high")
    metrics = {f"evaluation/{name}": value for name, value in zip(names, (mean, low, high), strict=True)}
    training.emit(Evaluated(timestep=timestep, metrics=metrics, result=None))


def ended(training, timestep=1_000, **how):
    training.emit(TrainingEnded(timestep=timestep, **how))


def test_one_picture_changes_in_its_place(displays, drawn, clock):
    training = begun(LiveCurve(every_seconds=2))
    episode(training, 10, 1.0)
    assert not drawn
    clock.now += 2
    episode(training, 20, 3.0)
    evaluated(training, 25, 2.0, 1.5, 2.5)
    clock.now += 2
    episode(training, 30, float("nan"))
    ended(training)
    assert drawn == [
        ([10, 20], [1.0, 3.0], []),
        ([10, 20], [1.0, 3.0], [[25.0, 2.0, 1.5, 2.5]]),
        ([10, 20], [1.0, 3.0], [[25.0, 2.0, 1.5, 2.5]]),
    ]
    (display,) = displays
    assert len(display.images) == 3


def test_drawing_takes_a_small_share_of_the_time(displays, monkeypatch, clock):
    at = []

    def draw(*arguments, **options):
        at.append(clock.now)
        clock.now += 0.2
        return b"\x89PNG\r\n\x1a\n"

    monkeypatch.setattr(live_curve, "draw_curve", draw)
    training = begun(LiveCurve(every_seconds=1))
    for step in range(20_000):
        clock.now += 0.01
        episode(training, step, 0.0)
    assert min(later - earlier for earlier, later in pairwise(at)) >= 1
    assert at[2] - 1_000 < 5  # the first ones come soon
    spent = 0.2 * len(at)
    assert 0.02 * 200 / 2 < spent < 0.02 * (clock.now - 1_000) + 0.5 + 0.2


@pytest.mark.parametrize("how", ["interrupted", "failed"])
def test_it_stays_when_training_ends_early_and_can_be_used_again(displays, drawn, clock, how):
    curve, agent = LiveCurve(), Agent()
    training = begun(curve, agent)
    episode(training, 10, 1.0)
    if how == "interrupted":
        ended(training, 12, interrupted=True)
    else:
        training.emit_failure(ValueError("the simulator is gone"))
    assert drawn == [([10], [1.0], [])]
    training = begun(curve, agent, timestep=12)
    episode(training, 20, 2.0)
    ended(training)
    assert drawn[-1] == ([10, 20], [1.0, 2.0], [])
    assert [len(display.images) for display in displays] == [1, 1]  # each cell has its own


def test_what_happens_once_more_after_a_checkpoint_is_not_shown_twice(displays, drawn, clock):
    curve, agent = LiveCurve(), Agent()
    training = begun(curve, agent)
    for timestep in (10, 20, 30):
        episode(training, timestep, float(timestep))
        evaluated(training, timestep, 0.0, 0.0, 0.0)
    ended(training, interrupted=True)
    training = begun(curve, agent, timestep=20, resumed=True)
    episode(training, 30, 31.0)
    ended(training)
    timesteps, returns, evaluations = drawn[-1]
    assert (timesteps, returns) == ([10, 20, 30], [10.0, 20.0, 31.0])
    assert [row[0] for row in evaluations] == [10.0, 20.0]


@pytest.mark.parametrize("is_there", [True, False], ids=["kept", "not-kept"])
def test_in_a_new_session_it_goes_on_with_what_a_connector_kept(tmp_path, displays, drawn, clock, is_there):
    class Kept(rl_framework.Callback):
        metrics_path = tmp_path / "metrics.jsonl"

    if is_there:
        with MetricsWriter(Kept.metrics_path) as writer:
            for timestep in (10, 20, 30):
                writer.write(timestep, {"episode/return": float("nan") if timestep == 10 else float(timestep)})
            writer.write(15, {"evaluation/mean_return": 5.0})
    training = begun(LiveCurve(), timestep=20, others=[Kept()], resumed=True)
    episode(training, 25, 1.0)
    ended(training)
    timesteps, _, evaluations = drawn[-1]
    assert timesteps == ([20, 25] if is_there else [25])
    assert [row[:2] for row in evaluations] == ([[15.0, 5.0]] if is_there else [])


def test_a_damaged_record_of_earlier_does_not_end_the_training(tmp_path, displays, drawn, clock, caplog):
    class Kept(rl_framework.Callback):
        metrics_path = tmp_path / "metrics.jsonl"

    Kept.metrics_path.write_text("{}\n{}\n")
    training = begun(LiveCurve(), timestep=20, others=[Kept()])
    episode(training, 25, 1.0)
    ended(training)
    assert drawn == [([25], [1.0], [])]
    assert "the curve begins at timestep 20" in caplog.text


def test_another_agent_has_a_curve_of_its_own(displays, drawn, clock):
    curve = LiveCurve()
    for value in (1.0, 2.0):
        training = begun(curve, Agent())
        episode(training, 10, value)
        ended(training)
    assert drawn == [([10], [1.0], []), ([10], [2.0], [])]


def test_a_picture_that_cannot_be_drawn_does_not_end_the_training(displays, monkeypatch, clock, caplog):
    tried = []

    def fail(*arguments, **options):
        tried.append(1)
        raise MemoryError("no room")

    monkeypatch.setattr(live_curve, "draw_curve", fail)
    training = begun(LiveCurve(every_seconds=0))
    with caplog.at_level(logging.ERROR):
        for timestep in (1, 2, 3):
            episode(training, timestep, 0.0)
        ended(training)
    assert tried == [1]
    assert "no room" in caplog.text


def test_outside_of_a_notebook_it_does_nothing(monkeypatch, drawn):
    monkeypatch.setattr(IPython.display, "DisplayHandle", None)
    curve = LiveCurve(every_seconds=0)
    training = begun(curve)
    episode(training, 10, 1.0)
    evaluated(training, 10, 1.0, 1.0, 1.0)
    training.emit(TrainingFailed(timestep=10, error=ValueError()))
    ended(training)
    assert not drawn
    assert not curve._timesteps


def test_a_real_picture_of_a_real_training_which_it_does_not_change(displays):
    parameters = {"n_steps": 16, "batch_size": 8}
    shown = train(make("ppo", parameters), seed=3, callbacks=[rl_framework.LiveCurve(every_seconds=0, threshold=475)])
    assert same(weights(shown), weights(train(make("ppo", parameters), seed=3)))
    (display,) = displays
    pictures = [image.data for image in display.images]
    assert pictures
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert np.frombuffer(pictures[-1][16:24], ">u4").tolist() == [800, 450]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"every_seconds": -1}, "every_seconds"),
        ({"every_seconds": float("nan")}, "every_seconds"),
        ({"every_seconds": "2"}, "every_seconds"),
        ({"window": 0}, "window"),
    ],
    ids=["negative", "nan", "text", "window"],
)
def test_bad_arguments_are_refused(arguments, named):
    with pytest.raises(ArgumentError, match=f"^{named}="):
        LiveCurve(**arguments)
