"""Episodes that can be begun again and brought to where they were.

The state of most simulators cannot be saved, but it follows from the random generators at the start of the episode and
from the actions since. Both are only read and noted, so that an environment that is watched behaves like one that is
not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

__all__ = ["OpenEpisode", "ReplayableEnvironment", "Replayed"]


@dataclass(frozen=True)
class OpenEpisode:
    """An episode that has begun and not ended.

    Attributes:
        seed: What the environment's `reset` was given.
        generators: State of each generator before that reset, by owner, as NumPy gives it.
        actions: What was done since.
    """

    seed: int | None
    generators: dict[str, dict[str, Any]]
    actions: list[Any]


@dataclass(frozen=True)
class Replayed:
    """Where an episode is after it was replayed.

    Attributes:
        observation: The last one.
        info: The last one.
        rewards: Of each step.
        problem: Why it did not come to where it was, or None.
    """

    observation: Any
    info: dict[str, Any]
    rewards: list[float]
    problem: str | None = None


class ReplayableEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost layer of an environment, which notes what its open episode follows from."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._seed: int | None = None
        self._generators: dict[str, dict[str, Any]] = {}
        self._actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode and notes the random states from which it starts."""
        self._seed = seed
        self._generators = {
            name: owner.np_random.bit_generator.state for name, owner in self._generator_owners().items()
        }
        self._actions = []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Notes the action and takes it."""
        self._actions.append(np.array(action) if isinstance(action, np.ndarray) else action)
        return self.env.step(action)

    def open_episode(self) -> OpenEpisode:
        """Returns what the open episode follows from."""
        return OpenEpisode(self._seed, self._generators, list(self._actions))

    def replay_episode(self, episode: OpenEpisode) -> Replayed:
        """Begins the episode again and brings it to where it was."""
        owners = self._generator_owners()
        for name, state in episode.generators.items():
            owners[name].np_random.bit_generator.state = state
        observation, info = self.reset(seed=episode.seed)
        rewards = []
        for count, action in enumerate(episode.actions, start=1):
            observation, reward, terminated, truncated, info = self.step(action)
            rewards.append(float(reward))
            if terminated or truncated:
                problem = f"the episode ended at step {count} of {len(episode.actions)}"
                return Replayed(observation, info, rewards, problem)
        return Replayed(observation, info, rewards)

    def _generator_owners(self) -> dict[str, Any]:
        # Some environments sample from their spaces, which a seeded reset leaves alone.
        inner = self.unwrapped
        return {"environment": inner, "action_space": inner.action_space, "observation_space": inner.observation_space}
