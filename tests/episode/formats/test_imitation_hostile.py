"""Data sets of strangers: nothing in them runs, and what is wrong with them is said.

The control shows that the library's own reader does run what is in the same files, so that these tests can fail.
"""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.episode.formats.test_imitation_reading import old_npz, trajectory

from rl_framework.episode.formats.imitation import read_imitation_dataset
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import EpisodeDataError

CALL = json.dumps({"py/reduce": [{"py/function": "os.mkdir"}, {"py/tuple": ["canary"]}]})
NESTED = json.dumps({"a": json.loads(CALL)})


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("canary"),)


def arrow(name="data", **changes):
    """Writes a folder as the library does, of one episode of two steps, with other columns or files."""
    columns = {
        "obs": pa.array([[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]], pa.list_(pa.list_(pa.float32()))),
        "acts": pa.array([[0, 1]]),
        "infos": pa.array([["{}", "{}"]], pa.list_(pa.string())),
        "terminal": pa.array([True]),
        "rews": pa.array([[1.0, 1.0]]),
    }
    columns.update({key: value for key, value in changes.items() if value is not None})
    columns = {key: value for key, value in columns.items() if changes.get(key, "") is not None}
    folder = Path(name)
    folder.mkdir()
    write_table(folder / "data-00000-of-00001.arrow", pa.table(columns))
    state = dict.fromkeys(("_format_columns", "_format_type", "_output_all_columns", "_split"))
    state |= {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0", "_format_kwargs": {}}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write_table(path, table, **options):
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def refused(path, match, **options):
    with pytest.raises(EpisodeDataError, match=match) as caught:
        read_imitation_dataset(path, **options).verify()
    assert str(path) in str(caught.value)


def hostile_arrow():
    arrow(infos=pa.array([[NESTED, CALL]]))
    return "data"


def hostile_npz():
    return old_npz("data.npz", [trajectory(2, infos=np.array([{}, Bomb()]))])


def hostile_pickle():
    Path("data.pkl").write_bytes(pickle.dumps([Bomb()]))
    return "data.pkl"


CONTROL = """
import sys, os, numpy as np
from imitation.data import serialize
for folder, path in zip(sys.argv[1::2], sys.argv[2::2]):
    os.chdir(folder)
    try:
        print(list(serialize.load(path)[0].infos))
    except Exception:
        pass
"""


def test_control_the_librarys_reader_runs_what_is_in_a_file(tmp_path, monkeypatch):
    arguments, makers = [], [hostile_arrow, hostile_npz, hostile_pickle]
    for index, make in enumerate(makers):
        (folder := tmp_path / f"{index}").mkdir()
        monkeypatch.chdir(folder)
        arguments += [str(folder), str(make())]
        assert not Path("canary").exists()
    subprocess.run([sys.executable, "-W", "ignore", "-c", CONTROL, *arguments], check=True)
    assert [(tmp_path / f"{index}" / "canary").exists() for index in range(len(makers))] == [True, True, True]


def test_calls_in_infos_stay_text():
    episode = EpisodeSequence.from_dataset(hostile_arrow())[0]
    assert episode.infos[0] == {"a": CALL}
    assert episode.infos[1] == {"undecoded": CALL}
    assert not Path("canary").exists()


def test_pickled_infos_are_left_out():
    storage = read_imitation_dataset(hostile_npz())
    assert storage.read(0).infos is None
    assert not Path("canary").exists()


def test_pickled_infos_run_if_they_are_trusted():
    with pytest.raises(EpisodeDataError, match="one mapping"):
        read_imitation_dataset(hostile_npz(), trust=True)
    assert Path("canary").exists()


def test_pickles_are_refused():
    refused(hostile_pickle(), "is a pickle.*trust=True")
    assert not Path("canary").exists()


def test_pickles_that_are_trusted_are_read_by_the_library():
    made = [trajectory(3), trajectory(2, seed=1)]
    Path("old.pkl").write_bytes(pickle.dumps(made))
    with pytest.warns(DeprecationWarning, match="pickle"):
        storage = read_imitation_dataset("old.pkl", trust=True)
    np.testing.assert_array_equal(storage.read(1).observations, made[1].obs)


def test_objects_in_place_of_numbers_are_not_unpickled():
    np.savez("data.npz", obs=np.array([Bomb()]), acts=np.zeros(1), terminal=np.ones(1, bool), indices=np.zeros(0, int))
    refused("data.npz", "obs.npy holds object, not numbers")
    assert not Path("canary").exists()


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "datasets.features.features.Array2DExtensionType"])
def test_extension_types_are_refused_before_they_are_made(name):
    kind = pa.list_(pa.list_(pa.float32()))
    metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(Bomb())}
    folder = arrow()
    column = pa.array([[[0.0], [1.0], [2.0]]], kind)
    table = pa.table({"acts": pa.array([[0, 1]]), "terminal": pa.array([True])})
    table = table.append_column(pa.field("obs", kind, metadata=metadata), column)
    write_table(folder / "data-00000-of-00001.arrow", table)
    refused(folder, "extension types")
    assert not Path("canary").exists()


def test_the_right_one_is_read():
    assert len(read_imitation_dataset(arrow())) == 1
    read_imitation_dataset("data").verify()


BOOLS = pa.array([[True, False]])
COLUMNS = {
    "more-actions": ({"acts": pa.array([[0, 1, 1]])}, "episode 0 has 3 actions and 3 obs, not 4"),
    "fewer-rewards": ({"rews": pa.array([[1.0]])}, "episode 0 has 2 actions and 1 rews, not 2"),
    "fewer-infos": ({"infos": pa.array([["{}"]])}, "episode 0 has 2 actions and 1 infos, not 2"),
    "no-steps": (
        {"acts": pa.array([[]], pa.list_(pa.int64())), "obs": pa.array([[[0.0]]]), "rews": None, "infos": None},
        "episode 0 has no steps",
    ),
    "ragged": ({"obs": pa.array([[[0.0, 1.0], [2.0], [4.0, 5.0]]])}, "column 'obs'.* is ragged"),
    "null": ({"obs": pa.array([[[0.0, 1.0], [None, 3.0], [4.0, 5.0]]])}, "column 'obs'.* missing values"),
    "null-list": ({"acts": pa.array([None], pa.list_(pa.int64()))}, "column 'acts'.* missing values"),
    "nan": (
        {"obs": pa.array([[[0.0, 1.0], [np.nan, 3.0], [4.0, 5.0]]])},
        r"episode 0: observations\[1\] is not finite",
    ),
    "nan-reward": ({"rews": pa.array([[1.0, np.nan]])}, r"episode 0: rewards\[1\] is nan"),
    "texts": ({"obs": pa.array([["a", "b", "c"]])}, "column 'obs' does not hold"),
    "numbers-as-infos": ({"infos": pa.array([[1, 2]])}, "column 'infos' holds numbers"),
    "dates": ({"obs": pa.array([[0, 1, 2]], pa.list_(pa.date32()))}, "column 'obs'.* holds date"),
    "no-actions": ({"acts": None}, "has no column 'acts'"),
    "no-ends": ({"terminal": None}, "has no column 'terminal'"),
    "ends-a-step": ({"terminal": BOOLS}, "column 'terminal' does not hold"),
    "rewards-in-lists": ({"rews": pa.array([[[1.0], [1.0]]])}, "column 'rews' holds lists of lists"),
    "negative": ({"acts": pa.array([[0, -1]])}, r"actions\[1\] is .*action_space"),
    "dictionary": ({"infos": pa.array(["a"]).dictionary_encode()}, "Arrow dictionary|holds dictionary"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_do_not_fit_are_refused(name):
    changes, match = COLUMNS[name]
    arrow(**changes)
    with pytest.raises(EpisodeDataError, match=match):
        read_imitation_dataset("data").verify()


def test_an_empty_data_set_is_refused():
    folder = arrow()
    file = folder / "data-00000-of-00001.arrow"
    with pa.OSFile(str(file)) as source:
        table = pa.ipc.open_stream(source).read_all()
    write_table(file, table.slice(0, 0))
    refused(folder, "holds no episodes")
    (folder / "state.json").write_text('{"_data_files": []}')
    refused(folder, "holds no episodes")


def test_compressed_files_are_refused_before_they_are_unpacked():
    folder = arrow()
    zeros = pa.table({"obs": pa.array([np.zeros(1 << 20)])})
    write_table(folder / "data-00000-of-00001.arrow", zeros, compression="zstd")
    assert (folder / "data-00000-of-00001.arrow").stat().st_size < 20_000
    refused(folder, "is compressed")


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [3]}', "[" * 100_000, "\udcff"],
    ids=["empty", "list", "nothing", "number", "numbers", "deep", "bytes"],
)
def test_a_damaged_state_is_refused(state):
    (arrow() / "state.json").write_bytes(state.encode("utf-8", "surrogateescape"))
    refused(Path("data"), r"state.json: is damaged")


@pytest.mark.parametrize("name", ["../other.arrow", "/etc/passwd", "a\\b", "a/b", "\x00", "..", "", 3])
def test_files_elsewhere_are_not_read(name):
    (arrow() / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    refused(Path("data"), "no file in its own folder|is missing")


def test_missing_files_are_named():
    folder = arrow()
    (folder / "dataset_info.json").unlink()
    assert len(read_imitation_dataset(folder)) == 1  # it holds nothing that is needed
    (folder / "data-00000-of-00001.arrow").unlink()
    refused(folder, r"00001.arrow: is missing")
    (folder / "state.json").unlink()
    refused(folder, r"neither episodes\.json, as EpisodeSequence\.save writes it, nor state\.json")


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, -1, -8, -9, -64])
def test_files_cut_short_are_refused(size):
    file = arrow() / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:size])
    refused(file.parent, "cut short|damaged|is empty")


def test_no_damage_does_more_than_raise():
    """Flips bytes all over the file: Arrow's own functions would read outside of it, or crash."""
    file = arrow() / "data-00000-of-00001.arrow"
    content = file.read_bytes()
    generator = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(500):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), generator.integers(1, 4)):
            damaged[place] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, int(generator.integers(256))])
        file.unlink()
        file.write_bytes(damaged)
        try:
            storage = read_imitation_dataset(file.parent)
            for index in range(len(storage)):
                list(storage.read(index).infos or ())
            outcomes["read"] += 1
        except EpisodeDataError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30


def forged_npz(**members):
    parts = {name.removesuffix(".npy"): value for name, value in members.items()}
    made = {
        "obs": np.zeros((4, 2)),
        "acts": np.zeros(3, int),
        "terminal": np.ones(1, bool),
        "indices": np.zeros(0, int),
    }
    with zipfile.ZipFile("data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in {**made, "rews": np.zeros(3), **parts}.items():
            if isinstance(value, bytes):
                archive.writestr(f"{name}.npy", value)
            elif value is not None:
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, value)
    return Path("data.npz")


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"


def header(shape):
    return (HEADER % shape).ljust(127) + b"\n"


NPZ = {
    "no-actions": ({"acts": None}, "has no acts"),
    "more-observations": ({"obs": np.zeros((5, 2))}, "need 4 observations, not 5"),
    "rewards": ({"rews": np.zeros(2)}, r"rewards of the shape \(2,\)"),
    "two-ends": ({"terminal": np.ones(2, bool)}, "terminal is of 2 episodes, indices of 1"),
    "order": (
        {"terminal": np.ones(3, bool), "indices": np.array([2, 1]), "obs": np.zeros((6, 2))},
        "episode 1 has -1 steps",
    ),
    "empty-episode": (
        {"terminal": np.ones(2, bool), "indices": np.array([0]), "obs": np.zeros((5, 2))},
        "episode 0 has 0 steps",
    ),
    "empty": ({"acts": np.zeros(0), "terminal": np.zeros(0, bool)}, "holds no episodes"),
    "bad-indices": ({"terminal": np.ones(2, bool), "indices": np.array([0.5])}, "not what imitation writes"),
    "texts": ({"obs": np.array(["a"])}, "obs.npy holds <U1, not numbers"),
    "huge-shape": ({"obs": header(b"1000000000000000")}, "holds another number of bytes"),
    "overflow": ({"obs": header(b"4611686018427387904, 4")}, "holds another number of bytes"),
    "no-array": ({"obs": b"hello"}, "obs.npy is no array"),
    "code": ({"obs": header(b"__import__('os').mkdir('canary')")}, "obs.npy is no array"),
    "nan": ({"obs": np.full((4, 2), np.nan)}, r"observations\[0\] is not finite"),
}


@pytest.mark.parametrize("name", NPZ)
def test_old_files_that_do_not_fit_are_refused(name):
    members, match = NPZ[name]
    refused(forged_npz(**members), match)
    assert not Path("canary").exists()


def test_an_old_file_that_fits_is_read():
    assert len(read_imitation_dataset(forged_npz())) == 1


def test_a_file_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr("rl_framework.episode.formats.imitation.npz._HONEST_BYTES", 1 << 16)
    refused(forged_npz(obs=np.zeros((1 << 20, 2))), "unpacks to 16777344 bytes, too many for")


@pytest.mark.parametrize("size", [0, 10, 200, -1, -30])
def test_old_files_cut_short_are_refused(size):
    path = forged_npz()
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "is no .npz file, or damaged|is no data set")


def test_other_files_are_refused():
    Path("notes.txt").write_text("hello")
    refused(Path("notes.txt"), "is no data set of the imitation library")
    refused(Path("nothing"), "does not exist")
