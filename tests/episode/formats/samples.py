"""Episodes and trajectories that the tests of formats share."""

import numpy as np
from gymnasium import spaces

from rl_framework.episode.episode import Episode
from rl_framework.episode.sequence import EpisodeSequence

BOX = spaces.Box(-np.inf, np.inf, (4,), np.float32)
SPACES = {
    "vector": (BOX, spaces.Discrete(2)),
    "continuous": (spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Box(-np.inf, np.inf, (2,), np.float32)),
    "discrete": (spaces.Discrete(5), spaces.Discrete(3)),
    "image": (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.Discrete(2)),
    "binary": (spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])),
    "dict": (
        spaces.Dict([("image", spaces.Box(0, 255, (8, 6, 3), np.uint8)), ("goal", spaces.Discrete(3)), ("a", BOX)]),
        spaces.Discrete(2),
    ),
}


def episodes(kind, lengths=(3, 5, 1), infos=True, rewards=True, seed=0):
    """Random episodes: the first terminated, the second was truncated, the third is a fragment, and so on."""
    observation_space, action_space = SPACES[kind]
    observation_space.seed(seed)
    action_space.seed(seed)
    generator = np.random.default_rng(seed)
    made = []
    for index, length in enumerate(lengths):
        observations = [observation_space.sample() for _ in range(length + 1)]
        if isinstance(observation_space, spaces.Dict):
            stacked = {key: np.stack([row[key] for row in observations]) for key in observation_space.spaces}
        else:
            stacked = np.stack(observations)
        made.append(
            Episode(
                stacked,
                np.stack([action_space.sample() for _ in range(length)]),
                generator.standard_normal(length) if rewards else np.full(length, np.nan),
                index % 3 == 0,
                index % 3 == 1,
                [{"step": step, "name": "a"} for step in range(length)] if infos else None,
            )
        )
    return made


def sequence(kind, **options):
    return EpisodeSequence.from_episodes(episodes(kind, **options), *SPACES[kind])


def same(one, other, infos=True):
    """Asserts that two episodes hold the same."""
    np.testing.assert_equal(one.observations, other.observations)
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.rewards, other.rewards)
    assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
    if infos:
        assert (one.infos is None) == (other.infos is None)
        if one.infos is not None:
            np.testing.assert_equal(list(one.infos), list(other.infos))
