"""Algorithms and agents of one's own: learning, reproducible, saved without pickle, and safe to open."""

import json
import zipfile

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from tests.agent.samples import Sampled, train
from tests.environment.toys import Crowd, CrowdAdapter

import rl_framework
from rl_framework import ArgumentError, BundleError, RLAgent, load_agent, record_video, registry
from rl_framework.agent.reinforcement import CustomAgent, CustomAlgorithm, StableBaselinesAgent
from rl_framework.bundle import decode_space, encode_space, write_bundle
from rl_framework.errors import (
    NotTrainedError,
    SpaceMismatchError,
    UnknownNameError,
    UnsavableError,
    UnsupportedSpaceError,
)
from rl_framework.training import Callback, EpisodeEnded, Updated

TAXI = {"learning_rate": 1.0, "gamma": 0.99, "epsilon": 0.05}
DISCRETE = spaces.Discrete(4)


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registered in (registry.algorithms, registry.agents, registry.environment_adapters):
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


class Recorder(CustomAlgorithm):
    """Acts at random and keeps what it was given."""

    def __init__(self, observation_space, action_space, best=0):
        super().__init__(observation_space, action_space)
        self.best, self.seen, self.asked = best, [], []

    def choose_actions(self, observations, deterministic):
        count = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        self.asked.append(deterministic)
        if deterministic:
            return np.full(count, self.best)
        return self.np_random.integers(self.action_space.n, size=count)

    def learn_from(self, transitions):
        self.seen.append(transitions)
        return {"train/best": float(self.best)}

    def get_state(self):
        return {"best": np.array(self.best)}

    def set_state(self, state):
        self.best = int(state["best"])


class Log(Callback):
    def __init__(self):
        self.events = []

    def on_event(self, event, training):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


class Line(gymnasium.Env):
    """Observes how far an episode has come: 0, 1, 2, then it ends, by turns terminated and truncated."""

    observation_space = DISCRETE
    action_space = spaces.Discrete(2)
    episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return 0, {}

    def step(self, action):
        self.t += 1
        over = self.t == 3
        return self.t, float(self.t), over and self.episode % 2 == 0, over and self.episode % 2 == 1, {"t": self.t}


def recorder():
    registry.register_algorithm("recorder", Recorder, replace=True)
    return CustomAgent("recorder")


def line_agent(steps=60, seed=0, **parameters):
    return train(CustomAgent("q_learning", parameters), Line, steps, seed=seed)


# Tabular Q-learning


def taxi_return(seed):
    agent = train(CustomAgent("q_learning", TAXI), "Taxi-v3", 100_000, n_environments=32, seed=seed)
    return agent.evaluate("Taxi-v3", 500, deterministic=True, seed=100 + seed, n_environments=32).mean


def test_q_learning_drives_a_taxi():
    assert taxi_return(0) > 7


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_q_learning_drives_a_taxi_with_every_seed(seed):
    assert taxi_return(seed) > 7


def test_q_learning_finds_the_values_that_can_be_worked_out():
    """Rewards are 1, 2 and 3; an episode that is cut would go on, and one that is over would not."""
    agent = train(CustomAgent("q_learning", {"learning_rate": 1.0, "gamma": 0.5, "epsilon": 1.0}), Line, 60, seed=0)
    table = agent.algorithm.table
    assert table[1].tolist() == [3.5, 3.5]  # 2 + 0.5 * 3: nothing is ever learned about the state after the last one
    assert table[0].tolist() == [2.75, 2.75]
    assert table[2].tolist() == [3, 3]
    assert table[3].tolist() == [0, 0]


def test_spaces_that_begin_elsewhere_are_counted_from_their_start():
    class Elsewhere(Line):
        observation_space = spaces.Discrete(4, start=10)
        action_space = spaces.Discrete(2, start=-3)

        def reset(self, **arguments):
            observation, info = super().reset(**arguments)
            return observation + 10, info

        def step(self, action):
            assert self.action_space.contains(action)
            observation, *rest = super().step(action)
            return (observation + 10, *rest)

    parameters = {"learning_rate": 1.0, "gamma": 0.5, "epsilon": 1.0}
    agent = train(CustomAgent("q_learning", parameters), Elsewhere, 60, seed=0)
    assert agent.algorithm.table[1].tolist() == [3.5, 3.5]
    assert agent.choose_action(10) in (-3, -2)


@pytest.mark.parametrize(
    "wrong", [{"gamma": 1.5}, {"gamma": -0.1}, {"learning_rate": {"type": "linear"}}, {"epsilon": {"start": 1.0}}]
)
def test_values_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        train(CustomAgent("q_learning", wrong), Line, 4)


# What an algorithm is given


def test_transitions_hold_the_last_observation_of_an_episode_and_why_it_ended():
    agent = train(recorder(), Line, 6, seed=0)
    seen = agent.algorithm.seen
    assert [int(each.observations[0]) for each in seen] == [0, 1, 2, 0, 1, 2]
    assert [int(each.next_observations[0]) for each in seen] == [1, 2, 3, 1, 2, 3]
    assert [float(each.rewards[0]) for each in seen] == [1, 2, 3, 1, 2, 3]
    assert [bool(each.terminated[0]) for each in seen] == [False, False, True, False, False, False]
    assert [bool(each.truncated[0]) for each in seen] == [False, False, False, False, False, True]
    assert [each.infos[0]["t"] for each in seen] == [1, 2, 3, 1, 2, 3]
    assert seen[0].rewards.dtype == np.float64
    assert agent.algorithm.asked == [False] * 6


def test_progress_falls_from_one_to_zero_in_each_training():
    agent = recorder()
    for _ in range(2):
        train(agent, Line, 8, n_environments=2)
    progress = [each.progress_remaining for each in agent.algorithm.seen]
    assert progress == [0.75, 0.5, 0.25, 0.0] * 2


def test_dictionaries_stay_dictionaries():
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Dict({"c": spaces.Discrete(3)})})
    agent = train(recorder(), lambda: Sampled(space, length=2), 6, n_environments=2)
    for each in agent.algorithm.seen:
        assert each.observations["a"].shape == each.next_observations["a"].shape == (2, 2)
        assert each.observations["b"]["c"].shape == each.next_observations["b"]["c"].shape == (2,)
    before, after = agent.algorithm.seen[:2]
    assert np.array_equal(before.next_observations["a"], after.observations["a"])
    assert not np.array_equal(after.next_observations["a"], agent.algorithm.seen[2].observations["a"])


def test_only_rows_in_which_somebody_acted_are_given():
    registry.register_environment_adapter("toy_crowd", CrowdAdapter)
    crowd = Crowd()
    agent = train(recorder(), crowd, 60)
    rows = [tuple(map(int, row)) for each in agent.algorithm.seen for row in each.observations]
    assert sorted(rows) == sorted(crowd.transitions)
    ended = {
        tuple(map(int, row)): "terminated" * bool(terminated) + "truncated" * bool(truncated)
        for each in agent.algorithm.seen
        for row, terminated, truncated in zip(each.observations, each.terminated, each.truncated, strict=True)
    }
    assert ended == crowd.transitions
    for each in agent.algorithm.seen:
        sizes = {len(part) for part in (each.slots, each.observations, each.actions, each.rewards, each.infos)}
        assert sizes == {len(each.next_observations)}
        # The slot is part of the observation, before and after.
        assert each.slots.tolist() == each.observations[:, 0].tolist() == each.next_observations[:, 0].tolist()
        assert (each.next_observations[:, 2] == each.observations[:, 2] + 1).all()
    assert agent.num_timesteps == len(crowd.transitions)


def test_events_say_what_happened():
    log = Log()
    train(recorder(), Line, 12, n_environments=2, callbacks=[log])
    assert [(event.episode_return, event.length) for event in log.of(EpisodeEnded)] == [(6, 3)] * 4
    updates = log.of(Updated)
    assert [event.timestep for event in updates] == [2, 4, 6, 8, 10, 12]
    assert updates[0].metrics == {"train/best": 0.0}


def test_a_callback_ends_the_training():
    class Stop(Callback):
        def on_step(self, training):
            if training.timestep == 5:
                training.stop("enough")

    assert train(recorder(), Line, 100, callbacks=[Stop()]).num_timesteps == 5


# Seeds


def lake_agent(parameters=None, **arguments):
    agent = CustomAgent("q_learning", {"epsilon": 1.0, "initial_value": 1.0, **(parameters or {})})
    return train(agent, "FrozenLake-v1", 200, **arguments).algorithm.table


def test_the_same_seed_gives_the_same_agent():
    first, again, other = (lake_agent(seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_seed_may_be_a_parameter_and_must_not_disagree():
    assert np.array_equal(lake_agent({"seed": 3}), lake_agent(seed=3))
    with pytest.raises(ArgumentError, match="seed"):
        train(CustomAgent("q_learning", {"seed": 3}), Line, 4, seed=4)


def test_what_comes_after_is_reproducible_too():
    def run():
        agent = CustomAgent("q_learning", {"epsilon": 1.0, "initial_value": 1.0})
        tables = [train(agent, "FrozenLake-v1", 200, seed=seed).algorithm.table.copy() for seed in (1, None)]
        loaded = load_agent(agent.save_to_file("agent.zip"))
        return [*tables, train(loaded, "FrozenLake-v1", 200).algorithm.table]

    first, again = run(), run()
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("saved", [False, True])
def test_a_later_call_does_not_meet_the_first_episodes_over_again(saved):
    starts = []

    class Random(Line):
        def reset(self, *, seed=None, options=None):
            observation, info = super().reset(seed=seed, options=options)
            starts.append(self.np_random.random())
            return observation, info

    agent = train(CustomAgent("q_learning"), Random, 9, seed=1)
    if saved:
        agent = load_agent(agent.save_to_file("agent.zip"))
    train(agent, Random, 9)
    assert len(set(starts)) == len(starts) > 6


def test_an_evaluation_and_a_video_change_nothing():
    class Filmed(Line):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
        render_mode = "rgb_array"

        def render(self):
            return np.zeros((16, 16, 3), np.uint8)

    agent = line_agent(epsilon=1.0)
    table, state = agent.algorithm.table.copy(), agent.algorithm.np_random.bit_generator.state
    first = agent.evaluate(Line, 5, seed=1)
    record_video(agent, Filmed(), "video.gif", 5, deterministic=False)
    assert agent.algorithm.np_random.bit_generator.state == state
    assert np.array_equal(agent.algorithm.table, table)
    assert agent.num_timesteps == 60
    assert agent.evaluate(Line, 5, seed=1).returns.tolist() == first.returns.tolist()


# Saving, loading, going on


def test_a_loaded_agent_acts_alike_and_goes_on(tmp_path):
    agent = line_agent(learning_rate={"type": "linear", "start": 1.0, "end": 0.1}, epsilon=0.3)
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert type(loaded) is CustomAgent
    assert np.array_equal(loaded.algorithm.table, agent.algorithm.table)
    assert loaded.describe() == agent.describe()
    assert loaded.num_timesteps == 60
    assert loaded.observation_space == DISCRETE
    for deterministic in (True, False):
        mine, its = (each.evaluate(Line, 5, deterministic=deterministic, seed=2) for each in (agent, loaded))
        assert mine.returns.tolist() == its.returns.tolist()
    before = loaded.algorithm.table.copy()
    train(loaded, Line, 30)
    assert loaded.num_timesteps == 90
    assert not np.array_equal(loaded.algorithm.table, before)
    again = CustomAgent("q_learning").load_from_file(tmp_path / "agent.zip", {"gamma": 0.5})
    assert again.algorithm.gamma == 0.5
    assert np.array_equal(again.algorithm.table, agent.algorithm.table)


def test_no_agent_no_action():
    agent = CustomAgent("q_learning")
    for call in (lambda: agent.choose_action(0), lambda: agent.evaluate(Line, 1), lambda: agent.save_to_file("a.zip")):
        with pytest.raises(NotTrainedError):
            call()


def test_an_agent_stays_with_its_spaces():
    with pytest.raises(SpaceMismatchError):
        train(line_agent(), lambda: Sampled(spaces.Discrete(9)), 4)


def test_the_wrong_kind_of_bundle_says_how_to_open_it(tmp_path):
    path = line_agent().save_to_file(tmp_path / "agent.zip")
    with pytest.raises(BundleError, match="load_agent"):
        recorder().load_from_file(path)
    with pytest.raises(BundleError, match="load_agent"):
        StableBaselinesAgent().load_from_file(path)


def forged(tmp_path, config=None, **arrays):
    """A bundle that is whole, of an agent that is not."""
    members = line_agent().bundle_members()
    members["config.json"] = {**members["config.json"], **(config or {})}
    if "state" in arrays:
        members["state.npz"] = arrays["state"]
    else:
        members["state.npz"] = {**members["state.npz"], **arrays}
    members = {name: member for name, member in members.items() if member is not None}
    return write_bundle(tmp_path / "forged.zip", kind="custom", members=members)


@pytest.mark.parametrize(
    "arrays",
    [
        {"table": np.zeros((4, 3))},
        {"table": np.zeros((5, 2))},
        {"table": np.zeros(8)},
        {"table": np.zeros((4, 2), np.float32)},
        {"table": np.zeros((4, 2), np.int64)},
        {"table": np.full((4, 2), np.nan)},
        {"table": np.full((4, 2), -np.inf)},
        {"progress_remaining": np.array(np.nan)},
        {"progress_remaining": np.array(-3.0)},
        {"progress_remaining": np.array([0.5, 0.5])},
        {"state": {}},
        {"state": {"table": np.zeros((4, 2))}},
        {"state": None},
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_is_refused(tmp_path, arrays):
    agent = line_agent()
    table = agent.algorithm.table
    path = forged(tmp_path, **arrays)
    with pytest.raises(BundleError):
        load_agent(path)
    with pytest.raises(BundleError):
        agent.load_from_file(path)
    assert agent.algorithm.table is table
    assert agent.num_timesteps == 60


@pytest.mark.parametrize(
    "config",
    [
        {"algorithm": "os:system"},
        {"algorithm": "ppo"},
        {"algorithm": None},
        {"algorithm_parameters": 3},
        {"algorithm_parameters": {"gamma": 7.0}},
        {"algorithm_parameters": {"secret": 7.0}},
        {"environment_id": "os:Env-v0"},
        {"environment_id": 5},
        {"num_timesteps": -1},
        {"num_timesteps": "many"},
        {"num_timesteps": None},
        {"seed": -1},
        {"seed": "x"},
        {"observation_space": None},
        {"observation_space": encode_space(spaces.Box(-1, 1, (2,)), "observation_space")},
        {"observation_space": encode_space(spaces.Discrete(1 << 40), "observation_space")},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path, config):
    with pytest.raises(BundleError):
        load_agent(forged(tmp_path, config))


def test_a_bundle_holds_no_code(tmp_path):
    with zipfile.ZipFile(line_agent().save_to_file(tmp_path / "agent.zip")) as archive:
        assert sorted(archive.namelist()) == ["config.json", "manifest.json", "state.npz"]
        assert json.loads(archive.read("config.json"))["algorithm"] == "q_learning"


# What is refused before the first step


@pytest.mark.parametrize(
    ("observation_space", "action_space", "argument"),
    [
        (spaces.Box(-1, 1, (2,)), spaces.Discrete(2), "observation_space"),
        (spaces.MultiDiscrete([2, 2]), spaces.Discrete(2), "observation_space"),
        (spaces.Discrete(2), spaces.Box(-1, 1, (2,)), "action_space"),
        (spaces.Discrete(2), spaces.MultiBinary(2), "action_space"),
    ],
)
def test_spaces_that_the_algorithm_does_not_take(observation_space, action_space, argument):
    environment = Sampled(observation_space, action_space)
    with pytest.raises(UnsupportedSpaceError, match="QLearning takes Discrete only") as caught:
        train(CustomAgent("q_learning"), environment, 4)
    assert caught.value.argument == argument
    assert environment.resets == 0


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="'epsilon'"):
        CustomAgent("q_learning", {"epsilom": 0.1})
    with pytest.raises(UnknownNameError, match="q_learning"):
        CustomAgent("qlearning")
    with pytest.raises(ArgumentError, match="environment's"):
        CustomAgent("q_learning", {"observation_space": DISCRETE})


@pytest.mark.parametrize("wrong", ["ppo", Recorder(DISCRETE, DISCRETE), dict, None, CustomAgent])
def test_what_is_no_custom_algorithm_is_refused(wrong):
    with pytest.raises(ArgumentError, match="algorithm_class"):
        CustomAgent(wrong)


def test_an_algorithm_without_a_name_is_refused_before_the_first_step():
    environment = Line()
    with pytest.raises(UnsavableError, match="register_algorithm"):
        train(CustomAgent(Recorder), environment, 4)
    assert environment.episode == -1
    rl_framework.register_algorithm("mine", Recorder)
    assert train(CustomAgent(Recorder), environment, 4).num_timesteps == 4


# Full control: a subclass of RLAgent


class Always(RLAgent):
    """Counts rewards for each action, and takes the action that earned most."""

    def __init__(self):
        self.sums, self.spaces, self.steps, self.seed = None, None, 0, 0

    @property
    def observation_space(self):
        if self.spaces is None:
            raise NotTrainedError("a space")
        return self.spaces[0]

    @property
    def action_space(self):
        if self.spaces is None:
            raise NotTrainedError("a space")
        return self.spaces[1]

    @property
    def num_timesteps(self):
        return self.steps

    def describe(self):
        return {"algorithm": "always"}

    def prepare(self, batch, seed):
        if self.spaces is None:
            self.spaces = batch.single_observation_space, batch.single_action_space
            self.sums = np.zeros(self.action_space.n)
        self.check_spaces(batch, "training_environments")
        self.seed = self.choose_seed(seed, None, self.seed)
        return self.seed

    def learn(self, batch, training, listeners):
        random = np.random.default_rng(self.seed)
        batch.reset_slots(self.seed)
        while self.steps < training.total_timesteps and training.stop_reason is None:
            actions = random.integers(len(self.sums), size=batch.num_envs)
            step = batch.step_slots(actions)
            np.add.at(self.sums, actions, step.rewards)
            self.steps += batch.num_envs
            for slot in np.flatnonzero(step.terminated | step.truncated):
                training.emit(EpisodeEnded.from_info(self.steps, int(slot), step.infos[slot]))
            training.step(self.steps)

    def predict(self, observations, state=None, episode_starts=None, deterministic=True, action_masks=None):
        return np.full(len(observations), self.sums.argmax()), state

    def bundle_members(self):
        spaces_ = [encode_space(space, "space") for space in (self.observation_space, self.action_space)]
        return {"config.json": {"steps": self.steps, "spaces": spaces_}, "sums.npz": {"sums": self.sums}}

    @classmethod
    def from_bundle(cls, bundle, algorithm_parameters=None):
        agent, config = cls(), bundle.json("config.json")
        agent.steps, agent.spaces = config["steps"], tuple(decode_space(space) for space in config["spaces"])
        agent.sums = bundle.arrays("sums.npz")["sums"]
        return agent

    def restore_members(self, bundle, algorithm_parameters):
        vars(self).update(vars(self.from_bundle(bundle)))


class PaysTheSecond(Line):
    def step(self, action):
        observation, _, *rest = super().step(action)
        return (observation, float(action), *rest)


def test_an_agent_of_ones_own_has_everything_that_agents_have(tmp_path):
    registry.agents.register("always", Always)
    log = Log()
    agent = train(Always(), PaysTheSecond, 40, n_environments=2, seed=1, callbacks=[log])
    assert agent.num_timesteps == 40
    assert len(log.of(EpisodeEnded)) == 2 * (20 // 3)
    assert agent.evaluate(PaysTheSecond, 5, seed=0).returns.tolist() == [3] * 5
    assert agent.choose_action(0) == 1
    loaded = load_agent(agent.save_to_file(tmp_path / "agent.zip"))
    assert type(loaded) is Always
    assert loaded.evaluate(PaysTheSecond, 5, seed=0).returns.tolist() == [3] * 5
    assert train(loaded, PaysTheSecond, 10).num_timesteps == 50
    assert Always().load_from_file(tmp_path / "agent.zip").num_timesteps == 40


def test_an_agent_of_ones_own_without_a_name_is_refused_before_the_first_step():
    environment = PaysTheSecond()
    with pytest.raises(UnsavableError, match=r"register_agent\("):
        train(Always(), environment, 40)
    assert environment.episode == -1
