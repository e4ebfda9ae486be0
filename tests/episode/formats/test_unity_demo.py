"""Recordings of ML-Agents: read as they were shown, and refused where they are damaged. None was made by Unity."""

import zlib

import numpy as np
import pytest
from gymnasium import spaces
from tests.episode.formats.demo_writer import Shown, delimited, write_demo

from rl_framework.episode import EpisodeSequence
from rl_framework.errors import ArgumentError, EpisodeDataError, UnsupportedSpaceError

pytest.importorskip("mlagents_envs")

KINDS = {"continuous": (2, ()), "discrete": (0, (5,)), "branches": (0, (3, 4))}
ENDS = ("terminated", "truncated", "open")


def shown(length, n_continuous, branches, seed=0, image=False, **more):
    random = np.random.default_rng(seed)
    observations = [random.normal(size=(length + 1, 3)).astype(np.float32)]
    if image:
        observations.insert(0, random.integers(0, 256, (length + 1, 6, 8, 3), np.uint8))
    discrete = np.stack([random.integers(0, size, length) for size in branches], axis=1) if branches else None
    continuous = random.uniform(-1, 1, (length, n_continuous)).astype(np.float32)
    return Shown(observations, continuous, discrete, random.normal(size=length).astype(np.float32).tolist(), **more)


def three(n_continuous, branches, **more):
    return [shown(3 + index, n_continuous, branches, seed=index, end=end, **more) for index, end in enumerate(ENDS)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "Shown.demo"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_shown_is_read(kind, path):
    episodes = three(*KINDS[kind])
    write_demo(path, episodes, *KINDS[kind])
    sequence = EpisodeSequence.from_unity_demo(path)
    assert not sequence.spaces_are_inferred
    assert sequence.observation_space == spaces.Box(-np.inf, np.inf, (3,))
    wanted = {
        "continuous": spaces.Box(-1, 1, (2,)),
        "discrete": spaces.Discrete(5),
        "branches": spaces.MultiDiscrete([3, 4]),
    }
    assert sequence.action_space == wanted[kind]
    assert [(each.terminated, each.truncated) for each in sequence] == [(True, False), (False, True), (False, False)]
    for episode, truth in zip(sequence, episodes, strict=True):
        np.testing.assert_array_equal(episode.observations, truth.observations[0])
        actions = truth.continuous if kind == "continuous" else truth.discrete
        np.testing.assert_array_equal(episode.actions, np.reshape(actions, (len(truth), *sequence.action_space.shape)))
        np.testing.assert_array_equal(episode.rewards, truth.rewards)
        assert episode.infos is None


def test_images_are_as_in_the_adapter(path):
    episode = shown(4, 2, (), image=True)
    write_demo(path, [episode], 2)
    sequence = EpisodeSequence.from_unity_demo(path)
    assert sequence.observation_space == spaces.Dict(
        {"obs_0": spaces.Box(0, 255, (6, 8, 3), np.uint8), "obs_1": spaces.Box(-np.inf, np.inf, (3,))}
    )
    np.testing.assert_array_equal(sequence[0].observations["obs_0"], episode.observations[0])
    np.testing.assert_array_equal(sequence[0].observations["obs_1"], episode.observations[1])
    as_float = EpisodeSequence.from_unity_demo(path, visual_observations="float")
    np.testing.assert_allclose(as_float[0].observations["obs_0"] * 255, episode.observations[0], atol=1e-4)


def test_actions_stand_one_record_late_unless_it_is_said(path):
    episode = shown(5, 2, ())
    write_demo(path, [episode], 2)
    late = EpisodeSequence.from_unity_demo(path, shifted=False)[0].actions
    np.testing.assert_array_equal(late, np.concatenate([np.zeros((1, 2)), episode.continuous[:-1]]))
    write_demo(path, [episode], 2, shifted=False)
    np.testing.assert_array_equal(EpisodeSequence.from_unity_demo(path, shifted=False)[0].actions, episode.continuous)


def test_agents_that_take_turns_and_one_that_ends_before_it_acts(path):
    episodes = [shown(3, 2, (), agent=7), shown(5, 2, (), seed=1, agent=8), shown(0, 2, (), agent=9)]
    write_demo(path, episodes, 2, interleaved=True)
    sequence = EpisodeSequence.from_unity_demo(path)
    assert sequence.lengths.tolist() == [3, 5]
    np.testing.assert_array_equal(sequence[1].actions, episodes[1].continuous)


@pytest.mark.parametrize("kind", ["continuous", "branches"])
def test_a_recorder_that_was_not_closed_and_the_old_protocol(kind, path):
    episodes = three(*KINDS[kind])
    write_demo(path, episodes, *KINDS[kind])
    wanted = EpisodeSequence.from_unity_demo(path).transitions().all().actions
    for more in ({"closed": False}, {"old": True}):
        write_demo(path, episodes, *KINDS[kind], **more)
        np.testing.assert_array_equal(EpisodeSequence.from_unity_demo(path).transitions().all().actions, wanted)


def test_masks_and_group_rewards(path):
    masks = [[False, True, False, False, True]] * 2 + [[True, False, False, False, False]] * 2
    episode = shown(3, 0, (5,), masks=masks, group_rewards=[10.0, 20.0, 30.0])
    write_demo(path, [episode], 0, (5,))
    read = EpisodeSequence.from_unity_demo(path)[0]
    assert [info.get("action_mask", np.array([])).tolist() for info in read.infos] == [
        [True, False, True, True, False],
        [False, True, True, True, True],
        [],
    ]
    np.testing.assert_allclose(read.rewards, np.add(episode.rewards, [10, 20, 30]), rtol=1e-6)
    alone = EpisodeSequence.from_unity_demo(path, group_rewards="info")[0]
    np.testing.assert_array_equal(alone.rewards, episode.rewards)


def test_both_kinds_of_actions(path):
    episode = shown(4, 1, (3,))
    write_demo(path, [episode], 1, (3,))
    with pytest.raises(UnsupportedSpaceError, match=r'hybrid_actions="scores" or "bins"'):
        EpisodeSequence.from_unity_demo(path)
    scores = EpisodeSequence.from_unity_demo(path, hybrid_actions="scores")
    assert scores.action_space == spaces.Box(-1, 1, (4,))
    np.testing.assert_array_equal(scores[0].actions[:, 1:].argmax(axis=1), episode.discrete[:, 0])
    np.testing.assert_array_equal(scores[0].actions[:, :1], episode.continuous)
    bins = EpisodeSequence.from_unity_demo(path, hybrid_actions="bins", n_bins=21)
    assert bins.action_space == spaces.MultiDiscrete([21, 3])
    assert np.abs(bins[0].actions[:, 0] / 10 - 1 - episode.continuous[:, 0]).max() <= 0.05
    np.testing.assert_array_equal(bins[0].actions[:, 1], episode.discrete[:, 0])


def test_actions_beyond_the_bounds_are_clipped_and_said(path, caplog):
    episode = shown(4, 2, ())
    episode.continuous[1] = [-42.5, 0.5]
    write_demo(path, [episode], 2)
    np.testing.assert_array_equal(EpisodeSequence.from_unity_demo(path)[0].actions[1], [-1.0, 0.5])
    assert "actions beyond -1 and 1, such as 42.5, are clipped" in caplog.text


def test_a_folder(tmp_path):
    for name, count in (("b", 2), ("a", 1)):
        write_demo(tmp_path / f"{name}.demo", [shown(count, 2, ())] * count, 2)
    (tmp_path / "a.demo.meta").write_text("Unity puts such a file beside each")
    assert EpisodeSequence.from_unity_demo(tmp_path).lengths.tolist() == [1, 2, 2]
    write_demo(tmp_path / "c.demo", [shown(1, 3, ())], 3)
    with pytest.raises(EpisodeDataError, match=r"c\.demo: has .* 3 continuous .*a\.demo has .* 2 continuous"):
        EpisodeSequence.from_unity_demo(tmp_path)
    (tmp_path / "empty").mkdir()
    for missing in ("empty", "nowhere"):
        with pytest.raises(ArgumentError, match=missing):
            EpisodeSequence.from_unity_demo(tmp_path / missing)


# Damaged and hostile files


def refused(path, data, match):
    path.write_bytes(data)
    with pytest.raises(EpisodeDataError, match=match) as caught:
        EpisodeSequence.from_unity_demo(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_cut_short_says_where(path):
    offsets = write_demo(path, three(2, ()), 2)
    whole = path.read_bytes()
    assert f"at byte {offsets[5]}: is cut short: it holds 5 of 15 records" in refused(
        path, whole[: offsets[5]], "cut short"
    )
    assert f"at byte {offsets[5]}: record 5 says" in refused(path, whole[: offsets[6] - 3], "not there")
    for end in (0, 1, 20, 34, offsets[0] - 1, offsets[0]):
        refused(path, whole[:end], "at byte")
    refused(path, b"These are words and no recording, however long they may be. " * 9, "at byte 0")


def test_damage_is_never_another_error(path):
    write_demo(path, [shown(3, 1, (3,), image=True), shown(2, 1, (3,), image=True)], 1, (3,))
    whole, random, read = path.read_bytes(), np.random.default_rng(0), 0
    said: list[str] = []
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(256)
        path.write_bytes(bytes(data))
        try:
            EpisodeSequence.from_unity_demo(path, hybrid_actions="scores")
            read += 1
        except EpisodeDataError as error:
            said.append(str(error))
    assert 0 < read < 150
    assert all(path.name in text for text in said)


def hostile(path, change, n_continuous=2, branches=()):
    """A file of one record that `change` has changed."""
    from mlagents_envs.communicator_objects import agent_info_action_pair_pb2, brain_parameters_pb2

    start = write_demo(path, [shown(1, n_continuous, branches, image=True)], n_continuous, branches)
    data = path.read_bytes()
    parameters = brain_parameters_pb2.BrainParametersProto.FromString(data[34 : start[0]])
    pair = agent_info_action_pair_pb2.AgentInfoActionPairProto.FromString(data[start[0] + 2 : start[1]])
    change(parameters, pair)
    return data[:33] + delimited(parameters) + delimited(pair) * 2


def huge_image(parameters, pair):
    image = pair.agent_info.observations[0]
    header = image.compressed_data[:16] + (60_000).to_bytes(4, "big") * 2 + image.compressed_data[24:29]
    checksum = zlib.crc32(header[12:]).to_bytes(4, "big")
    image.compressed_data = header + checksum + image.compressed_data[33:]


def other_format(parameters, pair):
    pair.agent_info.observations[0].compressed_data = b"%!PS-Adobe-3.0 EPSF-3.0\n"


def broken_image(parameters, pair):
    image = pair.agent_info.observations[0]
    image.compressed_data = image.compressed_data[:45] + b"\xff" * 20 + image.compressed_data[65:]


def huge_shape(parameters, pair):
    pair.agent_info.observations[1].shape[:] = [2**20, 2**10]


def negative_shape(parameters, pair):
    pair.agent_info.observations[1].shape[:] = [-1]


def too_few_values(parameters, pair):
    del pair.agent_info.observations[1].float_data.data[1:]


def not_finite(parameters, pair):
    pair.agent_info.observations[1].float_data.data[1] = float("nan")


def action_not_finite(parameters, pair):
    pair.action_info.continuous_actions[0] = float("nan")


def many_actions(parameters, pair):
    parameters.action_spec.num_continuous_actions = 2**31 - 1


def many_branches(parameters, pair):
    parameters.action_spec.num_continuous_actions = 0
    parameters.action_spec.num_discrete_actions = 2
    parameters.action_spec.discrete_branch_sizes[:] = [2**31 - 1, 3]


def negative_branch(parameters, pair):
    parameters.action_spec.num_discrete_actions = 1
    parameters.action_spec.discrete_branch_sizes[:] = [-1]


def no_actions(parameters, pair):
    parameters.action_spec.num_continuous_actions = 0


def no_sensor(parameters, pair):
    del pair.agent_info.observations[:]


def unknown_type(parameters, pair):
    pair.agent_info.observations[1].observation_type = 77


HOSTILE = {
    huge_image: r"size \(60000, 60000\) for the shape \(6, 8, 3\)",
    other_format: "no PNG",
    broken_image: "is damaged",
    huge_shape: "says that it has the shape",
    negative_shape: "none",
    too_few_values: r"1 values for the shape \(3,\)",
    not_finite: "NaN",
    action_not_finite: "an action is not finite",
    many_actions: "2 continuous and 0 discrete actions, but behaviour .* has 2147483647 and 0",
    many_branches: "branches of",
    negative_branch: "branches of",
    no_actions: "has no actions",
    no_sensor: "it observes nothing",
    unknown_type: "77",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_a_hostile_record_is_refused(change, path):
    refused(path, hostile(path, change), HOSTILE[change])


def test_a_choice_outside_its_branch_is_refused(path):
    def change(parameters, pair):
        pair.action_info.discrete_actions[0] = 3

    refused(path, hostile(path, change, 0, (3,)), r"the choices \[3\] are not in branches of \[3\], from 0")


def test_an_unknown_version_is_refused(path):
    from mlagents_envs.communicator_objects.demonstration_meta_pb2 import DemonstrationMetaProto

    write_demo(path, [shown(1, 2, ())], 2)
    about = DemonstrationMetaProto(api_version=2, number_steps=2)
    refused(path, delimited(about).ljust(33, b"\0") + path.read_bytes()[33:], "version 2 of the format is not known")
