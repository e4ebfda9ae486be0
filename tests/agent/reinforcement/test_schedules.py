"""Schedules as data."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.utils import LinearSchedule as LibrarysLinearSchedule
from tests.agent.samples import make, train, trained

from rl_framework import ArgumentError, register_schedule, registry
from rl_framework.agent.reinforcement.schedules import to_schedule
from rl_framework.errors import UnknownNameError

POSITIVE = st.floats(1e-8, 1e3)
PROGRESS = st.floats(0, 1)


@pytest.fixture
def restored_schedules(monkeypatch):
    monkeypatch.setattr(registry.schedules, "_entries", dict(registry.schedules._entries))


def test_numbers_and_functions_stay_what_they_are():
    assert to_schedule(3e-4, "learning_rate") == 3e-4
    assert to_schedule(abs, "learning_rate") is abs


@given(POSITIVE, POSITIVE, st.floats(0.01, 1), PROGRESS)
def test_linear_is_the_librarys(start, end, fraction, progress):
    schedule = to_schedule({"type": "linear", "start": start, "end": end, "end_fraction": fraction}, "learning_rate")
    assert schedule(progress) == LibrarysLinearSchedule(start, end, fraction)(progress)


@given(POSITIVE, POSITIVE, PROGRESS)
def test_curves_begin_and_end_where_they_say_and_stay_between(start, end, progress):
    for kind in ("linear", "exponential", "cosine"):
        schedule = to_schedule({"type": kind, "start": start, "end": end}, "learning_rate")
        low, high = sorted((start, end))
        rounding = 1e-9 * high
        assert schedule(1.0) == pytest.approx(start, abs=rounding)
        assert schedule(0.0) == pytest.approx(end, abs=rounding)
        assert low - rounding <= schedule(progress) <= high + rounding


def test_halfway():
    halfway = {
        kind: to_schedule({"type": kind, "start": 1.0, "end": 0.01}, "learning_rate")(0.5)
        for kind in ("linear", "exponential", "cosine")
    }
    assert halfway == pytest.approx({"linear": 0.505, "exponential": 0.1, "cosine": 0.505})
    quarter = to_schedule({"type": "cosine", "start": 1.0}, "learning_rate")(0.75)
    assert quarter == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_steps():
    schedule = to_schedule({"type": "step", "values": [3, 2, 1], "at": [0.5, 0.8]}, "learning_rate")
    assert [schedule(progress) for progress in (1.0, 0.51, 0.5, 0.21, 0.19, 0.0)] == [3, 3, 2, 2, 1, 1]


def test_constant():
    assert to_schedule({"type": "constant", "value": 0.5}, "clip_range")(0.3) == 0.5


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"start": 1.0},
        {"type": "linear"},
        {"type": "linear", "begin": 1.0},
        {"type": "linear", "start": "a"},
        {"type": "linear", "start": None},
        {"type": "linear", "start": True},
        {"type": "linear", "start": math.nan},
        {"type": "linear", "start": math.inf},
        {"type": "linear", "start": 1.0, "end_fraction": 0},
        {"type": "linear", "start": 1.0, "end_fraction": 1.5},
        {"type": "constant", "value": "0.1"},
        {"type": "exponential", "start": 1.0, "end": 0.0},
        {"type": "exponential", "start": -1.0, "end": 1.0},
        {"type": "step", "values": [1, 2], "at": [0.5, 0.6]},
        {"type": "step", "values": [1, 2, 3], "at": [0.6, 0.5]},
        {"type": "step", "values": [1, "2", 3], "at": [0.5, 0.6]},
        {"type": "step", "values": 3, "at": []},
    ],
    ids=repr,
)
def test_data_that_is_no_schedule_is_refused(data):
    with pytest.raises(ArgumentError, match="learning_rate"):
        to_schedule(data, "learning_rate")


def test_an_unknown_type_gets_the_nearest_names():
    with pytest.raises(UnknownNameError) as caught:
        to_schedule({"type": "liner", "start": 1.0}, "learning_rate")
    assert caught.value.suggestions[0] == "linear"


def test_a_schedule_of_ones_own(restored_schedules):
    class Square:
        def __init__(self, start):
            self.start = start

        def __call__(self, progress_remaining):
            return self.start * progress_remaining**2

    register_schedule("square", Square)
    assert to_schedule({"type": "square", "start": 2.0}, "learning_rate")(0.5) == 0.5
    agent = train(make("ppo", {"learning_rate": {"type": "square", "start": 1e-3}}))
    assert agent.algorithm.lr_schedule(0.5) == pytest.approx(2.5e-4)


def test_schedules_of_every_parameter_that_can_change(tmp_path):
    schedule = {"type": "linear", "start": 0.4, "end": 0.2}
    agent = trained("ppo", dict.fromkeys(("learning_rate", "clip_range", "clip_range_vf"), schedule))
    assert agent.algorithm.clip_range(0.5) == agent.algorithm.clip_range_vf(0.5) == pytest.approx(0.3)
    assert agent.algorithm.lr_schedule(0.5) == pytest.approx(0.3)
    assert json.loads(json.dumps(agent.describe()))["algorithm_parameters"]["clip_range"] == schedule
    loaded = make("ppo").load_from_file(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.algorithm_parameters["clip_range"] == schedule
    assert loaded.algorithm.clip_range(0.5) == pytest.approx(0.3)
