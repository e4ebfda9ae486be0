"""YAML is read as people mean it, and no file can do harm."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from rl_framework.errors import ConfigurationError
from rl_framework.experiment.folders import write_config
from rl_framework.experiment.reading.documents import dotted, from_data, parse, read_file


def problem(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "x.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),  # a text for YAML 1.1
        ("1e6", 1e6),
        ("-.5", -0.5),
        ("1_000_000", 1_000_000),
        ("0x10", 16),
        ("010", 10),  # 8 for YAML 1.1
        ("1:30", "1:30"),  # 90 for YAML 1.1
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("2026-11-20", "2026-11-20"),
        ("1.2.3", "1.2.3"),
        ("'3e-4'", "3e-4"),
        ("BipedalWalker-v3", "BipedalWalker-v3"),
        ("-.inf", -math.inf),
        ("1e", "1e"),
        ("_1", "_1"),
    ],
)
def test_scalars_mean_what_people_mean(text: str, value: object) -> None:
    found = parse(f"a: {text}", "x.yaml").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_every_value_has_its_line() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "x.yaml")
    assert document.data == {"a": {"b": 1, "c": ["x", {"d": 2}]}}
    lines = {dotted(key): place.line for key, place in document.places.items()}
    assert lines == {"": 1, "a": 1, "a.b": 2, "a.c": 3, "a.c[0]": 4, "a.c[1]": 5, "a.c[1].d": 5}
    assert str(document.problem("is missing", ("a", "c", 1, "e"))) == "x.yaml:5: a.c[1].e: is missing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system ['touch harm']", "the tag"),
        ("a: !!python/name:os.system", "the tag"),
        ("!!python/object:x.Y {}", "the tag"),
        ("a: !mine 3", "the tag"),
        ("a: !!binary aGFybQ==", "the tag"),
        ("a: 1\nb: 2\na: 3", "x.yaml:3: a: the key is there twice: first on line 1"),
        ("a: {b: 1, b: 2}", "a.b: the key is there twice"),
        ("x: &x {a: 1}\ny: {<<: *x}", "merge keys (<<) are not read: use base:"),
        ("1: a", "'1' is no text"),
        ("? [a, b]\n: c", "a key that is no text"),
        ("a: [1, 2", "x.yaml:1: is no YAML"),
        ("a: b: c", "x.yaml:1: is no YAML"),
        ("\ta: 1", "is no YAML"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: \x00", "is no YAML"),
        ("a: *b", "found undefined alias"),
        ("a: 1e999", "is too large a number"),
        ("a: !!int abc", "cannot be read as int"),
        ("a: " + "9" * 10_000, "cannot be read as int"),
    ],
    ids=str,
)
def test_what_is_refused_is_told_with_its_line(text: str, said: str) -> None:
    message = problem(text)
    assert said in message
    assert message.startswith("x.yaml")
    assert not Path("harm").exists()


def test_everything_that_is_refused_is_told_at_once() -> None:
    message = problem("a: !mine 3\nb: 1\nb: 2\n3: x\n")
    assert len(message.splitlines()) == 3


def test_what_aliases_stand_for_counts() -> None:
    assert parse("a: &x [1]\nb: *x", "x.yaml").data == {"a": [1], "b": [1]}
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    started = time.process_time()
    assert "stands for more than" in problem(laughs)
    assert "stands for more than" in problem("a: &a [*a]")
    assert "stands for more than" in problem("a: &a {b: *a}")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "".join(" " * n + "a:\n" for n in range(100))]
)
def test_huge_nesting_is_refused(text: str) -> None:
    assert "nested more than 32 levels deep" in problem(text)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [" + "1, " * 100_000 + "]")
    with pytest.raises(ConfigurationError, match=r"larger than 256 KiB"):
        read_file(path)
    assert "more than 10000 values" in problem("a: [" + "1," * 30_000 + "]")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.yaml: cannot be read: No such file"):
        read_file(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4")
    with pytest.raises(ConfigurationError, match="is no text in UTF-8"):
        read_file(tmp_path / "latin.yaml")
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_file(tmp_path / "marked.yaml").data == {"a": 1}


def test_data_that_is_given_in_python_is_data() -> None:
    data = from_data({"a": (1, np.float32(0.5)), "b": Path("x"), "c": {"d": None}}).data
    assert data == {"a": [1, 0.5], "b": "x", "c": {"d": None}}
    with pytest.raises(ConfigurationError) as caught:
        from_data({"a": {"b": object()}, "c": [{1: 2}]})
    assert [problem.key for problem in caught.value.problems] == ["a.b", "c[0]"]
    loop: dict[str, object] = {}
    loop["a"] = loop
    with pytest.raises(ConfigurationError, match="nested more than"):
        from_data(loop)


def test_what_is_written_is_read_as_the_same(tmp_path: Path) -> None:
    data = {
        "texts": ["3e-4", "true", "null", "1_000", "0x1", ".inf", "no", "a: b", "", " x", "a\nb", "größe", "~"],
        "numbers": [1, -2.5, 1e-300, 3e-4, 1e22, 0.1 + 0.2, math.inf],
        "others": [True, None, {}, [], {"a": {"b": []}}],
    }
    shared = {"x": 1}
    data["twice"] = [shared, shared]
    write_config(tmp_path / "x.yaml", data, "a note\nof two lines")
    assert read_file(tmp_path / "x.yaml").data == data
    # Other readers understand it too, as far as YAML 1.1 can.
    assert yaml.safe_load((tmp_path / "x.yaml").read_text())["others"] == data["others"]
