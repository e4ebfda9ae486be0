"""Every algorithm of the two libraries with every space that it takes: trained, continued, evaluated, saved, acting.

The lists come from the libraries, so that a release with a new algorithm, policy or parameter shows what is missing.
"""

import inspect
from copy import deepcopy
from itertools import cycle, product

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.agent.reinforcement.matrix_toys import (
    ACTION_SPACES,
    DICTS,
    DICTS_WITH_IMAGES,
    FLAT,
    IMAGES,
    LIBRARY_CLASSES,
    OBSERVATIONS,
    PARAMETERS,
    WITH_MULTI_DISCRETE,
    parameters_for,
    source,
    toy,
)
from tests.agent.samples import Sampled, same, train, weights

from rl_framework import ArgumentError, StableBaselinesAgent, load_agent, registry
from rl_framework.agent.reinforcement.library.algorithms import (
    _ACTION_SPACES,
    check_spaces_supported,
    resolve_algorithm,
)
from rl_framework.agent.reinforcement.library.parameters import build_arguments, check_parameter_names
from rl_framework.environment import open_environments
from rl_framework.errors import UnsupportedSpaceError

OWNED = {"env", "_init_setup_model"}


def name_of(algorithm_class):
    return registry.algorithms.name_of(algorithm_class)


each_class = pytest.mark.parametrize("algorithm_class", LIBRARY_CLASSES, ids=lambda each: each.__name__)


# The tables


@each_class
def test_every_algorithm_of_the_libraries_has_a_name(algorithm_class):
    name = name_of(algorithm_class)
    assert name in _ACTION_SPACES
    assert name in PARAMETERS, "give it parameters in matrix_toys"
    assert resolve_algorithm(name) is resolve_algorithm(name.upper()) is algorithm_class
    assert StableBaselinesAgent(algorithm_class).algorithm_class is algorithm_class


def test_no_name_leads_nowhere():
    assert {name_of(algorithm_class) for algorithm_class in LIBRARY_CLASSES} == set(_ACTION_SPACES)


OTHER_ACTIONS = {
    "tuple": spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)]),
    "dict": spaces.Dict({"a": spaces.Discrete(2)}),
    "text": spaces.Text(3),
}


@pytest.mark.parametrize("kind", [*ACTION_SPACES, *OTHER_ACTIONS])
@each_class
def test_the_libraries_take_the_action_spaces_of_our_table_and_no_others(algorithm_class, kind):
    space = ACTION_SPACES[kind]() if kind in ACTION_SPACES else OTHER_ACTIONS[kind]
    name = name_of(algorithm_class)
    try:
        policy = next(iter(algorithm_class.policy_aliases))
        vec_env = DummyVecEnv([lambda: Sampled(action_space=space)])
        algorithm_class(policy, vec_env, **deepcopy(PARAMETERS[name]))  # the library writes into dictionaries
        taken = True
    except (AssertionError, NotImplementedError, TypeError, ValueError):
        taken = False
    assert taken == isinstance(space, _ACTION_SPACES[name])
    observation_space = spaces.Box(-1, 1, (3,))
    if taken:
        check_spaces_supported(algorithm_class, observation_space, space)
    else:
        with pytest.raises(UnsupportedSpaceError, match=algorithm_class.__name__):
            check_spaces_supported(algorithm_class, observation_space, space)


@each_class
def test_every_parameter_of_the_libraries_can_be_given_by_name(algorithm_class):
    parameters = inspect.signature(algorithm_class).parameters
    assert {"policy", "env", "seed"} <= set(parameters)
    for name in parameters:
        if name in OWNED:
            with pytest.raises(ArgumentError, match="cannot be set here"):
                check_parameter_names(algorithm_class, {name: None})
        else:
            check_parameter_names(algorithm_class, {name: None})


@each_class
def test_every_parameter_that_can_be_a_schedule_can_be_one_as_data(algorithm_class):
    data = {"type": "linear", "start": 0.5, "end": 0.1}
    spaces_of_toy = spaces.Box(-1, 1, (3,)), ACTION_SPACES[first_action(algorithm_class)]()
    names = [
        name
        for name, parameter in inspect.signature(algorithm_class).parameters.items()
        if "Callable" in str(parameter.annotation)
    ]
    assert "learning_rate" in names
    arguments = build_arguments(algorithm_class, dict.fromkeys(names, data), None, *spaces_of_toy)
    assert [arguments[name](0.5) for name in names] == [pytest.approx(0.3)] * len(names)


@each_class
def test_the_defaults_given_by_name_are_the_defaults(algorithm_class):
    """A parameter that the framework changes on its way would make another model."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(algorithm_class).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in OWNED | {"policy", "env"}
    }
    name = name_of(algorithm_class)
    action_space = ACTION_SPACES["box" if spaces.Box in _ACTION_SPACES[name] else "discrete"]()
    space = spaces.Box(-1, 1, (3,), np.float32)
    arguments = build_arguments(algorithm_class, defaults, None, space, action_space)
    given = {name: value for name, value in arguments.items() if name != "policy"}
    assert given == {name: value for name, value in defaults.items() if name != "seed"}


NOT_TAKEN = {(RecurrentPPO, kind) for kind in WITH_MULTI_DISCRETE}


def test_what_recurrent_ppo_cannot_observe_is_what_the_library_fails_on():
    """When this fails the library has mended it, and the refusal can go."""
    for observations in WITH_MULTI_DISCRETE:
        environment = toy(observations, "discrete")
        policy = "MlpLstmPolicy" if observations == "multi_discrete" else "MultiInputLstmPolicy"
        with pytest.raises(TypeError, match="int64"):
            RecurrentPPO(policy, environment)
        with pytest.raises(UnsupportedSpaceError, match="FlattenObservation"):
            train(StableBaselinesAgent("recurrent_ppo"), environment)
        agent = StableBaselinesAgent("recurrent_ppo", PARAMETERS["recurrent_ppo"])
        assert train(agent, FlattenObservation(environment), 16).num_timesteps == 16


# Policies


def observations_for(alias):
    return next((kind for start, kind in (("Cnn", "image_last"), ("Multi", "dict")) if alias.startswith(start)), "box")


def first_action(algorithm_class):
    taken = _ACTION_SPACES[name_of(algorithm_class)]
    return next(kind for kind, make in ACTION_SPACES.items() if isinstance(make(), taken))


def prepared(algorithm_class, observations, parameters=None):
    """An agent whose model is built and that has not stepped."""
    name = name_of(algorithm_class)
    agent = StableBaselinesAgent(name, {**parameters_for(name, observations), **(parameters or {})})
    made = source(observations, first_action(algorithm_class), masks=name == "maskable_ppo")
    batch = open_environments(made)
    agent.prepare(batch, 0)
    return agent


@pytest.mark.parametrize(
    ("algorithm_class", "alias"),
    [(each, alias) for each in LIBRARY_CLASSES for alias in each.policy_aliases],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_policy_can_be_named(algorithm_class, alias):
    parameters = {"policy": alias}
    if alias == "LinearPolicy":
        parameters["policy_kwargs"] = None
    agent = prepared(algorithm_class, observations_for(alias), parameters)
    assert type(agent.algorithm.policy) is algorithm_class.policy_aliases[alias]


@pytest.mark.parametrize("observations", OBSERVATIONS)
@each_class
def test_the_policy_that_is_chosen_fits_the_observations(algorithm_class, observations):
    start = "Mlp" if observations in FLAT else "Cnn" if observations in IMAGES else "MultiInput"
    expected = [alias for alias in algorithm_class.policy_aliases if alias.startswith(start)]
    if (algorithm_class, observations) in NOT_TAKEN:
        return
    if not expected:
        with pytest.raises(ArgumentError, match=f"{algorithm_class.__name__} has no {start} policy"):
            prepared(algorithm_class, observations)
        return
    agent = prepared(algorithm_class, observations)
    assert type(agent.algorithm.policy) is algorithm_class.policy_aliases[expected[0]]


# Algorithms and spaces


def observations_taken(algorithm_class):
    starts = {"Mlp": FLAT, "Cnn": IMAGES, "MultiInput": (*DICTS, *DICTS_WITH_IMAGES)}
    aliases = algorithm_class.policy_aliases
    kinds = [kind for start, kinds in starts.items() if any(a.startswith(start) for a in aliases) for kind in kinds]
    return [kind for kind in kinds if (algorithm_class, kind) not in NOT_TAKEN]


def actions_taken(algorithm_class):
    taken = _ACTION_SPACES[name_of(algorithm_class)]
    return [kind for kind, make in ACTION_SPACES.items() if isinstance(make(), taken)]


CELLS = [
    (name_of(algorithm_class), actions, observations)
    for algorithm_class in LIBRARY_CLASSES
    for actions, observations in product(actions_taken(algorithm_class), observations_taken(algorithm_class))
]


def covering(cells):
    """Every algorithm with each of its action spaces, and the kinds of observations in turn."""
    wanted, chosen = cycle(OBSERVATIONS), {}
    for algorithm, actions, _ in cells:
        if (algorithm, actions) in chosen:
            continue
        able = [kind for a, b, kind in cells if (a, b) == (algorithm, actions)]
        chosen[algorithm, actions] = next(kind for kind in wanted if kind in able)
    return [(*pair, observations) for pair, observations in chosen.items()]


COVERING = covering(CELLS)


def test_the_small_selection_leaves_nothing_out():
    for position in range(3):
        assert {cell[position] for cell in COVERING} == {cell[position] for cell in CELLS}
    assert {cell[2] for cell in CELLS} == set(OBSERVATIONS)


def sampled_actions(agent, observations, masks):
    """Actions drawn one after the other from a known state of the random generators, with the agent's own state."""
    agent.algorithm.set_random_seed(11)
    drawn, state = [], None
    for _ in range(5):
        action, state = agent.choose_action(observations, False, state=state, action_masks=masks)
        drawn.append(action)
    return np.array(drawn)


def check_a_life(agent, environments, masks=None):
    """Trains, continues, evaluates, saves, loads, and acts alike, deterministically and sampled."""
    n_environments = 2 if callable(environments) else None
    train(agent, environments, 24, n_environments=n_environments, seed=0)
    first, before = agent.num_timesteps, weights(agent)
    assert first >= 24
    train(agent, environments, 24, n_environments=n_environments)
    assert agent.num_timesteps >= first + 24
    assert not same(weights(agent), before)
    assert all(np.isfinite(tensor).all() for tensor in weights(agent).values())

    loaded = load_agent(agent.save_to_file("agent.zip"))
    assert loaded.num_timesteps == agent.num_timesteps
    assert loaded.algorithm_class is agent.algorithm_class
    for deterministic in (True, False):
        mine, its = (each.evaluate(environments, 3, deterministic=deterministic, seed=3) for each in (agent, loaded))
        assert len(mine.returns) == 3
        assert mine.lengths.tolist() == its.lengths.tolist()
        assert mine.returns.tolist() == its.returns.tolist()
    many = [agent.observation_space.sample() for _ in range(4)]
    batch = {key: np.stack([one[key] for one in many]) for key in many[0]} if isinstance(many[0], dict) else many
    batch_masks = None if masks is None else np.stack([masks] * 4)
    best = agent.choose_action(batch, action_masks=batch_masks)
    assert np.array_equal(best, loaded.choose_action(batch, action_masks=batch_masks))
    assert np.array_equal(*(sampled_actions(each, batch, batch_masks) for each in (agent, loaded)))
    for deterministic in (True, False):
        action = loaded.choose_action(many[0], deterministic, action_masks=masks)
        assert agent.action_space.contains(action), action
    learned = weights(loaded)
    train(loaded, environments, 48, n_environments=n_environments)
    assert loaded.num_timesteps >= agent.num_timesteps + 48
    assert not same(weights(loaded), learned)


def check_cell(algorithm, actions, observations):
    masked = algorithm == "maskable_ppo"
    masks = toy("box", actions, masks=True).action_masks() if masked else None
    agent = StableBaselinesAgent(algorithm, parameters_for(algorithm, observations))
    check_a_life(agent, source(observations, actions, masked), masks)


@pytest.mark.parametrize(("algorithm", "actions", "observations"), COVERING)
def test_each_algorithm_lives_with_each_of_its_action_spaces(algorithm, actions, observations):
    check_cell(algorithm, actions, observations)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "actions", "observations"), [cell for cell in CELLS if cell not in COVERING])
def test_each_algorithm_lives_with_every_space(algorithm, actions, observations):
    check_cell(algorithm, actions, observations)


# Variants of the algorithms


@each_class
def test_a_class_will_do_for_a_name(algorithm_class):
    name = name_of(algorithm_class)
    actions = first_action(algorithm_class)
    made = source("box", actions, masks=name == "maskable_ppo")
    learned = [
        weights(train(StableBaselinesAgent(each, PARAMETERS[name]), made, 24, n_environments=2, seed=1))
        for each in (name, algorithm_class)
    ]
    assert same(*learned)


@pytest.mark.parametrize(("algorithm", "actions"), [("dqn", "discrete"), ("sac", "box"), ("td3", "box")])
def test_n_step_returns(algorithm, actions):
    agent = StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], "n_steps": 3, "gamma": 0.9})
    check_a_life(agent, source("box", actions))
    buffer = agent.algorithm.replay_buffer
    assert type(buffer) is NStepReplayBuffer
    assert (buffer.n_steps, buffer.gamma) == (3, 0.9)
    assert load_agent("agent.zip").algorithm_parameters["n_steps"] == 3


@pytest.mark.parametrize("algorithm", ["a2c", "ppo", "recurrent_ppo", "sac", "tqc", "trpo"])
def test_state_dependent_exploration(algorithm):
    agent = StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], "use_sde": True, "sde_sample_freq": 4})
    check_a_life(agent, source("box", "box"))
    assert agent.algorithm.use_sde


@pytest.mark.parametrize("n_environments", [1, 2])
@pytest.mark.parametrize("kind", ["normal", "ornstein_uhlenbeck"])
def test_action_noise_by_name(kind, n_environments):
    noise = {"type": kind, "sigma": 0.4, "mean": [0.1, 0.2]}
    expected = {"normal": NormalActionNoise, "ornstein_uhlenbeck": OrnsteinUhlenbeckActionNoise}[kind]
    algorithm = {"normal": "td3", "ornstein_uhlenbeck": "ddpg"}[kind]

    def run(parameters):
        agent = StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], **parameters})
        return train(agent, source("box", "box"), 24, n_environments=n_environments, seed=0)

    agent, plain = run({"action_noise": noise}), run({})
    used = agent.algorithm.action_noise
    if n_environments == 2:
        assert isinstance(used, VectorizedActionNoise)
        first, second = used.noises
        assert first is not second
        used = used.base_noise
    assert type(used) is expected
    assert used._sigma.tolist() == [0.4, 0.4]
    assert used._mu.tolist() == [0.1, 0.2]
    assert not same(weights(agent), weights(plain))
    loaded = load_agent(agent.save_to_file("agent.zip"))
    train(loaded, source("box", "box"), 24, n_environments=n_environments)
    assert loaded.algorithm_parameters["action_noise"]["type"] == kind
    assert loaded.algorithm.action_noise is not None


# Buffers and a training that goes on


def test_steps_are_not_counted_across_the_border_of_two_trainings():
    """With rewards of 1 a return over three steps must not reach from one training into the next."""

    class Ones(Sampled):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return (observation, 1.0, *rest)

    agent = StableBaselinesAgent("dqn", {**PARAMETERS["dqn"], "n_steps": 3, "gamma": 1.0, "learning_starts": 1000})
    train(agent, lambda: Ones(length=100), 10)
    train(agent, lambda: Ones(length=100), 10)
    buffer = agent.algorithm.replay_buffer
    returns = buffer._get_samples(np.arange(20)).rewards.flatten().tolist()
    assert returns == [3] * 8 + [2, 1] + [3] * 8 + [2, 1]
    assert not buffer._get_samples(np.arange(20)).dones.any()


def test_a_memory_saving_buffer_does_not_bootstrap_from_the_next_training():
    parameters = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    agent = StableBaselinesAgent("dqn", {**PARAMETERS["dqn"], **parameters})
    train(agent, lambda: Sampled(length=100), 10)
    train(agent, lambda: Sampled(length=100), 10)
    assert np.flatnonzero(agent.algorithm.replay_buffer.dones[:20]).tolist() == [9]


@pytest.mark.parametrize("n_environments", [1, 2])
def test_a_loaded_agent_collects_before_it_learns_and_acts_by_itself_meanwhile(n_environments):
    """Its replay buffer was not saved; the library alone would learn from the first transitions over and over."""
    actions = []

    class Noting(Sampled):
        def step(self, action):
            actions.append(int(action))
            return super().step(action)

    parameters = {**PARAMETERS["dqn"], "learning_starts": 20, "exploration_fraction": 1e-6, "exploration_final_eps": 0}
    agent = StableBaselinesAgent("dqn", parameters)
    train(agent, Noting, 48, n_environments=n_environments, seed=0)
    loaded = load_agent(agent.save_to_file("agent.zip"))
    before, updates = weights(loaded), loaded.algorithm._n_updates
    actions.clear()
    train(loaded, Noting, 20, n_environments=n_environments)
    assert loaded.algorithm._n_updates == updates
    learned = weights(loaded)  # the target network takes over the other one meanwhile
    assert all(np.array_equal(learned[name], before[name]) for name in before if name.startswith("q_net."))
    buffer = loaded.algorithm.replay_buffer
    stored = buffer.observations[: 20 // n_environments].reshape(20, -1)
    assert actions == loaded.choose_action(stored).tolist()
    # The second call goes on where this one stopped.
    train(loaded, Noting, 4 * n_environments, n_environments=n_environments)
    assert loaded.algorithm._n_updates > updates
    assert loaded.algorithm.learning_starts == 20
