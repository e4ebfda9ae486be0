"""A recording of the scene of `tests.servers.unity`, written by `tests.episode.formats.demo_writer`; both are ours."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from tests.episode.formats.demo_writer import Shown, write_demo
from tests.servers.unity import SPEED, Walker, parse

__all__ = ["record_walks"]


def record_walks(path: Path, n_episodes: int, radius: float = 0.4) -> None:
    """Writes episodes in which an expert walks straight to the target."""
    generator = random.Random(0)
    write_demo(path, [_walk(number, generator, radius) for number in range(n_episodes)], 2)


def _walk(number: int, generator: random.Random, radius: float) -> Shown:
    walker = Walker(number, "Reach", 1, parse([]))
    walker.begin(number, generator)
    observations, actions, rewards = [walker.vector()], [], []
    while not walker.done:
        away = [(target - place) / SPEED for place, target in zip(walker.position, walker.target, strict=True)]
        # A little noise tells an action from the one before.
        action = [max(-1.0, min(1.0, part + generator.gauss(0, 0.05))) for part in away]
        walker.take(action, [])
        walker.reward = 0.0
        walker.advance(radius)
        observations.append(walker.vector())
        actions.append(action)
        rewards.append(walker.reward)
    end = "truncated" if walker.interrupted else "terminated"
    return Shown([np.array(observations, np.float32)], np.array(actions, np.float32), None, rewards, end, agent=number)
