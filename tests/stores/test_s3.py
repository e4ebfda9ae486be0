"""S3, against moto's server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from tests.servers.s3 import BUCKET, SECRET, LoopbackS3, loopback_s3

from rl_framework.errors import ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.stores import FileStore, Place, StoreError, copy_of_file, open_store, parse_address, retrying
from rl_framework.stores import s3 as module

MIB = 1 << 20
CUT = 2
"""The client itself sends what was cut on a connection that it had used before once more."""
QUICK = RetryPolicy(attempts=6, first_wait=0.001, longest_wait=0.002, longest_retry_after=0.002)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackS3]:
    monkeypatch.setattr(module, "_PART", 5 * MIB)
    with loopback_s3(monkeypatch) as running:
        yield running


def _store(**options: Any) -> FileStore:
    return open_store(parse_address(f"s3://{BUCKET}/run", options=options))


def _file(size: int, name: str = "large.bin") -> tuple[Path, str]:
    path = Path(name)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, 8 * MIB):
            piece = os.urandom(min(8 * MIB, size - start))
            digest.update(piece)
            file.write(piece)
    return path, digest.hexdigest()


def _sha256(store: FileStore, path: str) -> str:
    store.download(path, Path("copy"))
    with Path("copy").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _n_parts(server: LoopbackS3) -> int:
    return sum("partNumber=" in request for request in server.requests)


def test_a_large_file_goes_on_where_it_was_cut(server: LoopbackS3) -> None:
    path, sha256 = _file(18 * MIB)
    server.fail(r"^PUT .*partNumber=3", times=CUT, drop="before")
    with pytest.raises(StoreError) as caught:
        _store().upload(path, "run/large.bin", sha256)
    assert caught.value.transient
    assert _store().files_in("run") == {}
    server.requests.clear()
    store = _store()  # as another process would
    store.upload(path, "run/large.bin", sha256)
    assert _n_parts(server) == 2
    assert store.files_in("run") == {"large.bin": 18 * MIB}
    assert _sha256(store, "run/large.bin") == sha256


def test_parts_of_another_file_are_not_kept(server: LoopbackS3) -> None:
    path, sha256 = _file(11 * MIB)
    server.fail(r"^PUT .*partNumber=2", times=CUT, drop="before")
    with pytest.raises(StoreError):
        _store().upload(path, "run/large.bin", sha256)
    path, sha256 = _file(11 * MIB)
    server.requests.clear()
    _store().upload(path, "run/large.bin", sha256)
    assert _n_parts(server) == 3
    assert _sha256(_store(), "run/large.bin") == sha256


@pytest.mark.slow
def test_200_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_s3(monkeypatch) as server:
        path, sha256 = _file(200_000_000)
        server.fail(r"^PUT .*partNumber=7", times=CUT, drop="before")
        place = Place(_store(), "run")
        place.publish({"large.bin": path}, attempt=retrying("the upload", QUICK))
        assert _n_parts(server) == 12 + CUT  # of 16 MiB
        assert _sha256(place.store, "run/large.bin") == sha256


@pytest.mark.parametrize(
    "how",
    [
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 503, "headers": {"Retry-After": "1"}},
        {"drop": "before"},
        {"drop": "after"},
        {"drop": "half-way"},
    ],
    ids=["too many requests", "unavailable", "dropped before", "dropped after", "dropped half-way"],
)
def test_faults_pass(how: dict[str, Any], server: LoopbackS3) -> None:
    Path("agent.zip").write_bytes(b"an agent" * 1000)
    Path("copies").mkdir()
    place = Place(_store(), "run")
    writing, reading = server.fail("^PUT ", times=3, **how), server.fail("^GET ", times=3, **how)
    place.publish({"agent.zip": Path("agent.zip")}, attempt=retrying("the upload", QUICK))
    assert writing.times == reading.times == 0
    reading.times = 2
    copy = copy_of_file(f"s3://{BUCKET}/run", Path("copies"), retry=QUICK)
    assert reading.times == 0
    assert copy.read_bytes() == Path("agent.zip").read_bytes()


def test_what_the_service_asks_for_is_honoured(server: LoopbackS3) -> None:
    server.fail("^PUT ", status=503, headers={"Retry-After": "7"})
    with pytest.raises(StoreError) as caught:
        _store().write("run/a", b"a")
    assert RetryPolicy(jitter=0).wait_after(1, caught.value) == 7


def test_keys_that_are_wrong(server: LoopbackS3) -> None:
    server.key = "AKIAANOTHER000000000"
    for action in (lambda: _store().files_in("run"), lambda: _store().write("run/a", b"a")):
        with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
            action()
        assert (caught.value.status_code, caught.value.transient) == (403, False)
        assert SECRET not in str(caught.value)


def test_keys_in_options(server: LoopbackS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
        _store().files_in("run")
    assert caught.value.status_code == 401
    assert _store(key=server.key, secret=SECRET).files_in("run") == {}


def test_a_bucket_that_is_not_there(server: LoopbackS3) -> None:
    # Not as an empty folder would be: a training would begin anew instead of going on.
    store = open_store(parse_address("s3://another/run"))
    for action in (lambda: store.files_in("run"), lambda: store.read("run/a", 1), lambda: store.write("run/a", b"a")):
        with pytest.raises(StoreError, match=r"s3://another.*no such bucket"):
            action()


def test_a_dead_service(server: LoopbackS3) -> None:
    server.fail(".", times=10_000, drop="before")
    with pytest.raises(ConnectorError, match="6 attempts"):
        copy_of_file(f"s3://{BUCKET}/run", Path.cwd(), retry=QUICK)
