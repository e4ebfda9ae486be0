"""Sensors and actions of Unity in gymnasium's spaces, without a player."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.environment.unity.options import make_options
from rl_framework.environment.unity.spaces import BehaviorSpaces
from rl_framework.errors import EnvironmentSourceError, RLFrameworkError


def _behavior(*shapes: tuple[int, ...], continuous: int = 2, branches: tuple[int, ...] = (), **options: Any) -> Any:
    sensors = [SimpleNamespace(name=f"Sensor{index}", shape=shape) for index, shape in enumerate(shapes)]
    actions = SimpleNamespace(continuous_size=continuous, discrete_branches=branches)
    specification = SimpleNamespace(observation_specs=sensors, action_spec=actions)
    return BehaviorSpaces("Cat", specification, make_options(options))


class _Steps:
    def __init__(self, *arrays: Any, mask: Any = None) -> None:
        self.obs = [np.asarray(array, np.float32) for array in arrays]
        self.action_mask = mask

    def __len__(self) -> int:
        return len(self.obs[0])


def test_every_kind_of_sensor() -> None:
    """Named so that the order of ML-Agents is the order of a `Dict`, which sorts its names."""
    behavior = _behavior((8, 8, 3), (5,), (4, 2))
    space = behavior.observation_space
    assert list(space) == ["obs_0", "obs_1", "obs_2"]
    assert (space["obs_0"].dtype, space["obs_1"].shape, space["obs_2"].shape) == (np.uint8, (5,), (4, 2))
    random = np.random.default_rng(0)
    arrays = random.random((3, 8, 8, 3)), random.normal(size=(3, 5)), random.normal(size=(3, 4, 2))
    observations = behavior.observations(_Steps(*arrays))
    assert len(observations) == 3
    for row, observation in enumerate(observations):
        assert observation in space
        assert np.abs(observation["obs_0"] / 255 - arrays[0][row]).max() < 0.5 / 255 + 1e-6
        assert observation["obs_2"] == pytest.approx(arrays[2][row], abs=1e-6)
    assert behavior.nothing() in space


def test_ten_sensors_are_in_order() -> None:
    behavior = _behavior(*[(size,) for size in range(1, 13)])
    observation = behavior.observations(_Steps(*[np.full((1, size), size) for size in range(1, 13)]))[0]
    assert observation in behavior.observation_space
    assert all(observation[f"obs_{index}"].shape == (index + 1,) for index in range(12))


def test_a_sensor_that_is_no_image_says_what_to_do() -> None:
    steps = _Steps(np.full((1, 4, 4, 2), 3.0))
    with pytest.raises(RLFrameworkError, match=r"'Sensor0' .*from 3 to 3.*\"visual_observations\": \"float\""):
        _behavior((4, 4, 2)).observations(steps)
    (observation,) = _behavior((4, 4, 2), visual_observations="float").observations(steps)
    assert (observation == 3.0).all()


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5, 1), (3, 6, 5), (6, 5, 4)], ids=["rgb", "grey", "first", "stacked"])
def test_pictures_have_three_channels_last(shape: tuple[int, ...]) -> None:
    behavior = _behavior((2,), shape)
    picture = behavior.image({"obs_0": np.zeros(2), "obs_1": np.full(shape, 7, np.uint8)})
    assert picture.shape == (6, 5, 3)
    assert (picture == 7).all()
    assert _behavior((2,)).image(np.zeros(2)) is None


def test_actions_and_masks() -> None:
    mask = [np.array([[False, True, False]]), np.array([[True, False]])]  # ML-Agents says what is forbidden
    steps = _Steps(np.zeros((1, 2)), mask=mask)
    allowed = np.array([True, False, True, False, True])
    scores = _behavior((2,), continuous=1, branches=(3, 2), hybrid_actions="scores")
    assert scores.masks(steps)[0].tolist() == allowed.tolist()
    assert list(scores.mask_info(allowed)) == ["discrete_action_mask"]
    continuous, discrete = scores.actions([np.array([0.5, 0.1, 0.9, 0.2, 1.0, -1.0])], [allowed])
    assert (continuous.tolist(), discrete.tolist()) == ([[0.5]], [[2, 1]])

    bins = _behavior((2,), continuous=1, branches=(3, 2), hybrid_actions="bins", n_bins=5)
    assert bins.action_space == spaces.MultiDiscrete([5, 3, 2])
    assert bins.mask_info(allowed)["action_mask"].tolist() == [True] * 5 + allowed.tolist()
    continuous, discrete = bins.actions([np.array([place, 1, 0]) for place in range(5)], [allowed] * 5)
    assert continuous[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]

    only = _behavior((2,), continuous=0, branches=(3, 2))
    assert only.mask_info(allowed)["action_mask"] is allowed
    assert only.masks(_Steps(np.zeros((1, 2))))[0].all()
    assert _behavior((2,)).masks(steps) == [None]
    assert _behavior((2,)).actions([np.array([3.0, -0.5])], [None])[0].tolist() == [[1.0, -0.5]]


def test_behaviours_that_cannot_be_trained() -> None:
    with pytest.raises(EnvironmentSourceError, match="observes nothing"):
        _behavior()
    with pytest.raises(EnvironmentSourceError, match="has no actions"):
        _behavior((2,), continuous=0)
