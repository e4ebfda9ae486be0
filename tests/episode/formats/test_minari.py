"""Minari's data sets: written with Minari, read without it."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.serialization import serialize_space
from PIL import Image
from tests.episode.formats.samples import BOX, SPACES, episodes, same, sequence

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.minari import read_minari, save_minari
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import ArgumentError, EpisodeDataError, MissingExtraError, UnsupportedSpaceError

NAME = "toys/random-v0"
FORMATS = ["hdf5", "arrow"]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Where Minari keeps data sets: not in the home folder of whoever runs the tests."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("kind", SPACES)
def test_there_and_back(kind, data_format):
    made = sequence(kind)
    save_minari(made, NAME, data_format=data_format)
    storage = read_minari(NAME)
    assert (storage.observation_space, storage.action_space) == SPACES[kind]
    assert not storage.spaces_are_inferred
    assert storage.lengths.tolist() == [3, 5, 1]
    assert storage.terminated.tolist() == [True, False, False]
    assert storage.truncated.tolist() == [False, True, False]
    for index, episode in enumerate(made):
        same(storage.read(index), episode)
    storage.verify()
    again = EpisodeSequence.from_minari(NAME)
    np.testing.assert_array_equal(again.transitions().all().actions, made.transitions().all().actions)


@pytest.mark.parametrize("data_format", FORMATS)
def test_minari_reads_what_is_written(data_format, root):
    made = sequence("dict")
    given = {"author": {"me"}, "algorithm_name": "none"}
    dataset = save_minari(made, NAME, data_format=data_format, environment_id="CartPole-v1", metadata=given)
    assert isinstance(dataset, minari.MinariDataset)
    loaded = minari.load_dataset(NAME)
    assert list(minari.list_local_datasets()) == [NAME]
    assert (loaded.total_episodes, loaded.total_steps) == (3, 9)
    assert loaded.observation_space == SPACES["dict"][0]
    assert loaded.spec.env_spec.id == "CartPole-v1"
    assert loaded.storage.metadata["author"] == {"me"}
    for theirs, ours in zip(loaded, made, strict=True):
        np.testing.assert_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        assert theirs.terminations.tolist() == [False] * (len(ours) - 1) + [ours.terminated]
        assert theirs.truncations.tolist() == [False] * (len(ours) - 1) + [ours.truncated]
        assert list(theirs.infos["step"])[1:] == list(range(len(ours)))
    assert (root / "toys" / "namespace_metadata.json").exists()


def test_folders_are_found_by_path(tmp_path):
    save_minari(sequence("vector"), NAME, path=tmp_path / "elsewhere")
    for path in ("elsewhere/toys/random-v0", "elsewhere/toys/random-v0/data"):
        assert len(read_minari(path)) == 3
    with pytest.raises(ArgumentError, match="there is no such Minari data set"):
        read_minari(NAME)
    with pytest.raises(ArgumentError, match="download=True"):
        read_minari("../elsewhere")


def collected(data_format, observation_space, action_space, **arrays):
    """Writes one episode with Minari itself, as its data collector does."""
    parts = {"rewards": [1.0, 2.0], "terminations": [False, True], "truncations": [False, False], **arrays}
    spaces_given = {"observation_space": observation_space, "action_space": action_space}
    return minari.create_dataset_from_buffers(NAME, [EpisodeBuffer(**parts)], **spaces_given, data_format=data_format)


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("data_format", FORMATS)
def test_tuples_become_dicts(data_format):
    space = spaces.Tuple([spaces.Discrete(3), spaces.Dict({"x": BOX})])
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    collected(data_format, space, spaces.Discrete(2), observations=(np.arange(3), {"x": vectors}), actions=[0, 1])
    storage = read_minari(NAME)
    assert storage.observation_space == spaces.Dict([("0", spaces.Discrete(3)), ("1", spaces.Dict({"x": BOX}))])
    np.testing.assert_equal(storage.read(0).observations, {"0": np.arange(3), "1": {"x": vectors}})


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("same_size", [True, False], ids=["equal", "different"])
def test_images_in_jpeg_are_read_as_minari_reads_them(data_format, same_size):
    space = spaces.Box(0, 255, (40, 36, 3), np.uint8)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), np.uint8)
    if not same_size:
        images[1] = 0  # a small file
    dataset = collected(data_format, space, spaces.Discrete(2), observations=images, actions=np.array([0, 1]))
    read = read_minari(NAME).read(0).observations
    np.testing.assert_array_equal(read, dataset[0].observations)
    assert read.shape == images.shape


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("entries", [2, 3], ids=["steps", "with-reset"])
def test_infos_of_the_reset_are_left_out(entries):
    infos = {"number": np.arange(entries), "text": list("abc")[:entries], "deep": {"array": np.eye(entries)}}
    collected("hdf5", BOX, spaces.Discrete(2), observations=np.zeros((3, 4), np.float32), actions=[0, 1], infos=infos)
    read = read_minari(NAME).read(0).infos
    assert [info["number"] for info in read] == list(range(entries))[-2:]
    assert [info["text"] for info in read] == list("abc")[:entries][-2:]
    np.testing.assert_array_equal(read[-1]["deep"]["array"], np.eye(entries)[-1])


def test_infos_that_minari_cannot_store_are_named(caplog):
    infos = [{"a": 1, "b": 2, "c": {"d": np.zeros(2), "e": [1, 2]}, "f": "x"}, {"a": 2, "c": {"d": np.ones(2), "e": 3}}]
    infos[1]["f"] = 3
    episode = Episode(np.zeros((3, 4)), np.zeros(2, int), np.zeros(2), True, False, infos)
    save_minari(EpisodeSequence.from_episodes([episode]), NAME)
    assert "left out: b, c.e, f" in caplog.text
    np.testing.assert_equal(list(read_minari(NAME).read(0).infos)[1], {"a": 2, "c": {"d": np.ones(2)}})


def test_names_are_checked_and_nothing_half_written_is_left(root, monkeypatch):
    made = sequence("vector")
    for name in ("", "../x-v0", "x", "/x-v0", "a b-v0"):
        with pytest.raises(ArgumentError, match="is no name of a Minari data set"):
            save_minari(made, name)
    with pytest.raises(ArgumentError, match="data_format"):
        save_minari(made, NAME, data_format="parquet")
    with pytest.raises(ArgumentError, match="has no episodes"):
        save_minari(made[:0], NAME)
    monkeypatch.setattr("rl_framework.episode.formats.minari.writing._buffers", lambda *_: iter([None]))
    with pytest.raises(AttributeError):
        save_minari(made, NAME)
    assert list((root / "toys").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    save_minari(made, NAME)
    with pytest.raises(ArgumentError, match="is taken"):
        save_minari(made, NAME)
    assert len(read_minari(NAME)) == 3


# What strangers may write


def metadata_of(root):
    return root / NAME / "data" / "metadata.json"


def change_metadata(root, **changes):
    file = metadata_of(root)
    data = {key: value for key, value in {**json.loads(file.read_text()), **changes}.items() if value is not None}
    file.write_text(json.dumps(data))


EVIL = "import pathlib; pathlib.Path('canary').mkdir()"


def test_an_environment_named_in_a_file_is_never_made(root):
    save_minari(sequence("vector"), NAME)
    Path("evil_module.py").write_text(EVIL)
    spec = json.loads(gymnasium.spec("CartPole-v1").to_json())
    spec["entry_point"] = "evil_module:Environment"
    change_metadata(root, env_spec=json.dumps(spec))
    assert len(read_minari(NAME)) == 3
    change_metadata(root, observation_space=None)
    with pytest.raises(EpisodeDataError, match="states no observation_space"):
        read_minari(NAME)
    assert not Path("canary").exists()
    # The control: Minari's own reader imports it.
    code = f"import minari\ntry: minari.load_dataset({NAME!r})\nexcept Exception: pass"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env={**os.environ, "PYTHONPATH": "."})
    assert Path("canary").exists()


def test_reading_needs_no_minari(root):
    save_minari(sequence("vector"), NAME)
    code = (
        "import sys; from rl_framework.episode.formats.minari import read_minari;"
        f"print(len(read_minari({NAME!r}).read(1)), [name for name in ('minari', 'torch') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "5 []\n"


BOX_DATA = {"type": "Box", "dtype": "float32", "shape": [4], "low": [0] * 4, "high": [1] * 4}


@pytest.mark.parametrize(
    "space",
    [
        3,
        "x",
        {"type": "Evil"},
        {"type": "Box"},
        {**BOX_DATA, "dtype": "object"},
        {**BOX_DATA, "shape": [5]},
        {"type": "Discrete", "n": -1, "start": 0},
        {"type": "MultiBinary", "n": [1 << 20, 1 << 20]},
        {"type": "Dict", "subspaces": 3},
        None,
    ],
    ids=["number", "text", "kind", "empty", "objects", "shape", "negative", "huge", "parts", "deep"],
)
def test_malformed_spaces_are_refused(space, root):
    save_minari(sequence("vector"), NAME)
    if space is None:
        space = BOX_DATA
        for _ in range(30):
            space = {"type": "Tuple", "subspaces": [space]}
    change_metadata(root, observation_space=json.dumps(space))
    with pytest.raises(EpisodeDataError, match=r"metadata\.json: observation_space is no space that Minari writes"):
        read_minari(NAME)


def test_spaces_that_episodes_cannot_hold_are_refused(root):
    save_minari(sequence("vector"), NAME)
    parts = {"type": "Tuple", "subspaces": [{"type": "Discrete", "n": 2, "start": 0}]}
    change_metadata(root, action_space=json.dumps(parts))
    with pytest.raises(UnsupportedSpaceError):
        read_minari(NAME)


def test_other_damage_of_the_metadata_is_refused(root):
    save_minari(sequence("vector"), NAME)
    change_metadata(root, total_episodes=4)
    with pytest.raises(EpisodeDataError, match=r"holds 3 episodes, metadata\.json says 4"):
        read_minari(NAME)
    change_metadata(root, data_format="parquet")
    with pytest.raises(EpisodeDataError, match="'parquet' is not read"):
        read_minari(NAME)
    for content in (b"", b"[]", b"\xff", b"[" * 100_000):
        metadata_of(root).write_bytes(content)
        with pytest.raises(EpisodeDataError, match=r"metadata\.json: is"):
            read_minari(NAME)


def _external(group):
    with h5py.File("other.hdf5", "w") as other:
        other["secret"] = np.zeros((4, 4), np.float32)
    del group["observations"]
    group["observations"] = h5py.ExternalLink("other.hdf5", "/secret")


def _soft(group):
    group.move("observations", "moved")
    group["observations"] = h5py.SoftLink(f"{group.name}/moved")


def _virtual(group):
    del group["observations"]
    layout = h5py.VirtualLayout((4, 4), np.float32)
    layout[:] = h5py.VirtualSource("other.hdf5", "secret", (4, 4))
    group.create_virtual_dataset("observations", layout)


def _elsewhere(group):
    Path("secret.bin").write_bytes(bytes(64))
    del group["observations"]
    group.create_dataset("observations", (4, 4), np.float32, external=[("secret.bin", 0, 64)])


def _replace(name, value, **options):
    def change(group):
        del group[name]
        if value is not None:
            group.create_dataset(name, data=value, **options)

    return change


def _unwritten(group):
    for name in ("rewards", "terminations", "truncations"):
        del group[name]
        group.create_dataset(name, (1 << 40,), np.uint8, chunks=(1 << 20,))


HDF5 = {
    "external-link": (_external, "is a link"),
    "soft-link": (_soft, "is a link"),
    "virtual": (_virtual, "lies in another file"),
    "external-storage": (_elsewhere, "lies in another file"),
    "missing": (_replace("observations", None), "observations is missing"),
    "texts": (_replace("observations", ["a", "b"]), "observations is no array of numbers"),
    "scalar": (_replace("actions", 3), "actions is no array of numbers"),
    "short": (_replace("observations", np.zeros((3, 4), np.float32)), "3 actions need 4 observations"),
    "shape": (_replace("observations", np.zeros((4, 5), np.float32)), r"rows of the shape \(5,\)"),
    "nan": (_replace("observations", np.full((4, 4), np.nan, np.float32)), r"observations\[0\] is not finite"),
    "no-rewards": (_replace("rewards", None), "rewards is missing"),
    "fewer-flags": (_replace("truncations", np.zeros(2, bool)), "differ in length"),
    "two-ends": (_replace("terminations", np.array([True, False, True])), "ends before its last step"),
    "unwritten": (_unwritten, "would unpack to 1099511627776 bytes"),
}


@pytest.mark.parametrize("name", HDF5)
def test_damaged_episodes_are_refused(name, root):
    save_minari(sequence("vector"), NAME)
    change, match = HDF5[name]
    with h5py.File(root / NAME / "data" / "main_data.hdf5", "a") as file:
        change(file["episode_0"])
    with pytest.raises(EpisodeDataError, match=match) as caught:
        read_minari(NAME).verify()
    assert "episode 0" in str(caught.value)


@pytest.mark.parametrize("size", [0, 100, -1, -1_000])
def test_hdf5_cut_short_is_refused(size, root):
    save_minari(sequence("vector"), NAME)
    file = root / NAME / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(EpisodeDataError, match=r"main_data.hdf5.*is damaged"):
        read_minari(NAME).verify()


def test_damaged_arrow_is_refused(root):
    save_minari(sequence("vector"), NAME, data_format="arrow")
    file = root / NAME / "data" / "1" / "part-0.arrow"
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(EpisodeDataError, match=r"episode 1: .*cut short"):
        read_minari(NAME)
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    table = table.drop_columns("rewards").append_column("rewards", table["observations"])
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(EpisodeDataError, match="episode 1: "):
        read_minari(NAME)


def test_images_of_another_size_are_not_decoded(root):
    space = spaces.Box(0, 255, (40, 36, 3), np.uint8)
    save_minari(sequence("vector", lengths=(2,)), NAME)
    Image.new("RGB", (5_000, 5_000)).save("large.jpg")
    large = np.frombuffer(Path("large.jpg").read_bytes(), np.uint8)
    with h5py.File(root / NAME / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0"]["observations"]
        file["episode_0"]["observations"] = np.stack([large] * 3)
    change_metadata(root, observation_space=serialize_space(space), jpeg_encoding=True)
    with pytest.raises(EpisodeDataError, match=r"observations\[0\] is an image of \(5000, 5000\)"):
        read_minari(NAME).read(0)


@pytest.mark.parametrize("module", ["h5py", "minari"])
def test_a_missing_extra_is_named(module, monkeypatch):
    save_minari(sequence("vector"), NAME)
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None if name == module else object())
    with pytest.raises(MissingExtraError, match=rf"'{module}' is needed for .*pip install .rl-framework\[minari\]"):
        read_minari(NAME) if module == "h5py" else save_minari(sequence("vector"), "other-v0")


def test_a_reader_works_in_another_process(root):
    save_minari(sequence("vector"), NAME)
    storage = read_minari(NAME)
    storage.read(0)
    same(pickle.loads(pickle.dumps(storage)).read(0), episodes("vector")[0])
