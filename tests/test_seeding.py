from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.errors import ArgumentError
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_branches_of_the_tree_differ_and_repeat() -> None:
    paths = [("evaluation",), ("video",), ("evaluation", 1), ("evaluation", 2), ()]
    seeds = [derive_seed(7, *path) for path in paths]
    assert seeds == [derive_seed(7, *path) for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert derive_seed(8, "evaluation") != derive_seed(7, "evaluation")


def test_seeds_leave_room_for_a_batch_of_environments() -> None:
    assert all(0 <= derive_seed(seed, "x") < 2**31 - 2**15 for seed in range(200))
    assert all(0 <= fresh_seed() < 2**31 - 2**15 for _ in range(200))


def test_drawing_a_fresh_seed_leaves_no_trace() -> None:
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = _draw()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    fresh_seed()
    assert _draw() == expected


def test_isolation_puts_every_generator_back() -> None:
    space = spaces.Discrete(1000, seed=3)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = _draw(), [int(space.sample()) for _ in range(5)]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    space.seed(3)
    with pytest.raises(RuntimeError, match="in the middle"), isolated_random_state(5, space):  # noqa: PT012
        _draw(), space.sample()
        raise RuntimeError("in the middle")
    assert (_draw(), [int(space.sample()) for _ in range(5)]) == expected


def test_isolation_seeds_the_inside() -> None:
    space = spaces.Discrete(1000)
    inside = []
    for seed in (5, 5, 6, None, None):
        with isolated_random_state(seed, space):
            inside.append((_draw(), int(space.sample())))
    assert inside[0] == inside[1]
    assert len({draw for draw, _ in inside[1:]}) == 4


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ArgumentError, match=r"algorithm_parameters.*from 0 to 2\*\*32 - 1"):
        check_seed(seed, "algorithm_parameters['seed']")  # type: ignore[arg-type]


def test_numpy_integers_are_seeds() -> None:
    assert check_seed(np.int64(3)) == 3  # type: ignore[arg-type]
    assert check_seed(None) is None
