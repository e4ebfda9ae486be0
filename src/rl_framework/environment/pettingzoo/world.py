"""An environment of PettingZoo as slots that agents enter and leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.environment.batched.batch import SlotStep
from rl_framework.environment.pettingzoo.moments import Moment, Outcome, moments_of
from rl_framework.environment.pettingzoo.seats import ChangingAgents, Seats, has_mask
from rl_framework.environment.world.groups import AGENT_KEY, TEAM_KEY
from rl_framework.errors import RLFrameworkError, require_extra

__all__ = ["PettingZooWorld"]


class PettingZooWorld:
    """Steps an environment of PettingZoo for the slots of its groups, and begins its next episode by itself.

    An agent whose episode has ended leaves its slot empty until the world begins anew. In environments in which agents
    take turns, whoever waits is pending: it is told what came of its action, with the rewards since, when it is asked
    again or its episode ends.

    Args:
        source: A `ParallelEnv`, an `AECEnv` or `ChangingAgents`.
        names: See `Seats`.

    Attributes:
        environment: PettingZoo's environment.
        groups: The groups by name.
        episode_over: Whether the last step ended an episode of the world.
    """

    def __init__(self, source: Any, names: Mapping[str, Sequence[str] | None]) -> None:
        require_extra("pettingzoo", "environments of PettingZoo", "pettingzoo")
        environment = source.environment if isinstance(source, ChangingAgents) else source
        self.environment = environment
        self._moments = moments_of(environment)
        self._seats = Seats(environment, names, source.max_agents if isinstance(source, ChangingAgents) else None)
        self.groups = self._seats.groups
        self.episode_over = False
        self._nobody = {name: _placeholder(group.observation_space) for name, group in self.groups.items()}
        # What everybody who is asked or waits has seen last.
        self._seen: dict[Any, Any] = {}
        self._asked: list[Any] = []
        self._team_return, self._team_length = 0.0, 0

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        """Starts an episode of the world; see `GroupedWorld.reset_groups`."""
        moment = self._begin(seed, options)
        observations = {name: [self._nobody[name]] * group.n_slots for name, group in self.groups.items()}
        infos: dict[str, list[dict[str, Any]]] = {
            name: [{} for _ in range(group.n_slots)] for name, group in self.groups.items()
        }
        present = {name: np.zeros(group.n_slots, dtype=np.bool_) for name, group in self.groups.items()}
        for agent, (observation, info) in moment.asked.items():
            name, slot = self._seats.seat(agent)
            self._seen[agent] = observation
            observations[name][slot], infos[name][slot] = self._split(agent, observation, info)
            present[name][slot] = True
        return {name: (observations[name], infos[name], present[name]) for name in self.groups}

    def step(self, actions: Mapping[str, Sequence[Any]]) -> dict[str, SlotStep]:
        """Advances the world; see `GroupedWorld.step_groups`."""
        chosen = {}
        for agent in self._asked:
            name, slot = self._seats.seat(agent)
            chosen[agent] = _as_action(actions[name][slot], self.groups[name].action_space)
        moment = self._moments.step(chosen)
        self._team_return += moment.paid
        self._team_length += 1
        steps = {name: _empty_step(self._nobody[name], group.n_slots) for name, group in self.groups.items()}
        for agent, outcome in moment.told.items():
            self._tell(steps, agent, outcome)
        self.episode_over = not moment.asked
        if self.episode_over:
            self._tell_cut(steps, moment)
            self._tell_team(steps)
            moment = self._begin(None, None)
        self._ask(steps, moment)
        self._let_wait(steps, moment)
        return steps

    def _begin(self, seed: int | None, options: dict[str, Any] | None) -> Moment:
        self._seats.begin()
        self._seen = {}
        self._team_return, self._team_length = 0.0, 0
        moment = self._moments.reset(seed, options)
        if not moment.asked:
            raise RLFrameworkError(f"{self.environment} has no agents after its reset")
        self._asked = list(moment.asked)
        return moment

    def _tell(self, steps: dict[str, SlotStep], agent: Any, outcome: Outcome) -> None:
        name, slot = self._seats.seat(agent)
        step = steps[name]
        observation, info = self._split(agent, outcome.observation, outcome.info)
        step.acted[slot] = True
        step.rewards[slot] = outcome.reward
        step.terminated[slot], step.truncated[slot] = outcome.terminated, outcome.truncated
        step.infos[slot] = info
        if outcome.terminated or outcome.truncated:
            info[AGENT_KEY] = str(agent)
            step.final_observations[slot] = observation
            self._seen.pop(agent, None)
            self._seats.leave(agent)

    def _tell_cut(self, steps: dict[str, SlotStep], moment: Moment) -> None:
        """Ends the episodes of agents that an ended world has said nothing about."""
        for agent in [agent for agent in self._seen if agent not in moment.told]:
            self._tell(steps, agent, Outcome(0.0, False, True, self._seen[agent], {}))

    def _tell_team(self, steps: dict[str, SlotStep]) -> None:
        for step in steps.values():
            for slot in map(int, np.flatnonzero(step.acted)):
                step.infos[slot][TEAM_KEY] = {"r": self._team_return, "l": self._team_length}
                return

    def _ask(self, steps: dict[str, SlotStep], moment: Moment) -> None:
        self._asked = list(moment.asked)
        for agent, (seen, told) in moment.asked.items():
            name, slot = self._seats.seat(agent)
            step = steps[name]
            observation, info = self._split(agent, seen, told)
            self._seen[agent] = seen
            step.observations[slot] = observation
            step.present[slot] = True
            if slot in step.final_observations:
                step.reset_infos[slot] = info
            elif not step.acted[slot]:
                step.infos[slot] = info

    def _let_wait(self, steps: dict[str, SlotStep], moment: Moment) -> None:
        for agent in [agent for agent in self._seen if agent not in moment.asked]:
            name, slot = self._seats.seat(agent)
            step = steps[name]
            if agent not in moment.alive:
                if slot not in step.final_observations:  # it left without a word
                    self._tell(steps, agent, Outcome(0.0, False, True, self._seen[agent], {}))
                continue
            step.observations[slot] = self._split(agent, self._seen[agent], {})[0]
            assert step.pending is not None  # as made by `_empty_step`
            step.pending[slot] = True

    def _split(self, agent: Any, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Moves the mask of the actions from the observation to the info."""
        if not has_mask(self.environment.observation_space(agent)):
            return observation, dict(info)
        return observation["observation"], {**info, "action_mask": np.array(observation["action_mask"])}


def _empty_step(nobody: Any, count: int) -> SlotStep:
    return SlotStep(
        observations=[nobody] * count,
        rewards=np.zeros(count),
        terminated=np.zeros(count, dtype=np.bool_),
        truncated=np.zeros(count, dtype=np.bool_),
        infos=[{} for _ in range(count)],
        acted=np.zeros(count, dtype=np.bool_),
        present=np.zeros(count, dtype=np.bool_),
        pending=np.zeros(count, dtype=np.bool_),
    )


def _as_action(action: Any, space: gymnasium.Space[Any]) -> Any:
    return int(action) if isinstance(space, spaces.Discrete) else action


def _placeholder(space: gymnasium.Space[Any]) -> Any:
    """Returns a member of a space, always the same one."""
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, dtype=space.dtype), space.low, space.high)
    if isinstance(space, spaces.Dict):
        return {key: _placeholder(part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return int(space.start)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return np.zeros(space.shape, dtype=space.dtype) + getattr(space, "start", 0)
    state = space.np_random.bit_generator.state
    try:
        return space.sample()
    finally:
        space.np_random.bit_generator.state = state
