"""Running moments equal those of everything at once, however it came."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl_framework.agent.reinforcement.composed.moments import ObservationNormaliser, RewardNormaliser, RunningMoments


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)], ids=str)
def test_running_moments_are_those_of_all_values(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    moments = RunningMoments(shape)
    seen = []
    for size in (1, 7, 0, 1000, 3):
        values = rng.normal(1e3, rng.uniform(0.1, 5), (size, *shape))
        seen.append(values)
        moments.update(torch.from_numpy(values))
        so_far = np.concatenate(seen)
        assert moments.mean.numpy() == pytest.approx(so_far.mean(0), rel=1e-12)
        assert moments.variance.numpy() == pytest.approx(so_far.var(0), rel=1e-7, abs=1e-12)
    assert moments.count == 1011


def test_nothing_seen_changes_nothing() -> None:
    moments = RunningMoments((2,))
    values = torch.tensor([[3.0, -4.0]])
    assert torch.allclose(moments.normalise(values), values)


def test_constants_are_not_divided_by_zero() -> None:
    moments = RunningMoments()
    moments.update(torch.full((5,), 2.0))
    assert moments.normalise(torch.tensor([2.0, 1e6]), limit=5.0).tolist() == [0.0, 5.0]


def test_observations_are_normalised_by_key() -> None:
    normaliser = ObservationNormaliser({"a": (2,)}, limit=1.0)
    rng = np.random.default_rng(1)
    values = rng.normal(3, 2, (50, 2)).astype(np.float32)
    other = torch.arange(50)
    normaliser.update({"a": torch.from_numpy(values), "b": other})
    normalised = normaliser({"a": torch.from_numpy(values), "b": other})
    expected = np.clip((values - values.mean(0)) / values.std(0), -1, 1)
    assert normalised["a"].numpy() == pytest.approx(expected, abs=1e-5)
    assert normalised["b"] is other


def test_rewards_are_divided_by_the_deviation_of_returns() -> None:
    rng = np.random.default_rng(2)
    normaliser = RewardNormaliser(gamma=0.9)
    normaliser.start(2)
    total, sums = np.zeros(2), []
    for _ in range(3):  # rollouts
        rewards, ended = rng.normal(size=(5, 2)), rng.random((5, 2)) < 0.3
        normaliser.update(torch.from_numpy(rewards), torch.from_numpy(ended))
        for reward, is_last in zip(rewards, ended, strict=True):
            total = total * 0.9 + reward
            sums += list(total)
            total = np.where(is_last, 0, total)
    reward = torch.tensor([[1.0, -0.5]])
    assert normaliser(reward).numpy() == pytest.approx(reward.numpy() / np.std(sums), rel=1e-5)
