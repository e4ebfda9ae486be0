from __future__ import annotations

from typing import Any

import pytest
import stable_baselines3.common.distributions as library
import torch
from torch.distributions import Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from rl_framework.agent.network.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)

ROWS = 64
SIZES = (2, 5, 3)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _logits(size: int) -> torch.Tensor:
    return 2 * torch.randn(ROWS, size)


def _mean_and_log_std() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(ROWS, 3), torch.randn(ROWS, 3).clamp(-2, 1)


def _pairs() -> dict[str, tuple[Distribution, Any]]:
    """Ours and the library's, of the same parameters."""
    logits, choices, bits, (mean, log_std) = _logits(6), _logits(sum(SIZES)), _logits(4), _mean_and_log_std()
    return {
        "categorical": (Categorical(logits), library.CategoricalDistribution(6).proba_distribution(logits)),
        "multi_categorical": (
            MultiCategorical(choices, SIZES),
            library.MultiCategoricalDistribution(list(SIZES)).proba_distribution(choices),
        ),
        "bernoulli": (Bernoulli(bits), library.BernoulliDistribution(4).proba_distribution(bits)),
        "gaussian": (Gaussian(mean, log_std), library.DiagGaussianDistribution(3).proba_distribution(mean, log_std)),
        "gaussian_of_one_std": (
            Gaussian(mean, log_std[0]),
            library.DiagGaussianDistribution(3).proba_distribution(mean, log_std[0].expand_as(mean)),
        ),
    }


NAMES = ["categorical", "multi_categorical", "bernoulli", "gaussian", "gaussian_of_one_std"]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_equal_the_library(name: str) -> None:
    ours, theirs = _pairs()[name]
    actions = theirs.sample()
    assert ours.log_prob(actions).shape == ours.entropy().shape == (ROWS,)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.entropy(), theirs.entropy(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.mode(), theirs.mode().to(ours.mode().dtype), rtol=0, atol=0)
    sample = ours.sample(torch.Generator().manual_seed(1))
    assert sample.shape == actions.shape
    assert sample.dtype == (torch.float32 if "gaussian" in name else torch.int64)


def test_squashed_numbers_equal_the_library() -> None:
    """Within 1e-6 on each side: the library adds that much to the derivative of tanh, and we do not."""
    mean, log_std = torch.randn(ROWS, 3) / 2, torch.full((ROWS, 3), -1.0)
    ours = SquashedGaussian(mean, log_std)
    theirs = library.SquashedDiagGaussianDistribution(3).proba_distribution(mean, log_std)
    actions = theirs.sample()
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(ours.mode(), theirs.mode())

    exact = TransformedDistribution(Normal(mean.double(), log_std.double().exp()), [TanhTransform()])
    expected = exact.log_prob(actions.double()).sum(-1)
    torch.testing.assert_close(ours.log_prob(actions).double(), expected, rtol=1e-6, atol=1e-5)


def test_squashed_density_is_exact_where_tanh_is_flat() -> None:
    noise = torch.tensor([[0.0], [1.0], [-1.0]])
    squashed = SquashedGaussian(torch.full((3, 1), 12.0), torch.zeros(3, 1))
    actions, log_probs = squashed.rsample_with_log_prob(noise)
    before = 12.0 + noise.double()
    slope = torch.log(4 * torch.exp(-2 * before) / (1 + torch.exp(-2 * before)) ** 2)
    expected = (Normal(12.0, 1.0).log_prob(before) - slope).squeeze(1)
    torch.testing.assert_close(log_probs.double(), expected, rtol=1e-6, atol=1e-6)
    assert (actions == 1).all()
    assert squashed.log_prob(actions).isfinite().all()


def test_squashed_entropy_is_that_of_many_samples() -> None:
    for mean, log_std in ((0.0, 0.0), (1.5, -1.0), (-0.5, 1.0)):
        one = SquashedGaussian(torch.full((1, 2), mean), torch.full((1, 2), log_std))
        _, log_probs = one.rsample_with_log_prob(torch.randn(200_000, 2))
        assert one.entropy().item() == pytest.approx(-log_probs.mean().item(), abs=0.02)


@pytest.mark.parametrize("name", [*NAMES, "squashed_gaussian"])
def test_divergence_is_that_of_torch(name: str) -> None:
    first, second = _of(name), _of(name)
    torch.testing.assert_close(first.kl(second), _library_kl(first, second), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first.kl(first), torch.zeros(ROWS), rtol=0, atol=1e-6)


def _of(name: str) -> Any:
    if name == "squashed_gaussian":
        return SquashedGaussian(*_mean_and_log_std())
    return _pairs()[name][0]


def _library_kl(first: Any, second: Any) -> torch.Tensor:
    if isinstance(first, Categorical):
        kind = torch.distributions.Categorical
        return kl_divergence(kind(logits=first.logits), kind(logits=second.logits))
    if isinstance(first, MultiCategorical):
        return torch.stack([_library_kl(*pair) for pair in zip(first.choices, second.choices, strict=True)]).sum(0)
    if isinstance(first, Bernoulli):
        bits = torch.distributions.Bernoulli
        return kl_divergence(bits(logits=first.logits), bits(logits=second.logits)).sum(-1)
    if isinstance(first, SquashedGaussian):
        return _library_kl(first.normal, second.normal)
    normals = [Normal(each.mean, each.log_std.exp().expand_as(each.mean)) for each in (first, second)]
    return kl_divergence(*normals).sum(-1)


@pytest.mark.parametrize("name", [*NAMES, "squashed_gaussian"])
def test_only_the_given_generator_is_drawn_from(name: str) -> None:
    distribution = _of(name)
    before = torch.get_rng_state()
    first, again = (distribution.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(first, again)
    assert torch.equal(first, distribution.sample(generator))
    assert not torch.equal(first, distribution.sample(generator))
    assert torch.equal(before, torch.get_rng_state())


def test_samples_are_as_frequent_as_probable() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([1.0, -1.0, 0.5, 3.0, -4.0])
    many = logits.expand(200_000, 5)
    counts = Categorical(many).sample(generator).bincount(minlength=5) / len(many)
    torch.testing.assert_close(counts, logits.softmax(0), rtol=0, atol=0.004)

    pairs = MultiCategorical(many, (2, 3)).sample(generator)
    for column, part in zip(pairs.unbind(1), logits.split((2, 3)), strict=True):
        torch.testing.assert_close(
            column.bincount(minlength=len(part)) / len(many), part.softmax(0), rtol=0, atol=0.004
        )
    torch.testing.assert_close(Bernoulli(many).sample(generator).float().mean(0), logits.sigmoid(), rtol=0, atol=0.004)

    normal = Gaussian(torch.tensor([[1.0, -2.0]]).expand(200_000, 2), torch.tensor([0.5, -1.0]))
    sample = normal.sample(generator)
    torch.testing.assert_close(sample.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(sample.std(0), torch.tensor([0.5, -1.0]).exp(), rtol=0.01, atol=0)


def test_gradients_flow_through_samples() -> None:
    noise = torch.randn(ROWS, 3)
    for kind in (Gaussian, SquashedGaussian):
        mean, log_std = (part.requires_grad_() for part in _mean_and_log_std())
        actions, log_probs = kind(mean, log_std).rsample_with_log_prob(noise)
        torch.testing.assert_close(actions, kind(mean, log_std).rsample(noise))
        (actions.sum() + log_probs.sum()).backward()
        for part in (mean, log_std):
            assert part.grad is not None
            assert part.grad.isfinite().all()
            assert part.grad.abs().sum() > 0
        assert not kind(mean, log_std).sample(None).requires_grad
        # The density of a sample is the same by the shorter way and by the longer.
        inside = actions.detach().abs().amax(1) < 0.99 if kind is SquashedGaussian else torch.ones(ROWS) > 0
        by_action = kind(mean, log_std).log_prob(actions.detach())
        torch.testing.assert_close(by_action[inside], log_probs[inside], rtol=1e-4, atol=1e-3)
