"""Episodes of whatever acts: an agent, a policy of any library, a function, or chance."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.acting import act_for_episodes, check_episode_count
from rl_framework.environment.door import can_be_made_afresh, environment_id_of, open_environments
from rl_framework.environment.wrappers import WrapperSpecification, wrappers_of
from rl_framework.episode.checks import check_spaces
from rl_framework.episode.episode import Episode
from rl_framework.episode.recording.actors import actor_for, generator_owners_of
from rl_framework.episode.recording.recorder import EpisodeRecorder, check_free
from rl_framework.errors import ArgumentError, RLFrameworkError
from rl_framework.progress import progress_bar as show_progress
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

if TYPE_CHECKING:
    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["collect_episodes"]

_ENVIRONMENTS = 8
"""How many are made at most, if nobody says; as `evaluate` has it, so that a seed gives the same episodes there."""

_BOOKKEEPING = ("episode", "terminal_observation", "TimeLimit.truncated")
"""Info entries that batches of environments add; all of it is in the episode itself."""


def collect_episodes(
    agent_or_policy: Any,
    environment: Any,
    n_episodes: int,
    seed: int | None = None,
    *,
    deterministic: bool = False,
    n_environments: int | None = None,
    environment_kwargs: dict[str, Any] | None = None,
    progress_bar: bool = False,
    path: str | os.PathLike[str] | None = None,
    wrappers: Sequence[WrapperSpecification] | None = None,
) -> EpisodeSequence:
    """Lets an agent act and keeps exactly `n_episodes` whole episodes.

    Every environment gives a fixed quota of episodes, so that short episodes are not collected more often, and the
    episodes are in turn from each environment, so that the first ten are no shorter than the others either. What is
    kept is what the environment returned: observations before the agent normalises them, rewards as the environment
    (with its own wrappers) paid them, the last observation of each episode, and actions as the environment received
    them: clipped, if the policy clips. Where agents come and go, an episode is what one of them did in its slot.

    The agent, the global random generators and the caller's environments (but for their episodes) stay as they were.
    Episodes are written to disk one by one, so that memory does not grow with their number.

    Args:
        agent_or_policy: An agent; a model or policy of Stable-Baselines3 or imitation, or anything else with
            its `predict(observations, state, episode_starts, deterministic)`; an object with
            `choose_action(observation, deterministic=...)`; a function from a batch of observations to a batch of
            actions; or None or "random" for actions drawn from the action space (allowed ones only, where
            environments in this process, or their infos, tell masks).
        environment: Where to act; everything that `train` takes.
        n_episodes: How many episodes.
        seed: The same seed, with the same number of environments, gives the same episodes; None: other ones each time.
        deterministic: Whether to take the most likely action instead of a sampled one. As with `evaluate`, it is
            sampled unless you say so: where the environment, too, is deterministic, all episodes would be one and
            the same. For demonstrations you will mostly want True. Functions and chance do not look at it.
        n_environments: How many environments to make from an id or a factory; None: 8 at most.
        environment_kwargs: Arguments for `gymnasium.make` or the factory.
        progress_bar: Whether a progress bar appears when this takes over a second.
        path: Folder in which the episodes are kept; None: a temporary one, or memory.
        wrappers: What to put around every single environment, as in `train`; None: the wrappers of the agent.

    Returns:
        The episodes. Those of an agent are the ones that `evaluate` with the same seed, `deterministic` and number of
        environments counts.

    Raises:
        NotTrainedError: The agent has no model yet.
        ArgumentError: Fewer than one episode, nothing that acts, no environment, actions of another shape, or a path
            that is taken.
        SpaceMismatchError: The environment's spaces are not the agent's.
        UnsupportedSpaceError: Observations or actions that episodes cannot hold.
        NonFiniteError: The environment returned NaN or infinity.
    """
    from rl_framework.episode.sequence import EpisodeSequence

    if callable(getattr(agent_or_policy, "collect", None)):
        raise ArgumentError(
            "agent_or_policy",
            agent_or_policy,
            "acts for several groups of agents, whose episodes are not alike",
            "Use its own train, evaluate and collect, which gives the episodes of each group.",
        )
    n_episodes = check_episode_count(n_episodes, "n_episodes")
    check_free(path)
    seed = check_seed(seed)
    seed = fresh_seed() if seed is None else seed
    if n_environments is None and can_be_made_afresh(environment) and not isinstance(environment, list):
        n_environments = min(_ENVIRONMENTS, n_episodes)
    # A factory, or an environment's constructor, may draw from the global generators.
    with isolated_random_state(derive_seed(seed, "construction")):
        batch = open_environments(
            environment,
            n_environments,
            environment_kwargs,
            argument="environment",
            wrappers=wrappers_of(agent_or_policy) if wrappers is None else wrappers,
        )
        try:
            check_spaces(batch.single_observation_space, batch.single_action_space)
            actor = actor_for(agent_or_policy, batch, derive_seed(seed, "actions"))
            with (
                isolated_random_state(derive_seed(seed, "policy"), *generator_owners_of(agent_or_policy)),
                show_progress(n_episodes, "collecting", "episode", enabled=progress_bar) as bar,
            ):
                name = environment_id_of(environment) or batch.environment_id
                turns: list[tuple[int, int]] = []
                directory = None if path is None else Path(path).absolute().parent
                if directory is not None:
                    directory.mkdir(parents=True, exist_ok=True)
                environments_seed = derive_seed(seed, "environments")
                sequence = EpisodeSequence.from_episode_generator(
                    _counted(_episodes(actor, batch, n_episodes, environments_seed, deterministic, turns), bar),
                    n_episodes,
                    batch.single_observation_space,
                    batch.single_action_space,
                    directory,
                )
        finally:
            batch.close()
    # Episodes that end early are short ones: in the order of their ends, the first of them would be a biased sample.
    sequence = sequence._view(np.array(sorted(range(n_episodes), key=turns.__getitem__)))
    if path is None:
        return sequence
    sequence.save(path, information={"collected": {"environment": name, "seed": seed, "deterministic": deterministic}})
    return EpisodeSequence.load(path)


def _counted(episodes: Iterator[Episode], bar: Any) -> Iterator[Episode]:
    for episode in episodes:
        yield episode
        bar.update()


def _episodes(
    actor: Any, batch: BatchedEnvironment, n_episodes: int, seed: int, deterministic: bool, turns: list[tuple[int, int]]
) -> Iterator[Episode]:
    """Yields episodes in the order in which they end; notes for each its number in its slot, and the slot."""
    recorders: dict[int, EpisodeRecorder] = {}
    counts = [0] * batch.num_envs
    for acted in act_for_episodes(actor, batch, n_episodes, seed, deterministic):
        step = acted.step
        actions = np.asarray(acted.actions)
        ended = set(acted.ended.tolist())
        for slot in acted.slots.tolist():
            if slot not in recorders:
                recorders[slot] = EpisodeRecorder(batch.observation_of(acted.observations, slot))
            if slot in ended:
                observation = _final_observation(batch, step.final_observations, slot)
            else:
                observation = batch.observation_of(step.observations, slot)
            info = {key: value for key, value in step.infos[slot].items() if key not in _BOOKKEEPING}
            recorders[slot].add(np.array(actions[slot]), step.rewards[slot], observation, info)
            if slot in ended:
                turns.append((counts[slot], slot))
                counts[slot] += 1
                yield recorders.pop(slot).finish(bool(step.terminated[slot]), bool(step.truncated[slot]))


def _final_observation(batch: BatchedEnvironment, final_observations: dict[int, Any], slot: int) -> Any:
    if slot not in final_observations:
        raise RLFrameworkError(
            f"environment {slot} began its next episode without telling the last observation of the one before: "
            "a vector environment has to put it into infos['final_obs'], a VecEnv into infos['terminal_observation']"
        )
    return batch.copy_observation(final_observations[slot])
