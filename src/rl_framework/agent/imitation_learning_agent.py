"""Agents that learn from recorded episodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

from rl_framework.agent.base_agent import Agent
from rl_framework.training import Callback

__all__ = ["ILAgent"]


class ILAgent(Agent):
    """An agent that learns by imitating what is recorded in an episode sequence."""

    @abstractmethod
    def train(
        self,
        episode_sequence: Sequence[Any],
        training_environments: Any = None,
        total_timesteps: int = 100_000,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        validation_episode_sequence: Sequence[Any] | None = None,
        connector: Callback | Sequence[Callback] | None = None,
        callbacks: Iterable[Any] = (),
        seed: int | None = None,
        progress_bar: bool = True,
    ) -> Self:
        """Trains the agent; a second call goes on where the first one ended.

        Args:
            episode_sequence: The episodes to imitate.
            training_environments: Where to act, for algorithms that also act; everything that `RLAgent.train` takes.
            total_timesteps: Steps to train for: environment steps, or transitions for algorithms that never act.
            n_environments: How many environments to make from an id or a factory; None: one.
            environment_kwargs: Arguments for `gymnasium.make`, the factory, or the adapter.
            validation_episode_sequence: Episodes that are only measured against.
            connector: A tracker, or several, that receives what happens.
            callbacks: More listeners.
            seed: Seeds the agent and the environments.
            progress_bar: Whether to show a progress bar.

        Returns:
            This agent.
        """
