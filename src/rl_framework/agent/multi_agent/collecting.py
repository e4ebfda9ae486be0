"""Episodes of each agent in a world of several groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_framework.agent.base_agent import Agent
from rl_framework.environment.acting import ActedStep, act_for_episodes, check_episode_count
from rl_framework.environment.door import can_be_made_afresh
from rl_framework.environment.world.joint import GroupSlots, JointEnvironment, side_by_side
from rl_framework.episode import Episode, EpisodeSequence
from rl_framework.episode.recording.recorder import EpisodeRecorder
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

__all__ = ["collect_by_group"]

_WORLDS = 8
_BOOKKEEPING = ("episode", "terminal_observation", "TimeLimit.truncated")


def collect_by_group(
    multi: Agent,
    environment: Any,
    n_episodes: int,
    seed: int | None,
    deterministic: bool,
    n_environments: int | None,
    environment_kwargs: dict[str, Any] | None,
) -> dict[str, EpisodeSequence]:
    """Implements `MultiAgent.collect`, which see."""
    n_episodes = check_episode_count(n_episodes, "n_episodes")
    seed = check_seed(seed)
    seed = fresh_seed() if seed is None else seed
    if n_environments is None and can_be_made_afresh(environment) and not isinstance(environment, list):
        n_environments = min(_WORLDS, n_episodes)
    with isolated_random_state(derive_seed(seed, "construction")):
        worlds = multi.open_environments(environment, n_environments, environment_kwargs)
        assert isinstance(worlds, JointEnvironment)  # as a `MultiAgent` opens them
        try:
            multi.check_spaces(worlds, "environment")
            recorders = {name: _GroupRecorder(group) for name, group in worlds.groups.items()}
            with isolated_random_state(derive_seed(seed, "policy"), *multi.random_generator_owners()):
                environments_seed = derive_seed(seed, "environments")
                for acted in act_for_episodes(multi, worlds, n_episodes, environments_seed, deterministic):
                    for recorder in recorders.values():
                        recorder.add(worlds, acted)
        finally:
            worlds.close()
    return {
        name: EpisodeSequence.from_episodes(
            recorder.episodes, recorder.group.single_observation_space, recorder.group.single_action_space
        )
        for name, recorder in recorders.items()
    }


class _GroupRecorder:
    """Keeps what the agents of one group do."""

    def __init__(self, group: GroupSlots) -> None:
        self.group = group
        self.episodes: list[Episode] = []
        self._open: dict[int, EpisodeRecorder] = {}

    def add(self, worlds: JointEnvironment, acted: ActedStep) -> None:
        """Takes in a step; only of worlds whose episodes count."""
        group = self.group
        step = group.latest_step
        assert step is not None  # the worlds have been stepped
        counting = np.repeat(np.isin(np.arange(worlds.num_envs), acted.slots), group.slots_per_world)
        before = side_by_side(acted.observations[group.name])
        given = side_by_side(acted.actions[group.name])
        actions = given if step.actions is None else step.actions
        for slot in map(int, np.flatnonzero(step.acted & counting)):
            if slot not in self._open:
                self._open[slot] = EpisodeRecorder(group.observation_of(before, slot))
            ended = bool(step.terminated[slot] or step.truncated[slot])
            if ended:
                observation = group.copy_observation(step.final_observations[slot])
            else:
                observation = group.observation_of(step.observations, slot)
            info = {key: value for key, value in step.infos[slot].items() if key not in _BOOKKEEPING}
            self._open[slot].add(np.array(actions[slot]), float(step.rewards[slot]), observation, info)
            if ended:
                finished = self._open.pop(slot).finish(bool(step.terminated[slot]), bool(step.truncated[slot]))
                self.episodes.append(finished)
