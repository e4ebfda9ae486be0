import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.report.plots import plot_learning_curve, rolling_mean, thin
from rl_framework.training.metrics import MetricsRecord, MetricsWriter

BLUE, VERMILION, GREEN = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)


def episodes(returns):
    return [MetricsRecord(10 * i, 0.0, {"episode/return": float(r)}) for i, r in enumerate(returns, start=1)]


def evaluation(timestep, mean, **more):
    return MetricsRecord(timestep, 0.0, {"evaluation/mean_return": mean, **more})


def rows_with(path, color, columns=slice(None)):
    """Returns the rows of the picture that have pixels of exactly this colour."""
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape == (675, 1200, 3)
    return np.flatnonzero((pixels[:, columns] == color).all(axis=2).any(axis=1))


def test_draws_returns_evaluations_and_threshold(tmp_path):
    bars = {"evaluation/low": 60.0, "evaluation/high": 100.0}
    records = [*episodes(np.linspace(0, 100, 300)), evaluation(500, 80.0, **bars)]
    path = tmp_path / "new" / "curve.png"
    assert plot_learning_curve(records, path, threshold=95.0) == path
    for color in (BLUE, VERMILION, GREEN):
        assert rows_with(path, color).size
    assert [file.name for file in path.parent.iterdir()] == ["curve.png"]


def test_an_interval_is_drawn_as_a_bar_of_its_height(tmp_path):
    frame = episodes([0.0] * 100 + [100.0] * 100)
    point, bar = tmp_path / "point.png", tmp_path / "bar.png"
    plot_learning_curve([*frame, evaluation(600, 50.0)], point)
    plot_learning_curve([*frame, evaluation(600, 50.0, **{"evaluation/low": 0.0, "evaluation/high": 100.0})], bar)
    near = slice(410, 440)  # The columns around timestep 600, away from the legend.
    assert np.ptp(rows_with(point, VERMILION, near)) < 20
    assert np.ptp(rows_with(bar, VERMILION, near)) > 400


def test_reads_a_metrics_file(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        for step in range(1, 30):
            writer.write(step, {"episode/return": float("nan") if step == 7 else float(step), "train/loss": 1 / step})
    plot_learning_curve(tmp_path / "metrics.jsonl", tmp_path / "return.png")
    plot_learning_curve(str(tmp_path / "metrics.jsonl"), tmp_path / "loss.png", metric="train/loss", window=5)
    assert rows_with(tmp_path / "return.png", BLUE).size
    assert rows_with(tmp_path / "loss.png", BLUE).size


@pytest.mark.parametrize("records", [episodes([5.0]), [evaluation(0, 3.0)]])
def test_a_single_point_can_be_seen(tmp_path, records):
    from PIL import Image

    plot_learning_curve(records, tmp_path / "curve.png")
    pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).astype(int)
    middle = pixels[150:590, 80:1190]
    assert (np.ptp(middle, axis=2) > 40).any()


def test_rolling_mean_averages_the_last_values():
    values = np.random.default_rng(0).normal(1e6, 1.0, size=50)
    expected = [values[max(0, i - 6) : i + 1].mean() for i in range(50)]
    np.testing.assert_allclose(rolling_mean(values, 7), expected, rtol=1e-14)


def test_thinning_keeps_extremes_ends_and_order():
    values = np.random.default_rng(0).normal(size=10_000)
    values[1234], values[8765] = 99.0, -99.0
    timesteps = np.arange(10_000) * 3
    thin_timesteps, thin_values = thin(timesteps, values, 50)
    assert len(thin_values) <= 102
    assert {99.0, -99.0, values[0], values[-1]} <= set(thin_values)
    assert (np.diff(thin_timesteps) > 0).all()
    np.testing.assert_array_equal(values[thin_timesteps // 3], thin_values)


def test_the_callers_figures_and_settings_stay(tmp_path):
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from rl_framework.report.plots import plot_learning_curve\n"
        "from rl_framework.training.metrics import MetricsRecord\n"
        f"plot_learning_curve([MetricsRecord(1, 0.0, {{'episode/return': 1.0}})], {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failed_drawing_leaves_the_old_picture(tmp_path, monkeypatch):
    def fail(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("disk full")

    path = tmp_path / "curve.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        plot_learning_curve(episodes([1.0]), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"curve.png": b"old"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"records": []}, "records"),
        ({"metric": "episode/score"}, "metric"),
        ({"path": "curve.jpg"}, "path"),
        ({"window": 0}, "window"),
        ({"records": "nothing.jsonl"}, "path"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        plot_learning_curve(**{"records": episodes([1.0]), "path": "curve.png", **arguments})
    assert caught.value.argument == named
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_metric_is_answered_with_those_there_are(tmp_path):
    with pytest.raises(ArgumentError, match=r"There are: episode/return\."):
        plot_learning_curve(episodes([1.0]), tmp_path / "curve.png", metric="train/loss")
