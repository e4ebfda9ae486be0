"""Deep Sea is the task of the paper: one way to the treasure, and a small price on every step of it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl_framework.environment import open_environments
from rl_framework.environment.deep_sea import DeepSea
from rl_framework.errors import ArgumentError


def dive(environment: DeepSea, rights: list[bool]) -> tuple[list[float], list[Any]]:
    """Goes right or left, whatever actions that takes; returns rewards and observations."""
    observation, _ = environment.reset()
    rewards, observations = [], [observation]
    for row, right in enumerate(rights):
        column = int(observations[-1].reshape(environment.size, -1)[row].argmax())
        action = environment.right_actions[row, column] if right else 1 - environment.right_actions[row, column]
        observation, reward, terminated, truncated, _ = environment.step(action)
        assert (terminated, truncated) == (row == environment.size - 1, False)
        rewards.append(reward)
        observations.append(observation)
    return rewards, observations


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    check_env(gymnasium.make("rl_framework/DeepSea-v0", render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("size", [2, 10])
def test_only_right_all_the_way_pays(size: int) -> None:
    environment = DeepSea(size)
    rewards, _ = dive(environment, [True] * size)
    assert sum(rewards) == pytest.approx(0.99)
    assert rewards == pytest.approx([-0.01 / size] * (size - 1) + [1 - 0.01 / size])
    for wrong in range(size):
        rewards, _ = dive(environment, [row != wrong for row in range(size)])
        assert sum(rewards) == pytest.approx(-0.01 * (size - 1) / size)
    assert sum(dive(environment, [False] * size)[0]) == 0


def test_a_step_left_of_the_edge_stays_there() -> None:
    _, observations = dive(DeepSea(4), [False, True, True, False])
    cells = [tuple(map(int, np.argwhere(each.reshape(4, 4)).flatten())) for each in observations]
    assert cells == [(0, 0), (1, 0), (2, 1), (3, 2), ()]


def test_the_seed_decides_which_action_goes_right() -> None:
    maps = [DeepSea(8, mapping_seed=seed).right_actions for seed in (0, 0, 1)]
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])
    assert 0.25 < maps[0].mean() < 0.75
    assert DeepSea(8, mapping_seed=None).right_actions.all()


def test_the_door_opens_it_by_its_id() -> None:
    batch = open_environments("rl_framework/DeepSea-v0", n_environments=3, environment_kwargs={"size": 4})
    assert batch.num_envs == 3
    assert batch.single_observation_space.shape == (16,)
    batch.close()


def test_pictures_show_the_diver() -> None:
    environment = DeepSea(3, render_mode="ansi")
    dive(environment, [True, False])
    assert environment.render() == "....\n....\nO...\n...$\n"
    painted = DeepSea(3, render_mode="rgb_array")
    dive(painted, [True, True])
    picture = painted.render()
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    found = np.argwhere((picture[::16, ::16] == (255, 209, 102)).all(-1))
    assert found.tolist() == [[2, 2]]


def test_mistakes_are_told() -> None:
    with pytest.raises(ArgumentError, match="size=1"):
        DeepSea(1)
    with pytest.raises(ArgumentError, match="human"):
        DeepSea(render_mode="human")
    environment = DeepSea(2)
    dive(environment, [True, True])
    with pytest.raises(gymnasium.error.ResetNeeded):
        environment.step(0)
