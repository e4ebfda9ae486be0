"""Files of Stable-Baselines3: written so that the library alone acts alike, read only from those one trusts."""

import base64
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, SMALL, STEPS, Sampled, make, same, train, trained, weights

from rl_framework import StableBaselinesAgent, load_agent, registry
from rl_framework.agent.network import FeaturesExtractor
from rl_framework.agent.reinforcement.export.library_zip import agent_from_library_zip, save_as_library_zip
from rl_framework.errors import ArgumentError, BundleError, MissingExtraError, UnsavableError

BOX, ACTIONS = spaces.Box(-5, 5, (3,)), spaces.Box(-2, 1, (2,))
CONTRIB = {
    "ARS": (BOX, ACTIONS, {"n_delta": 4}),
    "CrossQ": (BOX, ACTIONS, {"batch_size": 8}),
    "MaskablePPO": (BOX, spaces.Discrete(3), {"n_steps": 8}),
    "QRDQN": (BOX, spaces.Discrete(3), {"batch_size": 8}),
    "RecurrentPPO": (BOX, ACTIONS, {"n_steps": 8}),
    "TQC": (BOX, ACTIONS, {"top_quantiles_to_drop_per_net": 3}),
    "TRPO": (BOX, ACTIONS, {"cg_max_steps": 5}),
}


class OwnPolicy(ActorCriticPolicy):
    pass


class OwnBuffer(RolloutBuffer):
    pass


class Widened(FeaturesExtractor):
    def __init__(self, trainable=True, weights=None):
        super().__init__(trainable, weights)

    def build(self, observation_space):
        return torch.nn.Linear(observation_space.shape[0], 6)


class Preprocessing(Widened):
    def preprocess(self, observations):
        return observations / 2


registry.register_features_extractor("test_library_zip_widened", Widened)
registry.register_features_extractor("test_library_zip_preprocessing", Preprocessing)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def opened(path, trust=True, **arguments):
    return agent_from_library_zip(StableBaselinesAgent, path, trust, **arguments)


def actions_of(agent, count=200):
    space = agent.observation_space
    space.seed(1)
    return agent.predict(np.stack([space.sample() for _ in range(count)]))[0]


def library_model(algorithm="PPO", observation_space=BOX, action_space=ACTIONS, **parameters):
    algorithm = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    environments = DummyVecEnv([lambda: Sampled(observation_space, action_space)])
    kind = next(name for name in algorithm.policy_aliases if name.startswith("Mlp"))
    return algorithm(kind, environments, device="cpu", policy_kwargs=dict(SMALL), **parameters)


def poisoned(path, mark, agent=None):
    """A file of the library whose space makes a file when it is unpickled."""
    save_as_library_zip(agent or trained("ppo"), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(members["data"])
    described["observation_space"][":serialized:"] = base64.b64encode(pickle.dumps(Touch(mark))).decode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {"data": json.dumps(described)}).items():
            archive.writestr(name, data)
    return path


# Writing


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "dqn"])
def test_library_alone_acts_alike(algorithm, tmp_path):
    agent = trained(algorithm)
    path = save_as_library_zip(agent, tmp_path / "deeper" / "agent")
    assert path == tmp_path / "deeper" / "agent.zip"
    assert [file.name for file in path.parent.iterdir()] == ["agent.zip"]
    model = getattr(stable_baselines3, algorithm.upper()).load(path)
    assert same(weights(model), weights(agent))
    assert model.num_timesteps == agent.num_timesteps
    observations = np.stack([agent.observation_space.sample() for _ in range(50)])
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], agent.predict(observations)[0])


def test_library_opens_statistics_beside_the_file_and_goes_on(tmp_path):
    agent = trained("sac", normalize_observations=True, normalize_rewards=True)
    path = save_as_library_zip(agent, tmp_path / "agent.zip")
    environments = VecNormalize.load(
        str(tmp_path / "agent_vecnormalize.pkl"),
        DummyVecEnv([lambda: Sampled(agent.observation_space, agent.action_space)]),
    )
    assert environments.norm_reward
    assert environments.ret_rms.var == agent.normaliser.reward[1]
    environments.training = False
    model = stable_baselines3.SAC.load(path, env=environments)
    observations = np.stack([agent.observation_space.sample() for _ in range(50)])
    actions, _ = model.predict(environments.normalize_obs(observations), deterministic=True)
    np.testing.assert_array_equal(actions, agent.predict(observations)[0])
    model.learn(20)


def test_file_needs_no_framework(tmp_path):
    schedules = {
        "learning_rate": {"type": "linear", "start": 1e-3, "end": 1e-4},
        "clip_range": {"type": "constant", "value": 0.1},
    }
    agent = trained("ppo", schedules, normalize_observations=True)
    # What the agent was trained with where slots of environments can be empty.
    from rl_framework.agent.reinforcement.library.buffers.present_buffers import PresentRolloutBuffer

    agent.algorithm.rollout_buffer_class = PresentRolloutBuffer
    path = save_as_library_zip(agent, tmp_path / "agent.zip")
    code = (
        "import sys; sys.modules['rl_framework'] = None; import warnings; warnings.simplefilter('error');"
        "import pickle, stable_baselines3; model = stable_baselines3.PPO.load(sys.argv[1], device='cpu');"
        "print(model.lr_schedule(0.5), model.clip_range(0.5), model.rollout_buffer_class.__name__);"
        "print(pickle.load(open(sys.argv[2], 'rb')).obs_rms.count)"
    )
    statistics = str(tmp_path / "agent_vecnormalize.pkl")
    said = subprocess.run([sys.executable, "-c", code, path, statistics], capture_output=True, text=True, check=True)
    rate, clip, buffer, count = said.stdout.split()
    assert (float(rate), float(clip)) == pytest.approx((5.5e-4, 0.1))
    assert buffer == "RolloutBuffer"
    assert float(count) == agent.normaliser.observation[""][2]


def test_folders_of_this_machine_stay_here(tmp_path):
    agent = trained("ppo", {"tensorboard_log": str(tmp_path / "logs")})
    with zipfile.ZipFile(save_as_library_zip(agent, tmp_path / "agent.zip")) as archive:
        assert str(tmp_path) not in archive.read("data").decode()
    assert agent.algorithm.tensorboard_log == str(tmp_path / "logs")


def test_statistics_of_another_agent_are_not_left_beside(tmp_path):
    save_as_library_zip(trained("ppo", normalize_observations=True), tmp_path / "agent.zip")
    older = (tmp_path / "agent.zip").read_bytes()
    with pytest.raises(ArgumentError, match=r"agent_vecnormalize\.pkl would be taken"):
        save_as_library_zip(trained("ppo"), tmp_path / "agent.zip")
    assert (tmp_path / "agent.zip").read_bytes() == older


# Trust


def test_nothing_runs_without_trust(tmp_path):
    mark = tmp_path / "ran"
    path = poisoned(tmp_path / "agent.zip", mark)
    (tmp_path / "agent_vecnormalize.pkl").write_bytes(pickle.dumps(Touch(mark)))
    for trust in (False, 1, "yes", None):
        with pytest.raises(ArgumentError, match=r"runs any code that its author put there.*Pass trust=True"):
            opened(path, trust)
    with pytest.raises(ArgumentError, match="runs any code"):
        agent_from_library_zip(StableBaselinesAgent, path)
    assert not mark.exists()
    with pytest.raises(BundleError):
        opened(path)
    assert mark.exists(), "the file is harmless, so that this test shows nothing"


def test_statistics_are_trusted_with_the_file_only(tmp_path):
    mark = tmp_path / "ran"
    path = save_as_library_zip(trained("ppo"), tmp_path / "agent.zip")
    statistics = tmp_path / "statistics.pkl"
    statistics.write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(ArgumentError, match="trust"):
        opened(path, trust=False, normalize_path=statistics)
    assert not mark.exists()
    with pytest.raises(BundleError, match="holds a NoneType, not a VecNormalize"):
        opened(path, normalize_path=statistics)


@pytest.mark.parametrize("content", [b"", b"no zip file", None])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "agent.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", json.dumps({"policy": 1}))
    else:
        path.write_bytes(content)
    with pytest.raises(BundleError, match="no file that Stable-Baselines3 wrote"):
        opened(path)


def test_bundles_are_not_opened_here(tmp_path):
    path = trained("ppo").save_to_file(tmp_path / "agent.zip")
    with pytest.raises(BundleError, match="is a bundle: open it with"):
        opened(path)


def test_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "agent.zip")
    path = save_as_library_zip(trained("ppo"), tmp_path / "agent.zip")
    with pytest.raises(FileNotFoundError):
        opened(path, normalize_path=tmp_path / "statistics.pkl")


# Reading


@pytest.mark.parametrize("algorithm", sorted(PARAMETERS))
def test_agent_comes_back(algorithm, tmp_path):
    """It acts, evaluates, trains on, and comes back from a bundle."""
    agent = trained(algorithm)
    again = opened(save_as_library_zip(agent, tmp_path / "agent.zip"), algorithm_parameters={"device": "cpu"})
    assert again.algorithm_class is agent.algorithm_class
    expected = {"device": "cpu", **PARAMETERS[algorithm]}
    assert again.algorithm_parameters == expected
    assert again.seed == agent.seed
    assert again.num_timesteps == agent.num_timesteps
    assert same(weights(again), weights(agent))
    np.testing.assert_array_equal(actions_of(again), actions_of(agent))
    environment = ENVIRONMENTS[algorithm]
    assert list(again.evaluate(environment, 2, seed=0).returns) == list(agent.evaluate(environment, 2, seed=0).returns)
    bundled = load_agent(again.save_to_file(tmp_path / "bundle.zip"))
    np.testing.assert_array_equal(actions_of(bundled), actions_of(agent))
    train(again, environment)
    assert again.num_timesteps == agent.num_timesteps + STEPS
    assert not same(weights(again), weights(agent))


def test_optimizer_comes_along(tmp_path):
    agent = trained("ppo")
    again = opened(save_as_library_zip(agent, tmp_path / "agent.zip"))
    mine, theirs = (one.algorithm.policy.optimizer.state_dict()["state"] for one in (again, agent))
    assert theirs
    for index, state in theirs.items():
        assert torch.equal(mine[index]["exp_avg"], state["exp_avg"])


@pytest.mark.parametrize("algorithm", sorted(CONTRIB))
def test_algorithm_is_told_from_the_file(algorithm, tmp_path):
    observation_space, action_space, parameters = CONTRIB[algorithm]
    model = library_model(algorithm, observation_space, action_space, **parameters)
    model.save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    assert agent.algorithm_class is type(model)
    given = {**parameters, "policy_kwargs": SMALL}
    found = {name: agent.algorithm_parameters.get(name) for name in given}
    if algorithm == "QRDQN":  # its optimizer depends on the size of a batch
        assert found.pop("policy_kwargs").items() >= given.pop("policy_kwargs").items()
    assert found == given
    assert same(weights(agent), weights(model))
    observations = np.stack([observation_space.sample() for _ in range(20)])
    np.testing.assert_array_equal(agent.predict(observations)[0], model.predict(observations, deterministic=True)[0])


def test_missing_contrib_names_its_command(tmp_path, monkeypatch):
    library_model("TRPO").save(tmp_path / "model")
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="'sb3_contrib' is needed for TRPO"):
        opened(tmp_path / "model.zip")


def test_parameters_come_back_as_data(tmp_path):
    model = library_model(
        "TD3",
        learning_rate=lambda progress: 1e-3 * progress,
        buffer_size=500,
        train_freq=(2, "episode"),
        n_steps=3,
        action_noise=NormalActionNoise(np.zeros(2), np.full(2, 0.3)),
        replay_buffer_kwargs={"handle_timeout_termination": False},
        policy_delay=4,
        stats_window_size=7,
        seed=5,
        verbose=0,
        tensorboard_log="logs",
    )
    model.save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    assert agent.seed == 5
    assert agent.algorithm_parameters == {
        "learning_rate": {"type": "linear", "start": 1e-3, "end": 0.0},
        "buffer_size": 500,
        "train_freq": (2, "episode"),
        "n_steps": 3,
        "action_noise": {"type": "normal", "mean": [0.0, 0.0], "sigma": [0.3, 0.3]},
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
        "policy_delay": 4,
        "stats_window_size": 7,
        "policy_kwargs": SMALL,
    }
    agent.describe()
    assert agent.algorithm.buffer_size == 500
    assert agent.algorithm.replay_buffer.buffer_size == 1, "memory for a buffer that nothing comes into"


def test_default_parameters_are_left_out(tmp_path):
    for name in ("PPO", "A2C", "SAC", "DDPG"):
        model = library_model(name)
        model.save(tmp_path / "model")
        assert opened(tmp_path / "model.zip").algorithm_parameters == {"policy_kwargs": SMALL}


@pytest.mark.parametrize("parameters", [{"use_rms_prop": False}, {"rms_prop_eps": 1e-3}])
def test_optimizer_of_a2c_comes_back(parameters, tmp_path):
    model = library_model("A2C", **parameters)
    model.save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    train(agent, Sampled(BOX, ACTIONS), 5)
    rebuilt = agent.algorithm.policy.optimizer
    assert type(rebuilt) is type(model.policy.optimizer)
    assert rebuilt.defaults["eps"] == model.policy.optimizer.defaults["eps"]


def test_functions_stay_functions_and_may_be_replaced(tmp_path):
    library_model(learning_rate=lambda progress: 1e-3 * progress**2, n_steps=8, batch_size=8).save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    actions_of(agent)
    with pytest.raises(UnsavableError, match="learning_rate"):
        agent.save_to_file(tmp_path / "bundle.zip")
    agent = opened(tmp_path / "model.zip", algorithm_parameters={"learning_rate": 1e-4})
    train(agent, Sampled(BOX, ACTIONS))
    agent.save_to_file(tmp_path / "bundle.zip")


def test_own_classes_act_and_cannot_be_saved(tmp_path):
    library_model(rollout_buffer_class=OwnBuffer).save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    actions_of(agent)
    with pytest.raises(UnsavableError, match="OwnBuffer"):
        agent.save_to_file(tmp_path / "bundle.zip")


def test_policy_of_ones_own_needs_the_algorithm(tmp_path):
    environments = DummyVecEnv([lambda: Sampled(BOX, ACTIONS)])
    model = stable_baselines3.PPO(OwnPolicy, environments, policy_kwargs=dict(SMALL), device="cpu")
    model.save(tmp_path / "model")
    with pytest.raises(
        ArgumentError, match=r"its policy, a class of .*test_library_zip, does not tell. Pass the class that wrote it"
    ):
        opened(tmp_path / "model.zip")
    agent = opened(tmp_path / "model.zip", algorithm_class="ppo")
    assert agent.algorithm_parameters["policy"] is OwnPolicy
    assert same(weights(agent), weights(model))
    with pytest.raises(BundleError, match="cannot be opened as SAC"):
        opened(tmp_path / "model.zip", algorithm_class="sac")


def test_hindsight_buffer_needs_no_environment_to_open(tmp_path):
    space = spaces.Dict(dict.fromkeys(("achieved_goal", "desired_goal", "observation"), BOX))
    environments = DummyVecEnv([lambda: Sampled(space, ACTIONS)])
    model = stable_baselines3.SAC(
        "MultiInputPolicy",
        environments,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2},
        buffer_size=100,
        device="cpu",
    )
    model.save(tmp_path / "model")
    agent = opened(tmp_path / "model.zip")
    assert agent.algorithm_parameters["replay_buffer_class"] is HerReplayBuffer
    assert agent.algorithm_parameters["replay_buffer_kwargs"] == {"n_sampled_goal": 2}
    agent.describe()


def test_images_come_back_as_environments_give_them(tmp_path):
    space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    parameters = {"policy_kwargs": {**SMALL, "features_extractor_kwargs": {"features_dim": 8}}}
    agent = train(make("ppo", parameters), Sampled(space), 16)
    path = save_as_library_zip(agent, tmp_path / "agent.zip")
    again = opened(path)
    assert again.observation_space == space
    np.testing.assert_array_equal(actions_of(again, 10), actions_of(agent, 10))
    train(again, Sampled(space), 16)
    first = spaces.Box(0, 255, (3, 36, 40), np.uint8)
    assert opened(path, observation_space=first).observation_space == first


def test_features_extractor_comes_back(tmp_path):
    agent = train(make(features_extractor=Widened(trainable=False)), Sampled(BOX, ACTIONS))
    again = opened(save_as_library_zip(agent, tmp_path / "agent.zip"))
    assert again.algorithm_parameters == PARAMETERS["ppo"]
    assert isinstance(again.features_extractor, Widened)
    assert not again.features_extractor.trainable
    np.testing.assert_array_equal(actions_of(again), actions_of(agent))
    bundled = load_agent(again.save_to_file(tmp_path / "bundle.zip"))
    np.testing.assert_array_equal(actions_of(bundled), actions_of(agent))


def test_preprocessing_stage_has_no_place_in_the_file(tmp_path):
    agent = train(make(features_extractor=Preprocessing()), Sampled(BOX, ACTIONS))
    with pytest.raises(ArgumentError, match="would leave out the preprocessing stage"):
        save_as_library_zip(agent, tmp_path / "agent.zip")


@pytest.mark.parametrize("rewards", [True, False])
def test_normalisation_comes_back_as_the_agents_own(rewards, tmp_path):
    agent = trained("ppo", {"gamma": 0.9}, normalize_observations=True, normalize_rewards=rewards)
    again = opened(save_as_library_zip(agent, tmp_path / "agent.zip"))
    assert (again.normalize_observations, again.normalize_rewards) == (True, rewards)
    np.testing.assert_array_equal(actions_of(again), actions_of(agent))
    before = again.normaliser.observation[""][2]
    train(again)
    assert again.normaliser.observation[""][2] > before


def test_normalisation_that_is_not_the_agents_own_still_acts(tmp_path):
    environments = VecNormalize(DummyVecEnv([lambda: Sampled(BOX, ACTIONS)]), clip_obs=0.5)
    model = stable_baselines3.PPO(
        "MlpPolicy", environments, n_steps=8, batch_size=8, policy_kwargs=dict(SMALL), device="cpu"
    )
    model.learn(16)
    model.save(tmp_path / "model")
    environments.save(str(tmp_path / "statistics.pkl"))
    agent = opened(tmp_path / "model.zip", normalize_path=tmp_path / "statistics.pkl")
    assert not agent.normalize_observations
    observations = np.stack([BOX.sample() for _ in range(20)])
    expected, _ = model.predict(environments.normalize_obs(observations), deterministic=True)
    np.testing.assert_array_equal(agent.predict(observations)[0], expected)
    bundled = load_agent(agent.save_to_file(tmp_path / "bundle.zip"))
    np.testing.assert_array_equal(bundled.predict(observations)[0], expected)
    exported = opened(save_as_library_zip(bundled, tmp_path / "exported.zip"))
    np.testing.assert_array_equal(exported.predict(observations)[0], expected)


def test_opening_leaves_global_random_numbers_alone(tmp_path):
    path = save_as_library_zip(trained("ppo", seed=3), tmp_path / "agent.zip")
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    opened(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.random() == np.random.RandomState(1).random()
