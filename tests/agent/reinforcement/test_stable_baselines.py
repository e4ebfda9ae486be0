"""Every algorithm of Stable-Baselines3, on every space that it takes, from training to acting after loading."""

import json

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.vec_env import VecTransposeImage
from tests.agent.samples import ENVIRONMENTS, PARAMETERS, Sampled, make, same, train, trained, weights

from rl_framework import ArgumentError, StableBaselinesAgent, load_agent
from rl_framework.errors import NonFiniteError, SpaceMismatchError, UnknownNameError, UnsupportedSpaceError
from rl_framework.training import Callback

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
BINARY = spaces.MultiBinary(3)


class Records(Callback):
    def on_training_start(self, event, training):
        self.record = event.record


# Algorithms


@pytest.mark.parametrize("algorithm", PARAMETERS)
@pytest.mark.parametrize("by_name", [True, False], ids=["name", "class"])
def test_an_algorithm_trains_acts_and_comes_back_alike(algorithm, by_name, tmp_path):
    algorithm_class = getattr(stable_baselines3, algorithm.upper())
    agent = make(algorithm)
    if not by_name:
        agent = StableBaselinesAgent(algorithm_class=algorithm_class, algorithm_parameters=PARAMETERS[algorithm])
    environment = ENVIRONMENTS[algorithm]
    assert train(agent, environment, seed=1) is agent
    assert isinstance(agent.algorithm, algorithm_class)
    assert agent.num_timesteps == agent.algorithm.num_timesteps == 48

    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.algorithm_class is algorithm_class
    assert same(weights(agent), weights(loaded)) or algorithm == "sac"  # the entropy coefficient belongs to training
    observations = np.random.default_rng(0).normal(size=(20, *agent.observation_space.shape)).astype(np.float32)
    assert np.array_equal(agent.choose_action(observations), loaded.choose_action(observations))
    for deterministic in (True, False):
        mine, its = (a.evaluate(environment, 2, deterministic=deterministic, seed=3) for a in (agent, loaded))
        assert mine.returns.tolist() == its.returns.tolist()


@pytest.mark.parametrize(
    ("algorithm", "parameters"), [("dqn", {}), ("ppo", {"use_sde": True}), ("a2c", {"use_sde": True}), ("sac", {})]
)
def test_sampled_actions_come_back_alike(algorithm, parameters, tmp_path):
    environment = "Pendulum-v1" if parameters else ENVIRONMENTS[algorithm]
    agent = train(make(algorithm, parameters), environment, seed=1)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    observations = np.random.default_rng(0).normal(size=(30, *agent.observation_space.shape)).astype(np.float32)
    sampled = []
    for one in (agent, loaded):
        one.algorithm.set_random_seed(11)
        sampled.append([one.choose_action(observation, deterministic=False) for observation in observations])
    assert np.array_equal(*sampled)
    assert not np.array_equal(sampled[0], agent.choose_action(observations)), "nothing was sampled"


def test_the_share_of_random_actions_is_saved(tmp_path):
    agent = trained("dqn", {"exploration_fraction": 0.5, "exploration_final_eps": 0.42})
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.algorithm.exploration_rate == agent.algorithm.exploration_rate == 0.42


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "sac"])
@pytest.mark.parametrize("n_environments", [1, 3])
def test_the_noise_of_gsde_is_saved(algorithm, n_environments, tmp_path):
    agent = train(make(algorithm, {"use_sde": True}), "Pendulum-v1", n_environments=n_environments, seed=2)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for count in (1, n_environments, 5):
        observations = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
        sampled = []
        for one in (agent, loaded):
            one.algorithm.set_random_seed(11)
            sampled.append(one.choose_action(observations, deterministic=False))
        assert np.array_equal(*sampled)


# Spaces


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 2, (2,)),
        spaces.Box(np.array([0, -3], np.float32), np.array([1, 5], np.float32)),
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
    ],
    ids=str,
)
@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_on_policy_algorithms_take_every_action_space(algorithm, space, tmp_path):
    def factory():
        return Sampled(action_space=space)

    agent = train(make(algorithm), factory, n_environments=2, seed=0)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    for deterministic in (True, False):
        assert space.contains(agent.choose_action(np.zeros(3), deterministic=deterministic))
        mine, its = (a.evaluate(factory, 3, deterministic=deterministic, seed=1) for a in (agent, loaded))
        assert mine.returns.tolist() == its.returns.tolist()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 3)),
        spaces.Box(0, 9, (4,), np.int64),
        spaces.Discrete(5),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(4),
        spaces.Dict({"vector": spaces.Box(-1, 1, (2,)), "count": spaces.Discrete(3), "flags": BINARY}),
    ],
    ids=str,
)
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_observation_spaces(algorithm, space, tmp_path):
    agent = train(make(algorithm), lambda: Sampled(space), seed=0)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert loaded.observation_space == space
    space.seed(0)
    observations = [space.sample() for _ in range(8)]
    assert [agent.choose_action(o) for o in observations] == [loaded.choose_action(o) for o in observations]


@pytest.mark.parametrize("shape", [(36, 36, 1), (3, 36, 40)])
def test_images_get_a_convolutional_network(shape, tmp_path):
    space = spaces.Box(0, 255, shape, np.uint8)
    agent = train(make("ppo", {"n_steps": 8, "n_epochs": 1}), lambda: Sampled(space), total_timesteps=8, seed=0)
    assert isinstance(agent.algorithm.policy, ActorCriticCnnPolicy)
    assert isinstance(agent.algorithm.env, VecTransposeImage) == (shape[-1] == 1)
    assert agent.observation_space == space
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    space.seed(0)
    images = np.stack([space.sample() for _ in range(3)])
    assert type(agent.choose_action(images[0])) is int
    assert agent.choose_action(images).tolist() == loaded.choose_action(images).tolist()
    agent.evaluate(lambda: Sampled(space), 1)


def test_a_dictionary_with_an_image_gets_both_kinds_of_network(tmp_path):
    space = spaces.Dict({"camera": IMAGE, "speed": spaces.Box(-1, 1, (2,))})
    agent = train(make("ppo", {"n_steps": 8, "n_epochs": 1}), lambda: Sampled(space), total_timesteps=8, seed=0)
    assert isinstance(agent.algorithm.policy, MultiInputActorCriticPolicy)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    space.seed(0)
    observation = space.sample()
    assert agent.choose_action(observation) == loaded.choose_action(observation)


def test_a_policy_that_is_given_is_used():
    agent = trained("ppo", {"policy": "MlpPolicy"})
    assert type(agent.algorithm.policy) is ActorCriticPolicy


@pytest.mark.parametrize(
    ("algorithm", "space", "able"),
    [
        ("dqn", spaces.Box(-1, 1, (1,)), "a2c, ars, crossq, ddpg, ppo, recurrent_ppo, sac, td3, tqc, trpo"),
        ("sac", spaces.Discrete(2), "a2c, ars, dqn, maskable_ppo, ppo, qrdqn, recurrent_ppo, trpo"),
        ("td3", spaces.MultiBinary(2), "a2c, maskable_ppo, ppo, recurrent_ppo, trpo"),
        ("ddpg", spaces.MultiDiscrete([2, 2]), "a2c, maskable_ppo, ppo, recurrent_ppo, trpo"),
    ],
)
def test_an_action_space_that_does_not_fit_is_refused_with_what_would(algorithm, space, able):
    environment = Sampled(action_space=space)
    with pytest.raises(UnsupportedSpaceError, match=f"These can take it: {able}"):
        train(make(algorithm), environment)
    assert environment.steps == environment.resets == 0


@pytest.mark.parametrize(
    ("observation_space", "action_space", "says"),
    [
        (None, spaces.Box(-np.inf, np.inf, (1,)), "finite lower and upper bound"),
        (None, spaces.Discrete(2, start=1), "from 0"),
        (None, spaces.MultiDiscrete([2, 2], start=[0, 1]), "from 0"),
        (None, spaces.Tuple([spaces.Discrete(2)]), "wrap the environment"),
        (spaces.Discrete(3, start=-1), None, "from 0"),
        (spaces.Tuple([spaces.Discrete(2)]), None, "Tuple observations"),
        (spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)})}), None, "inside a Dict"),
        (spaces.Dict({"a": spaces.Discrete(3, start=2)}), None, "from 0"),
    ],
)
def test_spaces_that_no_network_fits_are_refused(observation_space, action_space, says):
    environment = Sampled(observation_space, action_space)
    with pytest.raises(UnsupportedSpaceError, match=says):
        train(make("ppo"), environment)
    assert environment.steps == 0


# Bad input


@pytest.mark.parametrize("nothing", [None, [], "NoSuchEnvironment-v0", object()])
def test_training_needs_environments(nothing):
    with pytest.raises(ArgumentError, match="training_environments"):
        train(make(), nothing)


def test_environments_of_different_spaces_are_refused():
    environments = [Sampled(), Sampled(spaces.Box(-1, 1, (4,)))]
    with pytest.raises(SpaceMismatchError, match="environment 1"):
        train(make(), environments)
    assert not any(environment.steps for environment in environments)


def test_a_second_training_needs_the_same_spaces():
    agent = trained()
    before = weights(agent)
    with pytest.raises(SpaceMismatchError, match="built for"):
        train(agent, "Pendulum-v1")
    assert same(weights(agent), before)
    train(agent)


@pytest.mark.parametrize(("name", "suggestion"), [("ppp", "ppo"), ("SACC", "sac"), ("a22c", "a2c")])
def test_an_unknown_algorithm_gets_the_nearest_names(name, suggestion):
    with pytest.raises(UnknownNameError, match=suggestion) as caught:
        StableBaselinesAgent(name)
    assert caught.value.suggestions[0] == suggestion


@pytest.mark.parametrize("wrong", [None, 3, dict, stable_baselines3.PPO.__init__, Sampled])
def test_what_is_no_algorithm_is_refused(wrong):
    with pytest.raises(ArgumentError, match="algorithm_class"):
        StableBaselinesAgent(wrong)


@pytest.mark.parametrize("timesteps", [0, -5, 1e5, True, "10", None])
def test_training_needs_a_number_of_steps(timesteps):
    environment = Sampled()
    with pytest.raises(ArgumentError, match="total_timesteps"):
        train(make(), environment, total_timesteps=timesteps)
    assert environment.resets == 0


def test_a_number_of_steps_from_numpy_will_do():
    assert train(make(), total_timesteps=np.int64(16)).num_timesteps == 16


@pytest.mark.parametrize("kind", ["observation", "reward"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_numbers_that_are_not_finite_end_training_before_they_are_learned(algorithm, kind, number):
    class Broken(Sampled):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            if self.steps == 20:
                return (np.full(3, number), reward, *rest) if kind == "observation" else (observation, number, *rest)
            return observation, reward, *rest

    agent = make(algorithm)
    with pytest.raises(NonFiniteError, match=f"environment 1 returned a non-finite {kind} at step 20"):
        train(agent, [Sampled(), Broken()])
    assert all(np.isfinite(tensor).all() for tensor in weights(agent).values())


# The record of a run


def test_a_run_is_recorded_as_data():
    records = Records()
    agent = train(make("dqn"), n_environments=2, callbacks=[records], seed=5)
    record = json.loads(json.dumps(records.record, allow_nan=False))
    assert record["algorithm"] == "dqn"
    assert record["algorithm_parameters"]["learning_starts"] == 10
    assert record["environment"] == agent.environment_id == "CartPole-v1"
    assert record["n_environments"] == 2
    assert record["seed"] == 5
    assert record["choices"]["vectorization"]["value"] == "sync"
    assert record["choices"]["vectorization"]["reason"]
    assert "torch" in record["versions"]


def test_the_agent_describes_itself_in_a_line():
    agent = trained()
    assert repr(agent).startswith("StableBaselinesAgent(algorithm_class=PPO, ")
    assert "num_timesteps=48" in repr(agent)


# The caller's environments


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_the_callers_environments_are_never_closed_and_can_be_used_again(algorithm):
    environments = [Sampled(), Sampled()]
    agent = train(make(algorithm), environments, seed=0)
    train(agent, environments)
    assert not any(environment.closed for environment in environments)
    assert sum(environment.steps for environment in environments) == agent.num_timesteps
    environments[0].reset(seed=0)
    environments[0].step(0)


def test_the_callers_wrappers_are_as_before():
    environment = gymnasium.make("CartPole-v1")
    layers = str(environment)
    train(make(), environment)
    assert str(environment) == layers
    environment.reset()
    environment.step(0)


def test_what_training_makes_it_closes_even_when_it_fails():
    made = []

    class Fails(Sampled):
        def step(self, action):
            raise OSError("the simulator is gone")

    def factory():
        made.append(Fails())
        return made[-1]

    with pytest.raises(OSError, match="gone"):
        train(make(), factory, n_environments=2)
    assert len(made) == 2
    assert all(environment.closed for environment in made)
