import json

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.evaluation.result import EvaluationResult

RETURNS = [0.1 + 0.2, 500.0, 1e-300, -3.25, 7.0]
LENGTHS = [1, 500, 3, 4, 5]


@pytest.fixture
def result():
    return EvaluationResult(RETURNS, LENGTHS, seed=3, deterministic=True, environment="CartPole-v1")


def test_unpacks_into_mean_and_population_standard_deviation(result):
    mean, std = result
    assert mean == result.mean == np.mean(RETURNS)
    assert std == result.std == np.std(RETURNS, ddof=0)
    assert result.n_episodes == 5
    assert result.iqm == pytest.approx((RETURNS[0] + RETURNS[2] + 7.0) / 3)


def test_interval_encloses_the_mean_and_grows_with_the_level(result):
    low, high = result.confidence_interval()
    narrow_low, narrow_high = result.confidence_interval(0.5)
    assert low <= narrow_low <= result.mean <= narrow_high <= high
    iqm_low, iqm_high = result.confidence_interval(statistic="iqm")
    assert iqm_low <= result.iqm <= iqm_high
    assert (iqm_low, iqm_high) != (low, high)


def test_survives_json_exactly(result):
    again = EvaluationResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert again.returns.tolist() == RETURNS
    assert (again.returns.dtype, again.lengths.dtype) == (np.float64, np.int64)
    assert (again.seed, again.deterministic, again.environment) == (3, True, "CartPole-v1")


def test_unknown_keys_are_ignored_and_optional_ones_may_be_missing():
    result = EvaluationResult.from_dict({"returns": [1], "lengths": [2], "from_a_later_version": 1})
    assert result == EvaluationResult([1.0], [2])


def test_equality_looks_at_everything(result):
    values = result.to_dict()
    others = [
        {"returns": [*RETURNS[:-1], 8.0]},
        {"lengths": [*LENGTHS[:-1], 6]},
        {"seed": 4},
        {"deterministic": False},
        {"environment": None},
    ]
    for other in others:
        assert EvaluationResult.from_dict({**values, **other}) != result
    assert result != 5


def test_arrays_are_copies_and_read_only():
    returns, lengths = np.array([1.0, 2.0]), np.array([3, 4])
    result = EvaluationResult(returns, lengths)
    returns[0] = 99.0
    lengths[0] = 99
    assert result.mean == 1.5
    assert result.lengths.tolist() == [3, 4]
    with pytest.raises(ValueError, match="read-only"):
        result.returns[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        result.lengths[0] = 0
    with pytest.raises(AttributeError):
        result.seed = 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"returns": [], "lengths": []}, "returns"),
        ({"returns": [1.0], "lengths": [1, 2]}, "lengths"),
        ({"returns": [float("nan")], "lengths": [1]}, "returns"),
        ({"returns": [float("inf")], "lengths": [1]}, "returns"),
        ({"returns": [[1.0]], "lengths": [[1]]}, "returns"),
        ({"returns": "text", "lengths": [1]}, "returns"),
        ({"returns": [1.0], "lengths": [0]}, "lengths"),
        ({"returns": [1.0], "lengths": [1.5]}, "lengths"),
        ({"returns": [1.0], "lengths": [float("nan")]}, "lengths"),
        ({"returns": [1.0], "lengths": [1], "seed": -1}, "seed"),
        ({"returns": [1.0], "lengths": [1], "deterministic": "no"}, "deterministic"),
        ({"returns": [1.0], "lengths": [1], "environment": 5}, "environment"),
        ({"returns": [1.0]}, "values"),
    ],
)
def test_what_is_no_result_is_refused_by_name(values, named):
    with pytest.raises(ArgumentError) as caught:
        EvaluationResult.from_dict(values)
    assert caught.value.argument == named


def test_table_is_aligned_and_says_everything(result):
    lines = result.table().splitlines()
    assert lines[0] == "CartPole-v1"
    assert set(lines[1]) == {"-"}
    assert len({len(line) for line in lines[1:]}) == 1
    low, high = result.confidence_interval()
    expected = {
        "mean return": "100.81",
        "standard deviation": f"{result.std:.2f}",
        "IQM": "2.43",
        "95 % interval of the mean": f"{low:.2f} to {high:.2f}",
        "minimum": "-3.25",
        "maximum": "500.00",
        "episodes": "5",
        "mean length (steps)": "102.60",
        "actions": "deterministic",
        "seed": "3",
    }
    shown = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines[2:]}
    assert shown == expected


def test_text_is_one_line(result):
    text = str(result)
    assert "\n" not in text
    assert text.startswith("CartPole-v1: return 100.81 ± ")
    assert text.endswith("(5 episodes)")
    assert "(1 episode)" in str(EvaluationResult([1.0], [1]))


def test_small_returns_are_not_shown_as_zero():
    assert "return 1e-05 ±" in str(EvaluationResult([1e-5], [1]))


def test_notebook_form_escapes_the_name():
    shown = EvaluationResult([1.0], [1], environment="<script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "mean return" in shown
