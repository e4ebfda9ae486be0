"""What the imitation library wrote is read as it was, without its reader."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from gymnasium import spaces
from imitation.data import serialize
from imitation.data.types import Trajectory, TrajectoryWithRew
from tests.episode.formats.samples import SPACES, episodes, same, sequence

from rl_framework.episode.formats.imitation import read_imitation_dataset, to_imitation_episodes
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import EpisodeDataError

datasets.disable_progress_bars()


def saved(trajectories, name="data"):
    serialize.save(name, trajectories)
    return name


def trajectory(length=3, rewards=True, infos=None, terminal=True, seed=0):
    generator = np.random.default_rng(seed)
    parts = {
        "obs": generator.standard_normal((length + 1, 4)).astype(np.float32),
        "acts": generator.integers(0, 2, length),
        "infos": infos,
        "terminal": terminal,
    }
    return TrajectoryWithRew(**parts, rews=generator.random(length)) if rewards else Trajectory(**parts)


@pytest.mark.parametrize("kind", [kind for kind in SPACES if kind != "dict"])
def test_what_was_saved_by_the_library_is_read(kind):
    expected = episodes(kind)
    storage = read_imitation_dataset(saved(list(to_imitation_episodes(sequence(kind)))))
    assert len(storage) == 3
    assert storage.lengths.tolist() == [3, 5, 1]
    assert storage.spaces_are_inferred
    for index, episode in enumerate(expected):
        read = storage.read(index)
        same(read, episode, infos=False)
        assert read.actions.dtype == episode.actions.dtype
        assert [info["step"] for info in read.infos] == list(range(len(episode)))
    np.testing.assert_allclose(storage.returns, [episode.episode_return for episode in expected])
    storage.verify()


def test_types_survive_which_the_library_turns_into_others():
    path = saved([trajectory()])
    assert serialize.load(path)[0].obs.dtype == np.float64
    assert read_imitation_dataset(path).read(0).observations.dtype == np.float32


def test_spaces_are_those_given_or_guessed():
    path = saved([trajectory()])
    guessed = read_imitation_dataset(path)
    assert guessed.observation_space == SPACES["vector"][0]
    assert guessed.action_space == spaces.Discrete(2)
    box = spaces.Box(-5, 5, (4,), np.float32)
    given = read_imitation_dataset(path, observation_space=box, action_space=spaces.Discrete(7))
    assert (given.observation_space, given.action_space) == (box, spaces.Discrete(7))
    assert not given.spaces_are_inferred
    with pytest.raises(EpisodeDataError, match=r"shapes .*\(4,\).* but the given spaces say .*\(3,\)"):
        read_imitation_dataset(path, observation_space=spaces.Box(-5, 5, (3,)))


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_and_batches_are_one_data_set(shards):
    # More than a thousand episodes are more than one record batch.
    serialize.save("one", [trajectory(1 + seed % 3, seed=seed) for seed in range(1_100)])
    serialize.load("one").dataset.save_to_disk("many", num_shards=shards)
    library = serialize.load("many")
    storage = read_imitation_dataset("many")
    assert storage.arrays() is None
    assert len(storage) == len(library) == 1_100
    for index in (0, 366, 367, 999, 1_000, 1_099):
        np.testing.assert_array_equal(storage.read(index).observations, library[index].obs)
    transitions = EpisodeSequence.from_storage(storage).transitions()
    flat = np.concatenate([one.acts for one in library])
    np.testing.assert_array_equal(transitions.all().actions, flat)
    rows = np.random.default_rng(0).integers(0, len(flat), 500)
    np.testing.assert_array_equal(transitions.gather(rows).actions, flat[rows])
    following = np.concatenate([one.obs[1:] for one in library])
    np.testing.assert_array_equal(transitions.gather(rows).next_observations, following[rows])


def test_guessed_spaces_hold_the_actions_of_all_parts():
    low, high = trajectory(2), TrajectoryWithRew(np.zeros((2, 4), np.float32), np.array([8]), None, True, np.ones(1))
    serialize.save("one", [low, high])
    serialize.load("one").dataset.save_to_disk("two", num_shards=2)
    assert read_imitation_dataset("two").action_space == spaces.Discrete(9)


def test_one_part_is_mapped_and_not_copied():
    storage = read_imitation_dataset(saved([trajectory(seed=seed) for seed in range(3)]))
    arrays = storage.arrays()
    assert np.shares_memory(storage.read(1).observations, arrays.observations)
    assert not storage.read(1).observations.flags.writeable
    assert arrays.observations.flags.writeable  # torch takes it without a warning; it is private to this process
    arrays.observations[:] = 7
    assert not (read_imitation_dataset("data").read(0).observations == 7).any()


@pytest.mark.parametrize(
    ("terminal", "last", "expected"),
    [
        (True, {"TimeLimit.truncated": True}, (False, True)),
        (True, {"TimeLimit.truncated": False}, (True, False)),
        (True, {}, (True, False)),
        (True, {"note": "TimeLimit.truncated"}, (True, False)),
        (False, {}, (False, False)),
    ],
    ids=["limit", "no-limit", "silent", "only-mentioned", "fragment"],
)
def test_a_limit_of_time_is_told_from_a_terminal_state(terminal, last, expected):
    infos = np.array([{"TimeLimit.truncated": True}, {}, last])
    storage = read_imitation_dataset(saved([trajectory(infos=infos, terminal=terminal)]))
    episode = storage.read(0)
    assert (episode.terminated, episode.truncated) == expected
    assert (storage.terminated[0], storage.truncated[0]) == expected


def test_without_rewards_they_are_nan():
    storage = read_imitation_dataset(saved([trajectory(rewards=False)]))
    assert np.isnan(storage.read(0).rewards).all()
    assert np.isnan(storage.returns).all()
    storage.verify()


def test_without_infos_there_are_none():
    assert read_imitation_dataset(saved([trajectory()])).read(0).infos is None


def test_infos_of_the_librarys_wrapper_are_decoded():
    rollout = {"obs": np.arange(16.0).reshape(4, 4), "rews": np.ones(3, np.float32)}
    last = {"terminal_observation": np.zeros(4, np.float32), "rollout": rollout, "episode": {"r": 3.0, "l": 3}}
    path = saved([trajectory(infos=np.array([{}, {}, last]))])
    infos = read_imitation_dataset(path).read(0).infos
    assert list(infos[:2]) == [{}, {}]
    np.testing.assert_equal(infos[-1], last)
    np.testing.assert_equal(infos[-1], serialize.load(path)[0].infos[2])


@pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream], ids=["file", "stream"])
def test_both_arrow_formats_are_read(writer):
    path = saved([trajectory()])
    file = f"{path}/data-00000-of-00001.arrow"
    with pa.OSFile(file) as source:
        table = pa.ipc.open_stream(source).read_all()
    with pa.OSFile(file, "wb") as sink, writer(sink, table.schema) as out:
        out.write_table(table)
    np.testing.assert_array_equal(read_imitation_dataset(path).read(0).actions, trajectory().acts)


@pytest.mark.parametrize("kind", ["large", "fixed"])
def test_other_kinds_of_lists_are_read(kind):
    path = saved([trajectory()])
    file = f"{path}/data-00000-of-00001.arrow"
    with pa.OSFile(file) as source:
        table = pa.ipc.open_stream(source).read_all()
    inner = pa.list_(pa.float32(), 4) if kind == "fixed" else pa.large_list(pa.float32())
    place = table.schema.get_field_index("obs")
    table = table.set_column(place, "obs", table["obs"].cast(pa.large_list(inner)))
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    np.testing.assert_array_equal(read_imitation_dataset(path).read(0).observations, trajectory().obs)


def test_reading_needs_neither_datasets_nor_the_library():
    path = saved([trajectory(infos=np.array([{}, {}, {"a": np.ones(2)}]))])
    code = (
        "import sys; from rl_framework.episode.formats.imitation import read_imitation_dataset as read;"
        f"print(read({path!r}).read(0).infos[2]['a'].sum());"
        "print([name for name in ('datasets', 'imitation', 'jsonpickle', 'torch', 'pandas') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "2.0\n[]\n"


def old_npz(path, trajectories, infos=True):
    """Writes what `serialize.save` of imitation 0.3 did."""
    parts = {
        "obs": np.concatenate([one.obs for one in trajectories]),
        "acts": np.concatenate([one.acts for one in trajectories]),
        "terminal": np.array([one.terminal for one in trajectories]),
        "indices": np.cumsum([len(one) for one in trajectories[:-1]], dtype=np.int64),
    }
    if infos:
        empty = [one.infos if one.infos is not None else [{}] * len(one) for one in trajectories]
        parts["infos"] = np.concatenate([np.array(each) for each in empty])
    if isinstance(trajectories[0], TrajectoryWithRew):
        parts["rews"] = np.concatenate([one.rews for one in trajectories])
    np.savez_compressed(path, **parts)
    return path


LIMIT = np.array([{}, {}, {"TimeLimit.truncated": True}])


@pytest.mark.parametrize("rewards", [True, False], ids=["rewards", "plain"])
def test_old_files_are_read_without_their_pickled_infos(rewards, caplog):
    made = [trajectory(3, rewards, LIMIT), trajectory(2, rewards, seed=1), trajectory(4, rewards, seed=2)]
    old_npz("old.npz", made)
    with caplog.at_level(logging.WARNING):
        storage = read_imitation_dataset("old.npz")
    assert "trust=True" in caplog.text
    assert storage.lengths.tolist() == [3, 2, 4]
    for index, one in enumerate(made):
        episode = storage.read(index)
        np.testing.assert_array_equal(episode.observations, one.obs)
        np.testing.assert_array_equal(episode.actions, one.acts)
        np.testing.assert_array_equal(episode.rewards, one.rews if rewards else np.full(len(one), np.nan))
        assert episode.infos is None
        assert (episode.terminated, episode.truncated) == (True, False)  # it cannot be told


def test_old_files_that_are_trusted_have_their_infos():
    old_npz("old.npz", [trajectory(3, infos=LIMIT), trajectory(2)])
    storage = read_imitation_dataset("old.npz", trust=True)
    assert storage.read(0).infos[-1] == {"TimeLimit.truncated": True}
    assert storage.truncated.tolist() == [True, False]
    library = serialize.load("old.npz")
    for index in range(2):
        np.testing.assert_array_equal(storage.read(index).observations, library[index].obs)


def test_a_single_trajectory_in_an_old_file():
    old_npz("old.npz", [trajectory(3)], infos=False)
    assert read_imitation_dataset("old.npz").lengths.tolist() == [3]


def test_a_split_is_to_be_named():
    saved([trajectory()], "both/train")
    Path("both/dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    with pytest.raises(EpisodeDataError, match=r"name the folder of one \(\['train'\]\)"):
        read_imitation_dataset("both")
    assert len(EpisodeSequence.from_dataset("both/train")) == 1
