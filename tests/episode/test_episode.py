"""One episode: what fits together, and the forms it can come in."""

import pickle

import numpy as np
import pytest

from rl_framework.episode import Episode
from rl_framework.episode.episode import as_episode
from rl_framework.errors import EpisodeDataError


def make(length=3, **changes):
    parts = {
        "observations": np.zeros((length + 1, 2)),
        "actions": np.zeros(length, np.int64),
        "rewards": np.arange(length, dtype=np.float32),
        "terminated": True,
        "truncated": False,
        **changes,
    }
    return Episode(**parts)


def test_an_episode_has_its_length_and_return():
    episode = make(4, infos=[{}] * 4)
    assert len(episode) == 4
    assert episode.episode_return == 6.0
    assert repr(episode) == "Episode(4 steps, return 6, terminated)"
    assert "a fragment" in repr(make(terminated=False))
    assert np.isnan(make(rewards=np.full(3, np.nan)).episode_return)


def test_lists_become_arrays_and_whole_rewards_floats():
    episode = make(observations=[[0, 1]] * 4, actions=[1, 0, 1], rewards=[1, 2, 3], terminated=np.True_)
    assert episode.observations.shape == (4, 2)
    assert episode.rewards.dtype == np.float64
    assert episode.terminated is True
    assert make(observations={"a": [1, 2, 3, 4]}).observations["a"].shape == (4,)


WRONG = {
    "no_steps": ({"length": 0}, "no steps"),
    "too_few_observations": ({"observations": np.zeros((3, 2))}, r"observations has the shape \(3, 2\).*need 4"),
    "a_part_too_few": (
        {"observations": {"a": np.zeros(4), "b": {"c": np.zeros(3)}}},
        r"observations\['b'\]\['c'\] has the shape \(3,\)",
    ),
    "no_parts": ({"observations": {}}, "dict without arrays"),
    "rewards": ({"rewards": np.zeros(2)}, r"rewards has the shape \(2,\)"),
    "reward_columns": ({"rewards": np.zeros((3, 1))}, "rewards has the shape"),
    "infos": ({"infos": [{}]}, "infos has 1 entries"),
    "flags_of_steps": ({"terminated": np.array([False, False, True])}, "terminated is .* not a bool"),
    "objects": ({"actions": np.array([None, 1, 2])}, "array of object"),
    "ragged": ({"actions": [[1], [1, 2], [3]]}, "no array"),
    "one_action": ({"actions": np.int64(3)}, "no steps"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_together_is_refused(name):
    changes, message = WRONG[name]
    with pytest.raises(EpisodeDataError, match=message):
        make(**changes)


def steps_of(count=3):
    return [(np.array([t]), t, np.array([t + 1]), 1.0, t == count - 1, False, {"t": t}) for t in range(count)]


def test_generic_steps_become_an_episode():
    episode = Episode.from_steps(steps_of())
    assert episode.observations.tolist() == [[0], [1], [2], [3]]
    assert episode.actions.tolist() == [0, 1, 2]
    assert (episode.terminated, episode.truncated) == (True, False)
    assert list(episode.infos) == [{"t": 0}, {"t": 1}, {"t": 2}]
    assert same_as_dict(as_episode([({"x": o}, a, {"x": n}, r, d, c, i) for o, a, n, r, d, c, i in steps_of()]))


def same_as_dict(episode):
    return episode.observations["x"].tolist() == [[0], [1], [2], [3]]


def test_generic_steps_that_are_no_episode_are_refused():
    steps = steps_of()
    with pytest.raises(EpisodeDataError, match=r"step 1 is .* not a tuple"):
        Episode.from_steps([steps[0], steps[1][:5]])
    with pytest.raises(EpisodeDataError, match="step 2 of 4 says that the episode ended"):
        Episode.from_steps([*steps, steps[0]])
    with pytest.raises(EpisodeDataError, match="the observation of step 1 is not what"):
        Episode.from_steps([steps[0], steps[2]])
    with pytest.raises(EpisodeDataError, match="no steps"):
        Episode.from_steps([])
    with pytest.raises(EpisodeDataError, match="3 is no episode"):
        as_episode(3)


class Trajectory:
    def __init__(self, terminal, infos, rews=None):
        self.obs, self.acts, self.terminal, self.infos = np.zeros((3, 1)), np.zeros(2), terminal, infos
        if rews is not None:
            self.rews = rews


def test_trajectories_of_the_imitation_library_become_episodes():
    episode = as_episode(Trajectory(True, None, np.ones(2)))
    assert (episode.terminated, episode.truncated, episode.episode_return) == (True, False, 2.0)
    cut = as_episode(Trajectory(True, [{}, {"TimeLimit.truncated": True}]))
    assert (cut.terminated, cut.truncated) == (False, True)
    assert np.isnan(cut.rewards).all()
    fragment = as_episode(Trajectory(False, None))
    assert (fragment.terminated, fragment.truncated) == (False, False)


def test_an_episode_can_be_pickled():
    episode = make(infos=[{"a": 1}] * 3)
    again = pickle.loads(pickle.dumps(episode))
    assert np.array_equal(again.rewards, episode.rewards)
    assert again.infos == episode.infos
