"""Small agents and environments, for the tests of agents."""

from __future__ import annotations

from copy import deepcopy

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework import StableBaselinesAgent

SMALL = {"net_arch": [8]}
OFF_POLICY = {"learning_starts": 10, "buffer_size": 200, "batch_size": 8, "policy_kwargs": SMALL}
# What makes each algorithm do everything it does (collect, update, explore) within some forty steps.
PARAMETERS = {
    "ppo": {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "policy_kwargs": SMALL},
    "a2c": {"n_steps": 8, "policy_kwargs": SMALL},
    "dqn": {**OFF_POLICY, "train_freq": 2, "target_update_interval": 10, "exploration_final_eps": 0.3},
    "sac": OFF_POLICY,
    "td3": OFF_POLICY,
    "ddpg": OFF_POLICY,
}
ENVIRONMENTS = dict.fromkeys(("ppo", "a2c", "dqn"), "CartPole-v1") | dict.fromkeys(
    ("sac", "td3", "ddpg"), "Pendulum-v1"
)
STEPS = 48


class Sampled(gymnasium.Env):
    """Any spaces, random observations and rewards from its own stream, and counters of what was done with it."""

    def __init__(self, observation_space=None, action_space=None, length=10):
        self.observation_space = spaces.Box(-1, 1, (3,)) if observation_space is None else observation_space
        self.action_space = spaces.Discrete(2) if action_space is None else action_space
        self.length = length
        self.steps = self.resets = self.episodes = 0
        self.closed = False
        self._source = deepcopy(self.observation_space)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None or self.resets == 0:
            self._source.seed(int(self.np_random.integers(1 << 30)))
        self.resets += 1
        self._left = self.length
        return self._source.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert not self.closed
        self.steps += 1
        self._left -= 1
        self.episodes += self._left == 0
        return self._source.sample(), float(self.np_random.normal()), self._left == 0, False, {}

    def close(self):
        self.closed = True


def make(algorithm="ppo", parameters=None, **arguments):
    """An agent of the sizes above."""
    return StableBaselinesAgent(algorithm, {**PARAMETERS[algorithm], **(parameters or {})}, **arguments)


def train(agent, environments="CartPole-v1", total_timesteps=STEPS, **arguments):
    """Trains without a progress bar."""
    return agent.train(environments, total_timesteps, progress_bar=False, **arguments)


def trained(algorithm="ppo", parameters=None, seed=0, **arguments):
    """An agent that was trained for a moment where its algorithm can be."""
    return train(make(algorithm, parameters, **arguments), ENVIRONMENTS[algorithm], seed=seed)


def weights(agent):
    """The tensors of an agent, or of a model of Stable-Baselines3, by name."""
    model = getattr(agent, "algorithm", agent)
    tensors = {name: tensor.detach().numpy().copy() for name, tensor in model.policy.state_dict().items()}
    if getattr(model, "log_ent_coef", None) is not None:
        tensors["log_ent_coef"] = model.log_ent_coef.detach().numpy().copy()
    return tensors


def same(one, other):
    """Tells whether two dictionaries of arrays agree to the last bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
