"""What a comparison concludes, how often it is wrong, and what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.evaluation import EvaluationResult, compare
from rl_framework.evaluation.inference import improvement_interval, t_quantile

FIVE = [100.0, 110.0, 105.0, 95.0, 108.0]


def result(mean, environment=None, deterministic=False, n=20, spread=3.0):
    returns = mean + spread * np.linspace(-1, 1, n)
    return EvaluationResult(returns, np.ones(n), deterministic=deterministic, environment=environment)


def shapes(generator, shape):
    """Runs with one score distribution: symmetric, skewed, and with one failure in five."""
    return {
        "normal": generator.normal(size=shape),
        "skewed": generator.exponential(size=shape),
        "failing": (generator.random(shape) < 0.8) + generator.normal(0, 0.05, shape),
    }


# The numbers


@pytest.mark.parametrize("freedom", [1, 1.7, 4, 12.3, 250, 1e5, 1e7])
def test_quantiles_of_students_t(freedom):
    stats = pytest.importorskip("scipy.stats")
    for probability in (0.01, 0.5, 0.8, 0.95, 0.9995):
        expected = stats.t.ppf(probability, freedom)
        assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_interval_of_one_task_is_welchs_or_yuens(statistic):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=9), generator.normal(2, 3, size=13)
    trim = 0.25 if statistic == "iqm" else 0
    test = stats.ttest_ind(a, b, equal_var=False, trim=trim)
    comparison = compare(a, b, statistic=statistic)
    assert comparison.difference == pytest.approx(stats.trim_mean(a, trim) - stats.trim_mean(b, trim))
    # SciPy has an interval only without trimming; the half width follows from t and the degrees of freedom.
    half = abs(comparison.difference / test.statistic) * stats.t.ppf(0.975, test.df)
    assert comparison.interval == pytest.approx((comparison.difference - half, comparison.difference + half), rel=1e-6)


def test_welch_by_hand():
    # Means 2 and 6, variances 1 and 4: standard error sqrt(5 / 3), degrees of freedom 25 / (1 / 2 + 16 / 2) = 2.941.
    comparison = compare([1.0, 2.0, 3.0], [4.0, 6.0, 8.0])
    half = 3.2202 * np.sqrt(5 / 3)
    assert comparison.interval == pytest.approx((-4 - half, -4 + half), abs=2e-3)
    assert (comparison.score_a, comparison.score_b, comparison.difference) == (2.0, 6.0, -4.0)
    assert comparison.probability_of_improvement == 0.0
    assert comparison.statistic == "mean"


def test_interval_of_the_probability_of_improvement():
    five, ten = np.array([5]), np.array([10])
    # At either end of the interval, the estimate lies 1.96 standard errors away.
    low, high = improvement_interval(0.7, five, ten, 0.95)
    for end in (low, high):
        variance = end * (1 - end) * (1 + 6.5 * ((1 - end) / (2 - end) + end / (1 + end))) / 50
        assert abs(0.7 - end) == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)
    assert low < 0.7 < high
    low, high = improvement_interval(1.0, five, five, 0.95)
    assert 0.5 < low < 0.8
    assert high == 1.0
    assert improvement_interval(1.0, np.repeat(five, 4), np.repeat(five, 4), 0.95)[0] > low


# How often it is wrong


@pytest.mark.parametrize(
    ("runs", "tasks", "statistic"), [(3, 1, "mean"), (5, 1, "mean"), (5, 1, "iqm"), (10, 1, "mean"), (3, 4, "iqm")]
)
def test_equal_algorithms_are_seldom_called_different(runs, tasks, statistic):
    generator = np.random.default_rng(runs)
    for name in ("normal", "skewed", "failing"):
        verdicts = []
        for _ in range(100):
            a, b = (shapes(generator, (runs, tasks))[name] for _ in "ab")
            verdicts.append(compare(a, b, statistic=statistic).verdict)
        # 5 % are 5; more than 10 come up once in 90 times. A percentile bootstrap is wrong 10 to 22 times.
        assert 100 - verdicts.count("undecided") <= 10, name


def test_differences_are_found_with_enough_runs():
    generator = np.random.default_rng(1)
    found = {}
    for runs in (3, 5, 10):
        verdicts = [compare(generator.normal(2, 1, runs), generator.normal(0, 1, runs)).verdict for _ in range(100)]
        found[runs] = verdicts.count("a_better")
        assert verdicts.count("b_better") == 0
    assert found[3] > 25
    assert found[5] > 65
    assert found[10] > 95


def test_a_difference_as_large_as_the_margin_is_seldom_called_equivalent():
    generator = np.random.default_rng(2)
    wrong = right = 0
    for _ in range(200):
        a, b = generator.normal(0, 1, 8), generator.normal(0, 1, 8)
        wrong += compare(a + 1.5, b, margin=1.5).verdict == "equivalent"
        right += compare(a, b, margin=1.5).verdict == "equivalent"
    assert wrong < 20  # nominal 5 %
    assert right > 120


def test_runs_needed_are_enough_in_four_of_five_cases():
    generator = np.random.default_rng(3)
    pattern = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    pattern /= pattern.std(ddof=1)
    apart, alike = compare(pattern + 0.7, pattern), compare(pattern, pattern, margin=0.7)
    assert apart.verdict == alike.verdict == "undecided"
    assert 30 <= apart.runs_needed <= 37  # the textbook: 33 runs each for 0.7 standard deviations at 80 %
    decided = {"a_better": 0, "equivalent": 0}
    for _ in range(200):
        a, b = generator.normal(0.7, 1, apart.runs_needed), generator.normal(0, 1, apart.runs_needed)
        decided["a_better"] += compare(a, b).verdict == "a_better"
        a, b = generator.normal(0, 1, alike.runs_needed), generator.normal(0, 1, alike.runs_needed)
        decided["equivalent"] += compare(a, b, margin=0.7).verdict == "equivalent"
    assert 145 <= decided["a_better"] <= 180
    assert 145 <= decided["equivalent"] <= 180


# Verdicts and words


def test_better_in_words():
    comparison = compare(FIVE, [60.0, 70.0, 75.0, 82.0, 55.0], names=("PPO", "DQN"))
    assert comparison.verdict == "a_better"
    assert comparison.runs_needed is None
    text = str(comparison)
    assert text.startswith("PPO is better than DQN. The mean of PPO is 103.6 (5 runs) and that of DQN 68.4 (5 runs).")
    assert "35.2 (PPO minus DQN)" in text
    assert "leaves out zero" in text
    assert str(compare([60.0, 70.0, 75.0, 82.0, 55.0], FIVE)).startswith("B is better than A.")


def test_equivalent_in_words():
    comparison = compare(FIVE, [102.0, 100.0, 95.0, 111.0, 107.0], margin=15)
    assert comparison.verdict == "equivalent"
    assert str(comparison).startswith("A and B are equivalent within ±15.")
    low, high = comparison.equivalence_interval
    assert comparison.interval[0] < low < high < comparison.interval[1]
    assert f"90 % interval of the difference, {low:.4g} to {high:.4g}, lies within the margin" in str(comparison)
    small = compare(np.arange(20) + 30.0, np.arange(20) + 10.0, margin=30)
    assert small.verdict == "equivalent"
    assert "too small to matter" in str(small)


def test_undecided_in_words():
    comparison = compare(FIVE, [90.0, 100.0, 95.0, 111.0, 107.0], margin=1)
    assert comparison.verdict == "undecided"
    assert comparison.runs_needed > 5
    assert str(comparison).startswith("Not decided whether A or B is better.")
    assert f"about {comparison.runs_needed} runs of each" in str(comparison)
    assert "does not keep within ±1" in str(comparison)
    hopeless = compare(FIVE, [104.0, 110.0, 105.0, 95.0, 104.0])
    assert hopeless.runs_needed is None
    assert "too small to be settled by 1,000 runs of each. With a margin" in str(hopeless)


def test_one_run_each_compares_agents_and_not_algorithms():
    comparison = compare(result(100), [result(80)], names=("PPO", "DQN"))
    assert (comparison.verdict, comparison.unit, comparison.counts_a) == ("a_better", "episode", (20,))
    assert str(comparison).startswith("This agent PPO is better than this agent DQN.")
    assert "nothing about the algorithms" in str(comparison)
    undecided = compare(result(100, spread=50), result(95, spread=50))
    assert undecided.verdict == "undecided"
    assert undecided.runs_needed is None
    assert f"about {undecided.episodes_needed} episodes of each" in str(undecided)


@pytest.mark.parametrize(("runs_a", "runs_b"), [(1, 1), (1, 5), (2, 2), (2, 50), (5, 2)])
def test_below_three_runs_no_difference_is_real(runs_a, runs_b):
    a, b = 1000 + np.linspace(0, 1, runs_a), np.linspace(0, 1, runs_b)
    comparison = compare(a, b, margin=1e9)
    assert comparison.verdict == "undecided"
    assert (comparison.interval is None) == (1 in (runs_a, runs_b))
    assert comparison.runs_needed is None or comparison.runs_needed >= 3
    assert "below 3 of each, no difference is called real" in str(comparison)


def test_scores_without_spread_need_four_runs():
    assert compare([5.0] * 3, [4.0] * 3).verdict == "undecided"
    assert compare([5.0] * 3, [4.0] * 3).runs_needed == 4
    assert "no spread to go by" in str(compare([5.0] * 3, [4.0] * 3))
    assert compare([5.0] * 4, [4.0] * 4).verdict == "a_better"
    assert compare([5.0] * 3, [5.0] * 3, margin=1).verdict == "undecided"
    assert compare([5.0] * 4, [5.0] * 4, margin=1).verdict == "equivalent"
    assert "failures that are rare" in str(compare([5.0] * 4, [5.0] * 4, margin=1))
    # 0.1 + 0.1 + 0.1 is not 0.3, but there is no spread here either.
    assert compare([0.1] * 3, [0.3] * 3).verdict == "undecided"
    assert compare([5.0] * 5, [5.0] * 5).runs_needed is None


def test_mean_and_iqm_that_disagree_are_pointed_out():
    text = str(compare([10.0, 10.1, 10.2, 9.9, -50.0], [8.0, 8.1, 8.2, 7.9, 8.0]))
    assert "Judged by the interquartile mean (IQM) it would be the other way round" in text
    assert "the other way round" not in str(compare(FIVE, [60.0, 70.0, 75.0, 82.0, 55.0]))


# What goes in


def test_results_arrays_and_mappings_say_the_same():
    means_a, means_b = FIVE, [60.0, 70.0, 75.0, 82.0]
    runs = compare([result(mean, "Cart") for mean in means_a], [result(mean, "Cart") for mean in means_b])
    assert runs.tasks == ("Cart",)
    for other in (
        compare(means_a, np.array(means_b)),
        compare(np.reshape(means_a, (-1, 1)), np.reshape(means_b, (-1, 1))),
        compare({"Cart": means_a}, {"Cart": means_b}),
    ):
        assert other.interval == pytest.approx(runs.interval)
        assert (other.verdict, other.unit, other.counts_b) == ("a_better", "run", (4,))


def test_several_tasks_use_the_iqm_and_may_have_different_numbers_of_runs():
    generator = np.random.default_rng(5)
    a, b = generator.normal(1, 1, (5, 4)), generator.normal(0, 1, (4, 4))
    table = compare(a, b)
    assert table.statistic == "iqm"
    assert "5 runs on each of 4 tasks" in str(table)
    named = compare({str(i): a[:, i] for i in range(4)}, {str(i): b[:, i] for i in (3, 1, 0, 2)})
    assert named.interval == pytest.approx(table.interval)
    assert named.probability_of_improvement == table.probability_of_improvement
    assert named.tasks == ("0", "1", "2", "3")
    ragged = compare(
        {"x": [1.0, 2.0, 3.0], "y": [5.0, 6.0, 7.0, 9.0]}, {"x": [1.0, 2.5, 3.0, 4.0], "y": [5.0, 6.0, 8.0]}
    )
    assert ragged.counts_a == (3, 4)
    assert "3 to 4 runs on each of 2 tasks" in str(ragged)
    assert ragged.interval[0] < ragged.difference < ragged.interval[1]
    one_thin_task = compare({"x": FIVE, "y": [1.0]}, {"x": FIVE, "y": [1.0, 2.0, 3.0]})
    assert (one_thin_task.verdict, one_thin_task.interval) == ("undecided", None)


def test_different_numbers_of_runs_per_task_create_no_difference():
    # Both algorithms score about 1 on one task and about 0 on the other; pooling the runs would favour A.
    near = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    a = {"easy": 1 + np.tile(near, 4), "hard": near}
    b = {"easy": 1 + near, "hard": np.tile(near, 4)}
    for statistic in ("mean", "iqm"):
        assert abs(compare(a, b, statistic=statistic).difference) < 1e-9


def test_unlike_evaluations_are_pointed_out():
    sides = [[result(m, deterministic=d) for m in FIVE] for d in (True, False)]
    assert "most likely action" in str(compare(*sides))
    by_environment = {name: [result(m, name) for m in FIVE] for name in ("Cart", "Pole")}
    assert "unless they are on one scale" in str(compare(by_environment, by_environment))
    assert compare(sides[0], sides[0]).caveats == ()


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
@pytest.mark.parametrize("shift", [0.0, 0.8, 5.0])
def test_exchanging_the_sides_mirrors_everything(statistic, shift):
    generator = np.random.default_rng(6)
    a = {"x": generator.normal(size=5) + shift, "y": np.round(generator.normal(size=4)) + shift}
    b = {"x": generator.normal(size=3), "y": np.round(generator.normal(size=6))}
    one, other = compare(a, b, statistic=statistic, margin=0.5), compare(b, a, statistic=statistic, margin=0.5)
    swapped = {"a_better": "b_better", "b_better": "a_better"}
    assert other.verdict == swapped.get(one.verdict, one.verdict)
    assert other.difference == pytest.approx(-one.difference)
    assert other.interval == pytest.approx([-end for end in one.interval[::-1]])
    assert other.probability_of_improvement == pytest.approx(1 - one.probability_of_improvement)
    assert other.probability_interval == pytest.approx([1 - end for end in one.probability_interval[::-1]])
    assert (other.counts_a, other.runs_needed) == (one.counts_b, one.runs_needed)


@pytest.mark.parametrize("factor", [1e-120, 1e-6, 1e120])
def test_the_unit_of_the_scores_changes_nothing(factor):
    a, b = np.array(FIVE), np.array([90.0, 100.0, 95.0, 111.0, 107.0])
    plain, scaled = compare(a, b, margin=1), compare(a * factor, b * factor, margin=factor)
    assert (scaled.verdict, scaled.runs_needed) == (plain.verdict, plain.runs_needed)
    assert scaled.interval == pytest.approx([end * factor for end in plain.interval])


def test_dictionary_and_page():
    comparison = compare(FIVE, [1.0], names=("<b>", "&"))
    values = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert values["names"] == ["<b>", "&"]
    assert values["interval"] is None
    assert values["verdict"] == "undecided"
    page = comparison._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "35.2" in compare(FIVE, [60.0, 70.0, 75.0, 82.0, 55.0])._repr_html_()


RUN = result(1.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], FIVE), "results_a"),
        ((FIVE, [1.0, float("nan")]), "results_b"),
        ((FIVE, "abc"), "results_b"),
        ((FIVE, np.ones((2, 2, 2))), "results_b"),
        ((FIVE, np.ones((5, 2))), "results_b"),
        (([RUN, 1.0], FIVE), "results_a"),
        (([RUN, RUN, RUN], FIVE), "results_a"),
        (({}, FIVE), "results_a"),
        (({"x": FIVE}, {"y": FIVE}), "results_b"),
        (({"x": FIVE}, {"x": np.ones((5, 2))}), "results_b['x']"),
        (({"x": {"y": FIVE}}, FIVE), "results_a['x']"),
        (({"x": []}, {"x": FIVE}), "results_a['x']"),
        (([result(1, "Cart"), result(2, "Pole")], FIVE), "results_b"),
        (([result(1, "Cart")], [result(1, "Pole")]), "results_b"),
    ],
)
def test_unusable_results_are_refused(arguments, named):
    with pytest.raises(ArgumentError) as caught:
        compare(*arguments)
    assert caught.value.argument == named


@pytest.mark.parametrize(
    "options",
    [
        {"margin": 0},
        {"margin": -1.0},
        {"margin": float("nan")},
        {"margin": True},
        {"level": 0.5},
        {"level": 95},
        {"level": 0.9999},
        {"statistic": "median"},
        {"names": ("A", "A")},
        {"names": ("A",)},
        {"names": ("A", "")},
    ],
)
def test_wrong_options_are_named(options):
    with pytest.raises(ArgumentError) as caught:
        compare(FIVE, FIVE, **options)
    assert caught.value.argument == next(iter(options))
