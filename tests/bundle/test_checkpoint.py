"""A folder of checkpoints: whatever happens while one is written, an older one can be used."""

import contextlib
import errno
import io
import logging
import os
import signal
import threading
import warnings
import zipfile

import numpy as np
import pytest

from rl_framework.bundle import (
    checkpoint_path,
    list_checkpoints,
    open_checkpoint,
    prepare_directory,
    remove_leftovers,
    remove_old_checkpoints,
    write_bundle,
)
from rl_framework.errors import ArgumentError, BundleError


def save(folder, timestep, training=True):
    information = {"training": {"start": 0, "timestep": timestep}, "record": {}} if training else {}
    # Larger than any buffer, so that it takes several writes.
    members = {"state.npz": {"weights": np.full(50_000, timestep, np.float64)}, "config.json": {"timestep": timestep}}
    return write_bundle(checkpoint_path(folder, timestep), kind="test", members=members, information=information)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextlib.contextmanager
def disturbed(disturb):
    """Calls `disturb(kind, n, write_half)` before each write, fsync and rename of a save."""
    count = 0

    watched = threading.get_ident()

    def tell(kind, write_half=lambda: None):
        nonlocal count
        if threading.get_ident() != watched:  # what another test has left running
            return
        count += 1
        disturb(kind, count, write_half)

    class Disk(io.FileIO):
        def write(self, content):
            tell("write", lambda: super(Disk, self).write(bytes(content)[: len(content) // 2]))
            return super().write(content)

    def instead(name):
        original = getattr(os, name)

        def call(*arguments):
            tell(name)
            return original(*arguments)

        return call

    def open_to_write(path, *arguments):
        if arguments == ("x+b",):  # as zipfile does
            return io.BufferedRandom(Disk(path, "x+"), 1 << 16)
        return open_file(path, *arguments)

    open_file = io.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.io, "open", open_to_write)
        for name in ("fsync", "replace"):
            patch.setattr(os, name, instead(name))
        yield


def in_a_child(action):
    """Runs something in a child process; returns how that ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries, which the child does not need
        child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def operations(folder):
    kinds = []
    with disturbed(lambda kind, n, write_half: kinds.append(kind)):
        save(folder, 1)
    assert kinds.count("write") > 3
    assert kinds[-3:] == ["fsync", "replace", "fsync"]
    return kinds


def timestep_of(bundle):
    with bundle:
        assert (bundle.arrays("state.npz")["weights"] == bundle.json("config.json")["timestep"]).all()
        return bundle.json("config.json")["timestep"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin in the middle")
def test_a_kill_at_any_write_leaves_the_previous_checkpoint(tmp_path):
    for wanted, kind in enumerate(operations(tmp_path / "counted"), start=1):
        folder = tmp_path / str(wanted)
        save(folder, 100)

        def kill(kind, n, write_half, wanted=wanted):
            if n == wanted:
                write_half()
                os.kill(os.getpid(), signal.SIGKILL)

        def act(folder=folder, kill=kill):
            with disturbed(kill):
                save(folder, 200)

        assert in_a_child(act) == -signal.SIGKILL, kind
        renamed = checkpoint_path(folder, 200).exists()
        assert renamed == (wanted == len(operations(tmp_path / "counted")))
        assert timestep_of(open_checkpoint(folder)) == (200 if renamed else 100)
        assert len(list_checkpoints(folder)) == 1 + renamed


def test_a_full_disk_at_any_write_leaves_the_previous_checkpoint_and_nothing_else(tmp_path):
    kinds = operations(tmp_path / "counted")
    for wanted, kind in enumerate(kinds, start=1):
        folder = tmp_path / str(wanted)
        path = save(folder, 100)
        before = path.read_bytes()

        def fill(kind, n, write_half, wanted=wanted):
            if n >= wanted:  # a full disk stays full
                write_half()
                raise OSError(errno.ENOSPC, "No space left on device")

        with disturbed(fill):
            if wanted == len(kinds):
                save(folder, 200)  # the file is whole; only its folder could not be synchronised
                continue
            with pytest.raises(OSError, match="No space left") as caught:
                save(folder, 200)
        assert caught.value.errno == errno.ENOSPC, kind
        assert caught.value.filename == str(checkpoint_path(folder, 200))
        assert [entry.name for entry in folder.iterdir()] == [path.name]
        assert path.read_bytes() == before
        with disturbed(fill), pytest.raises(OSError, match="No space left"):
            save(folder, 100)  # over itself
        assert path.read_bytes() == before


def test_the_newest_whole_checkpoint_is_taken_and_the_others_are_named(tmp_path, caplog):
    for timestep in (100, 200, 300, 400):
        save(tmp_path, timestep)
    damage(checkpoint_path(tmp_path, 300))
    save(tmp_path, 400, training=False)
    (tmp_path / "best_model.zip").write_bytes(checkpoint_path(tmp_path, 100).read_bytes())
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert timestep_of(open_checkpoint(tmp_path)) == 200
    first, second = (record.getMessage() for record in caplog.records)
    assert "checkpoint_000000000400.zip" in first
    assert "is no checkpoint" in first
    assert "checkpoint_000000000300.zip" in second
    assert "state.npz" in second


def test_if_all_are_damaged_all_are_named(tmp_path):
    for timestep in (100, 200):
        damage(save(tmp_path, timestep))
    with pytest.raises(BundleError, match=r"(?s)no checkpoint in .*000200\.zip.*000100\.zip"):
        open_checkpoint(tmp_path)


def test_a_folder_without_checkpoints_begins(tmp_path, caplog):
    (tmp_path / ".rl_framework-0123456789abcdef.zip").write_bytes(b"PK")
    with caplog.at_level(logging.INFO):
        assert open_checkpoint(tmp_path) is None
        assert open_checkpoint(tmp_path / "not" / "there") is None
    assert [("training begins" in record.getMessage()) for record in caplog.records] == [True, True]


def test_a_single_file_must_be_there_and_be_a_checkpoint(tmp_path):
    with pytest.raises(ArgumentError, match="no such file"):
        open_checkpoint(tmp_path / "checkpoint_000000000100.zip")
    with pytest.raises(BundleError, match=r"is no checkpoint.*load_agent"):
        open_checkpoint(save(tmp_path, 100, training=False))
    assert timestep_of(open_checkpoint(save(tmp_path, 200))) == 200


def test_only_older_ones_are_removed(tmp_path):
    for timestep in (100, 200, 300, 900):
        save(tmp_path, timestep)
    damage(checkpoint_path(tmp_path, 900))  # it was passed over, and 300 was saved after resuming from 200
    remove_old_checkpoints(tmp_path, 1, newest=300)
    assert [timestep for timestep, _ in list_checkpoints(tmp_path)] == [900, 300]
    remove_old_checkpoints(tmp_path, 1)
    assert [timestep for timestep, _ in list_checkpoints(tmp_path)] == [900]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = save(tmp_path, 100)
    abandoned, fresh = (tmp_path / f".rl_framework-{name}.zip" for name in ("abandoned", "fresh"))
    for leftover, age in ((abandoned, 3600), (fresh, 60)):
        leftover.touch()
        moment = path.stat().st_mtime - age
        os.utime(leftover, (moment, moment))
    other = tmp_path / "other.zip"
    other.touch()
    os.utime(other, (0, 0))
    remove_leftovers(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, fresh.name, other.name])


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgumentError, match=r"checkpoint_directory=.*cannot be written to"):
            prepare_directory(folder, 0, resumed=False)
    save(tmp_path / "other", 100)
    with pytest.raises(ArgumentError, match=r"another training, up to timestep 100.*resume_from"):
        prepare_directory(tmp_path / "other", 99, resumed=False)
    prepare_directory(tmp_path / "other", 100, resumed=False)
    prepare_directory(tmp_path / "other", 50, resumed=True)
    prepare_directory(tmp_path / "new" / "folder", 0, resumed=False)
    assert not list((tmp_path / "new" / "folder").iterdir())
