"""Small worlds of several agents, in PettingZoo's form, whose every transition is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.agent_selector import AgentSelector


class _KeepsSpaces:
    """Returns the same space every time, as PettingZoo wants it."""

    def observation_space(self, agent: str) -> Any:
        kept: dict[Any, Any] = vars(self).setdefault("kept", {})
        return kept.setdefault(("seen", agent), self.space_seen(agent))  # type: ignore[attr-defined]

    def action_space(self, agent: str) -> Any:
        kept: dict[Any, Any] = vars(self).setdefault("kept", {})
        return kept.setdefault(("done", agent), self.space_done(agent))  # type: ignore[attr-defined]


class Mortals(_KeepsSpaces, ParallelEnv[str, Any, int]):
    """Agent `i` lives `lives[i]` steps; with "quiet", the last one to leave is removed without a word.

    An observation is `(agent, episode, t)`; a reward is `100 * agent + t`.

    Attributes:
        happened: `(agent, episode, t)` of every observation that was acted on.
    """

    metadata = {"name": "mortals", "render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012

    def __init__(self, lives: tuple[int, ...] = (2, 3, 5), quiet: bool = False, render_mode: str | None = None) -> None:
        self.lives, self.quiet, self.render_mode = lives, quiet, render_mode
        self.possible_agents = [f"agent_{index}" for index in range(len(lives))]
        self.agents: list[str] = []
        self.episode, self.t, self.closed = -1, 0, 0
        self.happened: list[tuple[int, int, int]] = []
        self.seeds: list[int | None] = []

    def space_seen(self, agent: str) -> Any:
        return spaces.Box(-1, 1000, (3,), np.float32)

    def space_done(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def _observe(self, agent: str) -> Any:
        return np.array([self.possible_agents.index(agent), self.episode, self.t], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        self.agents = list(self.possible_agents)
        return {agent: self._observe(agent) for agent in self.agents}, {agent: {"t": 0} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        assert set(actions) == set(self.agents), "somebody acted who is not there, or somebody did not"
        acted, self.t = list(self.agents), self.t + 1
        numbers = {agent: self.possible_agents.index(agent) for agent in acted}
        self.happened += [(number, self.episode, self.t - 1) for number in numbers.values()]
        over = {agent: self.t == self.lives[numbers[agent]] for agent in acted}
        last = self.t == max(self.lives)
        self.agents = [agent for agent in acted if not over[agent]]
        shown = [agent for agent in acted if not (last and self.quiet)]
        return (
            {agent: self._observe(agent) for agent in shown},
            {agent: 100.0 * numbers[agent] + self.t for agent in shown},
            {agent: over[agent] and numbers[agent] % 2 == 0 for agent in shown},
            {agent: over[agent] and numbers[agent] % 2 == 1 for agent in shown},
            {agent: {"t": self.t} for agent in shown},
        )

    def render(self) -> Any:
        return np.full((8, 8, 3), 10 * self.t, np.uint8)

    def close(self) -> None:
        self.closed += 1


class Strangers(_KeepsSpaces, ParallelEnv[str, Any, int]):
    """Nobody is known beforehand: one more agent appears in every step, and each lives for two."""

    metadata = {"name": "strangers"}  # noqa: RUF012
    render_mode = None

    def __init__(self) -> None:
        self.agents: list[str] = []
        self.happened: list[tuple[str, int]] = []
        self.t = 0

    def space_seen(self, agent: str) -> Any:
        return spaces.Box(-1, 1000, (2,), np.float32)

    def space_done(self, agent: str) -> Any:
        return spaces.Discrete(2)

    def _observe(self) -> Any:
        return {agent: np.array([int(agent.split("_")[1]), self.t], np.float32) for agent in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.t, self.agents = 0, ["bird_0"]
        return self._observe(), {"bird_0": {}}

    def step(self, actions: dict[str, int]) -> Any:
        self.happened += [(agent, self.t) for agent in actions]
        self.t += 1
        old = list(self.agents)
        over = {agent: int(agent.split("_")[1]) + 2 == self.t for agent in old}
        if self.t < 6:
            self.agents.append(f"bird_{self.t}")
        observations = self._observe()
        self.agents = [agent for agent in self.agents if not over.get(agent, False)]
        if self.t == 6:
            self.agents, over = [], dict.fromkeys(old, True)
        return observations, dict.fromkeys(old, 1.0), over, dict.fromkeys(old, False), {agent: {} for agent in old}


class Bidding(_KeepsSpaces, AECEnv[str, Any, int]):
    """Three agents take turns for two rounds; the second one drops out after its first turn if it may `die`.

    Whoever acts pays everybody else 1 and gets 10 times the action itself. An observation is the history's length.
    """

    metadata = {"name": "bidding", "is_parallelizable": False}  # noqa: RUF012
    render_mode = None

    def __init__(self, die: bool = True, masks: bool = False) -> None:
        super().__init__()
        self.possible_agents = ["bidder_0", "bidder_1", "bidder_2"]
        self.die, self.masks = die, masks
        self.turns: list[tuple[str, int, int]] = []

    def space_seen(self, agent: str) -> Any:
        seen = spaces.Box(-1, 100, (2,), np.float32)
        return (
            spaces.Dict({"observation": seen, "action_mask": spaces.Box(0, 1, (3,), np.int8)}) if self.masks else seen
        )

    def space_done(self, agent: str) -> Any:
        return spaces.Discrete(3)

    def observe(self, agent: str) -> Any:
        seen = np.array([self.possible_agents.index(agent), self.t], np.float32)
        allowed = np.zeros(3, np.int8)
        allowed[self.t % 3] = 1
        return {"observation": seen, "action_mask": allowed} if self.masks else seen

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = list(self.possible_agents)
        self.t = 0
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self._selector = AgentSelector(self.agents)
        self.agent_selection = self._selector.reset()

    def step(self, action: int | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        assert action is not None
        if self.masks:
            assert action == self.t % 3, "an action that is not allowed"
        self.turns.append((agent, self.t, action))
        self._cumulative_rewards[agent] = 0
        self.rewards = {each: 10.0 * action if each == agent else 1.0 for each in self.agents}
        self._accumulate_rewards()
        self.t += 1
        if self.die and self.t == 2:
            self.terminations["bidder_1"] = True
            self._selector.reinit(["bidder_2", "bidder_0"])
        if self.t == (5 if self.die else 6):
            self.truncations = dict.fromkeys(self.agents, True)
        self.agent_selection = self._selector.next()
        self._deads_step_first()

    def close(self) -> None:
        pass


class Rendezvous(_KeepsSpaces, ParallelEnv[str, Any, int]):
    """Agents of two kinds see a number each, and all earn what they do right; the best return is known.

    Each sees the number that the other one has to say: seeing `k`, "left" is right with `k`, "right" with `1 - k`, and
    only if both are right do both earn 1. An episode has `length` steps: the best return is `length` for each.
    """

    metadata = {"name": "rendezvous", "render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, length: int = 5, alike: bool = True, render_mode: str | None = None) -> None:
        self.length, self.alike, self.render_mode = length, alike, render_mode
        self.possible_agents = ["left_0", "right_0"]
        self.agents: list[str] = []
        self.generator = np.random.default_rng()
        self.fails_at: int | None = None
        self.steps = 0

    def space_seen(self, agent: str) -> Any:
        size = 3 if self.alike or agent == "left_0" else 2
        return spaces.Box(0, 1, (size,), np.float32)

    def space_done(self, agent: str) -> Any:
        return spaces.Discrete(2 if self.alike or agent == "left_0" else 3)

    def _observe(self) -> Any:
        self.wanted = {agent: int(self.generator.integers(2)) for agent in self.agents}
        if not self.alike:
            self.wanted["right_0"] = int(self.generator.integers(2)) + 1
        seen = {}
        for agent in self.agents:
            size = self.space_seen(agent).shape[0]
            one_hot = np.zeros(size, np.float32)
            one_hot[self.wanted[agent] % 2] = 1
            if size == 3:
                one_hot[2] = float(agent == "right_0")
            seen[agent] = one_hot
        return seen

    def _right(self, agent: str) -> int:
        wanted = self.wanted[agent]
        return wanted if agent == "left_0" or not self.alike else 1 - wanted

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.generator = np.random.default_rng(seed)
        self.t, self.agents = 0, list(self.possible_agents)
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        self.steps += 1
        if self.steps == self.fails_at:
            raise ValueError("the world broke")
        right = [actions[agent] == self._right(agent) for agent in self.agents]
        reward = float(all(right))
        self.t += 1
        agents, over = list(self.agents), self.t == self.length
        observations = self._observe()
        if over:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            {agent: {} for agent in agents},
        )

    def render(self) -> Any:
        return np.full((16, 16, 3), 40 * self.t, np.uint8)
