"""Addresses: what they mean, what is refused, and that no password is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_framework.errors import ArgumentError
from rl_framework.secrecy import redact
from rl_framework.stores import is_address, parse_address
from rl_framework.stores.address import refuse_address

PASSWORD = "A/plain:pass@word"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket/a/b.zip", ("s3", "bucket", "a/b.zip")),
        ("s3a://bucket", ("s3", "bucket", "")),
        ("gs://bucket/a/", ("gs", "bucket", "a")),
        ("GDrive://my folder/it's", ("gdrive", "", "my folder/it's")),
        ("hf://user/name/a.zip", ("hf", "", "user/name/a.zip")),
        ("sftp://host/~/a", ("sftp", "host", "~/a")),
        ("memory://a", ("memory", "", "a")),
        ("file:///tmp/a", ("file", "", "/tmp/a")),
        ("a/folder", ("file", "", "a/folder")),
        (Path("/content/drive/MyDrive/a"), ("file", "", "/content/drive/MyDrive/a")),
    ],
    ids=str,
)
def test_parts(text: str | Path, parts: tuple[str, str, str]) -> None:
    address = parse_address(text)
    assert (address.scheme, address.host, address.path) == parts
    assert (address / "x").parent == address


def test_who_logs_in_where() -> None:
    address = parse_address("sftp://me%40work:A%2Fplain%3Apass%40word@host:2222/a")
    assert (address.user, address.password, address.host, address.port) == ("me@work", PASSWORD, "host", 2222)
    assert str(address) == "sftp://me%40work@host:2222/a"
    assert PASSWORD not in repr(address)
    assert redact(f"it was {PASSWORD}") == "it was ***"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/a",
        "s3:///a",
        "s3://key:secret-word@bucket/a",
        "s3://bucket/a/../b",
        "gdrive://a/\x00",
        "sftp://h:x/a",
        "",
    ],
    ids=repr,
)
def test_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="s3://bucket/path") as caught:
        parse_address(text)
    assert "secret-word" not in str(caught.value)


def test_what_is_no_address() -> None:
    assert not is_address("C:\\runs\\agent.zip")
    assert not is_address(Path("runs/agent.zip"))
    assert is_address("s3://bucket")
    with pytest.raises(ArgumentError, match="Give it as a text"):
        is_address(Path("s3://bucket/agent.zip"))
    with pytest.raises(ArgumentError, match=r"s3://bucket.*Do that"):
        refuse_address("s3://bucket", "path", "Do that.")


def test_paths_of_another_library() -> None:
    upath = pytest.importorskip("upath")
    path = upath.UPath("memory://runs/agent.zip", option="x")
    address = parse_address(path)
    assert (address.scheme, address.path, address.options) == ("memory", "runs/agent.zip", {"option": "x"})
    assert is_address(path)
    assert not is_address(upath.UPath("runs"))
