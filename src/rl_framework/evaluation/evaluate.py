"""Running a policy for a fixed number of episodes, without bias and without leaving a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rl_framework.environment import BatchedEnvironment
from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.evaluation.result import EvaluationResult
from rl_framework.progress import progress_bar
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

__all__ = ["Policy", "check_n_eval_episodes", "choose_actions", "evaluate_policy"]

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


def check_n_eval_episodes(n_eval_episodes: int) -> int:
    """Returns the number of episodes.

    Raises:
        ArgumentError: It is not at least one.
    """
    number = isinstance(n_eval_episodes, int | np.integer) and not isinstance(n_eval_episodes, bool)
    if not number or n_eval_episodes < 1:
        raise ArgumentError("n_eval_episodes", n_eval_episodes, "must be an integer of at least 1")
    return int(n_eval_episodes)


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


def evaluate_policy(
    policy: Policy,
    environments: BatchedEnvironment,
    n_eval_episodes: int,
    *,
    deterministic: bool = False,
    seed: int | None = None,
    generator_owners: Sequence[Any] = (),
    environment_id: str | None = None,
    show_progress: bool = True,
) -> EvaluationResult:
    """Evaluates a policy on exactly `n_eval_episodes` episodes.

    Every slot has a fixed quota of episodes, so that environments whose episodes happen to be short are not counted
    more often than others. Returns are undiscounted sums of what the environment paid, before normalisation and
    before wrappers that change rewards. All random numbers come from `seed`; the global generators are put back.

    Args:
        policy: What chooses the actions.
        environments: Where it acts.
        n_eval_episodes: How many episodes to run.
        deterministic: Whether to take the most likely action instead of a sampled one.
        seed: The same seed gives the same result; None draws one, which the result tells.
        generator_owners: Objects with a `np_random` that the policy draws from; they are put back too.
        environment_id: What to call the environment in the result.
        show_progress: Whether a progress bar appears when this takes over a second.

    Returns:
        Returns and lengths of the episodes, in the order in which they ended.

    Raises:
        ArgumentError: Fewer than one episode, or no seed.
        NonFiniteError: The environment returned NaN or infinity.
    """
    n_eval_episodes = check_n_eval_episodes(n_eval_episodes)
    seed = check_seed(seed)
    seed = fresh_seed() if seed is None else seed
    slots = environments.num_envs
    quotas = np.array([(n_eval_episodes + index) // slots for index in range(slots)])[::-1]
    with (
        isolated_random_state(derive_seed(seed, "policy"), *generator_owners),
        progress_bar(n_eval_episodes, "evaluating", "episode", enabled=show_progress) as bar,
    ):
        returns, lengths = _run(policy, environments, quotas, derive_seed(seed, "environments"), deterministic, bar)
    return EvaluationResult(
        returns=np.array(returns),
        lengths=np.array(lengths),
        seed=seed,
        deterministic=deterministic,
        environment=environment_id or environments.environment_id,
    )


def _run(
    policy: Policy, environments: BatchedEnvironment, quotas: Any, seed: int, deterministic: bool, bar: Any
) -> tuple[list[float], list[int]]:
    returns: list[float] = []
    lengths: list[int] = []
    done = np.zeros_like(quotas)
    absent_for = np.zeros_like(quotas)
    state = None
    observations, _ = environments.reset_slots(seed)
    episode_starts = np.ones(environments.num_envs, dtype=np.bool_)
    while (done < quotas).any():
        actions, state = choose_actions(policy, environments, observations, state, episode_starts, deterministic)
        step = environments.step_slots(actions)
        observations = step.observations
        # A slot that somebody enters begins an episode too.
        episode_starts = step.terminated | step.truncated | ~step.acted
        for index in np.flatnonzero((step.terminated | step.truncated) & step.acted):
            if done[index] < quotas[index]:
                done[index] += 1
                returns.append(step.infos[index]["episode"]["r"])
                lengths.append(step.infos[index]["episode"]["l"])
                bar.update()
        absent_for = np.where(step.present, 0, absent_for + 1)
        waiting = (absent_for > _PATIENCE) & (done < quotas)
        if waiting.any():
            slot = int(np.flatnonzero(waiting)[0])
            raise RLFrameworkError(f"slot {slot} has been empty for {_PATIENCE} steps: its episodes cannot be counted")
    return returns, lengths
