"""What an evaluation found of each agent, each group and the team, where several agents act in one world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rl_framework.environment.world.groups import AGENT_KEY, TEAM_KEY
from rl_framework.environment.world.joint import MEMBERS_KEY
from rl_framework.evaluation.result import EvaluationResult

__all__ = ["Members", "MultiAgentResult"]


@dataclass(frozen=True, eq=False)
class MultiAgentResult(EvaluationResult):
    """The result of an evaluation in which several agents acted in one world.

    For one policy that all agents share, the returns are those of the agents' episodes; for a `MultiAgent` they are
    those of the team. The return of the team is the sum over all agents of what an episode of the world paid.

    Attributes:
        team: The team's episodes; None where the world has no episodes of its own.
        agents: Of each agent by name, where agents have names: its episodes.
        groups: Of each group by name, where there are several: the episodes of its agents.
    """

    team: EvaluationResult | None = None
    agents: Mapping[str, EvaluationResult] = field(default_factory=dict)
    groups: Mapping[str, EvaluationResult] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain Python values that JSON can hold."""
        return {
            **super().to_dict(),
            "team": None if self.team is None else self.team.to_dict(),
            "agents": {name: result.to_dict() for name, result in self.agents.items()},
            "groups": {name: result.to_dict() for name, result in self.groups.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MultiAgentResult:
        """Builds a result from what `to_dict` gave, or from what `EvaluationResult.to_dict` gave.

        Raises:
            ArgumentError: A value is not valid.
        """
        whole, team = EvaluationResult.from_dict(values), values.get("team")
        return cls(
            **_fields(whole),
            team=None if team is None else EvaluationResult.from_dict(team),
            agents={name: EvaluationResult.from_dict(part) for name, part in values.get("agents", {}).items()},
            groups={name: EvaluationResult.from_dict(part) for name, part in values.get("groups", {}).items()},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MultiAgentResult):
            return super().__eq__(other)
        same = self.team == other.team and self.agents == other.agents and self.groups == other.groups
        return bool(same and super().__eq__(other))

    def _rows(self) -> list[tuple[str, str]]:
        parts = {"team": self.team} if self.team is not None else {}
        parts |= self.groups or self.agents
        return [*super()._rows(), *((f"mean return of {name}", f"{part.mean:.2f}") for name, part in parts.items())]


class Members:
    """Gathers what the infos of ended episodes tell of agents and teams."""

    def __init__(self) -> None:
        self._team: list[tuple[float, int]] = []
        self._agents: dict[str, list[tuple[float, int]]] = {}
        self._groups: dict[str, list[tuple[float, int]]] = {}

    def add(self, info: Mapping[str, Any]) -> None:
        """Takes the last info of an episode."""
        account = info["episode"]
        for member in info.get(MEMBERS_KEY, ()):
            self._add(self._agents, member["agent"], member)
            self._add(self._groups, member["group"], member)
        if AGENT_KEY in info:
            self._add(self._agents, info[AGENT_KEY], account)
        if MEMBERS_KEY in info or TEAM_KEY in info:
            whole = info.get(TEAM_KEY, account)
            self._team.append((float(whole["r"]), int(whole["l"])))

    def _add(self, into: dict[str, list[tuple[float, int]]], name: str, account: Mapping[str, Any]) -> None:
        into.setdefault(name, []).append((float(account["r"]), int(account["l"])))

    def added_to(self, result: EvaluationResult) -> EvaluationResult:
        """Returns the result with what was gathered, or as it is if there was nothing."""
        if not self._team and not self._agents:
            return result

        def part(accounts: list[tuple[float, int]], name: str) -> EvaluationResult:
            returns, lengths = zip(*accounts, strict=True)
            where = f"{result.environment}: {name}" if result.environment else name
            return EvaluationResult(np.array(returns), np.array(lengths), result.seed, result.deterministic, where)

        return MultiAgentResult(
            **_fields(result),
            team=part(self._team, "team") if self._team else None,
            agents={name: part(self._agents[name], name) for name in sorted(self._agents)},
            groups={name: part(accounts, name) for name, accounts in sorted(self._groups.items())},
        )


def _fields(result: EvaluationResult) -> dict[str, Any]:
    names = ("returns", "lengths", "seed", "deterministic", "environment")
    return {name: getattr(result, name) for name in names}
