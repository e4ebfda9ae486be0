"""An interrupted training goes on as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import DummyVecEnv
from tests.agent.reinforcement.matrix_toys import PARAMETERS
from tests.agent.reinforcement.resume_cases import (
    FAMILIES,
    HER,
    NORMALISED,
    TWO,
    Case,
    Flips,
    Recorder,
    check_exact,
    differences,
    oldest,
    outcome,
)
from tests.agent.samples import train
from tests.environment.toys import Crowd, CrowdAdapter

from rl_framework import ArgumentError, BundleError, Callback, registry
from rl_framework.agent import trainable_agent
from rl_framework.agent.reinforcement import CustomAgent, CustomAlgorithm, threads
from rl_framework.agent.reinforcement.library.state.training_state import PendingState
from rl_framework.bundle import list_checkpoints, read_bundle
from rl_framework.environment.door import open_environments
from rl_framework.training.metrics import read_metrics


@pytest.mark.parametrize("family", FAMILIES)
def test_training_with_checkpoints_and_resumed_training_are_the_same_to_the_last_bit(family, tmp_path, caplog):
    check_exact(FAMILIES[family], tmp_path)
    assert "could not be replayed" not in caplog.text
    assert "cannot be replayed" not in caplog.text
    assert "global generator" not in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from rl_framework import Callback, LocalConnector, StableBaselinesAgent

algorithm, environment, total, folder, part = sys.argv[1:]


class Kill(Callback):
    def __init__(self):
        self.checkpoints = self.steps = 0

    def on_checkpoint(self, event, training):
        self.checkpoints += 1

    def on_step(self, training):
        self.steps += self.checkpoints >= 2
        if self.steps == 7:
            os.kill(os.getpid(), signal.SIGKILL)


agent = StableBaselinesAgent(algorithm, PARAMETERS, normalize_observations=True, normalize_rewards=True)
checkpoints = {"checkpoint_every": int(total) // 5, "checkpoint_directory": Path(folder, "checkpoints")}
if part == "plain":
    checkpoints = {}
agent.train(
    environment,
    int(total),
    n_environments=2,
    seed=3 if part != "resumed" else None,
    connector=LocalConnector(Path(folder, part)),
    callbacks=[Kill()] if part == "killed" else [],
    resume_from=Path(folder, "checkpoints") if part == "resumed" else None,
    progress_bar=False,
    **checkpoints,
)
agent.save_to_file(Path(folder, part + ".zip"))
"""


def run_part(algorithm, environment, total, folder, part, hash_seed):
    code = KILLED.replace("PARAMETERS", repr(PARAMETERS[algorithm]))
    return subprocess.run(
        [sys.executable, "-c", code, algorithm, environment, str(total), str(folder), part],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )


def metrics_of(folder):
    return [
        (record.timestep, {key: value for key, value in record.metrics.items() if not key.startswith("time/")})
        for record in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize(
    ("algorithm", "environment", "total"),
    [
        ("ppo", "CartPole-v1", 250),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("dqn", "CartPole-v1", 250),
                ("sac", "Pendulum-v1", 1100),
                ("recurrent_ppo", "LunarLander-v3", 900),
                ("tqc", "MountainCarContinuous-v0", 5200),
            )
        ),
    ],
)
def test_a_killed_training_is_resumed_exactly_in_another_process(algorithm, environment, total, tmp_path):
    assert run_part(algorithm, environment, total, tmp_path, "killed", 1).returncode == -signal.SIGKILL
    timestep, _ = list_checkpoints(tmp_path / "checkpoints")[0]
    assert 0 < timestep < total
    for part, hash_seed in (("plain", 2), ("resumed", 3)):
        ended = run_part(algorithm, environment, total, tmp_path, part, hash_seed)
        assert ended.returncode == 0, ended.stderr
    plain, resumed = (read_bundle(tmp_path / f"{part}.zip") for part in ("plain", "resumed"))
    for name, tensor in plain.tensors("policy.safetensors").items():
        assert torch.equal(tensor, resumed.tensors("policy.safetensors")[name]), name
    for name, array in plain.arrays("normaliser.npz").items():
        assert np.array_equal(array, resumed.arrays("normaliser.npz")[name]), name
    assert plain.json("config.json") == resumed.json("config.json")
    before, whole, after = (metrics_of(tmp_path / part) for part in ("killed", "plain", "resumed"))
    assert before
    assert before == whole[: len(before)]
    later = [record for record in whole if record[0] > timestep]
    assert [record for record in after if record[0] > timestep] == later
    assert later


# Where exactness is out of reach


class Forgetful(gymnasium.Env):
    """Counts its resets, which cannot be put back; the first environment alone never shows it."""

    made = 0

    def __init__(self, forgets=True):
        self.forgets = forgets
        self.observation_space = spaces.Box(-100, 100, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.resets = 0

    def _observe(self):
        return np.array([self.resets if self.forgets else 0, self.np_random.uniform(-1, 1)], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets, self.left = self.resets + 1, 9
        return self._observe(), {}

    def step(self, action):
        self.left -= 1
        return self._observe(), 1.0, False, self.left == 0, {}


class ForgetfulBox(Forgetful):
    """The same with continuous actions."""

    def __init__(self, forgets=True):
        super().__init__(forgets)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)


class ForgetfulGoal(Flips):
    """The same with goals: it takes another number of steps each time."""

    def __init__(self, forgets=True):
        super().__init__()
        self.forgets, self.resets = forgets, 0

    def reset(self, *, seed=None, options=None):
        self.resets += self.forgets
        _, info = super().reset(seed=seed)
        self.bits[0] ^= self.resets % 2 if self.resets > 3 else 0
        return self._observe(), info

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward - self.resets, False, truncated, info


def messages(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


FALLBACKS = {
    "recurrent_ppo": (Forgetful, {}),
    "sac": (ForgetfulBox, {}),
    "sac n steps": (ForgetfulBox, {"n_steps": 3}),
    "dqn": (ForgetfulGoal, HER),
}


@pytest.mark.parametrize("name", ["recurrent_ppo", "sac", "sac n steps", "dqn"])
def test_only_the_episodes_that_cannot_be_replayed_are_cut(name, tmp_path, caplog, monkeypatch):
    environment, parameters = FALLBACKS[name]
    agent = {} if name == "dqn" else NORMALISED
    case = Case(name.split()[0], [partial(environment, False), environment], parameters, agent, total=110, every=55)
    case = replace(case, environment=[partial(wrap, partial(environment, forgets)) for forgets in (False, True)])
    case.train(case.make(), checkpoint_every=case.every, checkpoint_directory=tmp_path)
    path = list_checkpoints(tmp_path)[0][1]
    resumed, seen = case.make(), {}

    def put_back(pending, algorithm):
        seen["starts"] = np.array(algorithm._last_episode_starts)
        states = getattr(algorithm, "_last_lstm_states", None)
        seen["states"] = None if states is None else [np.array(part) for pair in states for part in pair]
        buffer = getattr(algorithm, "replay_buffer", None)
        seen["timeouts"] = None if buffer is None else buffer.timeouts[buffer.pos - 1].copy()
        seen["normalize"] = None if not agent else algorithm.get_vec_normalize_env().returns.copy()
        original(pending, algorithm)

    original = PendingState.put_back
    monkeypatch.setattr(PendingState, "put_back", put_back)
    case.train(resumed, resume_from=path, seed=None)
    assert resumed.num_timesteps >= case.total
    (told,) = (text for text in messages(caplog) if "replayed" in text)
    assert "environments [1] could not be replayed (it did not show the same)" in told
    if seen["states"]:  # what is off-policy keeps no account of them
        assert seen["starts"].tolist() == [False, True]
    if agent:
        assert seen["normalize"][0] != 0
        assert seen["normalize"][1] == 0
    if seen["states"]:
        assert all((part[:, 0] != 0).any() and (part[:, 1] == 0).all() for part in seen["states"])
    if name in ("sac n steps", "dqn"):
        assert seen["timeouts"].tolist() == [0, 1]


def wrap(make):
    return TimeLimit(make(), 9)


def test_environments_without_replay_go_on_from_the_start_of_an_episode(tmp_path, caplog):
    registry.environment_adapters.register("resumed_crowd", CrowdAdapter)
    for index, (source, arguments) in enumerate(
        (
            (lambda: DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2), {}),
            (lambda: gymnasium.make_vec("CartPole-v1", 2), {}),
            (lambda: "CartPole-v1", {"vectorization": "native", "n_environments": 2}),
            (Crowd, {}),
        )
    ):
        caplog.clear()
        folder = tmp_path / str(index)
        case = Case("ppo", agent=NORMALISED if index < 2 else {}, arguments=arguments, total=150)
        replace(case, environment=source()).train(case.make(), checkpoint_every=40, checkpoint_directory=folder)
        resumed = case.make()
        path = oldest(folder)[1]
        replace(case, environment=source()).train(resumed, resume_from=path, seed=None)
        assert 150 <= resumed.num_timesteps < 200
        told = "these environments cannot be replayed: training goes on with new episodes"
        assert messages(caplog).count(told) == 1


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registered in (registry.algorithms, registry.environment_adapters):
        monkeypatch.setattr(registered, "_entries", dict(registered._entries))


class Robot(Forgetful):
    """Must not be moved by actions that nobody chose now."""

    metadata = {"replayable": False}  # noqa: RUF012
    taken = 0

    def step(self, action):
        Robot.taken += 1
        return super().step(action)


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_what_must_not_be_moved_unasked_is_not_replayed(vectorization, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Robot, "taken", 0)
    case = Case("ppo", Robot, arguments={**TWO, "vectorization": vectorization})
    case.train(case.make(), checkpoint_every=60, checkpoint_directory=tmp_path)
    whole, Robot.taken = Robot.taken, 0
    timestep, path = oldest(tmp_path)
    resumed = case.make()
    case.train(resumed, resume_from=path, seed=None)
    assert sum("cannot be replayed" in text for text in messages(caplog)) == 1
    if vectorization == "sync":
        assert Robot.taken == resumed.num_timesteps - timestep < whole


class DrawsGlobally(gymnasium.Env):
    """Draws from generators that belong to everybody."""

    def __init__(self, draw):
        self.draw = draw
        self.observation_space = spaces.Box(-100, 100, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 9
        return np.array([self.draw()], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.draw()], np.float32), 1.0, False, self.left == 0, {}


@pytest.mark.parametrize(
    ("draw", "name"),
    [(np.random.rand, "np.random"), (random.random, "random"), (lambda: float(torch.rand(1)), "torch")],
    ids=["NumPy", "Python", "torch"],
)
def test_environments_that_draw_from_global_generators_are_named_once(draw, name, tmp_path, caplog):
    case = Case("a2c", partial(DrawsGlobally, draw), arguments=TWO)
    case.train(case.make(), checkpoint_every=case.every, checkpoint_directory=tmp_path)
    named = [text for text in messages(caplog) if "draws from the global generator of" in text]
    assert len(named) == 1
    assert f"generator of {name}:" in named[0]
    resumed = case.make()
    case.train(resumed, resume_from=tmp_path, seed=None)
    assert resumed.num_timesteps >= case.total
    assert sum("could not be replayed" in text for text in messages(caplog)) == 1


def test_a_draw_that_changes_nothing_is_named_and_resumed_exactly(tmp_path, caplog):
    def draw():
        np.random.rand()
        return 0.5

    check_exact(Case("a2c", partial(DrawsGlobally, draw), arguments=TWO), tmp_path)
    assert any("draws from the global generator of np.random" in text for text in messages(caplog))
    assert not any("replayed" in text for text in messages(caplog))


def test_an_environment_whose_simulator_remembers_is_cut_and_named(tmp_path, caplog):
    # Nothing that the open episode has shown tells the difference, which comes with the first contact.
    case = Case("ppo", "BipedalWalker-v3", total=300, every=170)
    case.train(case.make(), checkpoint_every=case.every, checkpoint_directory=tmp_path)
    (told,) = [text for text in messages(caplog) if "survives a reset" in text]
    assert "BipedalWalker-v3" in told
    assert "fresh_environments=True" in told
    case.train(case.make(), resume_from=oldest(tmp_path)[1], seed=None)
    (cut,) = [text for text in messages(caplog) if "could not be replayed" in text]
    assert "survives a reset" in cut


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_with_an_environment_for_each_episode_it_is_exact(vectorization, tmp_path, caplog):
    arguments = {**TWO, "vectorization": vectorization, "fresh_environments": True}
    case = Case("ppo", "BipedalWalker-v3", arguments=arguments, total=500, every=300)
    check_exact(case, tmp_path)
    assert messages(caplog) == []


def test_an_environment_for_each_episode_changes_nothing_where_it_is_not_needed():
    outcomes = []
    for fresh in (False, True):
        case = FAMILIES["on-policy, frame stack"]
        case = replace(case, arguments={**case.arguments, "fresh_environments": fresh})
        agent = case.make()
        case.train(agent)
        outcomes.append(outcome(agent))
    assert differences(*outcomes) == []


@pytest.mark.parametrize(
    ("source", "arguments"),
    [(lambda: gymnasium.make("CartPole-v1"), {}), (lambda: "CartPole-v1", {"vectorization": "native"})],
)
def test_an_environment_for_each_episode_needs_a_way_to_make_them(source, arguments):
    with pytest.raises(ArgumentError, match="fresh_environments"):
        open_environments(source(), fresh_environments=True, **arguments)


class DrawsOfItsOwn(gymnasium.Env):
    """Has generators of every kind, some of them made by its first reset alone."""

    def __init__(self):
        self.observation_space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(5)})
        self.action_space = spaces.Discrete(2)
        self.legacy, self.python, self.own = np.random.RandomState(1), random.Random(1), np.random.default_rng(1)
        self.later = None

    def _observe(self):
        first = [self.legacy.uniform(-1, 1), self.python.random() * self.later.random() * self.own.random()]
        sampled = self.observation_space.sample()
        return {"a": np.array(first, np.float32), "b": sampled["b"]}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        if self.later is None:
            self.later = np.random.Generator(np.random.MT19937(5))
        self.left = 9
        return self._observe(), {}

    def step(self, action):
        self.left -= 1
        return self._observe(), float(self.legacy.normal()), False, self.left == 0, {}


@pytest.mark.parametrize("every", [5, 70], ids=["the first episode", "a later one"])
def test_generators_that_an_environment_holds_are_put_back(every, tmp_path, caplog):
    parameters = {"n_steps": 4, "batch_size": 4}
    check_exact(Case("ppo", DrawsOfItsOwn, parameters, arguments=TWO, every=every), tmp_path)
    assert messages(caplog) == []


def make_scaled():
    return gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda reward: 3 * reward)


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_returns_are_those_before_reward_wrappers_in_new_environments_too(vectorization, monkeypatch):
    opened = open_environments(make_scaled, 2, vectorization=vectorization, fresh_environments=True)
    try:
        opened.reset_slots(0)
        ended = []
        while len(ended) < 6:
            step = opened.step_slots(np.ones(2, np.int64))
            ended += [info["episode"] for info in step.infos if "episode" in info]
        assert [episode["r"] for episode in ended] == [episode["l"] for episode in ended]
    finally:
        opened.close()


class Threads(Callback):
    """Notes how many threads torch has."""

    def on_step(self, training):
        self.found = torch.get_num_threads(), training.record["choices"]["torch_threads"]["reason"]


@pytest.mark.parametrize(("saved", "used"), [(2, 2), (1, 1), (0, 1), ("many", 1), (True, 1), (10**9, 1)])
def test_the_number_of_threads_is_not_chosen_again(saved, used, tmp_path, monkeypatch):
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(threads, "_default_thread_counts", lambda: {1})
    case = FAMILIES["off-policy"]
    save = trainable_agent.write_bundle

    def write_bundle(path, *, information, **arguments):
        information["record"]["choices"]["torch_threads"]["value"] = saved
        return save(path, information=information, **arguments)

    monkeypatch.setattr(trainable_agent, "write_bundle", write_bundle)
    case.train(case.make(), checkpoint_every=40, checkpoint_directory=tmp_path)
    watch = Threads()
    case.train(case.make(), resume_from=oldest(tmp_path)[1], callbacks=[watch], seed=None)
    assert watch.found[0] == used
    assert ("before the training was interrupted" in watch.found[1]) == (saved in (1, 2) and saved is not True)
    assert torch.get_num_threads() == 1


# Algorithms of one's own


class Counts(CustomAlgorithm):
    """Acts at random, with momentum, and keeps everything that it needs."""

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.value, self.momentum, self.progress = 0.0, 0.0, 1.0

    def choose_actions(self, observations, deterministic):
        return (self.np_random.random(len(observations)) + np.random.rand() < 1).astype(np.int64)

    def learn_from(self, transitions):
        self.progress = transitions.progress_remaining
        self.momentum = 0.9 * self.momentum + float(transitions.observations.sum() + transitions.actions.sum())
        self.value += self.progress * self.momentum
        return {"train/value": self.value}

    def get_state(self):
        return {"numbers": np.array([self.value, self.momentum, self.progress])}

    def set_state(self, state):
        self.value, self.momentum, self.progress = map(float, state["numbers"])


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [("counts", "CartPole-v1"), ("q_learning", "Taxi-v3"), ("q_learning", "FrozenLake-v1")],
)
def test_algorithms_of_ones_own_are_resumed_exactly(algorithm, environment, tmp_path, caplog):
    registry.algorithms.register("counts", Counts)
    runs = []
    for arguments in ({}, {"checkpoint_every": 65, "checkpoint_directory": tmp_path}, {"resume_from": None}):
        if "resume_from" in arguments:
            timestep, arguments["resume_from"] = oldest(tmp_path)
        recorder, agent = Recorder(), CustomAgent(algorithm)
        seed = None if "resume_from" in arguments else 3
        if seed is not None:
            np.random.seed(0)
        train(agent, environment, 300, n_environments=2, seed=seed, callbacks=[recorder], **arguments)
        runs.append((agent.algorithm.get_state(), recorder.events))
    (plain, events), (watched, watched_events), (resumed, resumed_events) = runs
    assert differences(plain, watched) == []
    assert watched_events == events
    assert differences(plain, resumed) == []
    assert resumed_events == [event for event in events if event[0] > timestep]
    assert messages(caplog) == []


def test_an_algorithm_of_ones_own_goes_on_where_nothing_can_be_replayed(tmp_path, caplog):
    registry.algorithms.register("counts", Counts)
    train(CustomAgent("counts"), gymnasium.make_vec("CartPole-v1", 2), 100, **checkpoints(tmp_path))
    resumed = CustomAgent("counts")
    train(resumed, gymnasium.make_vec("CartPole-v1", 2), 100, resume_from=tmp_path)
    assert 100 <= resumed.num_timesteps < 102
    assert sum("cannot be replayed" in text for text in messages(caplog)) == 1


def checkpoints(folder, every=40):
    return {"checkpoint_every": every, "checkpoint_directory": folder}


# Checkpoints that somebody has changed


class Changed:
    """A checkpoint with changes."""

    def __init__(self, bundle, member, change):
        self.bundle, self.member, self.change = bundle, member, change

    def __getattr__(self, name):
        return getattr(self.bundle, name)

    def __contains__(self, name):
        return name in self.bundle

    def _read(self, kind, name):
        data = getattr(self.bundle, kind)(name)
        if name.endswith(self.member):
            data = dict(data)
            self.change(data)
        return data

    def json(self, name):
        return self._read("json", name)

    def arrays(self, name):
        return self._read("arrays", name)

    def tensors(self, name):
        return self._read("tensors", name)


def put(*path_and_value):
    """A change of one value."""
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        assert isinstance(data, list) or last in data
        data[last] = value

    return change


def drop(*path):
    """A change that leaves a value out."""

    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def each(start, edit):
    """A change of all entries whose names start so."""

    def change(data):
        names = [name for name in data if name.startswith(start)]
        assert names
        for name in names:
            data[name] = edit(data[name])

    return change


STATE, ARRAYS, TENSORS = "training_state/state.json", "training_state/arrays.npz", "training_state/tensors.safetensors"
OTHER_GENERATOR = np.random.Generator(np.random.MT19937(0)).bit_generator.state
OTHER_GENERATOR["state"]["key"] = OTHER_GENERATOR["state"]["key"].tolist()
DAMAGE = {
    "counter is no number": (STATE, put("counters", "num_timesteps", float("nan"))),
    "counter is negative": (STATE, put("counters", "_n_updates", -1)),
    "counter is text": (STATE, put("counters", "_episode_num", "3")),
    "counter is missing": (STATE, drop("counters", "num_timesteps")),
    "exploration beyond 1": (STATE, put("counters", "exploration_rate", 2.0)),
    "buffer before its beginning": (STATE, put("buffer", "pos", -1)),
    "buffer behind its end": (STATE, put("buffer", "pos", 10**9)),
    "buffer position is no number": (STATE, put("buffer", "pos", float("nan"))),
    "buffer of other rows": (ARRAYS, each("buffer/rewards", lambda array: array[:-1])),
    "buffer of another shape": (ARRAYS, each("buffer/actions", lambda array: array[..., None])),
    "buffer without rewards": (ARRAYS, drop("buffer/rewards")),
    "buffer rows point outside": (ARRAYS, each("buffer/_current_ep_start", lambda array: array + 10**6)),
    "optimizer with another group": (STATE, put("optimizers", "policy.optimizer", "groups", 0, "lr", "high")),
    "optimizer without a rate": (STATE, drop("optimizers", "policy.optimizer", "groups", 0, "lr")),
    "optimizer with more groups": (STATE, put("optimizers", "policy.optimizer", "parameters", [1, 2])),
    "optimizer with other moments": (TENSORS, each("optimizer/", lambda tensor: torch.zeros(3, 3, 3))),
    "optimizer of something else": (TENSORS, put("optimizer/policy.optimizer/10000000/exp_avg", torch.zeros(3))),
    "no optimizer": (STATE, drop("optimizers", "policy.optimizer")),
    "too few episodes": (STATE, lambda data: data["open_episodes"].pop()),
    "episode with a seed of another type": (STATE, put("open_episodes", 0, "seed", "zero")),
    "generator of another kind": (STATE, put("open_episodes", 0, "generators", "environment", OTHER_GENERATOR)),
    "generator that is none": (STATE, put("open_episodes", 0, "generators", "environment", 3)),
    "actions outside": (ARRAYS, put("actions/0", np.array([77, 88]))),
    "actions of another shape": (ARRAYS, put("actions/0", np.zeros((3, 4)))),
    "actions missing": (ARRAYS, drop("actions/1")),
    "observation of another shape": (ARRAYS, each("observation/", lambda array: array[:1])),
    "last observation of another shape": (ARRAYS, each("learner/_last_obs", lambda array: array[:1])),
    "last observation missing": (ARRAYS, drop("learner/_last_obs/observation")),
    "global state without torch's": (STATE, put("random", "torch", [1, 2, 3])),
    "global state beyond its end": (STATE, put("random", "numpy", 2, 10**6)),
    "global state of another kind": (STATE, put("random", "numpy", 0, "PCG64")),
    "global state with large words": (STATE, put("random", "python", 1, 0, 1 << 70)),
    "action space of another generator": (STATE, put("action_space", OTHER_GENERATOR)),
    "log without counts": (STATE, lambda data: data["logger"]["values"].update(x=1.0)),
    "episodes without returns": (STATE, put("episodes", [{"l": 1}])),
    "successes that are none": (STATE, put("successes", [None])),
    "layouts missing": (STATE, drop("layouts")),
}


@pytest.fixture(scope="module")
def hindsight_checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hindsight")
    case = FAMILIES["hindsight"]
    case.train(case.make(), checkpoint_every=55, checkpoint_directory=folder)
    return oldest(folder)[1]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_training_state_is_refused_and_leaves_the_agent_alone(damage, hindsight_checkpoint, monkeypatch):
    member, change = DAMAGE[damage]
    monkeypatch.setattr(
        trainable_agent,
        "open_checkpoint",
        lambda source: Changed(read_bundle(hindsight_checkpoint), member, change),
    )
    case = FAMILIES["hindsight"]
    agent = case.make()
    before = dict(vars(agent))
    with pytest.raises(BundleError):
        case.train(agent, resume_from=hindsight_checkpoint, seed=None)
    assert {name: value for name, value in vars(agent).items() if name != "_batch"} == before


def test_the_checkpoint_for_these_damages_is_whole(hindsight_checkpoint):
    case = FAMILIES["hindsight"]
    agent = case.make()
    case.train(agent, resume_from=hindsight_checkpoint, seed=None)
    assert agent.num_timesteps == case.total


def test_a_damaged_recurrent_state_is_refused(tmp_path, monkeypatch):
    case = FAMILIES["recurrent"]
    case.train(case.make(), checkpoint_every=50, checkpoint_directory=tmp_path)
    path = oldest(tmp_path)[1]
    for member, change in (
        (TENSORS, each("recurrent/0", lambda tensor: tensor[:, :1])),
        (TENSORS, drop("recurrent/3")),
        (ARRAYS, put("normalize/returns", np.full(2, np.nan))),
        (ARRAYS, put("learner/_last_episode_starts/", np.zeros(2))),
    ):
        monkeypatch.setattr(
            trainable_agent,
            "open_checkpoint",
            lambda source, member=member, change=change: Changed(read_bundle(path), member, change),
        )
        with pytest.raises(BundleError):
            case.train(case.make(), resume_from=path, seed=None)
