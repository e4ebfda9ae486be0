"""A policy acting in a batch of environments for a fixed number of episodes, without bias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.errors import ArgumentError, RLFrameworkError

__all__ = ["ActedStep", "Policy", "act_for_episodes", "check_episode_count", "choose_actions"]

_PATIENCE = 10_000
"""Steps that a slot with episodes to give may stay empty."""


class Policy(Protocol):
    """Something that chooses actions for a batch of observations."""

    def predict(
        self, observations: Any, state: Any = None, episode_starts: Any = None, deterministic: bool = True, /
    ) -> tuple[Any, Any]:
        """Chooses one action a slot.

        A policy whose attribute `uses_action_masks` is True is also given `action_masks`, of shape
        `(slots, n_actions)`, bool: which actions are allowed.

        Args:
            observations: Batched observation, leading axis: slots.
            state: What the last call returned, for recurrent policies; None at the start.
            episode_starts: Shape `(slots,)`, bool: where an episode begins with this observation.
            deterministic: Whether to take the most likely action instead of a sampled one.

        Returns:
            The batched action and the next state.
        """


@dataclass(slots=True)
class ActedStep:
    """One step of all slots, with what led to it.

    Attributes:
        slots: The slots whose row is a transition of an episode that counts.
        observations: Batched observation that was acted on, leading axis: slots.
        actions: Batched action.
        step: What the step brought.
        ended: Those of `slots` whose episode ended with this step.
    """

    slots: NDArray[np.int64]
    observations: Any
    actions: Any
    step: SlotStep
    ended: NDArray[np.int64]


def check_episode_count(count: int, argument: str) -> int:
    """Returns the number of episodes.

    Raises:
        ArgumentError: It is not at least one.
    """
    number = isinstance(count, int | np.integer) and not isinstance(count, bool)
    if not number or count < 1:
        raise ArgumentError(argument, count, "must be an integer of at least 1")
    return int(count)


def choose_actions(
    policy: Policy,
    environments: BatchedEnvironment,
    observations: Any,
    state: Any,
    episode_starts: Any,
    deterministic: bool,
) -> tuple[Any, Any]:
    """Asks a policy what to do, with the environments' action masks if it uses them.

    Raises:
        ArgumentError: It uses masks and the environments have none.
    """
    if not getattr(policy, "uses_action_masks", False):
        return policy.predict(observations, state, episode_starts, deterministic)
    try:
        masks = environments.action_masks()
    except AttributeError:
        raise ArgumentError(
            "environment",
            environments,
            "the agent uses action masks, and this environment has none",
            "Give it a method action_masks(), for example with sb3_contrib's ActionMasker, or an info 'action_mask'.",
        ) from None
    masked: Any = policy
    return masked.predict(observations, state, episode_starts, deterministic, action_masks=masks)


def act_for_episodes(
    policy: Policy, environments: BatchedEnvironment, n_episodes: int, seed: int, deterministic: bool
) -> Iterator[ActedStep]:
    """Steps all slots until exactly `n_episodes` episodes have ended.

    Every slot has a fixed quota of episodes, so that environments whose episodes happen to be short do not count more
    often than others: whatever ends first is, more likely than not, short.

    Args:
        policy: What chooses the actions.
        environments: Where it acts; all of them are reset first.
        n_episodes: How many episodes.
        seed: Of the environments: slot `i` is seeded with `seed + i`.
        deterministic: Whether to take the most likely action instead of a sampled one.

    Yields:
        Every step, with the slots that still had episodes to give.

    Raises:
        RLFrameworkError: A slot with episodes to give stays empty.
        NonFiniteError: The environment returned NaN or infinity.
    """
    slots = environments.num_envs
    quotas = np.array([(n_episodes + index) // slots for index in range(slots)])[::-1]
    done = np.zeros_like(quotas)
    absent_for = np.zeros_like(quotas)
    state = None
    observations, _ = environments.reset_slots(seed)
    episode_starts = np.ones(slots, dtype=np.bool_)
    while (done < quotas).any():
        actions, state = choose_actions(policy, environments, observations, state, episode_starts, deterministic)
        step = environments.step_slots(actions)
        counting = step.acted & (done < quotas)
        # A slot that somebody enters begins an episode too.
        episode_starts = step.terminated | step.truncated | ~step.acted
        if step.pending is not None:
            episode_starts &= ~step.pending
        ended = counting & (step.terminated | step.truncated)
        done += ended
        made_with = actions if step.actions is None else step.actions
        yield ActedStep(np.flatnonzero(counting), observations, made_with, step, np.flatnonzero(ended))
        observations = step.observations
        absent_for = np.where(step.present, 0, absent_for + 1)
        waiting = (absent_for > _PATIENCE) & (done < quotas)
        if waiting.any():
            slot = int(np.flatnonzero(waiting)[0])
            raise RLFrameworkError(f"slot {slot} has been empty for {_PATIENCE} steps: its episodes cannot be counted")
