"""Small recorded episodes and small networks, for the tests of offline algorithms."""

from __future__ import annotations

import dataclasses

import numpy as np
from gymnasium import spaces

from rl_framework import Callback, Episode, EpisodeSequence, OfflineAgent
from rl_framework.agent.imitation.offline_library.algorithms import configuration_class, resolve_offline_algorithm

VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)
DISCRETE = spaces.Discrete(3)
BOX = spaces.Box(-2.0, 2.0, (2,), np.float32)

ENCODER = {"type": "vector", "hidden_units": [8]}
BATCH = 16


def recorded(action_space=DISCRETE, observation_space=VECTOR, count=8, length=20, seed=0):
    """Episodes of random numbers, every second one cut."""
    rng = np.random.default_rng(seed)
    observation_space.seed(seed)
    action_space.seed(seed)
    episodes = []
    for index in range(count):
        steps = length + int(rng.integers(5))
        observations = [observation_space.sample() for _ in range(steps + 1)]
        if isinstance(observation_space, spaces.Dict):
            stacked = {key: np.stack([part[key] for part in observations]) for key in observation_space.spaces}
        else:
            stacked = np.stack(observations)
        actions = np.stack([action_space.sample() for _ in range(steps)])
        cut = index % 2 == 1
        episodes.append(Episode(stacked, actions, rng.normal(size=steps), terminated=not cut, truncated=cut))
    return EpisodeSequence.from_episodes(episodes, observation_space, action_space)


def action_space_of(name):
    """A space that an algorithm takes: the discrete one only where there is no other."""
    only_discrete = name.startswith("discrete_") or name in ("dqn", "double_dqn", "nfq")
    return DISCRETE if only_discrete else BOX


def small(name, **parameters):
    """Parameters that make an algorithm small and quick in coming to everything that it does."""
    fields = {field.name for field in dataclasses.fields(configuration_class(resolve_offline_algorithm(name).found))}
    sizes = {field: ENCODER for field in fields if field.endswith("encoder_factory")}
    sizes |= {"context_size": 4, "num_heads": 1, "num_layers": 1} if "context_size" in fields else {}
    quick = {"warmup_steps": 3, "rl_start_step": 3, "target_update_interval": 4, "n_action_samples": 4}
    sizes |= {field: value for field, value in quick.items() if field in fields}
    return {"batch_size": BATCH, "device": "cpu", **sizes, **parameters}


def trained(name="cql", episodes=None, updates=5, seed=0, parameters=None, **arguments):
    """An agent that was trained for a moment."""
    agent = OfflineAgent(name, small(name) if parameters is None else parameters)
    episodes = recorded(action_space_of(name)) if episodes is None else episodes
    return agent.train(episodes, total_timesteps=updates * BATCH, seed=seed, progress_bar=False, **arguments)


class Reports(Callback):
    def __init__(self):
        self.updates = []

    def on_update(self, event, training):
        self.updates.append((event.timestep, event.n_updates, dict(event.metrics)))
