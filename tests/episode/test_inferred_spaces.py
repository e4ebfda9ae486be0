"""Spaces guessed from numbers."""

import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.episode import infer_spaces
from rl_framework.errors import EpisodeDataError

OBSERVATIONS = {
    "floats": (np.zeros((2, 3)), spaces.Box(-np.inf, np.inf, (3,), np.float64)),
    "one_float": (np.zeros(2, np.float32), spaces.Box(-np.inf, np.inf, (), np.float32)),
    "image": (np.zeros((2, 8, 9, 3), np.uint8), spaces.Box(0, 255, (8, 9, 3), np.uint8)),
    "integers": (np.zeros((2, 3), np.int16), spaces.Box(-(2**15), 2**15 - 1, (3,), np.int16)),
    "count": (np.array([0, 6]), spaces.Discrete(7)),
    "bools": (np.zeros((2, 3), bool), spaces.MultiBinary((3,))),
    "dict": (
        {"z": np.array([1, 2]), "a": {"b": np.zeros((2, 1), np.float32)}},
        spaces.Dict(
            [("z", spaces.Discrete(3)), ("a", spaces.Dict({"b": spaces.Box(-np.inf, np.inf, (1,), np.float32)}))]
        ),
    ),
}
ACTIONS = {
    "count": (np.array([0, 3, 1], np.int32), spaces.Discrete(4)),
    "counts": (np.array([[0, 3], [1, 0]], np.uint8), spaces.MultiDiscrete([2, 4])),
    "floats": (np.zeros((2, 3), np.float32), spaces.Box(-np.inf, np.inf, (3,), np.float32)),
    "bool": (np.array([True]), spaces.Discrete(2)),
    "bools": (np.array([[True, False]]), spaces.MultiBinary((2,))),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations(name):
    array, space = OBSERVATIONS[name]
    guessed, _ = infer_spaces(array, np.array([0]))
    assert guessed == space
    assert guessed.dtype == space.dtype
    assert list(getattr(guessed, "spaces", [])) == list(getattr(space, "spaces", []))


@pytest.mark.parametrize("name", ACTIONS)
def test_actions(name):
    array, space = ACTIONS[name]
    _, guessed = infer_spaces(np.zeros((2, 1)), array)
    assert guessed == space


def test_negative_choices_are_not_guessed():
    with pytest.raises(EpisodeDataError, match=r"actions\[1\] is .*-2.*Give action_space"):
        infer_spaces(np.zeros((2, 1)), np.array([[0, 1], [3, -2]]))
    with pytest.raises(EpisodeDataError, match=r"observations\['a'\]\[0\].*Give observation_space"):
        infer_spaces({"a": np.array([-1, 0])}, np.array([0]))


def test_the_package_loads_no_heavy_library():
    code = (
        "import sys; import rl_framework.episode;"
        "print([name for name in ('torch', 'stable_baselines3', 'imitation', 'datasets', 'pyarrow', 'minari', 'd3rlpy',"
        " 'pygame') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
