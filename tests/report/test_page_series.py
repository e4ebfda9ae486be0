"""Metrics files for reports: columns, and sentences about what is wrong with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rl_framework.report.page import series
from rl_framework.report.page.series import read_series
from rl_framework.training.metrics import MetricsWriter


def write(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def record(timestep, **metrics):
    return {"timestep": timestep, "time": 100.0 + timestep, "metrics": metrics}


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
def test_reads_what_the_writer_wrote_however_it_is_cut_into_parts(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(series, "_CHUNK", chunk)
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        for step in range(1, 30):
            writer.write(step, {"a": float("nan") if step == 7 else step / 3, "ü": -step}, time=1000.0 + step)
    found = read_series(tmp_path / "metrics.jsonl")
    assert found.problems == []
    assert (found.last_timestep, found.seconds) == (29, 28.0)
    np.testing.assert_array_equal(found.series["ü"].values, -np.arange(1, 30))
    expected = np.delete(np.arange(1, 30), 6)
    np.testing.assert_array_equal(found.series["a"].timesteps, expected)
    np.testing.assert_array_equal(found.series["a"].values, expected / 3)


def test_a_last_line_without_a_line_break_counts_if_it_is_whole(tmp_path):
    found = read_series(write(tmp_path / "m.jsonl", record(1, a=1), record(2, a=2)))
    assert found.series["a"].values.tolist() == [1, 2]
    assert found.problems == []


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"timestep": 1}',
        b'{"timestep": -1, "metrics": {}}',
        b'{"timestep": 1.5, "metrics": {}}',
        b'{"timestep": 1, "metrics": [1]}',
        b'{"timestep": 1, "metrics": {"a": "1"}}',
        b'{"timestep": 1, "metrics": {"a": 1' + b"0" * 400 + b"}}",
        b'{"timestep": 1' + b"0" * 30 + b', "metrics": {}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=["text", "list", "no-metrics", "negative", "fraction", "no-object", "a-text", "huge", "late", "deep", "bytes"],
)
def test_damaged_lines_are_left_out_and_counted(tmp_path, line):
    found = read_series(write(tmp_path / "m.jsonl", record(1, a=1), line, record(3, a=3), b""))
    assert found.series["a"].values.tolist() == [1, 3]
    assert found.problems == ["m.jsonl: line 2 is damaged and left out."]


def test_a_line_that_is_far_too_long_fills_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(series, "_CHUNK", 100)
    monkeypatch.setattr(series, "_LONGEST_LINE", 1_000)
    found = read_series(write(tmp_path / "m.jsonl", record(1, a=1), b'{"a": "' + b"x" * 5_000, record(3, a=3), b""))
    assert found.series["a"].values.tolist() == [1, 3]
    assert found.problems == ["m.jsonl: line 2 is damaged and left out."]


def test_records_that_go_back_are_put_in_order(tmp_path):
    found = read_series(write(tmp_path / "m.jsonl", record(5, a=5), record(1, a=1), record(5, a=6), b""))
    assert found.series["a"].timesteps.tolist() == [1, 5, 5]
    assert found.series["a"].values.tolist() == [1, 5, 6]


def test_infinite_values_and_far_too_many_metrics_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(series, "_MOST_METRICS", 2)
    lines = (b'{"timestep": 1, "metrics": {"a": 1e999, "b": null, "c": 1}}', b"")
    found = read_series(write(tmp_path / "m.jsonl", record(0, a=2), *lines))
    assert {name: each.values.tolist() for name, each in found.series.items()} == {"a": [2]}
    assert found.problems == ["m.jsonl: only the first 2 metrics are read."]


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (problem,) = read_series(tmp_path).problems
    assert "cannot be read" in problem
