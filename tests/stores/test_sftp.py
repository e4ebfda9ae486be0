"""SFTP, against paramiko's server over real files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("paramiko")

from tests.servers.sftp import PASSWORD, USER, LoopbackSFTP, loopback_sftp

from rl_framework.errors import ArgumentError
from rl_framework.retry import RetryPolicy
from rl_framework.stores import FileStore, Place, StoreError, copy_of_file, open_store, parse_address, retrying
from rl_framework.stores.sftp import fingerprint

MIB = 1 << 20
QUICK = RetryPolicy(attempts=3, first_wait=0.001)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackSFTP]:
    with loopback_sftp(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[list[FileStore]]:
    stores: list[FileStore] = []
    yield stores
    for store in stores:
        store.close()


def _address(server: LoopbackSFTP, password: str = PASSWORD) -> str:
    return f"sftp://{USER}:{quote(password, safe='')}@127.0.0.1:{server.port}/data/run"


def _store(server: LoopbackSFTP, opened: list[FileStore], password: str = PASSWORD, **options: Any) -> FileStore:
    opened.append(open_store(parse_address(_address(server, password), options=options)))
    return opened[-1]


def test_published_and_read(server: LoopbackSFTP, opened: list[FileStore]) -> None:
    Path("a").write_bytes(os.urandom(300_000))
    Path("copies").mkdir()
    place = Place(_store(server, opened), "data/run")
    assert place.names() == []
    place.publish({"agent.zip": Path("a")})
    there = server.root / "data" / "run"
    assert sorted(path.name for path in there.iterdir()) == ["agent.zip", "rl_framework.json"]
    assert copy_of_file(_address(server), Path("copies")).read_bytes() == Path("a").read_bytes()
    place.publish({}, removals=["agent.zip"])
    assert [path.name for path in there.iterdir()] == ["rl_framework.json"]


@pytest.mark.parametrize("told", [False, True], ids=["cut", "told"])
def test_a_large_file_goes_on_where_it_was_cut(told: bool, server: LoopbackSFTP, opened: list[FileStore]) -> None:
    server.cuts_slowly = told
    content = os.urandom(6 * MIB)
    Path("large").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    # The client sends a hundred pieces before it looks at an answer, and these are the 65th and what follows.
    server.cut_after = 2 * MIB
    with pytest.raises(StoreError) as caught:
        _store(server, opened).upload(Path("large"), "data/large", sha256)
    assert caught.value.transient
    assert not (server.root / "data" / "large").exists()
    (part,) = (server.root / "data").iterdir()
    assert part.stat().st_size > 2 * MIB  # there is a hole in it
    server.n_written = 0
    store = _store(server, opened)  # as another process would
    assert store.files_in("data") == {}
    store.upload(Path("large"), "data/large", sha256)
    assert server.n_written == 4 * MIB
    assert (server.root / "data" / "large").read_bytes() == content
    assert [path.name for path in (server.root / "data").iterdir()] == ["large"]


def test_a_cut_connection_is_made_again(server: LoopbackSFTP, opened: list[FileStore]) -> None:
    Path("a").write_bytes(b"an agent")
    place = Place(_store(server, opened), "data/run")
    place.names()
    server.cut()
    place.publish({"a": Path("a")}, attempt=retrying("the upload", QUICK))
    assert server.n_connections == 2


def test_a_server_without_replacing_by_renaming(server: LoopbackSFTP, opened: list[FileStore]) -> None:
    server.can_replace = False
    store = _store(server, opened)
    for content in (b"one", b"two"):
        store.write("data/a", content)
        assert store.read("data/a", 10) == content


def test_an_unknown_host_is_refused(server: LoopbackSFTP, opened: list[FileStore], tmp_path: Path) -> None:
    (tmp_path / "home" / ".ssh" / "known_hosts").unlink()
    shown = fingerprint(server.key)
    with pytest.raises(StoreError, match="is not a known host") as caught:
        _store(server, opened).files_in("data")
    assert shown in str(caught.value)
    assert not caught.value.transient
    with pytest.raises(StoreError, match="is not a known host"):
        _store(server, opened, host_key="SHA256:another").files_in("data")
    assert _store(server, opened, host_key=shown).files_in("data") == {}
    assert _store(server, opened, accept_unknown_host=True).files_in("data") == {}
    known = tmp_path / "hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.key.get_name()} {server.key.get_base64()}\n")
    assert _store(server, opened, known_hosts=known).files_in("data") == {}


def test_a_host_with_another_key_is_refused(server: LoopbackSFTP, opened: list[FileStore], tmp_path: Path) -> None:
    other = server.user_key
    line = f"[127.0.0.1]:{server.port} {other.get_name()} {other.get_base64()}\n"
    (tmp_path / "home" / ".ssh" / "known_hosts").write_text(line)
    for options in ({}, {"accept_unknown_host": True}, {"host_key": fingerprint(server.key)}):
        with pytest.raises(StoreError, match="somebody may stand in between"):
            _store(server, opened, **options).files_in("data")


def test_logging_in(server: LoopbackSFTP, opened: list[FileStore], caplog: pytest.LogCaptureFixture) -> None:
    wrong = "a/wrong password"
    with pytest.raises(StoreError, match="key_filename") as caught:
        _store(server, opened, wrong).files_in("data")
    assert (caught.value.status_code, caught.value.transient) == (401, False)
    for text in (str(caught.value), repr(opened), caplog.text):
        assert wrong not in text
        assert quote(wrong, safe="") not in text
    server.user_key.write_private_key_file("key")
    address = parse_address(f"sftp://{USER}@127.0.0.1:{server.port}/data", options={"key_filename": "key"})
    opened.append(open_store(address))
    assert opened[-1].files_in("data") == {}


def test_without_rights(server: LoopbackSFTP, opened: list[FileStore]) -> None:
    server.is_read_only = True
    with pytest.raises(StoreError, match="does not allow it") as caught:
        _store(server, opened).write("data/a", b"a")
    assert caught.value.status_code == 403


def test_options_that_are_not_known(server: LoopbackSFTP) -> None:
    with pytest.raises(ArgumentError, match=r"keyfile.*key_filename"):
        open_store(parse_address(_address(server), options={"keyfile": "x"}))


def test_a_server_that_is_not_there(server: LoopbackSFTP, opened: list[FileStore]) -> None:
    server.__exit__()
    with pytest.raises(StoreError) as caught:
        _store(server, opened).files_in("data")
    assert caught.value.transient
