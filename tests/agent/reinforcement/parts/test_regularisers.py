"""Keeping a policy random, or near another one."""

import math

import gymnasium
import pytest
import torch
from tests.agent.reinforcement.parts.hand_made import BOX, SMALL, built, setup_of

from rl_framework import ArgumentError, ComposedAgent, load_agent
from rl_framework.agent.reinforcement.composed.batch import Batch
from rl_framework.agent.reinforcement.composed.moments import ObservationNormaliser
from rl_framework.agent.reinforcement.parts import PPO, Entropy, KLPenalty

TWO = gymnasium.spaces.Discrete(2)
ROWS = Batch({"observations": torch.linspace(-1, 1, 12).reshape(4, 3)})


def train(agent, steps=64, **arguments):
    return agent.train("CartPole-v1", steps, **{"seed": 1, "progress_bar": False, **arguments})


def ppo_with(*others, **arguments):
    return ComposedAgent(
        [PPO(n_steps=16, batch_size=16, n_epochs=2), *others], networks=SMALL, device="cpu", **arguments
    )


def set_logits(policy, *logits):
    """Lets a policy say the same everywhere."""
    with torch.no_grad():
        policy.head.linear.weight.zero_()
        policy.head.linear.bias.copy_(torch.tensor(logits))


def test_entropy_by_hand():
    part, _ = built(setup_of(action_space=TWO), Entropy({"type": "linear", "start": 0.4, "end": 0.0}), PPO())
    set_logits(part.policy, math.log(3.0), 0.0)
    part.follow_schedules(0.5)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    batch = Batch(ROWS.tensors)
    loss = part.loss(batch)["bonus"]
    assert loss.item() == pytest.approx(-0.2 * entropy)
    assert batch.reported["entropy"].item() == pytest.approx(entropy)
    loss.backward()
    gradient = part.policy.head.linear.bias.grad
    assert gradient[0] > 0 > gradient[1]  # towards the less likely


def test_divergence_by_hand():
    part, _ = built(setup_of(action_space=TWO), KLPenalty(weight=2.0), PPO())
    set_logits(part.policy, 0.0, 0.0)
    part.start()
    set_logits(part.policy, math.log(3.0), 0.0)
    part.start()  # of the next training: the reference stays
    part.follow_schedules(1.0)
    loss = part.loss(Batch(ROWS.tensors))["divergence"]
    expected = 2.0 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert all(parameter.grad is None for parameter in part.frozen.parameters())
    gradient = part.policy.head.linear.bias.grad
    assert gradient[0] > 0 > gradient[1]  # back to the reference


def test_the_reference_normalises_as_it_did():
    normaliser = ObservationNormaliser({"": (3,)})
    normaliser.update(torch.randn(50, 3) * 4 + 2)
    part, ppo = built(setup_of(normaliser=normaliser), KLPenalty(), PPO())
    part.start()
    before = part.frozen["policy"].of_features(part.frozen["policy"].trunk(ROWS.observations)).mean.clone()
    assert torch.equal(before, ppo.policy(Batch(ROWS.tensors)).mean)
    normaliser.update(torch.randn(50, 3) * 40)
    assert torch.equal(before, part.frozen["policy"].of_features(part.frozen["policy"].trunk(ROWS.observations)).mean)
    assert not torch.equal(before, ppo.policy(Batch(ROWS.tensors)).mean)


def test_a_large_weight_keeps_the_policy_where_it_was():
    far, near = (train(ppo_with(KLPenalty(weight=weight)), 192) for weight in (0.0, 100.0))

    def moved(agent):
        kl = agent.parts[1]
        mine, reference = agent.composition.policy, kl.frozen["policy"]
        seen = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        return mine.of_features(mine.trunk(seen)).kl(reference.of_features(reference.trunk(seen))).mean().item()

    assert moved(near) < 0.1 * moved(far)


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("given", ["agent", "path"])
def test_the_reference_may_be_another_agent(given, normalize, tmp_path):
    teacher = train(ppo_with(normalize_observations=normalize))
    reference = teacher.save_to_file(tmp_path / "teacher.zip") if given == "path" else teacher
    agent = train(ppo_with(KLPenalty(reference), normalize_observations=normalize), seed=2)
    seen = torch.randn(8, 4)
    theirs, copied = teacher.composition.policy, agent.parts[1].frozen["policy"]
    expected = theirs.of_features(theirs.trunk(seen)).logits
    assert torch.equal(copied.of_features(copied.trunk(seen)).logits, expected)
    # The copy is saved, the other agent is not asked for again.
    path = agent.save_to_file(tmp_path / "agent.zip")
    (tmp_path / "teacher.zip").unlink(missing_ok=True)
    loaded = train(load_agent(path), seed=None)
    copied = loaded.parts[1].frozen["policy"]
    assert torch.equal(copied.of_features(copied.trunk(seen)).logits, expected)


def test_references_that_do_not_fit_are_refused(tmp_path):
    other = train(ComposedAgent([PPO(n_steps=16)], networks={"type": "mlp", "hidden_sizes": [9]}, device="cpu"))
    for reference in (other, train(ppo_with(normalize_observations=True))):
        with pytest.raises(ArgumentError, match="another network"):
            train(ppo_with(KLPenalty(reference)))
    with pytest.raises(ArgumentError, match="is no ComposedAgent"):
        train(ppo_with(KLPenalty(3)))
    with pytest.raises(ArgumentError, match="recurrent"):
        built(setup_of(BOX, TWO, networks={"policy": "gru"}), KLPenalty(), PPO())
