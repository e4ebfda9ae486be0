import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_framework.errors import ArgumentError
from rl_framework.evaluation.statistics import bootstrap_interval, interquartile_mean

scipy_stats = pytest.importorskip("scipy.stats")

numbers = st.floats(min_value=-1e6, max_value=1e6)


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40))
def test_iqm_is_scipys_trimmed_mean(values):
    expected = scipy_stats.trim_mean(values, 0.25)
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_iqm_ignores_outliers_and_counts_all_dimensions_alike():
    assert interquartile_mean([-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9]) == 3.5
    assert interquartile_mean([[-1e9, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 1e9]]) == 3.5
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0


def test_interval_holds_the_true_mean_about_as_often_as_it_promises():
    generator = np.random.default_rng(1)
    samples = generator.normal(7.0, 2.0, size=(300, 40))
    intervals = [bootstrap_interval(sample, level=0.8, n_resamples=300) for sample in samples]
    hits = np.mean([low <= 7.0 <= high for low, high in intervals])
    assert 0.7 < hits < 0.87


def test_interval_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(2).exponential(10.0, size=50)
    reference = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = bootstrap_interval(values, n_resamples=5000)
    width = reference.high - reference.low
    assert low == pytest.approx(reference.low, abs=0.05 * width)
    assert high == pytest.approx(reference.high, abs=0.05 * width)


def test_named_statistics_equal_the_functions_they_name():
    values = np.random.default_rng(3).normal(size=30)
    assert bootstrap_interval(values, "mean", n_resamples=200) == pytest.approx(
        bootstrap_interval(values, lambda row: float(np.mean(row)), n_resamples=200)
    )
    assert bootstrap_interval(values, "iqm", n_resamples=200) == pytest.approx(
        bootstrap_interval(values, interquartile_mean, n_resamples=200)
    )


def test_same_seed_same_interval_and_global_random_state_untouched():
    values = np.arange(20.0)
    before = np.random.get_state()[1].copy()
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)
    assert np.array_equal(np.random.get_state()[1], before)


def test_one_value_gives_an_interval_of_no_width():
    assert bootstrap_interval([4.0]) == (4.0, 4.0)


def test_memory_stays_bounded_with_many_values():
    import tracemalloc

    values = np.random.default_rng(4).normal(size=200_000)
    tracemalloc.start()
    bootstrap_interval(values, n_resamples=40)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # All resamples at once would take 128 MB.


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"values": []}, "values"),
        ({"values": [1.0, float("nan")]}, "values"),
        ({"values": [1.0, float("inf")]}, "values"),
        ({"values": ["a"]}, "values"),
        ({"values": [[1.0], [2.0]]}, "values"),
        ({"values": [1.0], "level": 1.0}, "level"),
        ({"values": [1.0], "level": 95}, "level"),
        ({"values": [1.0], "n_resamples": 0}, "n_resamples"),
        ({"values": [1.0], "n_resamples": 2.5}, "n_resamples"),
        ({"values": [1.0], "statistic": "median"}, "statistic"),
        ({"values": [1.0], "statistic": lambda row: float("nan")}, "statistic"),
        ({"values": [1.0], "seed": None}, "seed"),
        ({"values": [1.0], "seed": -1}, "seed"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ArgumentError) as caught:
        bootstrap_interval(**arguments)
    assert caught.value.argument == named
