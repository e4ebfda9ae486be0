"""Several parts of one kind, and several networks of one name, keep apart what is their own."""

import numpy as np
import pytest
import torch
from torch import nn

from rl_framework import ComposedAgent, Episode, load_agent, registry
from rl_framework.agent.reinforcement.parts import ICM, PPO, RND, Demonstration, KLPenalty, Part

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registered in (registry.parts, registry.networks):
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


def train(parts, steps=100, networks=None, **arguments):
    agent = ComposedAgent(parts, networks, compiled=False)
    return agent.train("CartPole-v1", steps, 2, seed=3, progress_bar=False, **arguments)


def always(action):
    """Returns an expert that never does anything else."""
    observations = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32)
    return [Episode(observations, np.full(32, action), np.ones(32), terminated=True, truncated=False)]


@pytest.mark.parametrize("with_ppo", [True, False], ids=["beside ppo", "alone"])
def test_two_experts_are_both_learned_from(with_ppo, tmp_path):
    seen = {}

    class Spy(Part):
        def loss(self, batch):
            seen.update({name: tensor.clone() for name, tensor in batch.tensors.items() if name.endswith("actions")})
            return {}

    registry.register_part("spy", Spy)
    experts = [Demonstration(always(0), batch_size=8), Demonstration(always(1), weight=0.1, batch_size=8)]
    agent = train([*([PPO(**SMALL)] if with_ppo else []), *experts, Spy()])
    assert [part.name for part in experts] == ["demonstration", "demonstration_2"]
    assert seen["demonstration_2/actions"].unique().tolist() == [1]
    assert seen["demonstration/actions" if with_ppo else "actions"].unique().tolist() == [0]
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert agent.describe()["algorithm"] == loaded.describe()["algorithm"]


def test_two_curiosities_have_targets_and_values_of_their_own():
    seen = {}

    class Spy(Part):
        def loss(self, batch):
            seen.update(batch.tensors)
            return {}

    registry.register_part("spy", Spy)
    one, other = RND(), RND(gamma=0.0, features=8)
    train([PPO(**SMALL), one, other, Spy()])
    assert one.value is not other.value
    for part in (one, other):
        targets = part.target(part._inputs(seen["observations"]))
        assert seen[f"{part.name}/targets"].shape == targets.shape == (32, part.features)
    assert not torch.equal(seen["rnd/returns"], seen["rnd_2/returns"])


def test_private_networks_of_one_name_have_features_of_their_own():
    agent = train([PPO(**SMALL), ICM(hidden_size=8), ICM(hidden_size=8)])
    one, other = agent.parts[1:]
    assert one.trunk.name != other.trunk.name
    gradients = []
    with torch.enable_grad():
        from rl_framework.agent.reinforcement.composed.batch import Batch

        rows = {"observations": torch.randn(5, 4), "next_observations": torch.randn(5, 4)}
        batch = Batch({**rows, "actions": torch.tensor([0, 1, 0, 1, 0])})
        one.loss(batch)
        agent.composition.zero_grad()
        sum(other.loss(batch).values()).backward()
    gradients = [any(p.grad is not None for p in part.trunk.parameters()) for part in (one, other)]
    assert gradients == [False, True]


# Between training and evaluation


class Noisy(nn.Module):
    """Says whether it is being trained."""

    def __init__(self, input_space):
        super().__init__()
        self.layer = nn.Linear(input_space.shape[0], 8)
        self.features_dim = 8
        self.modes = set()

    def forward(self, inputs):
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.layer(inputs).tanh()


def test_networks_are_in_training_where_they_learn_and_nowhere_else():
    registry.register_network("noisy", Noisy)
    evaluated = []

    class Reference(KLPenalty):
        def loss(self, batch):
            evaluated.append((self.policy.training, self.frozen.training))
            return super().loss(batch)

    registry.register_part("reference", Reference)
    agent = train([PPO(**SMALL), Reference(), RND(network="noisy")], networks={"policy": "noisy"})
    noisy = [module for module in agent.composition.modules() if isinstance(module, Noisy)]
    policy, frozen, target, predictor = (
        next(module for module in noisy if module is wanted)
        for wanted in (
            agent.composition.policy.trunk.network,
            agent.parts[1].frozen["policy"].trunk.network,
            agent.parts[2].target[0],
            agent.parts[2].predictor[0],
        )
    )
    # Acts and judges without dropout and the like, learns with them.
    assert policy.modes == predictor.modes == {(False, False), (True, True)}
    assert {mode for mode, _ in frozen.modes | target.modes} == {False}
    assert set(evaluated) == {(True, False)}
    assert not any(module.training for module in agent.composition.modules())
