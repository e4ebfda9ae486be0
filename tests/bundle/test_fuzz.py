"""Whatever is done to the bytes of a bundle, opening it gives the agent, or a `BundleError`, soon, and nothing else.

Three kinds of damage: to the file (a checksum notices nearly all of it), to members behind checksums that were made
right again (which is what somebody who means harm would do, and reaches the parsers and the libraries), and to the
structure of the zip file.
"""

import copy
import gc
import hashlib
import io
import json
import os
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_framework import BundleError, load_agent
from rl_framework.bundle import read_bundle

DATA = Path(__file__).parent / "data"
AGENT = (DATA / "version_1_agent.zip").read_bytes()
CHECKPOINT = (DATA / "version_1_checkpoint.zip").read_bytes()
OBSERVATIONS = np.random.default_rng(1).uniform(-1, 1, (16, 4)).astype(np.float32)

# Of the processor, whatever else the machine does. What a hostile file can ask for takes hours.
PATIENCE = 20

FUZZ = settings(
    deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False
)
FEW, MANY = settings(FUZZ, max_examples=800), settings(FUZZ, max_examples=20_000)


# What must not happen while a bundle is opened


WATCHED = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.system",
    "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "shutil.rmtree", "socket.connect",
    "socket.bind", "ctypes.dlopen", "exec", "pickle.find_class", "_thread.start_new_thread",
}  # fmt: skip
_seen: list[str] | None = None
_watched_thread = 0


def _hook(event, arguments):
    # Threads of other tests may write what they like; one that began here would be seen.
    if _seen is None or threading.get_ident() != _watched_thread:
        return
    if event == "open":
        _, mode, flags = arguments
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & writes):
            _seen.append(f"open{arguments}")
    elif event in WATCHED and not _is_import_machinery(event):
        _seen.append(f"{event}{arguments}")


def _is_import_machinery(event):
    """A class that is named lazily is imported when it is used, which executes the code of an installed module."""
    if event not in ("exec", "ctypes.dlopen", "os.mkdir", "os.rename", "os.remove", "os.chmod"):
        return False
    frame = sys._getframe()
    while frame is not None:
        if "importlib" in frame.f_code.co_filename or frame.f_code.co_name in ("namedtuple", "_create_fn"):
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_hook)  # it cannot be removed: outside the block below it does nothing


@contextmanager
def nothing_is_written_or_run():
    global _seen, _watched_thread
    _watched_thread = threading.get_ident()
    gc.disable()  # what other tests have left may remove its files when it goes
    _seen = seen = []
    try:
        yield
    finally:
        _seen = None
        gc.enable()
    assert not seen, seen


@pytest.fixture(scope="module")
def original():
    agent = load_agent(DATA / "version_1_agent.zip")
    return agent.choose_action(OBSERVATIONS, deterministic=True)


@pytest.fixture(scope="module")
def original_checkpoint():
    return contents(read_bundle(DATA / "version_1_checkpoint.zip"))


def opened(data, opener):
    """Opens the bytes as a bundle; returns what came out, or None if it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzzed.zip")
        path.write_bytes(data)
        start = time.thread_time()
        try:
            with nothing_is_written_or_run():
                result = opener(path)
        except BundleError:
            result = None
        assert time.thread_time() - start < PATIENCE
        assert [entry.name for entry in Path(folder).iterdir()] == ["fuzzed.zip"]
        assert path.read_bytes() == data
    return result


def contents(bundle):
    """Everything in a bundle, in a form that can be compared."""
    result = {"kind": bundle.kind, "information": bundle.information}
    for name in bundle.names:
        if name.endswith(".json"):
            result[name] = bundle.json(name)
        else:
            parts = bundle.arrays(name) if name.endswith(".npz") else bundle.tensors(name)
            result[name] = {
                key: (str(part.dtype), part.shape, np.asarray(part).tobytes()) for key, part in parts.items()
            }
    return result


def read_all(path):
    with read_bundle(path) as bundle:
        return contents(bundle)


# Damage to bytes


@st.composite
def damages(draw):
    """A function that changes bytes: flips, overwrites, truncations, insertions, deletions, repetitions."""
    edits = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "flip", "flip", "set", "cut", "insert", "delete", "repeat"]),
                st.floats(0, 1, exclude_max=True),
                st.integers(0, 255),
                st.sampled_from(
                    [b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"PK\x03\x04",
                     b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"\x80\x04c", b"9", b"-", b"{", b'"', b"]", b"../"]
                ),
            ),
            min_size=1,
            max_size=4,
        )
    )  # fmt: skip

    def damage(data):
        data = bytearray(data)
        for kind, place, number, piece in edits:
            if not data:
                break
            at = int(place * len(data))
            if kind == "flip":
                data[at] ^= number or 1
            elif kind == "set":
                data[at : at + len(piece)] = piece
            elif kind == "cut":
                del data[at:]
            elif kind == "insert":
                data[at:at] = piece
            elif kind == "delete":
                del data[at : at + 1 + number % 40]
            else:
                data[at:at] = data[at : at + number]
        return bytes(data)

    return damage


def check_damaged_agent(original, damage):
    agent = opened(damage(AGENT), load_agent)
    if agent is not None:
        np.testing.assert_array_equal(agent.choose_action(OBSERVATIONS, deterministic=True), original)


@FEW
@given(damages())
def test_a_damaged_file_is_the_same_agent_or_refused(original, damage):
    check_damaged_agent(original, damage)


@pytest.mark.slow
@MANY
@given(damages())
def test_a_damaged_file_is_the_same_agent_or_refused_many_times(original, damage):
    check_damaged_agent(original, damage)


def test_every_truncation_is_refused():
    for size in range(0, len(AGENT), 3):
        assert opened(AGENT[:size], load_agent) is None, size


def test_no_single_byte_changes_the_agent(original):
    accepted = 0
    for place in range(0, len(AGENT), 7):
        data = bytearray(AGENT)
        data[place] ^= 1 << place % 8
        agent = opened(bytes(data), load_agent)
        if agent is not None:  # a date or a comment of the zip file
            accepted += 1
            np.testing.assert_array_equal(agent.choose_action(OBSERVATIONS, deterministic=True), original)
    assert accepted < len(AGENT) / 7 / 5


def check_damaged_checkpoint(original_checkpoint, damage):
    found = opened(damage(CHECKPOINT), read_all)
    assert found is None or found == original_checkpoint


@settings(FUZZ, max_examples=300)
@given(damages())
def test_a_damaged_checkpoint_is_the_same_or_refused(original_checkpoint, damage):
    check_damaged_checkpoint(original_checkpoint, damage)


@pytest.mark.slow
@MANY
@given(damages())
def test_a_damaged_checkpoint_is_the_same_or_refused_many_times(original_checkpoint, damage):
    check_damaged_checkpoint(original_checkpoint, damage)


# Damage behind checksums that are right


def members_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sealed(members, information=None):
    """A bundle whose manifest agrees with its members, whatever they hold."""
    members = dict(members)
    manifest = json.loads(members.pop("manifest.json"))
    manifest["members"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in members.items()
    }
    manifest["information"] = manifest["information"] if information is None else information
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


AGENT_MEMBERS, CHECKPOINT_MEMBERS = members_of(AGENT), members_of(CHECKPOINT)
_agent_names = st.sampled_from([name for name in AGENT_MEMBERS if name != "manifest.json"])
_checkpoint_names = st.sampled_from([name for name in CHECKPOINT_MEMBERS if name != "manifest.json"])


def check_damaged_member(members, name, damage, opener):
    opened(sealed({**members, name: damage(members[name])}), opener)


@FEW
@given(_agent_names, damages())
def test_a_damaged_member_with_a_right_checksum_is_some_agent_or_refused(name, damage):
    check_damaged_member(AGENT_MEMBERS, name, damage, load_agent)


@pytest.mark.slow
@MANY
@given(_agent_names, damages())
def test_a_damaged_member_with_a_right_checksum_is_some_agent_or_refused_many_times(name, damage):
    check_damaged_member(AGENT_MEMBERS, name, damage, load_agent)


@FEW
@given(_checkpoint_names, damages())
def test_a_damaged_member_of_a_checkpoint_with_a_right_checksum_can_be_read_or_is_refused(name, damage):
    check_damaged_member(CHECKPOINT_MEMBERS, name, damage, read_all)


def npz_with(name, damage, members):
    """Damages an array within an npz member, whose own checksums are right again as well."""
    inner = members_of(members[name])
    return lambda key: _zip({**inner, key: damage(inner[key])})


def _zip(entries):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return target.getvalue()


ARRAYS = next(name for name in AGENT_MEMBERS if name.endswith(".npz"))


@settings(FUZZ, max_examples=400)
@given(st.sampled_from(sorted(members_of(AGENT_MEMBERS[ARRAYS]))), damages())
def test_a_damaged_array_with_right_checksums_is_some_agent_or_refused(key, damage):
    content = npz_with(ARRAYS, damage, AGENT_MEMBERS)(key)
    opened(sealed({**AGENT_MEMBERS, ARRAYS: content}), load_agent)


# A configuration that says something else

_hostile = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 3, 10**9, 2**31, 2**63, 2**64, 10**300, -(10**18), 0.0, -0.5, 1e-300, 1e300, "",
     "x", "ppo", "sac", "dqn", "a2c", "tqc", "q_learning", "MlpPolicy", "CnnPolicy", "MultiInputPolicy", "auto", "cuda",
     "meta", "relu", "adam", "os:system", "os.system", "evil:Env-v0", "../../etc/passwd", "\x00", "é" * 300, "<f4",
     "<f8", "|O", [], {}, [[]], [1], [10**9], [0], [-1], ["a", "b"], {"type": "linear", "start": 1, "end": 0},
     {"type": "linear"}, {"$class": "activation/tanh"}, {"$class": "optimizer/adam"}, {"$class": "algorithm/ppo"},
     {"$class": "activation/os"}, {"$float": "nan"}, {"$float": "inf"}, {"$tuple": []}, {"$dict": [[1, 2]]},
     {"$path": "/etc/passwd"}, {"$device": "cuda:0"}, {"$device": "meta"}, {"$dtype": "<f8"},
     {"$array": {"dtype": "<f4", "shape": [2], "values": [1, 2]}},
     {"$array": {"dtype": "<f4", "shape": [1 << 40], "values": 0}}, {"$unknown": 1},
     {"type": "box", "low": {"dtype": "<f4", "shape": [4], "values": 0}, "high":
      {"dtype": "<f4", "shape": [4], "values": 1}},
     {"type": "discrete", "n": 1 << 40, "start": 0, "dtype": "<i8"}, {"type": "dict", "spaces": []}]
)  # fmt: skip
_names = st.sampled_from(
    ["gamma", "n_steps", "batch_size", "n_epochs", "policy", "policy_kwargs", "net_arch", "activation_fn", "device",
     "optimizer_class", "optimizer_kwargs", "features_extractor_class", "features_extractor_kwargs", "verbose",
     "learning_rate", "clip_range", "target_kl", "use_sde", "sde_sample_freq", "stats_window_size", "tensorboard_log",
     "seed", "rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class", "buffer_size", "env", "type",
     "_init_setup_model", "normalize_advantage", "log_std_init", "ortho_init", "share_features_extractor",
     "normalize_images", "dtype", "$class", "$tuple", "observation_space", "lr", "weights", "unknown"]
)  # fmt: skip


@st.composite
def rewritings(draw):
    """A function that puts something else into places of JSON data, adds keys and takes some away."""
    edits = draw(
        st.lists(
            st.tuples(st.sampled_from(["set", "set", "add", "add", "drop"]), st.integers(0, 1 << 30), _names, _hostile),
            min_size=1,
            max_size=3,
        )
    )

    def rewrite(data):
        data = json.loads(json.dumps(data))
        for kind, number, name, shared in edits:
            value = copy.deepcopy(shared)
            places = list(_places(data))
            if not places:
                break
            if kind == "add":
                holders = [data, *(h[k] for h, k in places if isinstance(h[k], dict))]
                holders[number % len(holders)][name] = value
                continue
            holder, key = places[number % len(places)]
            if kind == "set":
                holder[key] = value
            else:
                del holder[key]
        return data

    return rewrite


def _places(data):
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from _places(data[key])


def check_rewritten(rewrite):
    config = json.dumps(rewrite(json.loads(AGENT_MEMBERS["config.json"]))).encode()
    opened(sealed({**AGENT_MEMBERS, "config.json": config}), load_agent)


@FEW
@given(rewritings())
def test_a_configuration_that_says_something_else_is_some_agent_or_refused(rewrite):
    check_rewritten(rewrite)


@pytest.mark.slow
@MANY
@given(rewritings())
def test_a_configuration_that_says_something_else_is_some_agent_or_refused_many_times(rewrite):
    check_rewritten(rewrite)


@settings(FUZZ, max_examples=300)
@given(rewritings())
def test_a_manifest_that_says_something_else_is_the_same_agent_or_refused(original, rewrite):
    manifest = json.dumps(rewrite(json.loads(AGENT_MEMBERS["manifest.json"]))).encode()
    agent = opened(_zip({**AGENT_MEMBERS, "manifest.json": manifest}), load_agent)
    if agent is not None:
        np.testing.assert_array_equal(agent.choose_action(OBSERVATIONS, deterministic=True), original)


@settings(FUZZ, max_examples=300)
@given(rewritings())
def test_a_tensor_header_that_says_something_else_is_some_agent_or_refused(rewrite):
    data = AGENT_MEMBERS["policy.safetensors"]
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(rewrite(json.loads(data[8 : 8 + length]))).encode()
    changed = len(header).to_bytes(8, "little") + header + data[8 + length :]
    opened(sealed({**AGENT_MEMBERS, "policy.safetensors": changed}), load_agent)


# The structure of the zip file


@st.composite
def archives(draw):
    """A zip file of the right members with something odd about it."""
    odd = draw(
        st.lists(
            st.sampled_from(["order", "twice", "rename", "link", "directory", "deflate", "bzip2", "encrypted", "extra",
                             "comment", "prefix", "suffix", "offset", "size", "nested"]),
            min_size=1, max_size=3, unique=True,
        )
    )  # fmt: skip
    index = draw(st.integers(0, len(AGENT_MEMBERS) - 1))
    name = draw(
        st.sampled_from(["../x.json", "/x.json", "a/../x.json", "C:x.json", "x.pkl", "config.json", "x\\y.json"])
    )
    number = draw(st.integers(0, 1 << 32))
    entries = list(AGENT_MEMBERS.items())
    if "order" in odd:
        entries = [entries[index], *entries[:index], *entries[index + 1 :]]
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for at, (entry, content) in enumerate(entries):
            info = zipfile.ZipInfo(entry)
            if at == index:
                info.filename = name if "rename" in odd else info.filename
                info.external_attr = 0o120777 << 16 if "link" in odd else 0o40755 << 16 if "directory" in odd else 0
                info.compress_type = (
                    zipfile.ZIP_DEFLATED if "deflate" in odd else zipfile.ZIP_BZIP2 if "bzip2" in odd else 0
                )
                info.extra = number.to_bytes(8, "little") if "extra" in odd else b""
            archive.writestr(info, target.getvalue() if at == index and "nested" in odd else content)
            if at == index and "twice" in odd:
                archive.writestr(entry, content)
        chosen = archive.infolist()[index]
        chosen.flag_bits |= 1 if "encrypted" in odd else 0
        chosen.header_offset += number % 1000 if "offset" in odd else 0
        chosen.file_size = number if "size" in odd else chosen.file_size
        archive.comment = b"x" * (number % 50) if "comment" in odd else b""
    data = target.getvalue()
    return (b"x" * (number % 9) if "prefix" in odd else b"") + data + (b"y" * (number % 9) if "suffix" in odd else b"")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(FUZZ, max_examples=500)
@given(archives())
def test_an_odd_archive_is_the_same_agent_or_refused(original, data):
    agent = opened(data, load_agent)
    if agent is not None:
        np.testing.assert_array_equal(agent.choose_action(OBSERVATIONS, deterministic=True), original)


def test_the_fuzzing_reaches_both_answers(original):
    """A fuzz test of which every case ends at the first check says little."""
    agent = opened(sealed(AGENT_MEMBERS), load_agent)
    np.testing.assert_array_equal(agent.choose_action(OBSERVATIONS, deterministic=True), original)
    weights = bytearray(AGENT_MEMBERS["policy.safetensors"])
    weights[-20:] = bytes(20)
    assert opened(sealed({**AGENT_MEMBERS, "policy.safetensors": bytes(weights)}), load_agent) is not None
    assert opened(sealed(AGENT_MEMBERS)[:-1], load_agent) is None
