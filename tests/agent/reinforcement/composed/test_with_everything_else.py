"""What agents made of parts do with the rest: files for elsewhere, worlds of several agents, connectors, records."""

from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tests.agent.multi_agent.samples import unlike
from tests.agent.reinforcement.matrix_toys import toy
from tests.environment.pettingzoo_toys import Rendezvous
from tests.environment.unity_scenes import Scene

from rl_framework import ArgumentError, ComposedAgent, LocalConnector, MultiAgent, StableBaselinesAgent, load_agent
from rl_framework.agent.reinforcement.composed.collector import as_tensors
from rl_framework.agent.reinforcement.export.programs import sampled_observations
from rl_framework.agent.reinforcement.parts import PPO, SAC, KLPenalty, Replay
from rl_framework.agent.reproduce import reproduce
from rl_framework.environment.unity import UnityEnvironmentAdapter

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2}
GRU = {"type": "gru", "hidden_size": 8, "encoder_sizes": [8], "sequence_length": 8}


def train(agent, environment="CartPole-v1", steps=100, **arguments):
    return agent.train(environment, steps, **{"seed": 3, "n_environments": 2, "progress_bar": False, **arguments})


class Signs(gymnasium.Env):
    """Shows a picture and a direction, and can be filmed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  # as in all of gymnasium's own
    observation_space = spaces.Dict({"direction": spaces.Discrete(3), "speed": spaces.Box(-1, 1, (2,), np.float64)})
    action_space = spaces.Box(-2, 1, (2,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def _observation(self):
        return {"direction": self.np_random.integers(3), "speed": self.np_random.uniform(-1, 1, 2)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        self.t += 1
        return self._observation(), float(action[0]), self.t == 5, False, {}

    def render(self):
        return np.zeros((32, 32, 3), np.uint8)


# Files for elsewhere


def made(case):
    if case == "normalised":
        return train(ComposedAgent([PPO(**SMALL)], normalize_observations=True), Signs)
    if case == "images":
        return train(ComposedAgent([PPO(**SMALL)]), partial(toy, "dict_with_image", "multi_discrete"), 40)
    return train(ComposedAgent([Replay(learning_starts=20), SAC()]), "Pendulum-v1", 30)


@pytest.mark.parametrize("case", ["normalised", "images", "sac"])
def test_onnxruntime_and_torch_act_as_the_agent(case, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    agent = made(case)
    observations = sampled_observations(agent.observation_space, 50)
    with torch.no_grad():  # so that what it does depends on what it sees
        policy = agent.composition.policy
        policy.head.linear.bias -= policy.head.linear(policy.trunk(as_tensors(observations, agent.device))).mean(0)
        policy.head.linear.weight.mul_(100)
        policy.head.linear.bias.mul_(100)
    wanted, _ = agent.predict(observations, deterministic=True)
    fed = observations if isinstance(observations, dict) else {"observation": observations}
    actions = onnxruntime.InferenceSession(str(agent.save_as_onnx(tmp_path / "agent.onnx"))).run(["action"], fed)[0]
    program = torch.export.load(agent.save_as_torch_export(tmp_path / "agent.pt2")).module()
    also = program(torch.utils._pytree.tree_map(torch.from_numpy, observations)).numpy()
    for found in (actions, also):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert len(np.unique(wanted, axis=0)) > 1  # an agent that always does the same shows nothing


def test_it_has_no_policy_of_the_library():
    with pytest.raises(ArgumentError, match="no policy of Stable-Baselines3"):
        StableBaselinesAgent.from_agent(train(ComposedAgent([PPO(**SMALL)])))


# Connectors and records


def test_with_memory_it_is_evaluated_filmed_uploaded_and_downloaded():
    connector = LocalConnector(Path("run"))
    agent = train(ComposedAgent([PPO(**SMALL)], networks=GRU, normalize_observations=True), Signs, connector=connector)
    connector.upload(agent, video_recording_environment=Signs(render_mode="rgb_array"))
    assert list(Path("run").glob("**/*.mp4"))
    again = ComposedAgent([PPO(**SMALL)])
    connector.download(again)
    assert again.evaluate(Signs, 4, seed=0) == agent.evaluate(Signs, 4, seed=0)


@pytest.mark.parametrize("compiled", ["auto", False])
def test_a_run_is_reproduced_to_the_last_bit(compiled, tmp_path):
    agent = train(ComposedAgent([PPO(**SMALL), "rnd"], networks="mlp", compiled=compiled))
    path = agent.save_to_file(tmp_path / "agent.zip")
    assert load_agent(path).compiled == compiled
    result = reproduce(path)
    assert result.equal, result.difference


@pytest.mark.parametrize("given", ["agent", "path", "own"])
def test_a_run_with_a_reference_is_reproduced_with_the_one_in_the_bundle(given, tmp_path):
    teacher = train(ComposedAgent([PPO(**SMALL)]), seed=1)
    reference = {"agent": teacher, "path": teacher.save_to_file(tmp_path / "teacher.zip"), "own": None}[given]
    path = train(ComposedAgent([PPO(**SMALL), KLPenalty(reference)])).save_to_file(tmp_path / "agent.zip")
    (tmp_path / "teacher.zip").unlink()
    for _ in range(2):
        result = reproduce(path)
        assert result.equal, result.difference
        path = load_agent(path).save_to_file(tmp_path / "again.zip")


# Several agents


def weights(agent):
    return torch.cat([parameter.detach().flatten() for parameter in agent.composition.parameters()])


def test_groups_of_a_world_learn_side_by_side(tmp_path):
    def groups():
        return MultiAgent({"left": ComposedAgent([PPO(**SMALL)]), "right": ComposedAgent(["a2c"])})

    one, same = (train(groups(), unlike, 64) for _ in range(2))
    assert [one[name].num_timesteps for name in one] == [64, 70]  # whole rollouts
    untouched = train(groups(), unlike, 1)
    for name in one:
        assert torch.equal(weights(one[name]), weights(same[name]))
        assert not torch.equal(weights(one[name]), weights(untouched[name]))
    loaded = load_agent(one.save_to_file(tmp_path / "agents.zip"))
    assert loaded.evaluate(unlike, 2, seed=0) == one.evaluate(unlike, 2, seed=0)


def test_one_policy_for_all_agents_of_a_world():
    agent = train(ComposedAgent([PPO(**SMALL)]), Rendezvous, 64)
    assert agent.num_timesteps >= 64
    assert set(agent.evaluate(Rendezvous, 2, seed=0).agents) == {"left_0", "right_0"}


@pytest.mark.filterwarnings("ignore:distutils Version classes")
def test_agents_of_a_unity_scene(tmp_path):
    """With two agents that act at every frame for each that acts at every second one."""
    scene = Scene(tmp_path, "--agents", 6, "--periods", "1,1,2")
    agent = ComposedAgent([PPO(**SMALL)])
    with UnityEnvironmentAdapter(scene.path, environment_parameters={"radius": 0.4}) as unity:
        agent.train(unity, total_timesteps=300, seed=1, progress_bar=False)
        result = agent.evaluate(unity, n_eval_episodes=6, deterministic=True, seed=3)
    assert agent.num_timesteps >= 300
    assert len(result.returns) == 6
