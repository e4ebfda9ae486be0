"""What is saved acts alike in another process; what cannot be saved is refused before any work is lost."""

import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, SMALL, Sampled, make, same, train, trained, weights

import rl_framework
from rl_framework import StableBaselinesAgent, load_agent, registry
from rl_framework.errors import UnsavableError


class Sine(torch.nn.Module):
    def forward(self, x):
        return torch.sin(x)


class OwnPPO(stable_baselines3.PPO):
    pass


class OwnPolicy(ActorCriticPolicy):
    pass


class OwnAdam(torch.optim.Adam):
    pass


class OwnExtractor(BaseFeaturesExtractor):
    def __init__(self, observation_space, scale=1.0):
        super().__init__(observation_space, features_dim=observation_space.shape[0])
        self.scale = scale

    def forward(self, observations):
        return self.scale * observations


class OwnBuffer(stable_baselines3.common.buffers.ReplayBuffer):
    pass


class OwnNoise(ActionNoise):
    def __call__(self):
        return np.zeros(1)


def falling(progress_remaining):
    return 1e-3 * progress_remaining


@pytest.fixture
def restored_registries(monkeypatch):
    for value in vars(registry).values():
        if isinstance(value, registry.Registry):
            monkeypatch.setattr(value, "_entries", dict(value._entries))


# Alike in another process

ACT = """
import sys, json, numpy as np, torch
torch.set_num_threads(1)
from rl_framework import load_agent
observations = np.load(sys.argv[1])
answers = {}
for name in observations.files:
    agent = load_agent(f"{name}.zip")
    agent.algorithm.set_random_seed(3)
    given = observations[name]
    actions = [agent.choose_action(given)] + [agent.choose_action(o, deterministic=False) for o in given]
    answers[name] = [np.asarray(a).tolist() for a in actions] + [str(np.asarray(a).dtype) for a in actions[:2]]
print(json.dumps(answers))
"""


def test_a_loaded_agent_acts_bit_for_bit_alike_in_a_new_process(tmp_path):
    agents = {algorithm: trained(algorithm) for algorithm in PARAMETERS}
    agents["normalised"] = trained("ppo", normalize_observations=True, normalize_rewards=True)
    agents["ppo_gsde"] = train(make("ppo", {"use_sde": True}), "Pendulum-v1", n_environments=2)
    agents["sac_gsde"] = trained("sac", {"use_sde": True})
    observations, expected = {}, {}
    for name, agent in agents.items():
        agent.save_to_file(tmp_path / f"{name}.zip")
        space = agent.observation_space
        given = np.random.default_rng(0).normal(size=(8, *space.shape)).astype(np.float32)
        observations[name] = given
        agent.algorithm.set_random_seed(3)
        actions = [agent.choose_action(given)] + [agent.choose_action(o, deterministic=False) for o in given]
        expected[name] = [np.asarray(a).tolist() for a in actions] + [str(np.asarray(a).dtype) for a in actions[:2]]
    np.savez(tmp_path / "observations.npz", **observations)
    command = [sys.executable, "-c", ACT, "observations.npz"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout.splitlines()[-1])
    assert answers.keys() == expected.keys()
    for name in expected:
        assert answers[name] == expected[name], name


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_bundle_holds_no_pickle_and_nothing_of_this_machine(algorithm, tmp_path):
    agent = train(
        make(algorithm, {"device": "cpu", "tensorboard_log": str(tmp_path / "logs"), "verbose": 0}),
        ENVIRONMENTS[algorithm],
    )
    path = agent.save_to_file(tmp_path / "agent.zip")
    with zipfile.ZipFile(path) as archive:
        assert {name.rpartition(".")[2] for name in archive.namelist()} <= {"json", "safetensors", "npz"}
        for name in archive.namelist():
            assert str(tmp_path).encode() not in archive.read(name)
    loaded = load_agent(path)
    assert not {"device", "tensorboard_log", "verbose"} & set(loaded.algorithm_parameters)


def test_saving_twice_writes_the_same_bytes_and_changes_nothing(tmp_path):
    agent = trained("sac", normalize_observations=True)
    before = weights(agent)
    one = agent.save_to_file(tmp_path / "one.zip").read_bytes()
    assert agent.save_to_file(tmp_path / "other.zip").read_bytes() == one
    assert load_agent(tmp_path / "one.zip").save_to_file(tmp_path / "again.zip").read_bytes() == one
    assert same(weights(agent), before)


def test_loading_draws_no_random_number(tmp_path):
    path = trained("sac").save_to_file(tmp_path / "agent.zip")
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(1).item(), np.random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    load_agent(path)
    assert (torch.rand(1).item(), np.random.random()) == expected


def test_a_loaded_agent_knows_where_it_comes_from(tmp_path):
    agent = trained("ppo", seed=12)
    loaded = make("ppo").load_from_file(agent.save_to_file(tmp_path / "agent.zip"))
    assert (loaded.seed, loaded.environment_id, loaded.num_timesteps) == (12, "CartPole-v1", 48)
    assert loaded.algorithm._n_updates == agent.algorithm._n_updates
    assert loaded.algorithm.n_envs == 1
    assert loaded.algorithm.n_steps == 16


def test_the_id_of_an_environment_from_a_module_is_saved_without_the_module(tmp_path, monkeypatch):
    (tmp_path / "own_environments.py").write_text(
        "import gymnasium\ngymnasium.register('Own-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    agent = train(make(), "own_environments:Own-v0")
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.environment_id == "Own-v0"


def test_an_adapter_whose_name_has_a_colon_makes_no_bundle_that_cannot_be_opened(tmp_path, restored_registries):
    class Adapter(rl_framework.EnvironmentAdapter):
        def __init__(self):
            self.environment = Sampled()

        @classmethod
        def accepts(cls, source):
            return False

        def setup(self, source, **kwargs):
            self.observation_space, self.action_space = (
                self.environment.observation_space,
                self.environment.action_space,
            )

        def reset(self, seed=None, options=None):
            return self.environment.reset(seed=seed, options=options)

        def step(self, action):
            return self.environment.step(action)

        def close(self):
            pass

    rl_framework.register_environment_adapter("simulator:one", Adapter)
    agent = train(make(), "simulator:one")
    load_agent(agent.save_to_file(tmp_path / "agent.zip"))


# Refused before the first step

UNSAVABLE = {
    "activation": (
        lambda: make("ppo", {"policy_kwargs": {"activation_fn": Sine}}),
        "rl_framework.register_activation('sine', Sine)",
    ),
    "optimizer": (
        lambda: make("ppo", {"policy_kwargs": {"optimizer_class": OwnAdam}}),
        "rl_framework.register_optimizer('own_adam', OwnAdam)",
    ),
    "extractor": (
        lambda: make("ppo", {"policy_kwargs": {"features_extractor_class": OwnExtractor}}),
        "rl_framework.register_features_extractor('own_extractor', OwnExtractor)",
    ),
    "extractor as argument": (
        lambda: make(features_extractor={"type": OwnExtractor, "scale": 0.5}),
        "rl_framework.register_features_extractor('own_extractor', OwnExtractor)",
    ),
    "policy": (lambda: make("ppo", {"policy": OwnPolicy}), "rl_framework.register_policy('own_policy', OwnPolicy)"),
    "algorithm": (
        lambda: StableBaselinesAgent(OwnPPO, PARAMETERS["ppo"]),
        "rl_framework.register_algorithm('ownppo', OwnPPO)",
    ),
    "schedule": (
        lambda: make("ppo", {"learning_rate": falling}),
        "rl_framework.register_schedule('falling', falling)",
    ),
    "replay buffer": (
        lambda: make("dqn", {"replay_buffer_class": OwnBuffer}),
        "rl_framework.register_replay_buffer('own_buffer', OwnBuffer)",
    ),
}


@pytest.mark.parametrize("case", UNSAVABLE)
def test_what_cannot_be_saved_is_refused_with_the_line_that_makes_it_savable(case, tmp_path, restored_registries):
    build, line = UNSAVABLE[case]
    environment = Sampled()
    with pytest.raises(UnsavableError, match=re.escape(line)):
        train(build(), environment)
    assert environment.steps == environment.resets == 0

    exec(line)
    agent = train(build(), environment, seed=0)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert same(weights(loaded), weights(agent))
    assert type(loaded) is type(agent)
    assert loaded.algorithm_class is agent.algorithm_class
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert np.array_equal(agent.choose_action(observations), loaded.choose_action(observations))


@pytest.mark.parametrize(
    "build",
    [
        lambda: make("ppo", {"learning_rate": lambda progress: 1e-3}),
        lambda: make("td3", {"action_noise": OwnNoise()}),
        lambda: make("ppo", {"policy_kwargs": {**SMALL, "optimizer_kwargs": {"lr": object()}}}),
    ],
)
def test_other_objects_are_refused_too(build):
    environment = Sampled(action_space=spaces.Box(-1, 1, (1,)))
    with pytest.raises(UnsavableError, match="cannot be saved"):
        train(build(), environment)
    assert environment.resets == 0


def test_a_function_can_be_registered(tmp_path, restored_registries):
    def rate(progress):
        return 1e-3

    rl_framework.register_schedule("my_schedule", rate)
    agent = train(make("ppo", {"learning_rate": rate}))
    assert load_agent(agent.save_to_file(tmp_path / "agent.zip")).algorithm_parameters["learning_rate"] is rate


def test_a_registered_class_that_is_gone_when_the_bundle_is_opened_is_named(tmp_path, restored_registries):
    rl_framework.register_activation("sine", Sine)
    path = train(make("ppo", {"policy_kwargs": {"activation_fn": Sine}})).save_to_file(tmp_path / "agent.zip")
    del registry.activations._entries["sine"]
    with pytest.raises(rl_framework.BundleError, match=r"activation/sine.*register_activation"):
        load_agent(path)


def test_a_space_that_cannot_be_saved_is_refused_before_the_first_step():
    environment = Sampled(spaces.Dict({1: spaces.Discrete(2), 2: spaces.Discrete(3)}))
    with pytest.raises(UnsavableError, match="observation_space"):
        train(make(), environment)
    assert environment.resets == 0
