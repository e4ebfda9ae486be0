"""What the library leaves undone when training goes on with an algorithm that has been trained before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["end_open_episodes", "waiting_for_experience"]


def end_open_episodes(algorithm: Any, slots: list[int] | None = None) -> None:
    """Marks the episodes that are open in a replay buffer as truncated, because the next training begins new ones.

    Buffers that look further ahead than one step (hindsight goals, n-step returns), and those that find the next
    observation in the next row, would otherwise read one episode that goes on into the next.

    Args:
        algorithm: Whose environments are about to be reset.
        slots: Which of them; None: all.
    """
    from stable_baselines3.common.buffers import NStepReplayBuffer
    from stable_baselines3.her import HerReplayBuffer

    buffer = getattr(algorithm, "replay_buffer", None)
    if buffer is None or buffer.size() == 0:
        return
    last = buffer.pos - 1
    ended = np.zeros(buffer.n_envs, dtype=np.bool_)
    ended[slice(None) if slots is None else slots] = True
    if isinstance(buffer, HerReplayBuffer):
        # As its `truncate_last_trajectory`, which does this to all environments.
        for slot in np.flatnonzero(ended & (buffer._current_ep_start != buffer.pos)):
            buffer.dones[last, slot] = True
            buffer._compute_episode_length(int(slot))
            if buffer.handle_timeout_termination:
                buffer.timeouts[last, slot] = True
    elif isinstance(buffer, NStepReplayBuffer):
        buffer.timeouts[last, ended & (buffer.dones[last] == 0)] = 1
    elif buffer.optimize_memory_usage:
        buffer.dones[last, ended] = (
            1  # as the library does it: the observation to bootstrap from is about to be overwritten
        )


@contextmanager
def waiting_for_experience(algorithm: Any) -> Iterator[None]:
    """Lets an algorithm whose replay buffer was not saved collect `learning_starts` transitions again before it learns.

    The library counts the steps of all trainings. It would learn from the first transitions over and over, and with
    hindsight goals it would fail before the first episode has ended. The steps until then are the agent's own and not
    random ones, since it has been trained.

    Args:
        algorithm: About to learn.
    """
    buffer = getattr(algorithm, "replay_buffer", None)
    missing = 0 if buffer is None or buffer.full else algorithm.num_timesteps - buffer.size() * buffer.n_envs
    if missing <= 0:
        yield
        return
    asked, sample = algorithm.learning_starts, algorithm._sample_action
    algorithm.learning_starts = asked + missing
    algorithm._sample_action = lambda _, *arguments: sample(asked, *arguments)
    try:
        yield
    finally:
        algorithm.learning_starts = asked
        del algorithm._sample_action
