import json
import logging
import math
import time

import numpy as np
import pytest

from rl_framework.errors import ArgumentError
from rl_framework.training.metrics import MetricsRecord, MetricsWriter, discard_after, read_metrics, series


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "folder" / "metrics.jsonl"


def write(path, *timesteps):
    with MetricsWriter(path) as writer:
        for timestep in timesteps:
            writer.write(timestep, {"episode/return": timestep / 3}, time=1.5)


def test_what_is_written_is_read_exactly(path):
    with MetricsWriter(path) as writer:
        writer.write(1, {"episode/return": 0.1 + 0.2, "episode/length": 7}, time=1767225600.25)
        writer.write(np.int64(2), {"train/loss": np.float32(0.5), "count": np.int64(3)}, time=1.0)
    assert read_metrics(path) == [
        MetricsRecord(1, 1767225600.25, {"episode/return": 0.1 + 0.2, "episode/length": 7.0}),
        MetricsRecord(2, 1.0, {"train/loss": 0.5, "count": 3.0}),
    ]


def test_every_line_is_strict_json_of_the_documented_form(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    with MetricsWriter(path) as writer:
        writer.write(5, {"é\n": 1.0, "nan": math.nan, "inf": -math.inf, "huge": 10**400}, time=2.0)
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "timestep": 5,
        "time": 2.0,
        "metrics": {"é\n": 1.0, "nan": None, "inf": None, "huge": None},
    }
    assert math.isnan(read_metrics(path)[0].metrics["nan"])


def test_time_is_now_unless_given(path):
    before = time.time()
    with MetricsWriter(path) as writer:
        writer.write(0, {})
    assert before <= read_metrics(path)[0].time <= time.time()


def test_tensors_of_one_element_are_numbers(path):
    class Scalar:  # The part of a tensor that is used; torch itself is not imported for this.
        def item(self):
            return 2.5

    with MetricsWriter(path) as writer:
        writer.write(1, {"tensor": Scalar(), "array": np.array([4.0])})
    assert read_metrics(path)[0].metrics == {"tensor": 2.5, "array": 4.0}


def test_a_line_can_be_read_before_the_file_is_closed(path):
    writer = MetricsWriter(path)
    writer.write(1, {"a": 1.0})
    assert [record.timestep for record in read_metrics(path)] == [1]
    writer.close()
    writer.close()


def test_an_existing_file_is_continued(path):
    write(path, 1, 2)
    write(path, 3)
    assert [record.timestep for record in read_metrics(path)] == [1, 2, 3]


def test_a_last_line_cut_anywhere_is_left_out_with_a_warning(path, caplog):
    write(path, 1, 2, 3)
    whole = path.read_bytes()
    start_of_last = whole[:-1].rfind(b"\n") + 1
    for end in range(start_of_last + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert [record.timestep for record in read_metrics(path)] == [1, 2]
        assert "line 3 was cut" in caplog.text
    path.write_bytes(whole[:-1])
    caplog.clear()
    assert [record.timestep for record in read_metrics(path)] == [1, 2, 3]
    assert not caplog.records


@pytest.mark.parametrize(("cut", "expected"), [(10, [1, 2, 4]), (1, [1, 2, 3, 4]), (0, [1, 2, 3, 4])])
def test_continuing_after_a_cut_damages_nothing(path, cut, expected):
    write(path, 1, 2, 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    write(path, 4)
    assert [record.timestep for record in read_metrics(path)] == expected


def test_continuing_a_file_that_holds_only_a_long_cut_line(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"timestep": 1, "metrics": {"' + b"a" * 200_000)
    write(path, 4)
    assert [record.timestep for record in read_metrics(path)] == [4]


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestep": 1, "ti',
        b"\x00\x00\x00",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"timestep": -1, "time": 1.0, "metrics": {}}',
        b'{"timestep": 1.5, "time": 1.0, "metrics": {}}',
        b'{"timestep": 99999999999999999999, "time": 1.0, "metrics": {}}',
        b'{"timestep": 1, "time": "now", "metrics": {}}',
        b'{"timestep": 1, "time": 1.0, "metrics": []}',
        b'{"timestep": 1, "time": 1.0, "metrics": {"a": "text"}}',
        b'{"timestep": 1, "time": 1.0, "metrics": {"a": 1' + b"0" * 400 + b"}}",
        b"[" * 100_000,
    ],
)
def test_other_damage_is_an_error_that_names_the_line(path, line):
    write(path, 1, 2)
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(ArgumentError, match="line 2 is damaged") as caught:
        read_metrics(path)
    assert caught.value.argument == "path"


def test_a_damaged_last_line_that_was_not_cut_is_an_error(path):
    write(path, 1)
    path.write_bytes(path.read_bytes() + b"garbage\n")
    with pytest.raises(ArgumentError, match="line 2 is damaged"):
        read_metrics(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(ArgumentError, match="no such metrics file"):
        read_metrics(tmp_path / "nothing.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert read_metrics(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize("value", ["text", None, [1.0], np.array([1.0, 2.0]), np.array("text")])
def test_a_metric_that_is_no_number_is_refused_and_nothing_is_written(path, value):
    with MetricsWriter(path) as writer, pytest.raises(ArgumentError, match="number"):
        writer.write(1, {"fine": 1.0, "wrong": value})
    assert path.read_bytes() == b""


@pytest.mark.parametrize("timestep", [-1, 1.5, True])
def test_a_timestep_that_is_no_count_is_refused(path, timestep):
    with MetricsWriter(path) as writer, pytest.raises(ArgumentError, match="timestep"):
        writer.write(timestep, {})


def test_series_picks_one_metric():
    records = [
        MetricsRecord(1, 0.0, {"a": 1.0}),
        MetricsRecord(2, 0.0, {"b": 5.0}),
        MetricsRecord(3, 0.0, {"a": math.nan, "b": 6.0}),
    ]
    timesteps, values = series(records, "a")
    assert (timesteps.dtype, values.dtype) == (np.int64, np.float64)
    assert timesteps.tolist() == [1, 3]
    np.testing.assert_array_equal(values, [1.0, math.nan])
    timesteps, values = series(records, "nothing")
    assert timesteps.shape == values.shape == (0,)


def test_records_after_a_timestep_are_moved_aside(path):
    write(path, 1, 2, 3, 2, 5)
    whole = path.read_bytes().splitlines(keepends=True)
    assert discard_after(path, 2) == 2
    assert path.read_bytes() == b"".join([whole[0], whole[1], whole[3]])
    aside = path.with_name("metrics.discarded.jsonl")
    assert aside.read_bytes() == whole[2] + whole[4]
    write(path, 4)
    assert discard_after(path, 2) == 1
    assert [record.timestep for record in read_metrics(aside)] == [3, 5, 4]
    assert [record.timestep for record in read_metrics(path)] == [1, 2, 2]


def test_nothing_is_written_where_nothing_is_to_be_moved(path):
    assert discard_after(path, 0) == 0
    assert not path.exists()
    write(path, 1, 2)
    before = path.stat()
    assert discard_after(path, 2) == 0
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.jsonl"]


def test_a_cut_last_line_does_not_hinder_moving(path):
    write(path, 1, 2, 3)
    path.write_bytes(path.read_bytes()[:-5])
    assert discard_after(path, 1) == 1
    assert [record.timestep for record in read_metrics(path)] == [1]


def test_a_damaged_file_is_left_as_it_is(path):
    write(path, 1, 2)
    damaged = b"garbage\n" + path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(ArgumentError, match="line 1 is damaged"):
        discard_after(path, 1)
    assert path.read_bytes() == damaged


def test_a_failure_while_moving_loses_no_record(path, monkeypatch):
    write(path, 1, 2)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        discard_after(path, 1)
    assert path.read_bytes() == before
