"""Episodes as lists of steps."""

import numpy as np
import pytest
from tests.episode.formats.samples import SPACES, same, sequence

from rl_framework.episode.episode import Episode
from rl_framework.episode.formats.generic import to_generic_episodes
from rl_framework.episode.sequence import EpisodeSequence
from rl_framework.errors import EpisodeDataError


@pytest.mark.parametrize("kind", SPACES)
def test_there_and_back(kind):
    made = sequence(kind)
    generic = to_generic_episodes(made)
    assert [len(steps) for steps in generic] == [3, 5, 1]
    for steps, episode in zip(generic, made, strict=True):
        assert all(type(step) is tuple and len(step) == 7 for step in steps)
        same(Episode.from_steps(steps), episode)


def test_what_is_in_a_step():
    made = sequence("vector")
    observation, action, following, reward, terminated, truncated, info = to_generic_episodes(made)[1][4]
    np.testing.assert_array_equal(observation, made[1].observations[4])
    np.testing.assert_array_equal(following, made[1].observations[5])
    assert (action, reward) == (made[1].actions[4], made[1].rewards[4])
    assert (type(reward), terminated, truncated, info["step"]) == (float, False, True, 4)
    assert [step[4:6] for step in to_generic_episodes(made)[0]] == [(False, False), (False, False), (True, False)]


def test_without_infos_each_step_has_its_own_empty_one():
    steps = to_generic_episodes(sequence("vector", infos=False))[0]
    steps[0][6]["a"] = 1
    assert steps[1][6] == {}


def test_a_sequence_is_made_of_them():
    made = sequence("dict")
    again = EpisodeSequence.from_episode_generator(iter(to_generic_episodes(made)), 3)
    for one, other in zip(again, made, strict=True):
        same(one, other)


def test_a_step_that_does_not_follow_is_named():
    steps = list(to_generic_episodes(sequence("dict"))[1])
    broken = {key: array + 1 for key, array in steps[3][0].items()}
    steps[3] = (broken, *steps[3][1:])
    with pytest.raises(EpisodeDataError, match="the observation of step 3 is not what the step before it led to"):
        Episode.from_steps(steps)
