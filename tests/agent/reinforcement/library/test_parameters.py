"""From what the user writes as parameters to what the library gets."""

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, RolloutBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from tests.agent.samples import PARAMETERS, SMALL, Sampled, make, train, trained

from rl_framework import ArgumentError, MissingExtraError, StableBaselinesAgent, load_agent
from rl_framework.agent.reinforcement.library.parameters import build_arguments, choose_policy
from rl_framework.errors import UnknownNameError

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
VECTOR = spaces.Box(-1, 1, (3,))


def arguments_for(parameters, algorithm="PPO", features_extractor=None, action_space=None):
    algorithm_class = getattr(stable_baselines3, algorithm)
    action_space = action_space or spaces.Box(-1, 1, (2,))
    return build_arguments(algorithm_class, parameters, features_extractor, VECTOR, action_space)


@pytest.mark.parametrize(
    ("algorithm", "name", "suggestion"),
    [
        ("ppo", "learning_rte", "learning_rate"),
        ("ppo", "n_step", "n_steps"),
        ("ppo", "clip_rang", "clip_range"),
        ("dqn", "exploration_fractoin", "exploration_fraction"),
        ("sac", "ent_coeff", "ent_coef"),
    ],
)
def test_an_unknown_parameter_gets_the_nearest_names(algorithm, name, suggestion):
    with pytest.raises(UnknownNameError, match=f"{algorithm.upper()}") as caught:
        make(algorithm, {name: 1})
    assert caught.value.suggestions[0] == suggestion


def test_a_parameter_of_another_algorithm_is_unknown():
    with pytest.raises(UnknownNameError, match="buffer_size"):
        StableBaselinesAgent("ppo", {"buffer_size": 10})


@pytest.mark.parametrize("name", ["env", "_init_setup_model"])
def test_what_the_framework_does_itself_cannot_be_set(name):
    with pytest.raises(ArgumentError, match="cannot be set here"):
        StableBaselinesAgent("ppo", {name: None})


@pytest.mark.parametrize("wrong", [[1], "n_steps=3", 3, [("n_steps", 3)]])
def test_parameters_are_a_dictionary(wrong):
    with pytest.raises(ArgumentError, match="must be a dictionary"):
        StableBaselinesAgent("ppo", wrong)


@pytest.mark.parametrize(
    "parameters",
    [
        {"learning_rate": "fast"},
        {"n_steps": None},
        {"n_steps": -4},
        {"batch_size": 0},
        {"policy": "NoPolicy"},
        {"policy": ["MlpPolicy"]},
        {"policy": stable_baselines3.PPO},
        {"policy_kwargs": [1]},
        {"policy_kwargs": {"net_arch": "wide"}},
        {"policy_kwargs": {"net_arch": [-1]}},
        {"policy_kwargs": {"activation_fn": "tahn"}},
        {"policy_kwargs": {"activation_fn": stable_baselines3.PPO}},
        {"policy_kwargs": {"no_such_option": 1}},
        {"rollout_buffer_class": torch.nn.ReLU},
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_is_an_argument_error_before_the_first_step(parameters):
    environment = Sampled()
    with pytest.raises(ArgumentError):
        train(make("ppo", parameters), environment)
    assert environment.resets == 0


def test_logs_for_tensorboard_need_tensorboard(monkeypatch, tmp_path):
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda module: None)
    environment = Sampled()
    with pytest.raises(MissingExtraError, match=r'pip install "rl-framework\[tensorboard\]"'):
        train(make("ppo", {"tensorboard_log": str(tmp_path)}), environment)
    assert environment.resets == 0


def test_the_users_dictionaries_are_not_written_into():
    parameters = {
        **PARAMETERS["dqn"],
        "policy_kwargs": {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-5}},
        "n_steps": 2,
        "replay_buffer_kwargs": {"handle_timeout_termination": True},
    }
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in parameters.items()}
    agent = train(StableBaselinesAgent("dqn", parameters))
    assert isinstance(agent.algorithm.replay_buffer, NStepReplayBuffer)
    assert parameters == agent.algorithm_parameters == copy

    own = {"net_arch": [8]}
    train(make("sac", {"policy_kwargs": own}), "Pendulum-v1")
    assert own == {"net_arch": [8]}


@pytest.mark.parametrize(
    ("algorithm", "space", "policy"),
    [
        ("PPO", VECTOR, "MlpPolicy"),
        ("PPO", IMAGE, "CnnPolicy"),
        ("SAC", spaces.Box(-1, 1, (36, 36, 1)), "MlpPolicy"),
        ("DQN", spaces.Discrete(3), "MlpPolicy"),
        ("TD3", spaces.Dict({"a": IMAGE}), "MultiInputPolicy"),
    ],
)
def test_the_policy_follows_from_the_observations(algorithm, space, policy):
    assert choose_policy(getattr(stable_baselines3, algorithm), space) == policy


def test_a_policy_class_of_the_library_is_saved_by_its_name(tmp_path):
    agent = trained("ppo", {"policy": ActorCriticPolicy})
    assert agent.describe()["algorithm_parameters"]["policy"] == "MlpPolicy"
    assert type(load_agent(agent.save_to_file(tmp_path / "agent.zip")).algorithm.policy) is ActorCriticPolicy


def test_names_stand_for_classes():
    built = arguments_for({"policy_kwargs": {"activation_fn": "elu", "optimizer_class": "AdamW"}})
    assert built["policy_kwargs"] == {"activation_fn": torch.nn.ELU, "optimizer_class": torch.optim.AdamW}
    assert arguments_for({"replay_buffer_class": "her"}, "SAC")["replay_buffer_class"] is HerReplayBuffer
    with pytest.raises(UnknownNameError, match="'adam'"):
        arguments_for({"policy_kwargs": {"optimizer_class": "adm"}})
    with pytest.raises(UnknownNameError, match="replay_buffer"):
        arguments_for({"replay_buffer_class": "hre"}, "SAC")


def test_classes_may_be_given_themselves(tmp_path):
    parameters = {
        "policy_kwargs": {
            "net_arch": {"pi": [4], "vf": [5, 6]},
            "activation_fn": torch.nn.ELU,
            "optimizer_class": torch.optim.RMSprop,
            "optimizer_kwargs": {"alpha": 0.9},
        }
    }
    agent = trained("ppo", parameters)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for one in (agent, loaded):
        network = one.algorithm.policy.mlp_extractor
        assert [layer.out_features for layer in network.value_net if hasattr(layer, "out_features")] == [5, 6]
        assert isinstance(network.policy_net[1], torch.nn.ELU)
        assert isinstance(one.algorithm.policy.optimizer, torch.optim.RMSprop)
        assert one.algorithm.policy.optimizer.defaults["alpha"] == 0.9


@pytest.mark.parametrize("extractor", ["nature_cnn", NatureCNN, {"type": "nature_cnn"}, {"type": NatureCNN}])
def test_a_features_extractor_can_be_a_name_a_class_or_data(extractor, tmp_path):
    if isinstance(extractor, dict):
        extractor = extractor | {"features_dim": 32}
    agent = make("ppo", {"n_steps": 8, "n_epochs": 1}, features_extractor=extractor)
    train(agent, lambda: Sampled(IMAGE), 8)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for one in (agent, loaded):
        assert isinstance(one.algorithm.policy.features_extractor, NatureCNN)
        assert one.algorithm.policy.features_dim == (32 if isinstance(extractor, dict) else 512)


@pytest.mark.parametrize(
    ("extractor", "error"),
    [("natur_cnn", UnknownNameError), ({"features_dim": 3}, ArgumentError), ({"type": "nope"}, UnknownNameError)],
)
def test_a_features_extractor_that_is_none_is_refused(extractor, error):
    with pytest.raises(error, match="features_extractor"):
        train(make(features_extractor=extractor), Sampled)


def test_two_features_extractors_are_one_too_many():
    agent = make("ppo", {"policy_kwargs": {"features_extractor_class": FlattenExtractor}}, features_extractor="flatten")
    with pytest.raises(ArgumentError, match="Pass one of the two"):
        train(agent, Sampled)


@pytest.mark.parametrize(
    ("data", "kind"), [("normal", NormalActionNoise), ("ornstein_uhlenbeck", OrnsteinUhlenbeckActionNoise)]
)
def test_noise_can_be_data(data, kind):
    noise = arguments_for({"action_noise": {"type": data, "sigma": 0.2}}, "TD3")["action_noise"]
    assert type(noise) is kind
    assert noise._sigma.tolist() == [0.2, 0.2]
    assert noise._mu.tolist() == [0, 0]
    noise = arguments_for({"action_noise": {"type": data, "sigma": [0.1, 0.2], "mean": 1}}, "TD3")["action_noise"]
    assert (noise._mu.tolist(), noise._sigma.tolist()) == ([1, 1], [0.1, 0.2])


@pytest.mark.parametrize(
    "noise",
    [
        {},
        {"type": "norml"},
        {"type": "normal", "sigma": "much"},
        {"type": "normal", "sigma": [1, 2, 3]},
        {"type": "normal", "theta": 0.1},
    ],
)
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(ArgumentError, match="action_noise"):
        arguments_for({"action_noise": noise}, "TD3")


def test_noise_is_for_continuous_actions():
    with pytest.raises(ArgumentError, match="continuous"):
        arguments_for({"action_noise": {"type": "normal"}}, "DQN", action_space=spaces.Discrete(2))


@pytest.mark.parametrize("given", [(2, "episode"), [2, "episode"]])
def test_a_training_frequency_in_episodes(given, tmp_path):
    agent = train(make("sac", {"train_freq": given}), lambda: Sampled(action_space=VECTOR))
    assert agent.algorithm.train_freq.frequency == 2
    assert agent.algorithm.train_freq.unit.value == "episode"
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.algorithm.train_freq == agent.algorithm.train_freq


def test_a_rollout_buffer_class_is_used():
    class Counting(RolloutBuffer):
        added = 0

        def add(self, *arguments, **named):
            type(self).added += 1
            super().add(*arguments, **named)

    from rl_framework import register_replay_buffer, registry

    entries = dict(registry.replay_buffers._entries)
    register_replay_buffer("counting_rollout", Counting)
    try:
        train(make("ppo", {"rollout_buffer_class": Counting}), Sampled)
        assert Counting.added == 48
    finally:
        registry.replay_buffers._entries = entries


class Reach(gymnasium.Env):
    """A goal environment: walk along a line to where you are told."""

    observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), VECTOR))
    action_space = spaces.Box(-1, 1, (3,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(3, np.float32), 0
        self.goal = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return self._observe(), {}

    def step(self, action):
        self.place, self.steps = np.clip(self.place + action, -1, 1).astype(np.float32), self.steps + 1
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._observe(), reward, False, self.steps == 8, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.1).astype(np.float32)

    def _observe(self):
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}


def test_hindsight_experience_replay(tmp_path):
    parameters = {
        "learning_starts": 20,
        "replay_buffer_class": "her",
        "replay_buffer_kwargs": {"n_sampled_goal": 2},
        "policy_kwargs": SMALL,
    }
    agent = train(make("sac", parameters), Reach, n_environments=2, seed=0)
    assert isinstance(agent.algorithm.replay_buffer, HerReplayBuffer)
    assert agent.algorithm._n_updates > 0
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert agent.evaluate(Reach, 2, seed=1).returns.tolist() == loaded.evaluate(Reach, 2, seed=1).returns.tolist()
    # Its new buffer has to hold an episode before it can be sampled from.
    train(load_agent(tmp_path / "agent.zip", {"learning_starts": 60}), Reach)
