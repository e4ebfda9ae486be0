"""Episodes as trajectories of the imitation library, in memory and on disk."""

from pathlib import Path

import datasets
import numpy as np
import pytest
from imitation.algorithms import base
from imitation.data import rollout, serialize
from imitation.data.types import DictObs, Trajectory, TrajectoryWithRew
from tests.episode.formats.samples import SPACES, episodes, same, sequence

from rl_framework.episode.episode import Episode, as_episode
from rl_framework.episode.formats.imitation import (
    read_imitation_dataset,
    to_imitation_episodes,
    write_imitation_dataset,
)
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import ArgumentError, MissingExtraError, UnsupportedSpaceError

datasets.disable_progress_bars()

STORABLE = [kind for kind in SPACES if kind != "dict"]


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("infos", [True, False], ids=["infos", "none"])
def test_there_and_back(kind, infos):
    made = sequence(kind, infos=infos)
    trajectories = to_imitation_episodes(made)
    assert len(trajectories) == 3
    for trajectory, episode in zip(trajectories, made, strict=True):
        assert isinstance(trajectory, TrajectoryWithRew)
        assert isinstance(trajectory.obs, DictObs) == (kind == "dict")
        back = as_episode(trajectory)
        same(back, episode, infos=False)
        if infos:
            assert [info["step"] for info in back.infos] == [info["step"] for info in episode.infos]
    assert [trajectory.terminal for trajectory in trajectories] == [True, True, False]
    assert trajectories[0].infos is None or "TimeLimit.truncated" not in trajectories[0].infos[-1]
    assert trajectories[1].infos[-1]["TimeLimit.truncated"] is True


def test_slices_are_lazy_and_negative_indices_count_from_the_end():
    trajectories = to_imitation_episodes(sequence("vector"))
    assert [len(one) for one in trajectories[1:]] == [5, 1]
    assert len(trajectories[-1]) == 1
    with pytest.raises(IndexError):
        trajectories[3]


def test_what_the_environment_said_about_the_limit_gives_way_to_what_is_so():
    ended = Episode(np.zeros((2, 1)), np.zeros(1), np.zeros(1), True, False, [{"TimeLimit.truncated": True}])
    (trajectory,) = to_imitation_episodes(EpisodeSequence.from_episodes([ended]))
    assert as_episode(trajectory).terminated
    assert ended.infos[0] == {"TimeLimit.truncated": True}  # not changed


def test_the_library_flattens_them():
    made = sequence("dict")
    flat = rollout.flatten_trajectories_with_rew(to_imitation_episodes(made))
    batch = made.transitions().all()
    np.testing.assert_array_equal(flat.acts, batch.actions)
    np.testing.assert_array_equal(flat.rews, batch.rewards)
    np.testing.assert_array_equal(flat.next_obs.get("image"), batch.next_observations["image"])
    assert flat.dones.tolist() == [False, False, True, *[False] * 4, True, False]


def test_the_librarys_algorithms_load_them():
    # What BC, GAIL and AIRL do with their demonstrations; the others flatten them.
    made = sequence("vector")
    (batch,) = base.make_data_loader(to_imitation_episodes(made), batch_size=9, data_loader_kwargs={"shuffle": False})
    np.testing.assert_array_equal(batch["acts"].numpy(), made.transitions().all().actions)


def test_without_rewards_they_are_plain():
    (trajectory, *_) = to_imitation_episodes(sequence("vector", rewards=False))
    assert type(trajectory) is Trajectory


@pytest.mark.parametrize("kind", STORABLE)
@pytest.mark.parametrize("rewards", [True, False], ids=["rewards", "plain"])
def test_written_data_sets_are_what_the_library_writes(kind, rewards):
    made = sequence(kind, rewards=rewards)
    write_imitation_dataset(made, "ours")
    serialize.save("theirs", list(to_imitation_episodes(made)))
    ours, theirs = serialize.load("ours"), serialize.load("theirs")
    assert len(ours) == len(theirs) == 3
    assert ours.dataset.features == theirs.dataset.features
    for one, other in zip(ours, theirs, strict=True):
        assert type(one) is type(other)
        assert one == other
        assert list(one.infos) == list(other.infos)
    for path in ("ours", "theirs"):
        storage = read_imitation_dataset(path)
        for index, episode in enumerate(made):
            same(storage.read(index), episode, infos=False)


def test_arrays_in_infos_survive():
    infos = [{"a": np.arange(3.0), "b": np.float32(2), "c": "text", "d": (1, 2)}, {}]
    made = EpisodeSequence.from_episodes([Episode(np.zeros((3, 2)), np.zeros(2), np.zeros(2), True, False, infos)])
    write_imitation_dataset(made, "data")
    np.testing.assert_equal(list(read_imitation_dataset("data").read(0).infos), infos)
    np.testing.assert_equal(list(serialize.load("data")[0].infos), infos)


def test_many_episodes_are_written_in_batches(monkeypatch):
    monkeypatch.setattr("rl_framework.episode.formats.imitation.writing._BATCH_EPISODES", 2)
    made = sequence("vector", lengths=(3, 1, 4, 1, 5))
    write_imitation_dataset(made, "data")
    storage = read_imitation_dataset("data")
    assert storage.lengths.tolist() == [len(one) for one in serialize.load("data")] == [3, 1, 4, 1, 5]
    for index, episode in enumerate(made):
        same(storage.read(index), episode, infos=False)


def test_what_the_format_cannot_hold_is_said():
    with pytest.raises(UnsupportedSpaceError, match=r"cannot store dict observations \(its DictObs\).*`save`"):
        write_imitation_dataset(sequence("dict"), "data")
    mixed = EpisodeSequence.from_episodes([*episodes("vector"), *episodes("vector", rewards=False)])
    with pytest.raises(ArgumentError, match="rewards of 3 of 6 episodes are not known"):
        write_imitation_dataset(mixed, "data")
    with pytest.raises(ArgumentError, match="has no episodes"):
        write_imitation_dataset(sequence("vector")[:0], "data")
    assert list(Path().iterdir()) == []


def test_nothing_is_overwritten_and_nothing_half_written_is_left(monkeypatch):
    write_imitation_dataset(sequence("vector"), "data")
    with pytest.raises(ArgumentError, match="exists already"):
        write_imitation_dataset(sequence("image"), "data")
    assert len(read_imitation_dataset("data")) == 3

    def break_off(path, *arguments):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("rl_framework.episode.formats.imitation.writing._write_arrow", break_off)
    with pytest.raises(OSError, match="no space left"):
        write_imitation_dataset(sequence("vector"), Path("folder/other"))
    assert list(Path("folder").iterdir()) == []


@pytest.mark.parametrize("module", ["pyarrow", "imitation"])
def test_a_missing_extra_is_named(module, monkeypatch):
    write_imitation_dataset(sequence("vector"), "data")
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None if name == module else object())
    with pytest.raises(MissingExtraError, match=rf"'{module}' is needed for .*pip install .rl-framework\[imitation\]"):
        read_imitation_dataset("data") if module == "pyarrow" else to_imitation_episodes(sequence("vector"))
