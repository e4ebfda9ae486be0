"""Agents that learn from recorded episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium

from rl_framework.agent.trainable_agent import TrainableAgent
from rl_framework.agent.training_arguments import TrainingArguments
from rl_framework.bundle import encode_space
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.wrappers import WrapperSpecification
from rl_framework.episode import EpisodeSequence
from rl_framework.episode.compatibility import as_episode_sequence, check_episodes_fit, could_be, fingerprint
from rl_framework.errors import ArgumentError, SpaceMismatchError
from rl_framework.training import Callback

__all__ = ["ILAgent"]


class ILAgent(TrainableAgent[BatchedEnvironment | None]):
    """An agent that learns from what is recorded in an episode sequence, and, as some algorithms do, by acting too.

    A subclass implements `prepare` and `learn`, in which `episodes` and `validation_episodes` are the arguments of
    `train`, and the batch of environments is None if none were given.
    """

    spaces_are_inferred = False
    """Whether the agent's spaces were guessed from data that did not tell them."""

    episodes: EpisodeSequence | None = None
    validation_episodes: EpisodeSequence | None = None

    def train(
        self,
        episode_sequence: EpisodeSequence | Sequence[Any] | str | Path | None,
        training_environments: Any = None,
        total_timesteps: int = 100_000,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
        validation_episode_sequence: EpisodeSequence | Sequence[Any] | str | Path | None = None,
        connector: Callback | Sequence[Callback] | None = None,
        callbacks: Iterable[Any] | None = (),
        seed: int | None = None,
        progress_bar: bool = True,
        checkpoint_every: int | None = None,
        checkpoint_directory: str | Path | None = None,
        resume_from: str | Path | None = None,
        evaluate_every: int | None = None,
        *,
        keep_last: int | None = None,
        evaluation_environment: Any = None,
        n_eval_episodes: int = 10,
        vectorization: str = "auto",
        fresh_environments: bool | None = None,
        wrappers: Sequence[WrapperSpecification] | None = None,
    ) -> Self:
        """Trains the agent; a second call goes on where the first one ended.

        Args:
            episode_sequence: The episodes to learn from: an `EpisodeSequence`, a list of episodes, or the path of a
                data set. None only for algorithms that need none.
            training_environments: Where to act, for algorithms that also act; everything that `RLAgent.train` takes.
            total_timesteps: How long to train: steps in the environments, or, for algorithms that never act,
                transitions learned from (each counts as often as it is used).
            n_environments: How many environments to make from an id or a factory; None: one.
            environment_kwargs: Arguments for `gymnasium.make`, the factory, or the adapter.
            validation_episode_sequence: Episodes that are only measured against, when metrics are reported.
            connector: A tracker, or several, that receives what happens.
            callbacks: More listeners.
            seed: Seeds the agent, the order of the data and the environments.
            progress_bar: Whether to show a progress bar (in a terminal or notebook).
            checkpoint_every: Timesteps between checkpoints; see `RLAgent.train`.
            checkpoint_directory: Where checkpoints go, and with `evaluate_every` the best agent.
            resume_from: A checkpoint, or a folder of them: training goes on from there, with the same data.
            evaluate_every: Timesteps between evaluations; None: none.
            keep_last: How many checkpoints to keep; None: all.
            evaluation_environment: Where to evaluate in between; None: fresh environments from
                `training_environments`, if it is an id or a factory.
            n_eval_episodes: Episodes of each evaluation in between.
            vectorization: How to make several environments one; see `rl_framework.environment.door`.
            fresh_environments: Whether every episode begins in a newly made environment; see `RLAgent.train`.
            wrappers: What to put around every single environment; see `RLAgent.train`. The episodes must be of
                environments in these wrappers.

        Returns:
            This agent.

        Raises:
            RLFrameworkError: An argument cannot be used; see `rl_framework.errors`. Raised before the first step.
            EpisodeDataError: The episodes are damaged.
            KeyboardInterrupt: The user interrupted a script; see `RLAgent.train`.
        """
        asked = TrainingArguments(
            training_environments=training_environments,
            total_timesteps=total_timesteps,
            n_environments=n_environments,
            environment_kwargs=environment_kwargs,
            connector=connector,
            callbacks=callbacks,
            seed=seed,
            progress_bar=progress_bar,
            checkpoint_every=checkpoint_every,
            checkpoint_directory=checkpoint_directory,
            resume_from=resume_from,
            evaluate_every=evaluate_every,
            keep_last=keep_last,
            evaluation_environment=evaluation_environment,
            n_eval_episodes=n_eval_episodes,
            vectorization=vectorization,
            fresh_environments=fresh_environments,
            wrappers=wrappers,
        )
        self.episodes = as_episode_sequence(episode_sequence, "episode_sequence")
        self.validation_episodes = as_episode_sequence(validation_episode_sequence, "validation_episode_sequence")
        try:
            self.run_training(asked)
        finally:
            self.episodes = self.validation_episodes = None
        return self

    def open_training_environments(
        self, asked: TrainingArguments, vectorization: str, fresh: bool
    ) -> BatchedEnvironment | None:
        """Opens the environments, if there are any."""
        if asked.training_environments is None:
            return None
        return super().open_training_environments(asked, vectorization, fresh)

    def spaces_of(self, batch: BatchedEnvironment | None) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any], bool]:
        """Returns the spaces of what the agent is to train on: of the environments if there are any, else of the data.

        Returns:
            Observation space, action space, and whether they were guessed from the data.

        Raises:
            SpaceMismatchError: Environments, episodes and validation episodes do not fit together.
            ArgumentError: There are neither environments nor episodes.
        """
        if batch is not None:
            observations, actions, inferred = batch.single_observation_space, batch.single_action_space, False
        elif self.episodes is not None:
            observations, actions = self.episodes.observation_space, self.episodes.action_space
            inferred = self.episodes.spaces_are_inferred
        else:
            raise ArgumentError(
                "episode_sequence", None, "is needed without training_environments", "Give one of them."
            )
        for argument, episodes in (
            ("episode_sequence", self.episodes),
            ("validation_episode_sequence", self.validation_episodes),
        ):
            if episodes is not None:
                check_episodes_fit(episodes, observations, actions, argument)
        encode_space(observations, "observation_space")  # raises if the agent could not be saved afterwards
        encode_space(actions, "action_space")
        return observations, actions, inferred

    def further_record(self) -> dict[str, Any]:
        """Returns what the record of a run says of its data: how much, and a fingerprint."""
        return {
            name: None
            if episodes is None
            else {
                "n_episodes": len(episodes),
                "n_transitions": episodes.n_transitions,
                "fingerprint": fingerprint(episodes),
            }
            for name, episodes in (("episodes", self.episodes), ("validation_episodes", self.validation_episodes))
        }

    def check_spaces(self, batch: BatchedEnvironment, argument: str) -> None:
        """Checks that environments have the agent's spaces, or, if those were guessed, that they fit.

        Raises:
            SpaceMismatchError: They have others.
        """
        if not self.spaces_are_inferred:
            super().check_spaces(batch, argument)
            return
        for kind in ("observation_space", "action_space"):
            mine, theirs = getattr(self, kind), getattr(batch, f"single_{kind}")
            if not could_be(mine, theirs):
                raise SpaceMismatchError(argument, batch, f"its {kind} is {theirs}; the data looked like {mine}")
