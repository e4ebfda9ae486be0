"""The framework's own format: what goes in comes out, it is written whole, and little is read."""

import json
import logging
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.episode.samples import FORCES, IMAGES, MOVES, SPACES, VECTORS, episodes, same

from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.episode.storage import StoredEpisodes, open_data_set, write_data_set
from rl_framework.errors import ArgumentError, EpisodeDataError, SpaceMismatchError


def here():
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize("kind", SPACES)
def test_what_is_saved_comes_back(kind):
    made = episodes([4, 1, 7], *SPACES[kind], infos=kind == "nested")
    EpisodeSequence.from_episodes(made, *SPACES[kind]).save("data")
    loaded = EpisodeSequence.load("data")
    assert (loaded.observation_space, loaded.action_space) == SPACES[kind]
    assert not loaded.spaces_are_inferred
    assert loaded.lengths.tolist() == [4, 1, 7]
    assert loaded.returns.tolist() == [0.0, 1.0, 14.0]
    assert all(same(one, other) for one, other in zip(loaded, made, strict=True))
    loaded.verify()
    assert here() == ["data"]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_episodes_come_back(data):
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    kind = data.draw(st.sampled_from(sorted(SPACES)))
    made = episodes(lengths, *SPACES[kind])
    infos = st.none() | st.just([{"a": np.arange(2)}])
    made = [
        Episode(one.observations, one.actions, one.rewards, one.terminated, one.truncated, picked and picked * len(one))
        for one in made
        for picked in [data.draw(infos)]
    ]
    write_data_set(made, "any", *SPACES[kind], overwrite=True)
    loaded = EpisodeSequence.load("any")
    for one, other in zip(loaded, made, strict=True):
        assert (one.infos is None) == (other.infos is None)
        assert same(bare(one), bare(other))
    loaded.verify()


def bare(episode):
    return Episode(episode.observations, episode.actions, episode.rewards, episode.terminated, episode.truncated)


def test_unknown_rewards_and_information_are_kept():
    one = episodes([3])[0]
    made = Episode(one.observations, one.actions, np.full(3, np.nan), False, True)
    EpisodeSequence.from_episodes([made, one]).save("data", information={"made_by": "a test"})
    assert np.isnan(EpisodeSequence.load("data").returns).tolist() == [True, False]
    assert open_data_set(Path("data")).information == {"made_by": "a test"}
    with pytest.raises(ArgumentError, match="JSON data"):
        EpisodeSequence.from_episodes([made]).save("other", information={"a": object()})
    assert not Path("other").exists()


def test_infos_that_cannot_be_stored_are_kept_as_text_and_said_once(caplog):
    infos = [{"object": logging}, {"object": logging}]
    made = [Episode(np.zeros((3, 1)), np.zeros(2, int), np.zeros(2), True, False, infos)] * 2
    with caplog.at_level(logging.WARNING):
        EpisodeSequence.from_episodes(made).save("data")
    assert len(caplog.records) == 1
    assert "the module in episode 0" in caplog.text
    assert EpisodeSequence.load("data")[1].infos[1]["object"].startswith("<module 'logging'")


# Nothing is lost


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_data_set_is_replaced_only_if_asked():
    first, second = (EpisodeSequence.from_episodes(episodes([count])) for count in (2, 3))
    first.save("data")
    with pytest.raises(ArgumentError, match="overwrite=True"):
        second.save("data")
    assert EpisodeSequence.load("data").lengths.tolist() == [2]
    second.save("data", overwrite=True)
    loaded = EpisodeSequence.load("data")
    assert loaded.lengths.tolist() == [3]
    loaded[:1].save("data", overwrite=True)  # onto what it is read from
    assert EpisodeSequence.load("data").lengths.tolist() == [3]
    assert here() == ["data"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_things_are_never_replaced(overwrite):
    sequence = EpisodeSequence.from_episodes(episodes([2]))
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("mine")
    sequence.save("data")
    Path("data/notes.txt").write_text("mine")
    for name in ("file", "folder", "data"):
        with pytest.raises(ArgumentError, match=r"something else|other files"):
            sequence.save(name, overwrite=overwrite)
    assert Path("file").read_text() == Path("folder/notes.txt").read_text() == Path("data/notes.txt").read_text()
    assert here() == ["data", "file", "folder"]
    Path("empty").mkdir()
    sequence.save("empty")
    sequence.save("new/folders/data")
    assert len(EpisodeSequence.load("new/folders/data")) == 1


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("mine")])
def test_an_interrupted_save_leaves_what_was_there(stop):
    EpisodeSequence.from_episodes(episodes([2])).save("data")
    before = files_of("data")

    def broken():
        yield episodes([5])[0]
        raise stop

    with pytest.raises(type(stop)) as caught:
        write_data_set(broken(), "data", overwrite=True)
    assert caught.value is stop
    assert files_of("data") == before
    assert here() == ["data"]
    if isinstance(stop, OSError):
        assert stop.filename == "data"


def test_the_old_one_returns_if_the_new_one_cannot_be_put_in_its_place(monkeypatch):
    EpisodeSequence.from_episodes(episodes([2])).save("data")
    before, rename = files_of("data"), Path.rename
    calls = []

    def failing(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "broken disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="broken disk"):
        EpisodeSequence.from_episodes(episodes([3])).save("data", overwrite=True)
    assert files_of("data") == before
    assert here() == ["data"]


def test_no_episodes_make_no_data_set():
    with pytest.raises(ArgumentError, match="there is no episode"):
        write_data_set([], "data")
    with pytest.raises(ArgumentError, match="there is no episode"):
        EpisodeSequence.from_episodes([])
    assert here() == []


@pytest.mark.parametrize("given", [None, 3, "one"])
def test_what_is_no_list_of_episodes_is_told_how_to_become_one(given):
    with pytest.raises(ArgumentError, match=r"is no list of episodes.*\[episode\]"):
        EpisodeSequence.from_episodes(episodes([4])[0] if given == "one" else given)


# Spaces


def test_a_guessed_space_can_be_stated_later():
    EpisodeSequence.from_episodes(episodes([4, 3])).save("data")
    guessed = EpisodeSequence.load("data")
    assert guessed.spaces_are_inferred
    stated = EpisodeSequence.from_dataset("data", observation_space=VECTORS, action_space=MOVES)
    assert (stated.observation_space, stated.action_space) == (VECTORS, MOVES)
    assert not stated.spaces_are_inferred
    with pytest.raises(SpaceMismatchError, match="action_space"):
        EpisodeSequence.from_dataset("data", action_space=spaces.Discrete(1))
    with pytest.raises(SpaceMismatchError, match="observation_space"):
        EpisodeSequence.from_dataset("data", observation_space=IMAGES)
    stated.save("stated")
    with pytest.raises(SpaceMismatchError, match="states"):
        EpisodeSequence.from_dataset("stated", action_space=spaces.Discrete(4))
    assert len(EpisodeSequence.from_dataset("stated", action_space=MOVES)) == 2


def test_a_stated_space_has_to_hold_the_data():
    made = Episode(np.zeros((3, 1)), np.array([[0.5], [3.0]]), np.zeros(2), True, False)
    EpisodeSequence.from_episodes([made]).save("data")
    with pytest.raises(EpisodeDataError, match=r"actions.npy\[1\] is .*3\..* outside"):
        EpisodeSequence.from_dataset("data", action_space=spaces.Box(-1, 1, (1,), np.float64))


# Streams


def test_a_generator_goes_to_disk_and_is_removed_with_the_last_reference(tmp_path):
    taken = []

    def generator():
        for episode in episodes([3] * 5, infos=True):
            taken.append(1)
            yield episode

    sequence = EpisodeSequence.from_episode_generator(generator(), 4, VECTORS, MOVES, directory=tmp_path)
    assert len(taken) == 4  # no more are asked for
    assert all(same(one, other) for one, other in zip(sequence, episodes([3] * 4, infos=True), strict=True))
    (folder,) = tmp_path.iterdir()
    sequence.save("kept")
    episode, part = sequence[0], sequence[2:]
    del sequence
    assert folder.exists()
    del part
    assert not folder.exists()
    assert same(episode, EpisodeSequence.load("kept")[0])


def test_a_forked_process_does_not_remove_the_data_of_its_parent(tmp_path):
    sequence = EpisodeSequence.from_episode_generator(episodes([2]), 1, directory=tmp_path)
    child = os.fork()
    if child == 0:
        sequence = None  # the last reference of this process
        os._exit(0)
    os.waitpid(child, 0)
    assert len(sequence[0]) == 2
    assert [path.name for path in tmp_path.iterdir()]


def test_a_generator_that_ends_early_or_fails_leaves_nothing(tmp_path):
    with pytest.raises(ArgumentError, match="n_episodes=5: the generator ended after 2 episodes"):
        EpisodeSequence.from_episode_generator(iter(episodes([1, 2])), 5, directory=tmp_path)
    with pytest.raises(EpisodeDataError, match="episode 1: "):
        EpisodeSequence.from_episode_generator([*episodes([1]), None], 2, directory=tmp_path)
    for count in (0, -1, True, 2.0, None):
        with pytest.raises(ArgumentError, match="positive integer"):
            EpisodeSequence.from_episode_generator(episodes([1]), count, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded_by_an_episode_and_by_the_batch(tmp_path):
    space = spaces.Box(-np.inf, np.inf, (5_000,), np.float32)
    one = Episode(np.ones((21, 5_000), np.float32), np.zeros(20, np.int64), np.zeros(20), True, False)
    size = one.observations.nbytes
    tracemalloc.start()
    try:
        sequence = EpisodeSequence.from_episode_generator((one for _ in range(60)), 60, space, MOVES)
        assert tracemalloc.get_traced_memory()[1] < 10 * size  # a sixth of all
        tracemalloc.reset_peak()
        sequence.save("data")
        loaded = EpisodeSequence.load("data")
        for episode in loaded:
            assert episode.observations[0, 0] == 1
        transitions = loaded.split()[0].transitions()
        for start in range(0, len(transitions) - 10, 50):
            transitions.gather(np.arange(start, start + 10))
        loaded.verify()
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()


def test_opening_reads_no_observation(monkeypatch):
    EpisodeSequence.from_episodes(episodes([5, 5])).save("data")
    # Damage that only reading shows.
    with Path("data/observations.npy").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(np.nan).tobytes())
    sequence = EpisodeSequence.load("data")
    assert same(sequence[0], episodes([5, 5])[0])
    assert np.isnan(sequence[1].observations[-1, -1])


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
def test_a_data_set_larger_than_memory_can_be_mapped():
    """Linux refuses to map such a file to be written privately unless it is told to reserve nothing."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    shape = ((2 * memory) >> 20, 1 << 20)
    from rl_framework.episode.storage.npy import FileRecord, NpyWriter, map_array

    writer = NpyWriter(Path("large.npy"), np.dtype(np.uint8), shape[1:])
    writer._rows = shape[0]
    record = writer.finish(sync=False)
    size = 256 + shape[0] * shape[1]
    os.truncate("large.npy", size)  # takes no place on the disk
    array = map_array(Path("large.npy"), FileRecord(size, record.sha256, "|u1", shape))
    assert array[-1, -1] == 0
    assert array.flags.writeable
    del array
    Path("large.npy").unlink()


# Use


def test_episodes_are_read_only_and_arrays_suit_torch(recwarn):
    EpisodeSequence.from_episodes(episodes([5, 3]), VECTORS, MOVES).save("data")
    before = files_of("data")
    sequence = EpisodeSequence.load("data")
    with pytest.raises(ValueError, match="read-only"):
        sequence[0].observations[0] = 1
    arrays = sequence.transitions().arrays()
    tensor = torch.from_numpy(arrays.observations)
    assert tensor.shape == (10, 3)
    assert not [warning for warning in recwarn if warning.category is not ResourceWarning]  # those are other tests'
    tensor[0] = 77  # private to this process
    assert files_of("data") == before
    assert EpisodeSequence.load("data")[0].observations[0, 0] != 77


CHILD = """
import pickle, sys
sequence = pickle.load(open(sys.argv[1], "rb"))
batch = sequence.transitions().all()
print(len(sequence), float(batch.observations.sum()), sequence[-1].infos[0]["of"])
"""


def test_a_sequence_can_be_sent_to_another_process_that_opens_the_files_again():
    EpisodeSequence.from_episodes(episodes([400, 3, 5], infos=True)).save("data")
    sequence = EpisodeSequence.from_dataset("data", observation_space=VECTORS, action_space=MOVES)[1:]
    content = pickle.dumps(sequence)
    assert len(content) < 3_000
    Path("pickled").write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, "pickled"]
    children = [  # two readers at the same time
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)
    ]
    total = float(sequence.transitions().all().observations.sum())
    for child in children:
        count, found, number = child.communicate(timeout=60)[0].split()
        assert (int(count), float(found), int(number)) == (2, total, 2)
    again = pickle.loads(content)
    assert again.observation_space == VECTORS
    EpisodeSequence.from_episodes(episodes([1, 1, 1])).save("data", overwrite=True)
    with pytest.raises(EpisodeDataError, match="was replaced"):
        pickle.loads(content)


def test_sequences_in_memory_can_be_pickled_too():
    sequence = pickle.loads(pickle.dumps(EpisodeSequence.from_episodes(episodes([2, 3], infos=True))))
    assert all(same(one, other) for one, other in zip(sequence, episodes([2, 3], infos=True), strict=True))
    EpisodeSequence.from_episodes(episodes([2], infos=True)).save("data")
    assert list(pickle.loads(pickle.dumps(EpisodeSequence.load("data")[0].infos))) == [
        {"step": 0, "of": 0},
        {"step": 1, "of": 0},
    ]


def test_the_page_on_the_format_describes_what_is_written():
    EpisodeSequence.from_episodes(episodes([2], VECTORS, FORCES, infos=True)).save("data")
    page = (Path(__file__).parents[2] / "docs/episode-format.md").read_text()
    manifest = json.loads(Path("data/episodes.json").read_text())
    for name in [*manifest, *manifest["files"], *manifest["files"]["actions.npy"]]:
        assert f"`{name}`" in page, name
    assert np.load("data/actions.npy", mmap_mode="r").shape == (2, 2)  # NumPy alone can read it
    assert isinstance(open_data_set(Path("data")), StoredEpisodes)
