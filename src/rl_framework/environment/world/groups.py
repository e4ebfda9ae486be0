"""Worlds in which several groups of agents act, each group with spaces of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium

from rl_framework.environment.batched.batch import SlotStep

__all__ = ["AGENT_KEY", "TEAM_KEY", "Group", "GroupedWorld", "group_of"]

AGENT_KEY = "agent_name"
"""Entry of the last info of an agent's episode: the agent's name, where the world names its agents."""

TEAM_KEY = "team_episode"
"""Entry of an info with which an episode of the whole world ended: `{"r": sum over all agents, "l": steps}`."""


@dataclass(frozen=True)
class Group:
    """Agents that are alike.

    Attributes:
        n_slots: How many of them at most.
        observation_space: Space of one observation of one of them.
        action_space: Space of one action of one of them.
        agents: Name of the agent in each slot; empty where slots have no names.
    """

    n_slots: int
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    agents: tuple[str, ...] = ()


@runtime_checkable
class GroupedWorld(Protocol):
    """What an environment adapter offers besides, so that several agents can be trained in its world at once.

    Attributes:
        groups: The groups by name; set by `setup_groups`.
        metadata: As in gymnasium.
        render_mode: As in gymnasium.
        episode_over: Whether, with the last step, an episode of the whole world ended and the next one began. Worlds
            whose agents begin and end one by one leave it False.
    """

    groups: Mapping[str, Group]
    metadata: ClassVar[dict[str, Any]]
    render_mode: str | None
    episode_over: bool

    def setup_groups(self, source: Any, names: Mapping[str, Sequence[str] | None], **environment_kwargs: Any) -> None:
        """Connects to the simulator and sets `groups`.

        Args:
            source: What the user gave; see `EnvironmentAdapter.setup`.
            names: The groups that are wanted, and the names of their agents; None: found by the name of the group.
            environment_kwargs: What the user gave as `environment_kwargs`.

        Raises:
            ArgumentError: An agent of the world is in no group or in two, or a group has no agent.
            SpaceMismatchError: The agents of a group differ in their spaces.
        """

    def reset_groups(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Starts the world.

        Returns:
            For each group what `MultiSlotAdapter.reset` returns: observations, infos and who is there.
        """

    def step_groups(self, actions: Mapping[str, list[Any]]) -> dict[str, SlotStep]:
        """Advances the world by one decision of everybody present.

        Args:
            actions: For each group a list of `n_slots` actions; None where nobody is asked.

        Returns:
            For each group what `MultiSlotAdapter.step` returns.
        """

    def render(self) -> Any:
        """Returns a frame in the form that `render_mode` names."""

    def close(self) -> None:
        """Frees what was taken."""


def group_of(agent: str) -> str:
    """Returns the name of the group that an agent's name speaks of: "prey" for "prey_12"."""
    stem, _, number = agent.rpartition("_")
    return stem if stem and number.isdigit() else agent
