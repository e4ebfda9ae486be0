"""Which agent of a PettingZoo environment is in which slot of which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium import spaces

from rl_framework.environment.world.groups import Group, group_of
from rl_framework.errors import ArgumentError, SpaceMismatchError, UnknownNameError

__all__ = ["ChangingAgents", "Seats", "has_mask", "visible_space"]


@dataclass(frozen=True)
class ChangingAgents:
    """An environment of PettingZoo whose agents are not known beforehand (it has no `possible_agents`).

    Give it, or a factory that returns it, wherever environments are taken. The environment is reset once when it is
    opened, to see the spaces of its agents.

    Attributes:
        environment: A `ParallelEnv` or `AECEnv`.
        max_agents: How many agents there are at most at a time; of each group, where there are several.
    """

    environment: Any
    max_agents: int

    def __post_init__(self) -> None:
        number = self.max_agents
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ArgumentError("max_agents", number, "must be an integer of at least 1")


class Seats:
    """The slots of all groups.

    Args:
        environment: A `ParallelEnv` or `AECEnv`.
        names: The groups and the names of their agents; None: found by the name of the group. An empty mapping: one
            group of all agents, named "".
        max_agents: Slots of each group, for agents that are not known beforehand.
    """

    def __init__(
        self, environment: Any, names: Mapping[str, Sequence[str] | None], max_agents: int | None = None
    ) -> None:
        self._environment = environment
        self._names = dict(names) or {"": None}
        self._all_in_one = not names
        known = list(getattr(environment, "possible_agents", None) or ())
        self._fixed = bool(known) and max_agents is None
        if not known and max_agents is None:
            raise ArgumentError(
                "environment",
                environment,
                "its agents are not known beforehand (it has no possible_agents)",
                "Say how many there are at most: ChangingAgents(environment, max_agents=8).",
            )
        if not known:
            environment.reset(seed=0)
            known = list(environment.agents)
        members = self._members(known)
        self._seats: dict[Any, tuple[str, int]] = {}
        self.groups: dict[str, Group] = {}
        for name, agents in members.items():
            observation_space, action_space = self._spaces(name, agents)
            count = len(agents) if self._fixed else max_agents or 0
            shown = tuple(map(str, agents)) if self._fixed else ()
            self.groups[name] = Group(count, observation_space, action_space, shown)
            if self._fixed:
                self._seats |= {agent: (name, slot) for slot, agent in enumerate(agents)}

    def _members(self, agents: Sequence[Any]) -> dict[str, list[Any]]:
        members: dict[str, list[Any]] = {name: [] for name in self._names}
        for agent in agents:
            members[self._group_name(agent)].append(agent)
        empty = [name for name, found in members.items() if not found]
        if empty:
            raise ArgumentError(
                "groups",
                self._names,
                f"no agent is in the group {empty[0]!r}; the agents are {list(map(str, agents))}",
                'Name them: agents={"' + empty[0] + '": [...]}.',
            )
        for name, listed in self._names.items():
            for agent in listed or ():
                if self._fixed and agent not in map(str, agents):
                    raise UnknownNameError(f"agents[{name!r}]", agent, map(str, agents))
        return members

    def _group_name(self, agent: Any) -> str:
        if self._all_in_one:
            return ""
        name = str(agent)
        listing = [group for group, listed in self._names.items() if listed is not None and name in listed]
        found = listing or [
            group for group, listed in self._names.items() if listed is None and group in (name, group_of(name))
        ]
        if len(found) != 1:
            problem = f"is in the groups {found}" if found else f"is in none of the groups {list(self._names)}"
            raise ArgumentError(
                "groups",
                self._names,
                f"the agent {name!r} {problem}",
                'A group has the agents that are named like it ("prey" has "prey_0", "prey_1"), or those that '
                'agents={"prey": ["prey_0", "prey_1"]} lists.',
            )
        return found[0]

    def _spaces(self, name: str, agents: Sequence[Any]) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        environment = self._environment
        kinds: list[tuple[Any, list[str]]] = []
        for agent in agents:
            of_agent = (environment.observation_space(agent), environment.action_space(agent))
            alike = next((members for known, members in kinds if known == of_agent), None)
            if alike is None:
                kinds.append((of_agent, [str(agent)]))
            else:
                alike.append(str(agent))
        if len(kinds) > 1:
            listing = "; ".join(
                f"{', '.join(members)}: {observation} and {action}" for (observation, action), members in kinds
            )
            where = f"the agents of the group {name!r}" if name else "its agents"
            raise SpaceMismatchError(
                "groups" if name else "environment",
                environment,
                f"{where} have different observation or action spaces ({listing})",
                "One policy cannot be all of them: train one for each kind with "
                f"MultiAgent(groups={{{', '.join(f'{group_of(members[0])!r}: ...' for _, members in kinds)}}}).",
            )
        ((observation_space, action_space), _) = kinds[0]
        return visible_space(observation_space), action_space

    def begin(self) -> None:
        """Empties the slots of agents that were not known beforehand, for a new episode of the world."""
        if not self._fixed:
            self._seats = {}

    def seat(self, agent: Any) -> tuple[str, int]:
        """Returns group and slot of an agent; gives it a free one if it has none.

        Raises:
            ArgumentError: There is no free slot.
            SpaceMismatchError: It has other spaces than the others in its group.
        """
        if agent in self._seats:
            return self._seats[agent]
        if self._fixed:
            raise ArgumentError(
                "environment", self._environment, f"the agent {agent!r} appeared, which is not in possible_agents"
            )
        name = self._group_name(agent)
        group = self.groups[name]
        observation_space, action_space = self._spaces(name, [agent])
        if (observation_space, action_space) != (group.observation_space, group.action_space):
            raise SpaceMismatchError(
                "environment",
                self._environment,
                f"the agent {agent!r} appeared with {observation_space} and {action_space}, and others have "
                f"{group.observation_space} and {group.action_space}",
                "Train one policy for each kind with MultiAgent(groups={...}).",
            )
        taken = {slot for of_group, slot in self._seats.values() if of_group == name}
        free = next((slot for slot in range(group.n_slots) if slot not in taken), None)
        if free is None:
            raise ArgumentError(
                "max_agents", group.n_slots, f"there are more agents at a time: {agent!r} has no slot", "Raise it."
            )
        self._seats[agent] = (name, free)
        return self._seats[agent]

    def leave(self, agent: Any) -> None:
        """Frees the slot of an agent that was not known beforehand."""
        if not self._fixed:
            self._seats.pop(agent, None)


def has_mask(space: gymnasium.Space[Any]) -> bool:
    """Tells whether observations are what PettingZoo's games give: `{"observation": ..., "action_mask": ...}`."""
    return isinstance(space, spaces.Dict) and set(space.spaces) == {"observation", "action_mask"}


def visible_space(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """Returns the space of what an agent sees, without the mask of its actions."""
    return space.spaces["observation"] if has_mask(space) else space  # type: ignore[attr-defined]
