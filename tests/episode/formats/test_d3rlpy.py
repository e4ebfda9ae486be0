"""Episodes as d3rlpy takes them."""

import d3rlpy
import numpy as np
import pytest
from gymnasium import spaces
from tests.episode.formats.samples import sequence

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.d3rlpy import (
    d3rlpy_actions,
    d3rlpy_observations,
    gymnasium_actions,
    to_d3rlpy_episodes,
)
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import UnsupportedSpaceError

FORMS = {
    "vector": ((5, 4), np.float32, (5, 1), np.int64),
    "continuous": ((5, 3), np.float32, (5, 2), np.float32),
    "discrete": ((5, 5), np.float32, (5, 1), np.int64),
    "image": ((5, 3, 6, 5), np.uint8, (5, 1), np.int64),
}


@pytest.mark.parametrize("kind", FORMS)
def test_forms(kind):
    made = sequence(kind)
    episodes = to_d3rlpy_episodes(made)
    one = episodes[1]
    shape, dtype, action_shape, action_dtype = FORMS[kind]
    assert isinstance(one, d3rlpy.dataset.Episode)
    assert (one.observations.shape, one.observations.dtype) == (shape, dtype)
    assert (one.actions.shape, one.actions.dtype) == (action_shape, action_dtype)
    assert (one.rewards.shape, one.rewards.dtype) == ((5, 1), np.float32)
    assert [episode.terminated for episode in episodes] == [True, False, False]
    np.testing.assert_allclose(one.compute_return(), made[1].episode_return, rtol=1e-5)


@pytest.mark.parametrize("kind", FORMS)
def test_d3rlpy_takes_them(kind):
    made = sequence(kind, lengths=(3, 5, 2))
    discrete = kind != "continuous"
    buffer = d3rlpy.dataset.ReplayBuffer(
        d3rlpy.dataset.InfiniteBuffer(),
        episodes=to_d3rlpy_episodes(made),
        action_space=d3rlpy.constants.ActionSpace.DISCRETE if discrete else d3rlpy.constants.ActionSpace.CONTINUOUS,
        action_size=3 if discrete else 2,
    )
    # All three steps of the episode that terminated, and all but the last of the others.
    assert buffer.transition_count == 3 + 4 + 1
    batch = buffer.sample_transition_batch(8)
    assert batch.actions.shape == (8, 1 if discrete else 2)


def test_values():
    made = sequence("image")
    (one, *_) = to_d3rlpy_episodes(made)
    np.testing.assert_array_equal(one.observations[2, 1], made[0].observations[2, :, :, 1])
    np.testing.assert_array_equal(one.actions[:, 0], made[0].actions)
    hot = d3rlpy_observations(np.array([3, 5]), spaces.Discrete(4, start=2))
    assert hot.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    many = d3rlpy_observations(np.array([[0, 2], [1, 0]]), spaces.MultiDiscrete([2, 3]))
    assert many.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    assert d3rlpy_observations(np.ones((2, 3), np.int8), spaces.MultiBinary(3)).tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((84, 84, 3), (3, 84, 84)), ((4, 84, 84), (4, 84, 84)), ((210, 160, 1), (1, 210, 160)), ((7, 7, 3), (3, 7, 7))],
    ids=str,
)
def test_channels_come_first(shape, expected):
    space = spaces.Box(0, 255, shape, np.uint8)
    assert d3rlpy_observations(space.sample()[None], space).shape == (1, *expected)


def test_a_dict_is_a_list_in_the_order_of_the_space():
    one = to_d3rlpy_episodes(sequence("dict"))[1]
    assert [part.shape for part in one.observations] == [(5, 3, 8, 6), (5, 3), (5, 4)]
    assert one.observation_signature.shape == [(3, 8, 6), (3,), (4,)]


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3, start=5), spaces.Box(-1, 1, (2, 3), np.float64), spaces.Box(0, 9, (2,), np.int32)],
    ids=["discrete", "matrix", "whole"],
)
def test_actions_there_and_back(space):
    actions = np.stack([space.sample() for _ in range(4)])
    back = gymnasium_actions(d3rlpy_actions(actions, space), space)
    np.testing.assert_allclose(back, actions, rtol=1e-6)
    assert all(space.contains(action) for action in back)


def test_discrete_actions_are_counted_from_0():
    assert d3rlpy_actions(np.array([5, 7]), spaces.Discrete(3, start=5)).tolist() == [[0], [2]]


def test_what_d3rlpy_does_not_know_is_said():
    with pytest.raises(UnsupportedSpaceError, match="d3rlpy knows Box and Discrete actions"):
        to_d3rlpy_episodes(sequence("binary"))
    nested = Episode({"a": {"b": np.zeros((2, 1))}}, np.zeros(1), np.zeros(1), True, False)
    with pytest.raises(UnsupportedSpaceError, match="no dict within a dict"):
        to_d3rlpy_episodes(EpisodeSequence.from_episodes([nested]))
