"""Small episodes for tests."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from rl_framework.episode import Episode

VECTORS = spaces.Box(-10, 10, (3,), np.float32)
IMAGES = spaces.Box(0, 255, (6, 5, 3), np.uint8)
NESTED = spaces.Dict(
    {"camera": spaces.Dict({"left": IMAGES, "right/..": spaces.Box(-1, 1, (2,))}), "goal": spaces.Discrete(4)}
)
MOVES = spaces.Discrete(3)
FORCES = spaces.Box(-1, 1, (2,), np.float32)
SWITCHES = spaces.MultiDiscrete([2, 5])

SPACES = {
    "vectors": (VECTORS, MOVES),
    "images": (IMAGES, FORCES),
    "nested": (NESTED, SWITCHES),
    "counts": (spaces.Discrete(7), spaces.MultiBinary(3)),
    "scalars": (spaces.Box(-1, 1, (), np.float64), spaces.Box(0, 1, (), np.float32)),
    "nothing": (spaces.Box(0, 1, (0,), np.float32), MOVES),
}


def stacked(space, count):
    """Returns samples of a space behind one another."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(part, count) for key, part in space.items()}
    return np.stack([np.asarray(space.sample(), space.dtype) for _ in range(count)])


def episodes(lengths, observation_space=VECTORS, action_space=MOVES, seed=0, infos=False):
    """Makes episodes of these lengths whose reward is their number, ended in every possible way."""
    observation_space.seed(seed)
    action_space.seed(seed + 1)
    return [
        Episode(
            stacked(observation_space, length + 1),
            stacked(action_space, length),
            np.full(length, float(number)),
            terminated=number % 3 == 0,
            truncated=number % 3 == 1,
            infos=[{"step": step, "of": number} for step in range(length)] if infos else None,
        )
        for number, length in enumerate(lengths)
    ]


def same_tree(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(same_tree(one[key], other[key]) for key in one)
    return one.dtype == other.dtype and np.array_equal(one, other)


def same(one, other):
    """Tells whether two episodes are equal, with their types and infos."""
    infos = [None if episode.infos is None else list(episode.infos) for episode in (one, other)]
    return (
        same_tree(one.observations, other.observations)
        and same_tree(one.actions, other.actions)
        and np.array_equal(one.rewards, other.rewards, equal_nan=True)
        and (one.terminated, one.truncated) == (other.terminated, other.truncated)
        and infos[0] == infos[1]
    )
