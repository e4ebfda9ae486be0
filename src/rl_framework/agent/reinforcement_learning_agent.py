"""Agents that learn by acting in environments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from rl_framework.agent.trainable_agent import TrainableAgent
from rl_framework.agent.training_arguments import TrainingArguments
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.wrappers import WrapperSpecification
from rl_framework.training import Callback

__all__ = ["RLAgent"]


class RLAgent(TrainableAgent[BatchedEnvironment]):
    """An agent that learns by acting.

    A subclass implements `prepare` (build or check the model before the first step) and `learn` (train until
    `training.total_timesteps`, reporting to `training`); everything around that is done by `TrainableAgent`.
    """

    def train(
        self,
        training_environments: Any,
        total_timesteps: int = 100_000,
        n_environments: int | None = None,
        environment_kwargs: dict[str, Any] | None = None,
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
            training_environments: Whatever you have: an id ("CartPole-v1"), one environment, a list of them, a
                zero-argument factory or a list of these, a `(stub_environment, factory)` pair, a gymnasium
                `VectorEnv`, an SB3 `VecEnv`, or what a registered adapter accepts. What you made is never closed.
            total_timesteps: Environment steps to train for in this call, over all environments.
            n_environments: How many environments to make from an id or a factory; None: one.
            environment_kwargs: Arguments for `gymnasium.make`, the factory, or the adapter.
            connector: A tracker, or several, that receives what happens.
            callbacks: More listeners: `rl_framework.Callback`s, and callbacks of the wrapped library.
            seed: Seeds the agent and the environments. None: a seed is drawn and recorded at the first call; later
                calls go on with the random streams as they are.
            progress_bar: Whether to show a progress bar (in a terminal or notebook).
            checkpoint_every: Timesteps between checkpoints; None: none. With checkpoints, SIGTERM and Ctrl-C are
                answered at the next moment at which nothing is half done: one more is written, and training ends. A
                second Ctrl-C ends it at once.
            checkpoint_directory: Where checkpoints go, and with `evaluate_every` the best agent, as "best_model.zip".
                A checkpoint that cannot be written is logged as an error; training goes on.
            resume_from: A checkpoint, or a folder of them, of which the newest that is whole is taken: training goes
                on from there to `total_timesteps`, as if it had not been interrupted, provided that the other
                arguments are the same. A folder without checkpoints is a training that begins.
            keep_last: How many checkpoints to keep; None: all.
            evaluate_every: Timesteps between evaluations; None: none.
            evaluation_environment: Where to evaluate in between; None: fresh environments from
                `training_environments`, if it is an id or a factory.
            n_eval_episodes: Episodes of each evaluation in between.
            vectorization: "auto", "sync", "subprocess" or "native"; see `rl_framework.environment.door`.
            fresh_environments: Whether every episode begins in a newly made environment, for simulators that remember
                earlier episodes (BipedalWalker), which can then be resumed exactly; needs an id or a factory. None: as
                in the checkpoint, else no.
            wrappers: What to put around every single environment, the innermost first: registered names, or `{"type":
                name, ...}` with arguments, such as `["atari", {"type": "frame_stack", "stack_size": 4}]`. They are
                saved with the agent, which puts them on wherever it acts. None: those that the agent, or the
                checkpoint, has.

        Returns:
            This agent.

        Raises:
            RLFrameworkError: An argument cannot be used; see `rl_framework.errors`. Raised before the first step.
            NonFiniteError: An environment returned NaN or infinity.
            KeyboardInterrupt: The user interrupted a script. In a notebook `train` returns instead. Either way the
                agent can be used and trained further.
        """
        self.run_training(
            TrainingArguments(
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
        )
        return self
