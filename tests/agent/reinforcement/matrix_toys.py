"""Small environments of every kind of space, and parameters that make every algorithm do all it does in a moment."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from tests.agent.samples import OFF_POLICY, PARAMETERS, SMALL, Sampled

LIBRARY_CLASSES = [
    value
    for library in (stable_baselines3, sb3_contrib)
    for value in vars(library).values()
    if isinstance(value, type) and issubclass(value, BaseAlgorithm)
]
"""Every algorithm that the two libraries export."""

LSTM = {"net_arch": [8], "lstm_hidden_size": 8}
PARAMETERS = {
    **PARAMETERS,
    "ars": {"n_delta": 2, "policy_kwargs": SMALL},
    "crossq": OFF_POLICY,
    "maskable_ppo": PARAMETERS["ppo"],
    "qrdqn": {**PARAMETERS["dqn"], "policy_kwargs": {"n_quantiles": 5, **SMALL}},
    "recurrent_ppo": {**PARAMETERS["ppo"], "policy_kwargs": LSTM},
    "tqc": {**OFF_POLICY, "policy_kwargs": {"n_quantiles": 5, **SMALL}},
    "trpo": {"n_steps": 16, "batch_size": 8, "n_critic_updates": 2, "cg_max_steps": 3, "policy_kwargs": SMALL},
}
FEATURES = {"features_extractor_kwargs": {"features_dim": 8}}

ACTION_SPACES = {
    "box": lambda: spaces.Box(-2, 2, (2,), np.float32),
    "discrete": lambda: spaces.Discrete(3),
    "multi_discrete": lambda: spaces.MultiDiscrete([2, 3]),
    "multi_binary": lambda: spaces.MultiBinary(3),
}


class Picture(gymnasium.Env):
    """Noise of the size of a small picture, with the channels first, last, or without any."""

    def __init__(self, shape, action_space):
        self.observation_space, self.action_space = spaces.Box(0, 255, shape, np.uint8), action_space

    def _observe(self):
        return self.np_random.integers(0, 256, self.observation_space.shape, dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 6
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self._left -= 1
        return self._observe(), float(self.np_random.normal()), False, self._left == 0, {}


class Masked(Sampled):
    """Forbids some of its actions, others at every step, and counts how often one of them is taken all the same."""

    violations = 0

    def __init__(self, observation_space=None, action_space=None, length=10):
        super().__init__(observation_space, action_space, length)
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            self.choices = [int(space.n)]
        else:
            self.choices = [2] * space.n if isinstance(space, spaces.MultiBinary) else space.nvec.tolist()

    def _draw(self):
        self._masks = [self.np_random.random(count) < 0.5 for count in self.choices]
        for mask in self._masks:
            mask[self.np_random.integers(len(mask))] = True

    def action_masks(self):
        return np.concatenate(self._masks)

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self._draw()
        return observation, info

    def step(self, action):
        parts = np.atleast_1d(action)
        Masked.violations += not all(mask[int(part)] for mask, part in zip(self._masks, parts, strict=True))
        result = super().step(action)
        self._draw()
        return result


def _masks(environment):
    """Gives an environment masks that allow all but the first choice of the first part."""
    space = environment.action_space
    count = {
        spaces.Discrete: lambda: space.n,
        spaces.MultiDiscrete: lambda: space.nvec.sum(),
        spaces.MultiBinary: lambda: 2 * space.n,
    }[type(space)]()
    mask = np.ones(count, np.bool_)
    mask[0] = False
    environment.action_masks = lambda: mask
    return environment


def _single(kind, action_space):
    flat = {
        "box": lambda: spaces.Box(-1, 1, (3,), np.float32),
        "discrete": lambda: spaces.Discrete(4),
        "multi_discrete": lambda: spaces.MultiDiscrete([2, 3]),
        "multi_binary": lambda: spaces.MultiBinary(3),
        "dict": lambda: spaces.Dict(
            {
                "position": spaces.Box(-1, 1, (2,), np.float32),
                "mode": spaces.Discrete(3),
                "switches": spaces.MultiBinary(2),
            }
        ),
        "dict_with_multi_discrete": lambda: spaces.Dict(
            {"position": spaces.Box(-1, 1, (2,), np.float32), "dials": spaces.MultiDiscrete([2, 3])}
        ),
    }
    if kind in flat:
        return Sampled(flat[kind](), action_space, length=6)
    if kind == "frame_stack":
        return FrameStackObservation(Sampled(flat["box"](), action_space, length=6), 3)
    if kind == "image_frame_stack":
        return FrameStackObservation(Picture((36, 36), action_space), 4)
    if kind == "dict_with_image":
        picture = {"camera": spaces.Box(0, 255, (36, 36, 3), np.uint8), "position": spaces.Box(-1, 1, (2,))}
        return Sampled(spaces.Dict(picture), action_space, length=6)
    return Picture({"image_last": (36, 36, 3), "image_first": (3, 36, 36)}[kind], action_space)


FLAT = ("box", "discrete", "multi_discrete", "multi_binary", "frame_stack", "vec_frame_stack")
DICTS = ("dict", "dict_with_multi_discrete")
IMAGES = ("image_last", "image_first", "image_frame_stack", "image_vec_frame_stack")
DICTS_WITH_IMAGES = ("dict_with_image",)
WITH_MULTI_DISCRETE = ("multi_discrete", "dict_with_multi_discrete")
OBSERVATIONS = (*FLAT, *DICTS, *IMAGES, *DICTS_WITH_IMAGES)


def toy(observations, actions, masks=False):
    """One environment with these kinds of spaces."""
    environment = _single(observations, ACTION_SPACES[actions]())
    return _masks(environment) if masks else environment


def source(observations, actions, masks=False):
    """What is given to `train`: a factory, or a `VecEnv` that stacks frames."""
    if observations == "vec_frame_stack":
        return VecFrameStack(DummyVecEnv([partial(toy, "box", actions, masks)] * 2), 3)
    if observations == "image_vec_frame_stack":
        return VecFrameStack(DummyVecEnv([partial(toy, "image_last", actions, masks)] * 2), 2)
    return partial(toy, observations, actions, masks)


def parameters_for(algorithm, observations):
    """Parameters of an algorithm with small networks for these observations."""
    parameters = PARAMETERS[algorithm]
    if observations in IMAGES:
        parameters = {**parameters, "policy_kwargs": {**parameters["policy_kwargs"], **FEATURES}}
    if observations in DICTS_WITH_IMAGES:
        features = {"features_extractor_kwargs": {"cnn_output_dim": 8}}
        parameters = {**parameters, "policy_kwargs": {**parameters["policy_kwargs"], **features}}
    return parameters
