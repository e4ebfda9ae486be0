"""A bundle comes back exactly, is written entirely or not at all, and a crafted file is refused without effect."""

import errno
import hashlib
import io
import json
import os
import pickle
import random
import stat
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from rl_framework.bundle import FORMAT, FORMAT_VERSION, archive, format, read_bundle, write_bundle  # noqa: A004
from rl_framework.errors import ArgumentError, BundleError

MEMBERS = {
    "parameters.json": {"gamma": 0.99, "layers": [64, 64], "none": None, "text": "é", "flag": True},
    "policy.safetensors": {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "step": torch.tensor(3.0),
        "empty": torch.zeros(0, 4, dtype=torch.int64),
    },
    "random/states.npz": {
        "state": np.arange(5, dtype=np.uint32),
        "zero_dimensions": np.array(1.5),
        "env/0": np.array([[True, False]]),
        "empty": np.zeros((0, 3), np.float16),
    },
}


@pytest.fixture
def path(tmp_path):
    return write_bundle(tmp_path / "agent.zip", kind="stable_baselines", members=MEMBERS, information={"torch": "2"})


def entries_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def manifest_for(entries, **changes):
    members = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in entries.items()
        if name != "manifest.json"
    }
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, "kind": "agent", "members": members, "information": {}}
    return manifest | changes


def build(path, entries, *, compression=zipfile.ZIP_STORED, infos=None, listed=None, **changes):
    """Writes a bundle whose manifest is right about any members, however bad they are."""
    manifest = manifest_for(entries if listed is None else listed, **changes)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("manifest.json", json.dumps(manifest))
        for name, data in entries.items():
            file.writestr((infos or {}).get(name, name), data)
    return path


def assert_refused(path, *parts):
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert str(path) in message
    # The folder of a test is named after it, and would satisfy what is looked for.
    reason = message.replace(str(path), "")
    for part in parts:
        assert part in reason


def assert_same(bundle):
    assert bundle.json("parameters.json") == MEMBERS["parameters.json"]
    for name, tensor in bundle.tensors("policy.safetensors").items():
        expected = MEMBERS["policy.safetensors"][name]
        assert tensor.dtype == expected.dtype
        assert tensor.shape == expected.shape
        assert torch.equal(tensor, expected)
    for name, array in bundle.arrays("random/states.npz").items():
        expected = MEMBERS["random/states.npz"][name]
        assert array.dtype == expected.dtype
        assert array.shape == expected.shape
        assert np.array_equal(array, expected)


# Round trips


def test_everything_comes_back(path):
    with read_bundle(path) as bundle:
        assert bundle.kind == "stable_baselines"
        assert bundle.version == FORMAT_VERSION
        assert bundle.information == {"torch": "2"}
        assert bundle.names == ("parameters.json", "policy.safetensors", "random/states.npz")
        assert "parameters.json" in bundle
        assert "other.json" not in bundle
        assert bundle.manifest["members"]["parameters.json"]["size"] > 0
        assert set(bundle.tensors("policy.safetensors")) == set(MEMBERS["policy.safetensors"])
        assert list(bundle.arrays("random/states.npz")) == list(MEMBERS["random/states.npz"])
        assert_same(bundle)


def test_what_is_read_can_be_changed_and_does_not_reach_the_bundle(path):
    bundle = read_bundle(path)
    bundle.json("parameters.json")["gamma"] = 0
    bundle.tensors("policy.safetensors")["weight"].zero_()
    bundle.arrays("random/states.npz")["state"][:] = 0
    bundle.manifest["members"].clear()
    assert_same(bundle)


def test_tensors_that_share_memory_are_views_or_require_gradients(tmp_path):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "base": base,
        "tied": base,
        "transposed": base.T,
        "column": base[:, 1],
        "row": base[1],
        "expanded": torch.ones(1).expand(3),
        "parameter": torch.nn.Parameter(base + 1),
        "conjugate": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    path = write_bundle(tmp_path / "a.zip", kind="agent", members={"t.safetensors": tensors})
    loaded = read_bundle(path).tensors("t.safetensors")
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())


def test_arrays_of_any_layout_and_byte_order(tmp_path):
    base = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    arrays = {
        "fortran": np.asfortranarray(base),
        "strided": base[:, ::2, ::-1],
        "broadcast": np.broadcast_to(np.float32(2), (3, 2)),
        "big_endian": base.astype(">f4"),
        "scalar": np.uint64(2**64 - 1),
        "complex": base.astype(np.complex64),
        "special": np.array([np.nan, np.inf, -0.0]),
    }
    path = write_bundle(tmp_path / "a.zip", kind="agent", members={"a.npz": arrays})
    loaded = read_bundle(path).arrays("a.npz")
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == np.asarray(array).tobytes()


def test_numpy_reads_the_arrays_and_safetensors_the_tensors(path):
    entries = entries_of(path)
    with np.load(io.BytesIO(entries["random/states.npz"]), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["state"], MEMBERS["random/states.npz"]["state"])


def test_arrays_that_numpy_saved_are_read(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, matrix=np.asfortranarray(np.arange(6).reshape(2, 3)), number=np.float32(1))
    arrays = read_bundle(build(tmp_path / "a.zip", {"a.npz": buffer.getvalue()})).arrays("a.npz")
    assert np.array_equal(arrays["matrix"], np.arange(6).reshape(2, 3))
    assert arrays["number"].shape == ()


def test_the_same_content_makes_the_same_file(path, tmp_path):
    reordered = dict(reversed(MEMBERS.items()))
    other = write_bundle(tmp_path / "b.zip", kind="stable_baselines", members=reordered, information={"torch": "2"})
    assert other.read_bytes() == path.read_bytes()


def test_a_bundle_that_was_compressed_again_is_read(path, tmp_path):
    entries = entries_of(path)
    entries.pop("manifest.json")
    assert_same(read_bundle(build(tmp_path / "b.zip", entries, compression=zipfile.ZIP_DEFLATED)))


def test_folders_are_created_and_a_link_is_followed(tmp_path):
    path = write_bundle(tmp_path / "new" / "folder" / "a.zip", kind="agent", members={})
    link = tmp_path / "latest.zip"
    link.symlink_to(path)
    write_bundle(link, kind="other", members={})
    assert link.is_symlink()
    assert read_bundle(path).kind == "other"


def test_an_open_bundle_is_read_from_the_file_that_was_checked(path):
    bundle = read_bundle(path)
    write_bundle(path, kind="other", members={})
    assert_same(bundle)


def test_asking_for_what_is_not_there(path):
    bundle = read_bundle(path)
    with pytest.raises(BundleError, match=r"no member 'other\.json'.*parameters\.json"):
        bundle.json("other.json")
    with pytest.raises(ArgumentError, match=r"\.npz"):
        bundle.arrays("parameters.json")


# Writing


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ({"a.json": float("nan")}, "a.json"),
        ({"a.json": {"x": [1, (2,)]}}, "['x'][1]"),
        ({"a.json": {1: 2}}, "string"),
        ({"a.json": {"x": object()}}, "['x']"),
        ({"a.npz": {"x": np.array([object()])}}, "['x']"),
        ({"a.npz": {"x": np.array(["text"])}}, "['x']"),
        ({"a.npz": {"x": np.zeros(2, [("a", int)])}}, "['x']"),
        ({"a.npz": {"x": [1, 2]}}, "['x']"),
        ({"a.safetensors": {"x": np.zeros(2)}}, "['x']"),
        ({"a.safetensors": {"x": torch.zeros(2).to_sparse()}}, "['x']"),
        ({"a.safetensors": {"x": torch.zeros(2, dtype=torch.complex128)}}, "['x']"),
        ({"a.safetensors": {"__metadata__": torch.zeros(2)}}, "__metadata__"),
        ({"a.pkl": b""}, "a.pkl"),
        ({"../a.json": 1}, "../a.json"),
        ({"/a.json": 1}, "/a.json"),
        ({"a\\b.json": 1}, "b.json"),
        ({"manifest.json": 1}, "manifest.json"),
        ({"a.json": 1, "A.json": 1}, "name is taken"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, members, part):
    with pytest.raises(ArgumentError) as caught:
        write_bundle(tmp_path / "a.zip", kind="agent", members=members)
    assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cycle_or_a_bad_kind_is_an_argument_error(tmp_path):
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ArgumentError, match="deep"):
        write_bundle(tmp_path / "a.zip", kind="agent", members={"a.json": cycle})
    with pytest.raises(ArgumentError, match="kind"):
        write_bundle(tmp_path / "a.zip", kind="os.system", members={})
    with pytest.raises(ArgumentError, match="directory"):
        write_bundle(tmp_path, kind="agent", members={})


def failing_write(monkeypatch, error):
    genuine = archive.write_entry
    calls = []

    def write_entry(file, name, size, write):
        calls.append(name)
        if len(calls) == 3:
            file.fp.write(b"half of it")
            raise error
        genuine(file, name, size, write)

    monkeypatch.setattr(format, "write_entry", write_entry)


@pytest.mark.parametrize("where", ["member", "interrupt", "fsync", "replace"])
def test_a_failed_save_leaves_the_previous_file_and_nothing_else(path, monkeypatch, where):
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*arguments):
        raise full

    if where == "member":
        failing_write(monkeypatch, full)
    elif where == "interrupt":
        failing_write(monkeypatch, KeyboardInterrupt())
    elif where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(type(path), "replace", fail)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write_bundle(path, kind="other", members={"a.json": 1, "b.json": 2, "c.json": 3})
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_the_file_is_on_the_disk_before_it_gets_its_name(path, monkeypatch):
    order = []
    genuine_sync, genuine_replace = os.fsync, type(path).replace

    def fsync(descriptor):
        order.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        genuine_sync(descriptor)

    def replace(self, target):
        order.append("replace")
        return genuine_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(type(path), "replace", replace)
    write_bundle(path, kind="other", members={})
    assert order == ["file", "replace", "directory"]


# Hostile files


class CreateFile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["policy.pkl", "policy.pt", "policy.pth", "run.py", "data", "a.json.pickle", "a.JSON"])
def test_members_of_other_kinds_are_refused_by_name(tmp_path, name):
    marker = tmp_path / "created"
    data = pickle.dumps(CreateFile(marker))
    assert_refused(build(tmp_path / "a.zip", {name: data}), name, "pickle")
    assert not marker.exists()


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    marker = tmp_path / "created"
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([CreateFile(marker)], dtype=object), allow_pickle=True)
    assert_refused(build(tmp_path / "a.zip", {"a.npz": buffer.getvalue()}), "a.npz", "x.npy")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("x.npy", pickle.dumps(CreateFile(marker)))
    assert_refused(build(tmp_path / "b.zip", {"a.npz": inner.getvalue()}), "x.npy")
    assert_refused(build(tmp_path / "c.zip", {"a.npz": pickle.dumps(CreateFile(marker))}), "a.npz")
    assert_refused(build(tmp_path / "d.zip", {"a.safetensors": pickle.dumps(CreateFile(marker))}), "a.safetensors")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../a.json", "x/../a.json", "/a.json", "C:/a.json", "C:a.json", "a\\b.json", "./a.json", "x//a.json", ".a.json",
        "a\n.json", "é.json", "~/a.json", "a" * 300 + ".json",
    ],
)  # fmt: skip
def test_names_that_are_no_plain_relative_paths_are_refused(tmp_path, name):
    assert_refused(build(tmp_path / "a.zip", {name: b"1"}), "not allowed")


def test_a_name_with_nul_is_refused(tmp_path):
    path = build(tmp_path / "a.zip", {"a.json_x": b"1"}, listed={"a.json": b"1"})
    path.write_bytes(path.read_bytes().replace(b"a.json_x", b"a.json\x00x"))
    assert_refused(path, "not allowed")


def test_members_and_manifest_have_to_agree(tmp_path):
    assert_refused(build(tmp_path / "a.zip", {"a.json": b"1", "b.json": b"2"}, listed={"a.json": b"1"}), "b.json")
    assert_refused(
        build(tmp_path / "b.zip", {"a.json": b"1"}, listed={"a.json": b"1", "b.json": b"2"}), "b.json", "missing"
    )
    assert_refused(build(tmp_path / "c.zip", {"a.json": b"1"}, listed={"a.json": b"2"}), "a.json", "damaged")
    assert_refused(build(tmp_path / "d.zip", {"a.json": b"1"}, listed={"a.json": b"11"}), "a.json", "damaged")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a.json", "A.json", "manifest.json"])
def test_a_member_twice_is_refused(tmp_path, second):
    path = build(tmp_path / "a.zip", {"a.json": b"1"})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(second, b"1")
    assert_refused(path, second, "twice")


def test_links_directories_and_encrypted_members_are_refused(tmp_path):
    link = zipfile.ZipInfo("a.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert_refused(build(tmp_path / "a.zip", {"a.json": b"1"}, infos={"a.json": link}), "link")
    assert_refused(build(tmp_path / "b.zip", {"a.json/": b""}), "a.json/", "not allowed")
    path = build(tmp_path / "c.zip", {"a.json": b"1"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert_refused(path, "encrypted")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    assert_refused(build(tmp_path / "a.zip", {"a.json": b"1"}, compression=compression), "compressed")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}', b"[Infinity]", b"-Infinity", b"1e999", b'{"a": 1, "a": 2}', b"[" * 100_000,
        b"[" * 200 + b"]" * 200,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"", b"{", b"\xff", b"1 2", b"\xef\xbb\xbf1", b"9" * 10_000,
    ],
)  # fmt: skip
def test_json_has_to_be_strict(tmp_path, text):
    assert_refused(build(tmp_path / "a.zip", {"a.json": text}), "a.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"}, {"version": 0}, {"version": True}, {"version": "1"}, {"version": None}, {"kind": 3},
        {"kind": "os.system"}, {"kind": ":system"}, {"members": []}, {"members": {"a.json": 1}}, {"information": None},
        {"extra": 1},
        {"members": {"a.json": {"size": 1, "sha256": "x"}}}, {"members": {"a.json": {"size": -1, "sha256": "0" * 64}}},
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_refused(tmp_path, changes):
    assert_refused(build(tmp_path / "a.zip", {"a.json": b"1"}, **changes), "manifest.json")


def test_a_later_version_names_both_versions(tmp_path):
    path = build(tmp_path / "a.zip", {"a.parquet": b"1"}, version=FORMAT_VERSION + 7, more="keys")
    assert_refused(path, f"version {FORMAT_VERSION + 7}", f"version {FORMAT_VERSION}", "upgrade")


def test_an_earlier_version_is_migrated(tmp_path, monkeypatch):
    path = build(tmp_path / "a.zip", {"a.json": b"1"}, kind="old")
    monkeypatch.setattr(format, "FORMAT_VERSION", 2)
    assert_refused(path, "version 1")
    monkeypatch.setitem(format.MIGRATIONS, 1, lambda manifest: manifest | {"kind": "new"})
    bundle = read_bundle(path)
    assert bundle.kind == "new"
    assert bundle.version == 1


def test_the_manifest_comes_first(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.json", b"1")
        file.writestr("manifest.json", json.dumps(manifest_for({"a.json": b"1"})))
    assert_refused(path, "start")
    build(path, {"a.json": b"1"})
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert_refused(path, "start")


def test_paths_that_hold_no_bundle(tmp_path):
    assert_refused(tmp_path / "missing.zip", "no such file")
    assert_refused(tmp_path, "directory")
    for data in (b"", b"PK", pickle.dumps([1]), os.urandom(1000)):
        (tmp_path / "a.zip").write_bytes(data)
        assert_refused(tmp_path / "a.zip", "no zip")
    with zipfile.ZipFile(tmp_path / "sb3.zip", "w") as file:
        file.writestr("data", b"{}")
        file.writestr("policy.pth", b"")
    assert_refused(tmp_path / "sb3.zip", "Stable-Baselines3")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert_refused(tmp_path / "pipe", "device")


def test_bombs_are_refused(tmp_path):
    zeros = bytes(30 << 20)
    path = build(tmp_path / "a.zip", {"a.npz": zeros}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert_refused(path, "bomb")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert_refused(build(tmp_path / "c.zip", {"a.json": b" " * (17 << 20) + b"1"}), "a.json", "bytes of JSON")
    inner = io.BytesIO()
    np.savez_compressed(inner, x=np.zeros(10_000_000))
    assert_refused(build(tmp_path / "b.zip", {"a.npz": inner.getvalue()}), "compressed")


@pytest.mark.parametrize("declared", [10, 1 << 20, (1 << 32) - 2])
def test_a_wrong_declared_size_is_refused(tmp_path, declared):
    # The manifest agrees with the lie; only the content does not.
    data = random.Random(0).randbytes(200_000)
    entries = {"a.json": data}
    path = build(tmp_path / "a.zip", entries, compression=zipfile.ZIP_DEFLATED, listed={"a.json": data[:declared]})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.rindex(magic) + offset, declared)
    path.write_bytes(content)
    assert_refused(path)


def npz_with_header(header):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x.npy", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 0, 1000000000000), }\n",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (0,), }\n",
        b"{'descr': '<U99999999', 'fortran_order': False, 'shape': (1,), }\n",
        b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,), }\n",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (0,), }\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n",
        b"(" * 9000 + b"\n",
        b"-" * 9000 + b"1\n",
        b"",
    ],
)
def test_crafted_array_headers_are_refused(tmp_path, header):
    assert_refused(build(tmp_path / "a.zip", {"a.npz": npz_with_header(header)}), "a.npz", "x.npy")


def safetensors_with(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 1 << 40) + b"{}",
        safetensors_with(b"["),
        safetensors_with([1]),
        safetensors_with({"x": 1}),
        safetensors_with({"x": tensor()}),
        safetensors_with({"x": tensor(shape=[10**12])}, b"0000"),
        safetensors_with({"x": tensor(shape=[-1])}, b"0000"),
        safetensors_with({"x": tensor(dtype="O")}, b"0000"),
        safetensors_with({"x": tensor(dtype=["F32"])}, b"0000"),
        safetensors_with({"x": tensor(), "y": tensor()}, b"0000"),
        safetensors_with({"x": tensor(offsets=(4, 8))}, b"00000000"),
        safetensors_with({"x": tensor()}, b"00000"),
        safetensors_with({"x": tensor(shape=[0, 2**63], offsets=(0, 0))}),
        safetensors_with({"x": tensor(), "__metadata__": {"a": 1}}, b"0000"),
        safetensors_with(
            b'{"x":' + json.dumps(tensor()).encode() + b',"x":' + json.dumps(tensor()).encode() + b"}", b"0000"
        ),
    ],
)
def test_crafted_tensor_headers_are_refused(tmp_path, data):
    assert_refused(build(tmp_path / "a.zip", {"a.safetensors": data}), "a.safetensors")


def test_metadata_of_other_writers_is_ignored(tmp_path):
    data = safetensors_with({"x": tensor(), "__metadata__": {"format": "pt"}}, b"\0\0\0\0")
    assert read_bundle(build(tmp_path / "a.zip", {"a.safetensors": data})).tensors("a.safetensors")["x"] == 0


def test_a_file_that_was_cut_short_is_refused(path):
    data = path.read_bytes()
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        assert_refused(path)


@pytest.mark.parametrize("bits", [1, 8])
def test_flipped_bytes_are_refused_or_without_effect(path, bits):
    data = path.read_bytes()
    generator = random.Random(bits)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        position = generator.randrange(len(data))
        damaged[position] ^= 1 << generator.randrange(8) if bits == 1 else generator.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            with read_bundle(path) as bundle:
                assert_same(bundle)
        except BundleError:
            refused += 1
    # What passes lies in fields that mean nothing here, such as timestamps.
    assert refused > 200


def test_arbitrary_damage_inside_members_raises_nothing_else(path, tmp_path):
    # The hashes are right, so that the parsers themselves meet the damage.
    entries = entries_of(path)
    entries.pop("manifest.json")
    generator = random.Random(0)
    for _ in range(300):
        changed = dict(entries)
        name = generator.choice(sorted(changed))
        content = bytearray(changed[name])
        for _ in range(generator.randrange(1, 4)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        changed[name] = bytes(content[: generator.randrange(len(content))] if generator.random() < 0.2 else content)
        try:
            with read_bundle(build(tmp_path / "b.zip", changed)) as bundle:
                bundle.json("parameters.json")
                bundle.tensors("policy.safetensors")
                bundle.arrays("random/states.npz")
        except BundleError:
            pass
