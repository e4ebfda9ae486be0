"""Publishing: readers see all or nothing, and what is damaged or hostile is not used."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_framework.errors import ArgumentError, ConnectorError
from rl_framework.stores import DamagedError, MissingError, Place, StoreError, copy_of_file, open_store, parse_address
from rl_framework.stores.folder import FolderStore
from rl_framework.stores.manifest import MANIFEST


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    address = parse_address("store/run" if request.param == "folder" else "memory://store/run")
    store = open_store(address)
    yield Place(store, address.path)
    if request.param == "memory":
        store.files.store.clear()  # type: ignore[attr-defined]


def _files(**contents: str) -> dict[str, Path]:
    folder = Path("sources")
    folder.mkdir(exist_ok=True)
    files = {}
    for number, (name, content) in enumerate(contents.items()):
        files[f"{name}.txt"] = folder / f"{len(list(folder.iterdir()))}-{number}"
        files[f"{name}.txt"].write_text(content)
    return files


def _read(place: Place, *names: str) -> dict[str, str]:
    shutil.rmtree("copies", ignore_errors=True)
    Path("copies").mkdir()
    return {name: copy.read_text() for name, copy in place.fetch(names or None, Path("copies")).items()}


def _all(place: Place) -> list[str]:
    return sorted(place.store.files_in(place.folder))


def test_published_and_read(place: Place) -> None:
    assert place.names() == []
    place.publish(_files(a="one", b=""))
    assert _read(place) == {"a.txt": "one", "b.txt": ""}
    place.publish(_files(c="three"), removals=["b.txt"])
    assert _read(place) == {"a.txt": "one", "c.txt": "three"}
    assert _all(place) == ["a.txt", "c.txt", MANIFEST]


def test_what_is_there_is_not_sent_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.publish(_files(a="one"))
    monkeypatch.setattr(place.store, "_upload", None)
    monkeypatch.setattr(place.store, "_write", None)
    place.publish(_files(a="one"))


@pytest.mark.parametrize("stops_at", [0, 1, 2])
def test_whoever_stops_half_way_leaves_what_was_there(
    stops_at: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.publish(_files(a="one", b="two"))
    steps = 0

    def counted(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal steps
            if steps == stops_at:
                raise ConnectionResetError("cut")
            steps += 1
            # While the new files arrive, the old ones are read.
            assert _read(place) == {"a.txt": "one", "b.txt": "two"}
            return method(*arguments)

        return call

    with monkeypatch.context() as patches:
        for name in ("_upload", "_write"):
            patches.setattr(place.store, name, counted(getattr(place.store, name)))
        with pytest.raises(StoreError) as caught:
            place.publish(_files(a="ONE", b="TWO"))
    assert caught.value.transient
    assert _read(place) == {"a.txt": "one", "b.txt": "two"}
    place.publish(_files(a="ONE", b="TWO"))
    assert _read(place) == {"a.txt": "ONE", "b.txt": "TWO"}
    assert len(_all(place)) == 3


def test_a_reader_who_is_overtaken_begins_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.publish(_files(a="one", b="two"))
    download, replacement = place.store._download, _files(a="ONE", b="TWO")
    other = Place(open_store(place.store.address), place.folder)

    def overtaken(path: str, destination: Path) -> None:
        if path.endswith("b.txt"):
            monkeypatch.setattr(place.store, "_download", download)
            other.publish(replacement)
        download(path, destination)

    monkeypatch.setattr(place.store, "_download", overtaken)
    assert _read(place) == {"a.txt": "ONE", "b.txt": "TWO"}


def test_damage_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.publish(_files(a="one"))
    place.store.write(place.path("a.txt"), b"ONE")
    with pytest.raises(DamagedError, match=r"a\.txt of .*store/run has not the checksum"):
        _read(place)
    assert not (Path("copies") / "a.txt").exists()


def test_damage_on_the_way_passes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.publish(_files(a="one"))
    download = place.store._download

    def damaging(path: str, destination: Path) -> None:
        monkeypatch.setattr(place.store, "_download", download)
        destination.write_text("two")

    monkeypatch.setattr(place.store, "_download", damaging)
    assert _read(place) == {"a.txt": "one"}


def test_what_is_missing(place: Place) -> None:
    place.publish(_files(a="one"))
    with pytest.raises(MissingError, match=r"has no z\.txt, but a\.txt"):
        _read(place, "z.txt")
    place.store.remove(place.path("a.txt"))
    place.store.remove(place.path("a.txt"))  # again changes nothing
    with pytest.raises(MissingError, match=r"a\.txt"):
        _read(place)


def test_files_that_somebody_else_put_there(place: Place) -> None:
    place.store.write(place.path("a.txt"), b"one")
    assert place.names() == ["a.txt"]
    assert _read(place) == {"a.txt": "one"}


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:secret", "~/secret", "", "a//b", "a\x00b", "a/."],
    ids=repr,
)
@pytest.mark.parametrize("part", ["name", "location"])
def test_a_manifest_that_leads_elsewhere(part: str, location: str, place: Place) -> None:
    Path("secret").write_text("of this machine")
    place.publish(_files(a="one"))
    manifest = json.loads(place.store.read(place.path(MANIFEST), 1 << 20))
    entry = manifest["files"].pop("a.txt")
    if part == "name":
        manifest["files"][location] = entry
    else:
        manifest["files"]["a.txt"] = {**entry, "location": location}
    place.store.write(place.path(MANIFEST), json.dumps(manifest).encode())
    with pytest.raises(DamagedError, match="does not lie in its folder"):
        _read(place)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"format": "rl_framework.files", "version": 2, "files": {}, "information": {}}',
        b'{"format": "rl_framework.files", "version": 1, "files": {"a": 1}, "information": {}}',
        b'{"format": "rl_framework.files", "version": 1, "files": [], "information": {}}',
        (
            b'{"format": "rl_framework.files", "version": 1, "information": {}, '
            b'"files": {"a": {"location": "a", "size": -1, "sha256": "0"}}}'
        ),
        b"[" * 100_000,
    ],
    ids=lambda content: content[:70].decode(errors="replace"),
)
def test_a_manifest_that_is_damaged(content: bytes, place: Place) -> None:
    place.store.write(place.path(MANIFEST), content)
    for action in (place.manifest, lambda: _read(place), lambda: place.publish(_files(a="one"))):
        with pytest.raises(DamagedError, match=r"rl_framework\.json.*cannot be followed"):
            action()


@pytest.mark.parametrize("name", ["../a", "/a", MANIFEST, f"a/{MANIFEST}", ".rl_framework-x", "a\\b", ""], ids=repr)
def test_names_that_cannot_be_published(name: str, place: Place) -> None:
    with pytest.raises(ArgumentError, match="below the address"):
        place.publish({name: next(iter(_files(a="one").values()))})


def test_the_same_content_under_several_names(place: Place) -> None:
    place.publish(_files(a="one", b="one"))
    place.publish(_files(a="two", b="two"))
    place.publish(_files(a="one", b="one"))
    assert _read(place) == {"a.txt": "one", "b.txt": "one"}
    assert _all(place) == ["a.txt", "b.txt", MANIFEST]


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(open_store(parse_address("store")), "store")
    place.publish(_files(a="one"))

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patches:
        patches.setattr(shutil, "copyfile", full)
        with pytest.raises(StoreError, match=r"store.*No space left.*make room") as caught:
            place.publish(_files(a="two"))
    assert not caught.value.transient
    assert sorted(path.name for path in Path("store").iterdir()) == ["a.txt", MANIFEST]


def test_a_mounted_folder_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(parse_address("store"))

    def away(*arguments: Any) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr(FolderStore, "_list", away)
    with pytest.raises(StoreError) as caught:
        store.files_in("store")
    assert caught.value.transient


def test_one_file_of_an_address(place: Place) -> None:
    Path("copies").mkdir()
    place.publish({"agent.zip": next(iter(_files(a="one").values()))})
    address = place.store.address
    assert copy_of_file(address, Path("copies")).read_text() == "one"
    place.publish({"agent.zip": next(iter(_files(a="two").values()))})  # now lies under another name
    assert copy_of_file(address / "agent.zip", Path("copies")).read_text() == "two"
    place.publish({"other.zip": next(iter(_files(a="three").values()))}, removals=["agent.zip"])
    assert copy_of_file(address, Path("copies")).read_text() == "three"
    place.publish({"more.zip": next(iter(_files(a="four").values()))})
    with pytest.raises(ConnectorError, match=r"no agent\.zip, but more\.zip, other\.zip"):
        copy_of_file(address, Path("copies"))
    with pytest.raises(ConnectorError, match=r"no no\.zip"):
        copy_of_file(address / "no.zip", Path("copies"))
