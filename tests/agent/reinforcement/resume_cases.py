"""Trainings to interrupt and resume, and what of them must be the same afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TimeLimit
from tests.agent.reinforcement.matrix_toys import PARAMETERS, Masked, Picture, toy
from tests.agent.samples import SMALL, train, weights

from rl_framework import Callback, FeaturesExtractor, StableBaselinesAgent
from rl_framework.bundle import list_checkpoints
from rl_framework.registry import features_extractors

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")
SCHEDULE = {"type": "linear", "start": 1e-3, "end": 0}


@dataclass(frozen=True)
class Case:
    """One training; checkpoints are no multiple of the rollouts, and episodes are open when they are taken."""

    algorithm: str
    environment: Any = "CartPole-v1"
    parameters: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    total: int = 120
    every: int = 25

    def make(self) -> StableBaselinesAgent:
        return StableBaselinesAgent(self.algorithm, {**PARAMETERS[self.algorithm], **self.parameters}, **self.agent)

    def train(self, agent, **arguments):
        return train(agent, self.environment, self.total, **{"seed": 3, **self.arguments, **arguments})


class Flips(gymnasium.Env):
    """Bits to flip until they are as a goal says; unlike the library's, it draws from its own generator."""

    def __init__(self):
        bits = spaces.MultiBinary(4)
        self.observation_space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), bits))
        self.action_space = spaces.Discrete(4)

    def _observe(self):
        bits = self.bits.copy()
        return {"observation": bits, "achieved_goal": bits.copy(), "desired_goal": self.goal.copy()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.bits, self.goal = self.np_random.integers(0, 2, (2, 4), dtype=np.int8)
        return self._observe(), {}

    def step(self, action):
        self.bits[action] ^= 1
        reward = float(self.compute_reward(self.bits, self.goal, {}))
        return self._observe(), reward, reward == 0, False, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(achieved_goal != desired_goal).any(axis=-1).astype(np.float32)


class MasksInInfo(Masked):
    """Says which actions are allowed in its infos, as Taxi does."""

    action_masks = property()  # reading it raises AttributeError

    def _with_mask(self, result):
        result[-1]["action_mask"] = np.concatenate(self._masks)
        return result

    def reset(self, *, seed=None, options=None):
        return self._with_mask(super().reset(seed=seed))

    def step(self, action):
        return self._with_mask(super().step(action))


class Tenth(FeaturesExtractor):
    """Changes observations before they are stored."""

    def preprocess(self, observations):
        return observations / np.float32(10)


if "resume_cases_tenth" not in features_extractors:
    features_extractors.register("resume_cases_tenth", Tenth)


def make_flips():
    return TimeLimit(Flips(), 8)


def make_masked():
    return Masked(length=7)


def make_masks_in_info():
    return MasksInInfo(length=7)


def make_pictures():
    return FrameStackObservation(Picture((36, 36), spaces.Discrete(3)), 4)


def make_dict_with_image():
    return toy("dict_with_image", "discrete")


def make_stacked():
    return FrameStackObservation(gymnasium.make("CartPole-v1"), 3)


NORMALISED = {"normalize_observations": True, "normalize_rewards": True}
GSDE = {"use_sde": True, "sde_sample_freq": 4}
IMAGES = {"policy_kwargs": {**SMALL, "features_extractor_kwargs": {"features_dim": 8}}}
DICT_IMAGES = {"policy_kwargs": {**SMALL, "features_extractor_kwargs": {"cnn_output_dim": 8}}}
HER = {"replay_buffer_class": "her", "replay_buffer_kwargs": {"n_sampled_goal": 2}, "learning_starts": 20}
TWO = {"n_environments": 2}

FAMILIES = {
    "on-policy, normalised, schedule": Case(
        "ppo", parameters={"learning_rate": SCHEDULE, "clip_range": SCHEDULE}, agent=NORMALISED, arguments=TWO
    ),
    "on-policy, gSDE": Case("ppo", "Pendulum-v1", parameters=GSDE),
    "on-policy, processes": Case("a2c", arguments={**TWO, "vectorization": "subprocess"}),
    "on-policy, frame stack": Case("a2c", make_stacked, arguments=TWO),
    "on-policy, images": Case("ppo", make_pictures, parameters=IMAGES, total=60, every=20),
    "on-policy, dict with images": Case("a2c", make_dict_with_image, DICT_IMAGES, arguments=TWO, total=60, every=20),
    "on-policy, preprocessed": Case("ppo", agent={"features_extractor": "resume_cases_tenth"}, arguments=TWO),
    "off-policy": Case("dqn", parameters={"exploration_fraction": 0.8, "learning_rate": SCHEDULE}, arguments=TWO),
    "off-policy, normalised, gSDE": Case("sac", "Pendulum-v1", parameters=GSDE, agent=NORMALISED),
    "off-policy, noise": Case(
        "ddpg", "MountainCarContinuous-v0", parameters={"action_noise": {"type": "ornstein_uhlenbeck", "sigma": 0.5}}
    ),
    "off-policy, n steps": Case("sac", "Pendulum-v1", parameters={"n_steps": 3}),
    "off-policy, whole episodes": Case(
        "td3", "Pendulum-v1", parameters={"train_freq": (1, "episode")}, total=900, every=150
    ),
    "hindsight": Case("dqn", make_flips, parameters=HER, arguments=TWO),
    "recurrent": Case("recurrent_ppo", agent=NORMALISED, arguments=TWO),
    "maskable": Case("maskable_ppo", make_masked, arguments=TWO),
    "maskable, masks in infos, preprocessed": Case(
        "maskable_ppo", make_masks_in_info, agent={"features_extractor": "resume_cases_tenth"}
    ),
    "random search": Case("ars", parameters={"n_delta": 2}, total=400),
}


class Recorder(Callback):
    """Keeps what happened, except how long it took."""

    def __init__(self):
        self.events = []

    def on_update(self, event, training):
        metrics = {key: value for key, value in event.metrics.items() if not key.startswith("time/")}
        self.events.append((event.timestep, event.n_updates, metrics))

    def on_episode_end(self, event, training):
        self.events.append((event.timestep, event.slot, event.episode_return, event.length))


def outcome(agent):
    """Everything that must be the same: tensors, counters, episodes, statistics, what the replay buffer holds."""
    algorithm = agent.algorithm
    found = {f"weight {name}": tensor for name, tensor in weights(agent).items()}
    found |= {name: np.array(getattr(algorithm, name)) for name in COUNTERS if hasattr(algorithm, name)}
    found["episodes"] = np.array([(info["r"], info["l"]) for info in algorithm.ep_info_buffer])
    if agent.normaliser is not None:
        found |= agent.normaliser.to_arrays()
    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is not None:
        found |= {f"buffer {name}": getattr(buffer, name) for name in ("actions", "rewards", "dones", "timeouts")}
    return found


def differences(one, other):
    """Names of what is not the same to the last bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not np.array_equal(one[name], other[name], equal_nan=True)]


def oldest(directory):
    """The first checkpoint of a training, after which most is to be done again."""
    return list_checkpoints(directory)[-1]


def three_runs(case, directory):
    """Trains plainly, with checkpoints, and from the oldest checkpoint; returns agent and events of each."""
    runs = []
    for arguments in ({}, {"checkpoint_every": case.every, "checkpoint_directory": directory}):
        recorder, agent = Recorder(), case.make()
        case.train(agent, callbacks=[recorder], **arguments)
        runs.append((agent, recorder.events))
    timestep, path = oldest(directory)
    assert 0 < timestep < case.total
    recorder, agent = Recorder(), case.make()
    case.train(agent, callbacks=[recorder], resume_from=path, seed=None)
    runs.append((agent, recorder.events))
    return timestep, runs


def check_exact(case, directory):
    """Asserts that the three runs are the same."""
    timestep, ((plain, events), (watched, watched_events), (resumed, resumed_events)) = three_runs(case, directory)
    expected = outcome(plain)
    assert differences(expected, outcome(watched)) == []
    assert watched_events == events
    assert differences(expected, outcome(resumed)) == []
    later = [event for event in events if event[0] > timestep]
    assert [event for event in resumed_events if event[0] > timestep] == later
    assert later
