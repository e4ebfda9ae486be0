"""Whatever is wrong with a data set is refused, and the error says where."""

import json
import os
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tests.episode.samples import NESTED, SWITCHES, episodes

from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, EpisodeDataError

FILES = ["actions", "rewards", "lengths", "flags", "infos-offsets", "observations-0", "observations-1"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "data"
    EpisodeSequence.from_episodes(episodes([4, 2, 5], NESTED, SWITCHES, infos=True), NESTED, SWITCHES).save(folder)
    return folder


@pytest.fixture
def data(original):
    shutil.copytree(original, "data")
    return Path("data")


def refused(match):
    with pytest.raises(EpisodeDataError, match=match) as caught:
        EpisodeSequence.load("data")
    return str(caught.value)


def manifest_of(data):
    return json.loads((data / "episodes.json").read_text())


def rewrite(data, change):
    content = manifest_of(data)
    change(content)
    (data / "episodes.json").write_text(json.dumps(content))


def replace_array(data, name, array):
    """Replaces an array and what the manifest says about it."""
    np.save(data / name, array)

    def change(manifest):
        manifest["files"][name].update(
            size=(data / name).stat().st_size, dtype=array.dtype.str, shape=list(array.shape)
        )

    rewrite(data, change)


def test_the_copy_is_sound(data):
    EpisodeSequence.load(data).verify()
    replace_array(data, "flags.npy", np.array([1, 0, 2], np.uint8))  # what NumPy writes is read
    assert len(EpisodeSequence.load(data)) == 3


@pytest.mark.parametrize("name", ["episodes.json", "infos.jsonl", *(f"{name}.npy" for name in FILES)])
def test_a_file_that_is_cut_missing_or_longer_is_named(data, name):
    path = data / name
    content = path.read_bytes().rstrip(b"\n") if name == "episodes.json" else path.read_bytes()
    for length in (0, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[: min(length, len(content) - 1)])
        refused(f"{name}.*(cut short|damaged)")
    if name != "episodes.json":
        path.write_bytes(content + b"\0")
        refused(f"{name} is too long")
        path.unlink()
        refused(f"{name} cannot be read: No such file")
        path.mkdir()
        refused(f"{name} is no ordinary file")
        path.rmdir()
        os.mkfifo(path)
        refused(f"{name} is no ordinary file")


@pytest.mark.parametrize("name", ["infos.jsonl", *(f"{name}.npy" for name in FILES)])
def test_a_changed_byte_is_found_by_verify_at_the_latest(data, name):
    path = data / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(EpisodeDataError, match=name.split("-")[0]):
        EpisodeSequence.load(data).verify()


HEADERS = {
    "magic": b"\x93NUMPX",
    "objects": b"\x93NUMPY\x01\x00\xf6\x00{'descr': '|O', 'fortran_order': False, 'shape': (11, 2), }",
    "fortran": b"\x93NUMPY\x01\x00\xf6\x00{'descr': '<i8', 'fortran_order': True, 'shape': (11, 2), }",
    "code": b"\x93NUMPY\x01\x00\xf6\x00__import__('os').abort()",
    "length": b"\x93NUMPY\x01\x00\xff\xff",
    "short": b"\x93NUMPY\x01\x00\x00\x00",
    "shape": b"\x93NUMPY\x01\x00\xf6\x00{'descr': '<i8', 'fortran_order': False, 'shape': (11, 3), }",
    "huge": b"\x93NUMPY\x01\x00\xf6\x00{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999, 2), }",
    "type": b"\x93NUMPY\x01\x00\xf6\x00{'descr': '<f8', 'fortran_order': False, 'shape': (11, 2), }",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_changed_header_is_refused(data, name):
    path = data / "actions.npy"
    content = path.read_bytes()
    header = HEADERS[name]
    filler = b" " * (255 - len(header)) + b"\n" if len(header) > 20 else content[len(header) : 256]
    path.write_bytes(header + filler + content[256:])
    refused("actions.npy")


def huge(manifest):
    manifest["files"]["actions.npy"].update(shape=[1 << 50, 2], size=256 + (16 << 50))
    manifest["transitions"] = 1 << 50


def space(kind, **parts):
    return lambda manifest: manifest.update(action_space={"type": kind, **parts})


MANIFESTS = {
    "format": (lambda m: m.update(format="other"), "does not have the format"),
    "version": (lambda m: m.update(version=2), "its version is 2.*upgrade"),
    "no_version": (lambda m: m.update(version=True), "its version is True"),
    "extra_key": (lambda m: m.update(more=1), "needs the keys"),
    "missing_key": (lambda m: m.pop("information"), "needs the keys"),
    "no_episodes": (lambda m: m.update(episodes=0), "episodes is 0"),
    "fractions": (lambda m: m.update(episodes=3.0), "episodes is 3.0"),
    "more_episodes": (lambda m: m.update(episodes=4), "shape"),
    "fewer_transitions": (lambda m: m.update(transitions=10), "shape"),
    "huge": (huge, "shape|cut short"),
    "absolute": (lambda m: m["files"].update({"/etc/passwd": m["files"]["actions.npy"]}), "names the file"),
    "climbing": (lambda m: m["observations"][0].update(file="../observations.npy"), "has the name '../observations"),
    "other_name": (lambda m: m["observations"][0].update(file="actions.npy"), "has the name"),
    "twice": (lambda m: m["observations"][0].update(file="observations-1.npy"), "twice"),
    "unlisted": (lambda m: m["files"].pop("rewards.npy"), "lists the files"),
    "keys": (lambda m: m["observations"][0].update(keys=["camera", "up"]), "but the space"),
    "key_types": (lambda m: m["observations"][0].update(keys=[1]), "malformed"),
    "size": (lambda m: m["files"]["actions.npy"].update(size=3), "actions.npy is too long"),
    "negative": (lambda m: m["files"]["actions.npy"].update(size=-1), "actions.npy is too long"),
    "checksum": (lambda m: m["files"]["actions.npy"].update(sha256="x"), "checksum of actions.npy"),
    "objects": (lambda m: m["files"]["actions.npy"].update(dtype="|O"), "type or the shape of actions.npy"),
    "negative_shape": (lambda m: m["files"]["actions.npy"].update(shape=[-1, 2]), "type or the shape"),
    "another_space": (
        space("discrete", n=3, start=0, dtype="<i8"),
        r"actions.npy has the shape \(11, 2\), not \(11,\)",
    ),
    "text_space": (space("text", min_length=0, max_length=1, characters="a"), "not one that episodes have"),
    "bad_space": (space("box", low=1), "not one that episodes have"),
    "huge_space": (space("multi_binary", n=1 << 40), "not one that episodes have"),
    "float_actions": (
        space("box", **{key: {"dtype": "<f4", "shape": [2], "values": 0} for key in ("low", "high")}),
        "actions.npy holds <i8, which is not of",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_contradicts_itself_is_refused_and_nothing_is_reserved(data, name):
    change, match = MANIFESTS[name]
    rewrite(data, change)
    tracemalloc.start()
    try:
        assert "data" in refused(match)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "3", '{"format": NaN}', '{"a": 1, "a": 2}', "\x00"])
def test_a_manifest_that_is_no_json_is_refused(data, text):
    (data / "episodes.json").write_text(text)
    refused("episodes.json")


ARRAYS = {
    "zero_length": ("lengths.npy", np.array([4, 0, 7]), "lengths.npy: episode 1 has the length 0"),
    "negative_length": ("lengths.npy", np.array([14, -1, -2]), "episode 0 has the length 14"),
    "sum": ("lengths.npy", np.array([4, 2, 4]), "10 transitions in 3 episodes, not 11"),
    "overflow": ("lengths.npy", np.array([1 << 62, 1 << 62, 11]), "episode 0 has the length"),
    "flags": ("flags.npy", np.array([1, 8, 0], np.uint8), "flags.npy: episode 1 has the unknown flags 8"),
    "rows": ("rewards.npy", np.zeros(10), r"rewards.npy is of <f8 \(10,\)"),
    "reward_type": ("rewards.npy", np.zeros(11, np.float32), "rewards.npy is of <f4"),
    "observations": ("observations-1.npy", np.zeros((11, 2), np.float32), r"observations-1.npy has the shape"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_contradict_the_counts_are_refused(data, name):
    file, array, match = ARRAYS[name]
    replace_array(data, file, array)
    refused(match)


@pytest.mark.parametrize("more", [-8, 8])
def test_the_bytes_have_to_be_those_of_the_shape(data, more):
    path = data / "rewards.npy"
    path.write_bytes(path.read_bytes() + bytes(8) if more > 0 else path.read_bytes()[:more])
    rewrite(data, lambda manifest: manifest["files"]["rewards.npy"].update(size=path.stat().st_size))
    refused(rf"rewards.npy has {344 + more} bytes; an array of <f8 \(11,\) has 344")


def test_values_are_checked_by_verify(data):
    def problem():
        # Behind right checksums, as somebody would write it on purpose.
        import hashlib

        def change(manifest):
            for name, record in manifest["files"].items():
                content = (data / name).read_bytes()
                start = 10 + int.from_bytes(content[8:10], "little") if name.endswith(".npy") else 0
                record["sha256"] = hashlib.sha256(content[start:]).hexdigest()

        rewrite(data, change)
        with pytest.raises(EpisodeDataError) as caught:
            EpisodeSequence.load(data).verify()
        return str(caught.value)

    actions = np.load(data / "actions.npy")
    changed = actions.copy()
    changed[5] = [1, 5]
    replace_array(data, "actions.npy", changed)
    assert "episode 1: actions[1] is array([1, 5]), outside MultiDiscrete([2 5])" in problem()
    replace_array(data, "actions.npy", actions)
    observations = np.load(data / "observations-1.npy")
    observations[13, 1] = np.inf
    replace_array(data, "observations-1.npy", observations)
    assert "episode 2: observations['camera']['right/..'][5] is not finite" in problem()
    observations[13, 1] = 0
    replace_array(data, "observations-1.npy", observations)
    replace_array(data, "rewards.npy", np.array([0.0] * 5 + [np.nan] + [0.0] * 5))
    assert "episode 1: rewards[1] is nan" in problem()
    replace_array(data, "rewards.npy", np.zeros(11))
    offsets = np.load(data / "infos-offsets.npy")
    replace_array(data, "infos-offsets.npy", offsets[::-1].copy())
    assert "infos-offsets.npy" in problem()
    replace_array(data, "infos-offsets.npy", offsets)
    text = (data / "infos.jsonl").read_bytes()
    (data / "infos.jsonl").write_bytes(text.replace(b'"step":1,"of":2', b'"step":x,"of":2'))
    assert "infos.jsonl: episode 2: step 1: it is malformed" in problem()


def test_offsets_outside_the_infos_are_refused_when_they_are_read(data):
    offsets = np.load(data / "infos-offsets.npy")
    for wrong in (-1, 1 << 60, int(offsets[1])):
        changed = offsets.copy()
        changed[2] = wrong
        replace_array(data, "infos-offsets.npy", changed)
        infos = EpisodeSequence.load(data)[0].infos
        assert infos[0] == {"step": 0, "of": 0}
        with pytest.raises(EpisodeDataError, match=r"infos\.jsonl: episode 0: step 1 has no line"):
            infos[1]


def test_what_is_no_data_set_is_said():
    with pytest.raises(ArgumentError, match=r"there is no episodes\.json in it"):
        EpisodeSequence.load("nothing")
    with pytest.raises(ArgumentError, match="there is no such data set"):
        EpisodeSequence.from_dataset("nothing")


def test_links_to_files_are_followed_as_caches_have_them(data):
    for path in list(data.iterdir()):
        shutil.move(path, f"stored-{path.name}")
        path.symlink_to(Path(f"stored-{path.name}").absolute())
    EpisodeSequence.load(data).verify()


def test_random_damage_ends_in_episodes_or_an_error_and_soon(data):
    """Bytes are changed, cut and inserted anywhere; nothing but the two outcomes may happen."""
    source = random.Random(7)
    originals = {path.name: path.read_bytes() for path in data.iterdir()}
    started, refusals = time.monotonic(), []
    for _ in range(250):
        name = source.choice(sorted(originals))
        content = bytearray(originals[name])
        for _ in range(source.randint(1, 3)):
            place = source.randrange(len(content))
            action = source.randrange(3)
            if action == 0:
                content[place] = source.randrange(256)
            elif action == 1:
                del content[place : place + source.randint(1, 9)]
            else:
                content[place:place] = source.randbytes(source.randint(1, 9))
        (data / name).write_bytes(content)
        try:
            sequence = EpisodeSequence.load(data)
            for episode in sequence:
                list(episode.infos or ())
            sequence.transitions().all()
            sequence.verify()
        except EpisodeDataError as error:
            refusals.append(str(error))
        (data / name).write_bytes(originals[name])
    assert len(refusals) > 180
    assert all(str(data) in refusal for refusal in refusals)
    assert time.monotonic() - started < 60
