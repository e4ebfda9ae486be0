"""Running a policy for a fixed number of episodes, without bias and without leaving a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.acting import Policy, act_for_episodes, check_episode_count, choose_actions
from rl_framework.evaluation.members import Members
from rl_framework.evaluation.result import EvaluationResult
from rl_framework.progress import progress_bar
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

__all__ = ["Policy", "check_n_eval_episodes", "choose_actions", "evaluate_policy"]


def check_n_eval_episodes(n_eval_episodes: int) -> int:
    """Returns the number of episodes.

    Raises:
        ArgumentError: It is not at least one.
    """
    return check_episode_count(n_eval_episodes, "n_eval_episodes")


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
        Returns and lengths of the episodes, in the order in which they ended; where several agents act in one world,
        a `MultiAgentResult`, which also has those of each agent and of the team.

    Raises:
        ArgumentError: Fewer than one episode, or no seed.
        NonFiniteError: The environment returned NaN or infinity.
    """
    n_eval_episodes = check_n_eval_episodes(n_eval_episodes)
    seed = check_seed(seed)
    seed = fresh_seed() if seed is None else seed
    returns: list[float] = []
    lengths: list[int] = []
    members = Members()
    with (
        isolated_random_state(derive_seed(seed, "policy"), *generator_owners),
        progress_bar(n_eval_episodes, "evaluating", "episode", enabled=show_progress) as bar,
    ):
        environments_seed = derive_seed(seed, "environments")
        for acted in act_for_episodes(policy, environments, n_eval_episodes, environments_seed, deterministic):
            for index in acted.ended:
                account = acted.step.infos[index]["episode"]
                returns.append(account["r"])
                lengths.append(account["l"])
                members.add(acted.step.infos[index])
                bar.update()
    result = EvaluationResult(
        returns=np.array(returns),
        lengths=np.array(lengths),
        seed=seed,
        deterministic=deterministic,
        environment=environment_id or environments.environment_id,
    )
    return members.added_to(result)
