"""One way to step PettingZoo's two kinds of environments: who is asked now, and what came of earlier decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_framework.errors import EnvironmentSourceError, RLFrameworkError

__all__ = ["Moments", "Outcome", "Turns", "moments_of"]

Agent = Any
"""PettingZoo's name of an agent: mostly a str."""


@dataclass
class Outcome:
    """What came of an agent's action.

    Attributes:
        reward: Sum of what the agent got since it acted.
        terminated: Whether its episode ended by the task's own rule.
        truncated: Whether its episode was cut.
        observation: What it sees now, or saw last.
        info: Its info.
    """

    reward: float
    terminated: bool
    truncated: bool
    observation: Any
    info: dict[str, Any]


@dataclass
class Moment:
    """Where the world stands after a reset or a step.

    Attributes:
        asked: Observation and info of every agent that decides next.
        told: What came of the actions of agents that are asked again or whose episode has ended.
        alive: Agents whose episode goes on.
        paid: Sum of the rewards of this step over all agents.
    """

    asked: dict[Agent, tuple[Any, dict[str, Any]]]
    alive: set[Agent]
    told: dict[Agent, Outcome] = field(default_factory=dict)
    paid: float = 0.0


class Moments(ABC):
    """A world of PettingZoo, moment by moment."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment

    @abstractmethod
    def reset(self, seed: int | None, options: dict[str, Any] | None) -> Moment:
        """Starts an episode of the world."""

    @abstractmethod
    def step(self, actions: Mapping[Agent, Any]) -> Moment:
        """Advances the world by one decision of everybody who was asked."""


class Together(Moments):
    """A `ParallelEnv`: everybody alive is asked in every step."""

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> Moment:
        """Starts an episode of the world."""
        observations, infos = self.environment.reset(seed=seed, options=options)
        self._observations = observations
        return Moment(self._asked(observations, infos), set(self.environment.agents))

    def step(self, actions: Mapping[Agent, Any]) -> Moment:
        """Advances the world by one decision of everybody alive."""
        before = self._observations
        observations, rewards, terminated, truncated, infos = self.environment.step(dict(actions))
        alive = set(self.environment.agents)
        told = {}
        for agent in actions:
            ended = bool(terminated.get(agent, False))
            # Whoever leaves without a word has not reached the end of its task.
            cut = bool(truncated.get(agent, False)) or (agent not in alive and not ended)
            # Some environments do not say what an agent saw last.
            observation = observations.get(agent, before[agent])
            info = dict(infos.get(agent, {}))
            told[agent] = Outcome(float(rewards.get(agent, 0.0)), ended, cut, observation, info)
        alive -= {agent for agent, outcome in told.items() if outcome.terminated or outcome.truncated}
        self._observations = observations
        asked = {agent: where for agent, where in self._asked(observations, infos).items() if agent in alive}
        return Moment(asked, alive, told, float(sum(rewards.values())))

    def _asked(self, observations: Mapping[Agent, Any], infos: Mapping[Agent, Any]) -> dict[Agent, Any]:
        missing = [agent for agent in self.environment.agents if agent not in observations]
        if missing:
            raise RLFrameworkError(f"the environment gave no observation for its agents {missing}")
        return {agent: (observations[agent], dict(infos.get(agent, {}))) for agent in self.environment.agents}


class Turns(Moments):
    """An `AECEnv`: one agent is asked in every step, and told what came of it when it is asked again or ends."""

    def reset(self, seed: int | None, options: dict[str, Any] | None) -> Moment:
        """Starts an episode of the world."""
        self.environment.reset(seed=seed, options=options)
        # What an agent earns before its first turn belongs to its first decision.
        self._earned: dict[Agent, float] = {}
        self._waiting: set[Agent] = set()
        told = self._dead()
        return Moment(self._asked(), self._alive(), told)

    def step(self, actions: Mapping[Agent, Any]) -> Moment:
        """Advances the world by the decision of the agent whose turn it is."""
        agent = self.environment.agent_selection
        self.environment.step(actions[agent])
        self._waiting.add(agent)
        paid = self._earn()
        told = self._dead()
        asked = self._asked()
        for chosen, (observation, info) in asked.items():
            if chosen in self._waiting:
                self._waiting.discard(chosen)
                told[chosen] = Outcome(self._earned.pop(chosen, 0.0), False, False, observation, info)
        return Moment(asked, self._alive(), told, paid)

    def _earn(self) -> float:
        rewards = {agent: float(reward) for agent, reward in self.environment.rewards.items()}
        for agent, reward in rewards.items():
            self._earned[agent] = self._earned.get(agent, 0.0) + reward
        return sum(rewards.values())

    def _dead(self) -> dict[Agent, Outcome]:
        """Lets the dead take the steps that PettingZoo asks of them, and tells what they have seen."""
        environment, told = self.environment, {}
        while environment.agents:
            agent = environment.agent_selection
            terminated, truncated = bool(environment.terminations[agent]), bool(environment.truncations[agent])
            if not terminated and not truncated:
                break
            if agent in self._waiting:
                self._waiting.discard(agent)
                observation, info = environment.observe(agent), dict(environment.infos[agent])
                told[agent] = Outcome(self._earned.pop(agent, 0.0), terminated, truncated, observation, info)
            environment.step(None)
        return told

    def _alive(self) -> set[Agent]:
        environment = self.environment
        return {
            agent
            for agent in environment.agents
            if not environment.terminations[agent] and not environment.truncations[agent]
        }

    def _asked(self) -> dict[Agent, Any]:
        environment = self.environment
        if not environment.agents:
            return {}
        agent = environment.agent_selection
        return {agent: (environment.observe(agent), dict(environment.infos[agent]))}


def moments_of(environment: Any) -> Moments:
    """Returns the way to step an environment.

    Raises:
        EnvironmentSourceError: It is none of PettingZoo's.
    """
    from pettingzoo import AECEnv, ParallelEnv

    if isinstance(environment, ParallelEnv):
        return Together(environment)
    if isinstance(environment, AECEnv):
        return Turns(environment)
    raise EnvironmentSourceError("environment", environment, "is no environment of PettingZoo")
