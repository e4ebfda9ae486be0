"""Networks with memory: sequences of any length, slots that hold nobody, parts that only learn, files for elsewhere."""

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.reinforcement.matrix_toys import toy
from tests.environment.toys import Crowd, CrowdAdapter

from rl_framework import ComposedAgent, registry
from rl_framework.agent.network.trunk import build_trunk
from rl_framework.agent.network.value import ValueNetwork
from rl_framework.agent.reinforcement.composed.rollout import Rollout
from rl_framework.agent.reinforcement.export.programs import sampled_observations
from rl_framework.agent.reinforcement.parts import PPO, Part

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}
GRU = {"type": "gru", "hidden_size": 8, "encoder_sizes": [8], "sequence_length": 8}


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registered in (registry.parts, registry.environment_adapters):
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


class Ratios(Part):
    """Notes, before the first optimizer step of each round, by how much the policy is another one than it was."""

    def __init__(self):
        super().__init__()
        self.log_ratios, self.rows = [], []
        self.is_first = True

    def build(self, setup):
        self.policy = setup.policy()

    def annotate(self, rollout):
        self.is_first = True

    def prepare(self, batch):
        self.rows.append(len(batch))
        assert all(len(batch[name]) == len(batch) for name in ("actions", "rewards", "advantages"))
        if self.is_first:
            self.is_first = False
            with torch.no_grad():
                self.log_ratios.append(self.policy(batch).log_prob(batch["actions"]) - batch["log_probs"])


def test_slots_without_anybody_are_passed_over():
    """What the policy says in learning is what it said in acting, whoever was away in between."""
    registry.register_part("ratios", Ratios)
    registry.register_environment_adapter("crowd", CrowdAdapter)
    ratios = Ratios()
    agent = ComposedAgent([PPO(n_steps=16, batch_size=16, n_epochs=1), ratios], networks=GRU, learning_rate=1e-2)
    agent.train(Crowd(), 100, seed=0, progress_bar=False)
    assert len(ratios.log_ratios) > 2
    assert torch.cat(ratios.log_ratios).abs().max() < 1e-5
    assert sum(ratios.rows) == agent.num_timesteps


@pytest.mark.parametrize("length", [1, 2, 16])
def test_sequences_of_any_length(length):
    registry.register_part("ratios", Ratios)
    ratios = Ratios()
    agent = ComposedAgent([PPO(**SMALL), ratios], networks={**GRU, "sequence_length": length})
    agent.train("CartPole-v1", 64, 2, seed=0, progress_bar=False)
    assert torch.cat(ratios.log_ratios).abs().max() < 1e-5


def test_a_memory_that_is_only_learned_with_is_carried_on():
    class Predicts(Part):
        def build(self, setup):
            self.trunk = setup.trunk("memory")
            self.head = torch.nn.Linear(self.trunk.features_dim, 1)

        def loss(self, batch):
            return {"error": (self.head(batch.features(self.trunk))[:, 0] - batch["rewards"]).square().mean()}

    registry.register_part("predicts", Predicts)
    agent = ComposedAgent([PPO(**SMALL), Predicts()], networks={"memory": GRU})
    agent.train("CartPole-v1", 64, 2, seed=0, progress_bar=False)
    assert agent._collector.states["memory"].abs().max() > 0


def test_what_follows_a_cut_episode_is_judged_with_what_is_remembered():
    """Whether the rollout has all next observations, as of tensors, or only the last ones of episodes."""
    space = spaces.Box(-1, 1, (3,), np.float32)
    torch.manual_seed(0)
    value = ValueNetwork(build_trunk("value", GRU, space))
    ended = torch.zeros(4, 2, dtype=torch.bool)
    ended[1, 0] = ended[3, 1] = True
    starts = torch.cat([torch.ones(1, 2, dtype=torch.bool), ended[:-1]])
    observations, following, last = torch.rand(4, 2, 3), torch.rand(4, 2, 3), torch.rand(2, 3)
    tensors = {"observations": observations, "rewards": torch.zeros(4, 2), "starts": starts}
    tensors |= {"terminated": torch.zeros_like(ended), "truncated": ended, "next_observations": following}
    found = []
    for rows in (torch.tensor([2, 7]), None):
        finals = None if rows is None else following.flatten(0, 1)[rows]
        state = {"value": torch.zeros(2, 8)}
        rollout = Rollout(dict(tensors), last, rows, finals, None, state, 2, torch.Generator())
        with torch.no_grad():
            found.append(rollout.next_values(value, rollout.values(value)))
    assert torch.allclose(*found, atol=1e-6)
    with torch.no_grad():
        _, state = value.trunk.unroll(observations[:2, :1], torch.zeros(1, 8), starts[:2, :1])
        wanted = value.of(following[1, :1], (state, torch.zeros(1, dtype=torch.bool)))
    assert found[0][1, 0] == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("case", ["vector", "images"])
def test_onnxruntime_and_torch_remember_as_the_agent(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    environment = "Pendulum-v1" if case == "vector" else partial(toy, "dict_with_image", "multi_discrete")
    networks = {"type": "gru", "hidden_size": 8, "sequence_length": 8}
    agent = ComposedAgent([PPO(**SMALL)], networks, normalize_observations=case == "vector")
    agent.train(environment, 32, 2, seed=0, progress_bar=False)
    with torch.no_grad():
        agent.composition.policy.head.linear.weight.mul_(100)
    session = onnxruntime.InferenceSession(str(agent.save_as_onnx(tmp_path / "agent.onnx")))
    program = torch.export.load(agent.save_as_torch_export(tmp_path / "agent.pt2")).module()
    states = [np.zeros((6, 8), np.float32)] * 3
    for step in range(3):
        observations = sampled_observations(agent.observation_space, 6)
        starts = np.arange(6) == step
        wanted, states[0] = agent.predict(observations, states[0], starts, deterministic=True)
        fed = dict(observations) if isinstance(observations, dict) else {"observation": observations}
        found, states[1] = session.run(["action", "next_state"], {**fed, "state": states[1], "episode_starts": starts})
        also, following = program(
            torch.utils._pytree.tree_map(torch.from_numpy, observations),
            torch.from_numpy(states[2]),
            torch.from_numpy(starts),
        )
        states[2] = following.numpy()
        for action, state in ((found, states[1]), (also.numpy(), states[2])):
            np.testing.assert_allclose(action, wanted, rtol=0, atol=1e-4)
            np.testing.assert_allclose(state, states[0], rtol=0, atol=1e-5)
        assert states[0].any()  # what is forgotten here is remembered by the others
