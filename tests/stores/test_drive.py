"""Google Drive, by its own client library, against a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("googleapiclient")

from tests.servers.drive import LoopbackDrive, loopback_drive

from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.retry import RetryPolicy
from rl_framework.stores import FileStore, MissingError, Place, StoreError, open_store, parse_address, retrying
from rl_framework.stores import drive as module

MIB = 1 << 20
QUICK = RetryPolicy(attempts=8, first_wait=0.001, longest_wait=0.002)
FOLDER = "experiments/it's a run"


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackDrive]:
    monkeypatch.setattr(module, "_CHUNK", MIB)
    with loopback_drive(monkeypatch) as running:
        yield running


def _store(address: str = f"gdrive://{FOLDER}", **options: object) -> FileStore:
    return open_store(parse_address(address, options=options))


def _large(size: int = 5 * MIB) -> tuple[Path, bytes, str]:
    content = os.urandom(size)
    Path("large").write_bytes(content)
    return Path("large"), content, hashlib.sha256(content).hexdigest()


def test_folders_are_made_and_found_again(drive: LoopbackDrive) -> None:
    store = _store()
    assert store.files_in(FOLDER) == {}
    with pytest.raises(MissingError, match="no folder experiments"):
        store.read(f"{FOLDER}/a", 10)
    assert drive.stored == {}  # looking makes nothing
    store.write(f"{FOLDER}/a", b"one")
    _store().write(f"{FOLDER}/a", b"two")
    _store().write(f"{FOLDER}/empty", b"")
    assert drive.contents == {f"{FOLDER}/a": b"two", f"{FOLDER}/empty": b""}
    assert len(drive.stored) == 4
    assert _store().files_in(FOLDER) == {"a": 3, "empty": 0}
    assert [_store().read(f"{FOLDER}/{name}", 10) for name in ("a", "empty")] == [b"two", b""]
    assert _store().read(f"{FOLDER}/a", 1) == b"t"


def test_several_of_one_name(drive: LoopbackDrive, caplog: pytest.LogCaptureFixture) -> None:
    older, newer = drive.add("run"), drive.add("run")
    drive.add("a", older.id, b"old")
    drive.add("a", older.id, b"new")
    drive.add("a", newer.id, b"in another folder")
    store = _store("gdrive://run")
    assert store.read("run/a", 20) == b"new"
    assert store.files_in("run") == {"a": 3}
    store.write("run/a", b"newest")
    assert sorted(each.content for each in drive.stored.values()) == [b"", b"", b"in another folder", b"newest", b"old"]
    assert "2 folders run" in caplog.text


def test_shared_folders_and_folders_by_id(drive: LoopbackDrive) -> None:
    shared = drive.add("of a colleague", "somewhere else", is_shared=True)
    _store("gdrive://of a colleague/run").write("of a colleague/run/a", b"one")
    assert _store(f"gdrive://id:{shared.id}/run").read(f"id:{shared.id}/run/a", 10) == b"one"


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_a_large_file_goes_on_where_it_was_cut(replaces: bool, drive: LoopbackDrive) -> None:
    path, content, sha256 = _large()
    store = _store()
    before = {f"{FOLDER}/large": b"old"} if replaces else {}
    if replaces:
        store.write(f"{FOLDER}/large", b"old")
    drive.cut_session_after = int(2.6 * MIB)
    with pytest.raises(StoreError) as caught:
        store.upload(path, f"{FOLDER}/large", sha256)
    assert caught.value.transient
    assert drive.contents == before
    store.upload(path, f"{FOLDER}/large", sha256)
    assert drive.contents == {f"{FOLDER}/large": content}
    assert drive.received_bytes == len(content)  # nothing was sent twice
    store.download(f"{FOLDER}/large", Path("copy"))
    assert Path("copy").read_bytes() == content


def test_a_session_that_expired_begins_anew(drive: LoopbackDrive) -> None:
    path, content, sha256 = _large()
    drive.cut_session_after = int(2.6 * MIB)
    store = _store()
    with pytest.raises(StoreError):
        store.upload(path, "large", sha256)
    drive.sessions.clear()
    retrying("the upload", QUICK)(lambda: store.upload(path, "large", sha256))
    assert drive.contents == {"large": content}


def test_what_arrived_unheard_is_not_sent_again(drive: LoopbackDrive) -> None:
    path, content, sha256 = _large(MIB // 2)
    store = _store()
    drive.fail("^POST /upload", times=2, drop="after")
    retrying("the upload", QUICK)(lambda: store.upload(path, "large", sha256))
    assert set(drive.contents.values()) == {content}
    drive.requests.clear()
    store.upload(path, "large", sha256)
    assert not [request for request in drive.requests if not request.startswith("GET")]


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
def test_limits_on_rates_pass(reason: str, drive: LoopbackDrive) -> None:
    fault = drive.fail(
        "^POST /(drive|upload)", times=3, status=403, message={"code": 403, "errors": [{"reason": reason}]}
    )
    retrying("the upload", QUICK)(lambda: _store().write("a", b"one"))
    assert fault.times == 0
    assert drive.contents == {"a": b"one"}


def test_a_full_drive(drive: LoopbackDrive) -> None:
    drive.quota = MIB
    path, content, sha256 = _large(2 * MIB)
    with pytest.raises(ConnectorError, match=r"no room left on this Google Drive.*empty the bin") as caught:
        retrying("the upload", QUICK)(lambda: _store().upload(path, f"{FOLDER}/large", sha256))
    assert "attempts" not in str(caught.value)
    assert path.read_bytes() == content
    assert drive.contents == {}
    drive.quota = None
    Place(_store(), FOLDER).publish({"large": path})


def test_an_expired_token_is_refreshed(drive: LoopbackDrive) -> None:
    store = _store()
    store.write("a", b"one")
    assert drive.n_refreshed == 1
    drive.expire()
    store.write("a", b"two")
    assert drive.n_refreshed == 2
    assert drive.contents == {"a": b"two"}


def test_a_login_that_was_withdrawn(drive: LoopbackDrive) -> None:
    drive.refresh_tokens.clear()
    with pytest.raises(
        StoreError, match=r"invalid_grant.*expired or was withdrawn.*GOOGLE_APPLICATION_CREDENTIALS"
    ) as caught:
        _store().files_in("a")
    assert (caught.value.status_code, caught.value.transient) == (401, False)


def _service_account(drive: LoopbackDrive) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "robot@tests.invalid", "token_uri": f"{drive.url}/token"}
    Path("robot.json").write_text(json.dumps({**account, "private_key": key.decode(), "project_id": "tests"}))
    return Path("robot.json")


def test_a_service_account(drive: LoopbackDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _service_account(drive)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    _store(credentials=path).write("a", b"one")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    store = _store()
    assert store.read("a", 10) == b"one"
    drive.quota = 0
    with pytest.raises(StoreError, match=r"robot@tests\.invalid is a service account.*shared drive"):
        store.write("b", b"two")
    drive.role = "read"
    with pytest.raises(StoreError, match=r"robot@tests\.invalid may not do this.*share the folder"):
        store.write("b", b"two")


def test_the_token_of_a_user(drive: LoopbackDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.oauth2.credentials import Credentials

    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    _store(credentials=Credentials(drive.token)).write("a", b"one")
    drive.expire()
    with pytest.raises(StoreError, match="expired or was withdrawn") as caught:
        _store(credentials=Credentials("ya29.what-was-valid-yesterday")).files_in("")
    assert "yesterday" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"type": "external_account"}', '{"type": "service_account"}'])
def test_a_file_that_is_no_login(content: str, drive: LoopbackDrive) -> None:
    Path("login.json").write_text(content)
    with pytest.raises(ArgumentError, match=r"login\.json.*GOOGLE_APPLICATION_CREDENTIALS"):
        _store(credentials="login.json")


def test_options_that_are_not_known(drive: LoopbackDrive) -> None:
    with pytest.raises(ArgumentError, match=r"token.*credentials"):
        _store(token="x")
