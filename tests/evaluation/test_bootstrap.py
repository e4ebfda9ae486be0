"""Statistics over runs and tasks: by hand, against the recorded figures of rliable, and against rliable itself."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.evaluation import (
    StratifiedIndices,
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
    stratified_bootstrap,
    stratified_indices,
)

REFERENCE = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text())
AGGREGATES = {
    "mean": aggregate_mean,
    "median": aggregate_median,
    "iqm": aggregate_iqm,
    "optimality_gap": aggregate_optimality_gap,
}
RAGGED = {"easy": [1.0, 2.0, 3.0, 4.0, 5.0], "hard": [0.0, 1.0, 8.0]}


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.fixture(params=REFERENCE["cases"])
def case(request):
    return REFERENCE["cases"][request.param]


def test_aggregates_equal_rliables(case):
    x = np.array(case["x"])
    values = [AGGREGATES[name](x) for name in REFERENCE["aggregate_names"]]
    assert values == close(case["aggregates"]["value"])
    assert optimality_gap(x, 0.3) == close(case["optimality_gap_of_0.3"])
    assert aggregate_optimality_gap(x, 0.3) == close(case["optimality_gap_of_0.3"])
    assert probability_of_improvement(x, case["y"]) == close(case["improvement"]["value"])


@pytest.mark.parametrize("drawn", ["aggregates", "aggregates_over_tasks"])
def test_intervals_equal_rliables_on_the_same_indices(case, drawn):
    reference = case[drawn]
    over_tasks = drawn == "aggregates_over_tasks"
    indices = StratifiedIndices(np.array(reference["runs"]), np.array(reference["tasks"]) if over_tasks else None)
    for place, name in enumerate(REFERENCE["aggregate_names"]):
        found = stratified_bootstrap(case["x"], name, level=REFERENCE["level"], indices=indices)
        assert found == close([reference[key][place] for key in ("value", "low", "high")])


@pytest.mark.parametrize("kind", ["run_score", "average_score"])
def test_profiles_equal_rliables_on_the_same_indices(case, kind):
    reference = case["profiles"][kind]
    indices = StratifiedIndices(np.array(reference["runs"]))
    found = performance_profile(case["x"], case["thresholds"], kind, level=REFERENCE["level"], indices=indices)
    assert found.thresholds.tolist() == case["thresholds"]
    for key, values in zip(("value", "low", "high"), found[1:], strict=True):
        assert values == close(np.array(reference[key]))


def test_improvement_interval_equals_rliables_on_the_same_indices(case):
    reference = case["improvement"]
    indices = tuple(StratifiedIndices(np.array(reference[side])) for side in ("runs_x", "runs_y"))
    found = probability_of_improvement_interval(case["x"], case["y"], level=REFERENCE["level"], indices=indices)
    assert found == close([reference[key] for key in ("value", "low", "high")])


@pytest.mark.parametrize("resample_tasks", [False, True])
def test_equals_rliable_itself_where_it_is_installed(resample_tasks):
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as error:  # arch below 8 raises a TypeError with pandas 3.
        pytest.skip(f"rliable cannot be imported: {error}")
    scores = np.random.default_rng(0).gamma(2.0, size=(6, 5))
    indices = stratified_indices(6, 5, n_resamples=50, resample_tasks=resample_tasks)
    tasks = np.tile(np.arange(5), (50, 1)) if indices.tasks is None else indices.tasks
    draws = [(runs, row[None]) for runs, row in zip(indices.runs, tasks, strict=True)]
    with mock.patch.object(library.StratifiedBootstrap, "update_indices", side_effect=draws):
        points, intervals = library.get_interval_estimates(
            {"x": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=50
        )
    found = stratified_bootstrap(scores, "iqm", indices=indices)
    assert found == close([points["x"][0], *intervals["x"][:, 0]])


def test_small_tables_by_hand():
    scores = [[0.0, 10.0], [1.0, 20.0], [2.0, 60.0], [5.0, 70.0]]  # task means 2 and 40
    assert aggregate_mean(scores) == 21.0
    assert aggregate_median([[*row, 1.0] for row in scores]) == 2.0  # of the task means 1, 2 and 40
    assert aggregate_iqm(scores) == (2 + 5 + 10 + 20) / 4
    assert optimality_gap([0.0, 0.5, 3.0]) == 0.5
    assert aggregate_optimality_gap([[0.0, 4.0], [0.5, 3.0]], gamma=2.0) == 2 - (0 + 0.5 + 2 + 2) / 4
    # Task 1: x is ahead in 2 of 4 pairs, and one pair is a tie; task 2: in none.
    assert probability_of_improvement([[1.0, 0.0], [3.0, 0.0]], [[1.0, 1.0], [2.0, 1.0]]) == (2.5 / 4 + 0) / 2


def test_profile_by_hand():
    scores = [[0.0, 1.0], [2.0, 3.0]]  # task means 1 and 2
    assert performance_profile(scores, [0.0, 1.0, 2.5], n_resamples=10).values.tolist() == [0.75, 0.5, 0.25]
    averages = performance_profile(scores, [0.5, 1.0, 2.0], "average_score", n_resamples=10)
    assert averages.values.tolist() == [1.0, 0.5, 0.0]
    assert (averages.low <= averages.values).all()
    assert (averages.values <= averages.high).all()


def test_tasks_with_different_numbers_of_runs_count_alike():
    assert aggregate_mean(RAGGED) == 3.0
    assert aggregate_median(RAGGED) == 3.0
    assert aggregate_optimality_gap(RAGGED, 2.0) == close(2 - ((1 + 2 * 4) / 5 + (0 + 1 + 2) / 3) / 2)
    # In order, with weights in thirtieths: 0:5, 1:3+5, 2:3, 3:3, 4:3, 5:3, 8:5. Of each end 2/8 = 7.5 thirtieths go.
    assert aggregate_iqm(RAGGED) == close((5.5 * 1 + 3 * 2 + 3 * 3 + 3 * 4 + 0.5 * 5) / 15)
    twice = {"easy": np.repeat(RAGGED["easy"], 3), "hard": np.repeat(RAGGED["hard"], 5)}
    as_table = np.stack([twice["easy"], twice["hard"]], axis=1)
    assert aggregate_mean(twice) == close(aggregate_mean(as_table))
    assert aggregate_iqm(twice) == close(aggregate_iqm(as_table))


@pytest.mark.parametrize("resample_tasks", [False, True])
@pytest.mark.parametrize("name", AGGREGATES)
def test_bootstrap_of_different_numbers_of_runs_is_that_of_each_resample_by_itself(name, resample_tasks):
    indices = stratified_indices([5, 3], 2, n_resamples=20, seed=3, resample_tasks=resample_tasks)
    columns, values = [np.array(column) for column in RAGGED.values()], []
    for number, runs in enumerate(indices.runs):
        tasks = [0, 1] if indices.tasks is None else indices.tasks[number]
        drawn = {str(at): columns[task][runs[: columns[task].size, at]] for at, task in enumerate(tasks)}
        values.append(AGGREGATES[name](drawn))
    found = stratified_bootstrap(RAGGED, name, level=0.8, indices=indices)
    assert found == close([AGGREGATES[name](RAGGED), *np.quantile(values, [0.1, 0.9])])
    assert found == stratified_bootstrap(RAGGED, name, level=0.8, n_resamples=20, seed=3, resample_tasks=resample_tasks)


def test_profile_and_improvement_of_different_numbers_of_runs():
    profile = performance_profile(RAGGED, [0.5, 4.5], n_resamples=50)
    assert profile.values == close(np.array([(1 + 2 / 3) / 2, (1 / 5 + 1 / 3) / 2]))
    other = {"hard": [1.0], "easy": [0.0, 3.0]}  # the order of the tasks does not matter
    expected = ((5 + 2.5) / 10 + 1.5 / 3) / 2
    assert probability_of_improvement(RAGGED, other) == close(expected)
    assert probability_of_improvement(other, RAGGED) == close(1 - expected)
    found = probability_of_improvement_interval(RAGGED, other, n_resamples=100)
    assert found.value == close(expected)
    assert found.low < found.value < found.high


def test_own_function_gives_one_number_or_several():
    scores = np.random.default_rng(1).normal(size=(6, 3))
    one = stratified_bootstrap(scores, lambda x: float(np.max(x)), n_resamples=100)
    assert one.value == scores.max()
    assert isinstance(one.low, float)
    several = stratified_bootstrap(scores, lambda x: x.mean(axis=0), n_resamples=100)
    assert several.low.shape == several.value.shape == (3,)
    with pytest.raises(ArgumentError, match="different numbers of runs"):
        stratified_bootstrap(RAGGED, np.mean)


def test_memory_is_bounded_and_parts_change_nothing(monkeypatch):
    scores = np.random.default_rng(1).normal(size=(6, 3))
    whole = stratified_indices(6, 3, 40, seed=2, resample_tasks=True)
    estimates = [stratified_bootstrap(scores, n_resamples=40, seed=2, resample_tasks=True)]
    improvement = probability_of_improvement_interval(scores, scores + 0.3, n_resamples=40)
    monkeypatch.setattr("rl_framework.evaluation.bootstrap._CHUNK_SIZE", 100)
    parts = stratified_indices(6, 3, 40, seed=2, resample_tasks=True)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))
    estimates += [stratified_bootstrap(scores, n_resamples=40, seed=2, resample_tasks=True)]
    estimates += [stratified_bootstrap(scores, indices=whole)]
    assert estimates[0] == estimates[1] == estimates[2]
    assert probability_of_improvement_interval(scores, scores + 0.3, n_resamples=40) == close(improvement)


def test_same_seed_same_interval_and_sides_are_drawn_independently():
    scores = np.random.default_rng(1).normal(size=(6, 3))
    assert stratified_bootstrap(scores, seed=5) == stratified_bootstrap(scores, seed=5)
    assert stratified_bootstrap(scores, seed=5) != stratified_bootstrap(scores, seed=6)
    # Drawn alike, every resample of the same scores would be a draw.
    same = probability_of_improvement_interval(scores, scores)
    assert same.value == 0.5
    assert same.low < 0.45 < 0.55 < same.high


def test_interval_holds_the_truth_about_as_often_as_it_promises():
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        _, low, high = stratified_bootstrap(generator.normal(3.0, 1.0, (20, 3)), "mean", level=0.8, n_resamples=200)
        hits += low <= 3.0 <= high
    assert 0.7 < hits / 200 < 0.87


TABLE = [[1.0, 2.0], [3.0, 4.0]]


def bootstrap_with(runs, tasks=None):
    return stratified_bootstrap(TABLE, indices=StratifiedIndices(runs, tasks))


def improvement_with(*indices):
    return probability_of_improvement_interval(TABLE, TABLE, indices=indices)


@pytest.mark.parametrize("scores", [[1.0, 2.0], [[1.0, float("nan")]], [], [[]], {}, {"a": []}, [[1.0], [1.0, 2.0]]])
@pytest.mark.parametrize(
    "function", [*AGGREGATES.values(), stratified_bootstrap], ids=lambda function: function.__name__
)
def test_unusable_scores_are_refused(function, scores):
    with pytest.raises(ArgumentError) as caught:
        function(scores)
    assert caught.value.argument.startswith("scores")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: aggregate_mean({"a": [[1.0]]}), "scores['a']"),
        (lambda: aggregate_mean([[1j]]), "scores"),
        (lambda: optimality_gap([1.0], gamma=float("inf")), "gamma"),
        (lambda: probability_of_improvement(TABLE, [[1.0]]), "scores_y"),
        (lambda: probability_of_improvement({"a": [1.0]}, {"b": [1.0]}), "scores_y"),
        (lambda: probability_of_improvement(TABLE, {"a": [1.0], "b": [1.0]}), "scores_y"),
        (lambda: stratified_bootstrap(TABLE, "mode"), "statistic"),
        (lambda: stratified_bootstrap(TABLE, lambda x: float("nan")), "statistic"),
        (lambda: stratified_bootstrap(TABLE, lambda x: x), "statistic"),
        (lambda: stratified_bootstrap(TABLE, level=95), "level"),
        (lambda: stratified_bootstrap(TABLE, n_resamples=0), "n_resamples"),
        (lambda: stratified_bootstrap(TABLE, seed=None), "seed"),
        (lambda: bootstrap_with(np.zeros((3, 1, 2), int)), "indices"),
        (lambda: bootstrap_with(np.zeros((0, 2, 2), int)), "indices"),
        (lambda: bootstrap_with(np.zeros((3, 2, 2))), "indices"),
        (lambda: bootstrap_with(np.full((3, 2, 2), 2)), "indices"),
        (lambda: bootstrap_with(np.full((3, 2, 2), -1)), "indices"),
        (lambda: bootstrap_with(np.zeros((3, 2, 2), int), np.zeros((1, 2), int)), "indices"),
        (lambda: bootstrap_with(np.zeros((3, 2, 2), int), np.full((3, 2), 2)), "indices"),
        (lambda: improvement_with(stratified_indices(2, 2, 3), stratified_indices(2, 2, 4)), "indices"),
        (lambda: improvement_with(*[stratified_indices(2, 2, 3, resample_tasks=True)] * 2), "indices"),
        (lambda: stratified_indices(0, 2), "n_runs"),
        (lambda: stratified_indices([2, 2], 3), "n_runs"),
        (lambda: stratified_indices(2, 1.5), "n_tasks"),
        (lambda: performance_profile(TABLE, [[1.0]]), "thresholds"),
        (lambda: performance_profile(TABLE, []), "thresholds"),
        (lambda: performance_profile(TABLE, [1.0], "average"), "kind"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, named):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert caught.value.argument == named
