"""Episodes of hand-written controllers, for the tests of imitation: what they do is known, and they cost nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.episode import Episode, EpisodeSequence


def balance(observation):
    """Keeps the pole of CartPole up for 500 steps from every start."""
    position, velocity, angle, turning = observation
    return int(0.1 * position + 0.1 * velocity + 3.0 * angle + turning > 0.0)


def swing(observation):
    """Pushes the pendulum in the direction in which it turns; no master, but always the same."""
    cosine, sine, turning = observation
    torque = 2.0 * np.sign(turning) if cosine < 0.7 else -8.0 * sine - 2.0 * turning
    return np.clip(np.array([torque], dtype=np.float32), -2.0, 2.0)


def episode_of(environment, controller, seed):
    observation, _ = environment.reset(seed=seed)
    observations, actions, rewards = [observation], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = controller(observation)
        observation, reward, terminated, truncated, _ = environment.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(float(reward))
    return Episode(np.array(observations), np.array(actions), np.array(rewards), terminated, truncated)


@cache
def demonstrations(n_episodes=4, environment_id="CartPole-v1", max_episode_steps=None, first_seed=0):
    """Returns episodes with the spaces of their environment."""
    controller = {"CartPole-v1": balance, "Pendulum-v1": swing}[environment_id]
    environment = gymnasium.make(environment_id, max_episode_steps=max_episode_steps)
    seeds = range(first_seed, first_seed + n_episodes)
    return EpisodeSequence.from_episodes(
        [episode_of(environment, controller, seed) for seed in seeds],
        environment.observation_space,
        environment.action_space,
    )


class CartAndPole(gymnasium.ObservationWrapper):
    """CartPole whose observation is a dict; behind one another, its parts are what CartPole shows."""

    def __init__(self, environment):
        super().__init__(environment)
        low, high = environment.observation_space.low, environment.observation_space.high
        self.observation_space = spaces.Dict(
            {"cart": spaces.Box(low[:2], high[:2]), "pole": spaces.Box(low[2:], high[2:])}
        )

    def observation(self, observation):
        return {"cart": observation[:2], "pole": observation[2:]}


def in_parts(max_episode_steps=None):
    return CartAndPole(gymnasium.make("CartPole-v1", max_episode_steps=max_episode_steps))


def episodes_in_parts():
    """Returns two of the demonstrations, as `in_parts` would have shown them."""
    found = [
        replace(episode, observations={"cart": episode.observations[:, :2], "pole": episode.observations[:, 2:]})
        for episode in demonstrations(2)
    ]
    return EpisodeSequence.from_episodes(found, in_parts().observation_space, spaces.Discrete(2))
