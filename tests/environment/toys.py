"""Small environments and simulators whose every transition is known beforehand."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.environment import EnvironmentAdapter, MultiSlotAdapter, SlotStep

POISON = -1000.0
"""What stands in the rows of slots that hold nobody."""


class Counter(gymnasium.Env[Any, Any]):
    """Observes `(number, episode, t)` and pays `t`.

    Args:
        number: What distinguishes it from others.
        lengths: Lengths of its episodes, in turn.
        truncates: Whether episodes are truncated instead of terminated.
        reuses: Whether it writes every observation and info into the same objects, as fast simulators do.
        not_finite: By `(episode, t)`: what to return instead of the observation's last entry.
        bad_reward: The same for the reward.
        fails_at: The `(episode, t)` at which it raises.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        number: float = 0.0,
        lengths: tuple[int, ...] = (3,),
        truncates: bool = False,
        reuses: bool = False,
        not_finite: dict[tuple[int, int], float] | None = None,
        bad_reward: dict[tuple[int, int], float] | None = None,
        fails_at: tuple[int, int] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.number, self.lengths, self.truncates, self.reuses = number, lengths, truncates, reuses
        self.not_finite, self.bad_reward, self.fails_at = not_finite or {}, bad_reward or {}, fails_at
        self.render_mode = render_mode
        self.episode, self.t, self.closed, self.resets = -1, 0, 0, 0
        self.options: Any = None
        self._observation = np.zeros(3, np.float32)
        self._info: dict[str, Any] = {"nested": {"t": np.zeros(1)}}

    def _observe(self) -> Any:
        last = self.not_finite.get((self.episode, self.t), self.t)
        if not self.reuses:
            return np.array([self.number, self.episode, last], np.float32)
        self._observation[:] = self.number, self.episode, last
        return self._observation

    def _tell(self) -> dict[str, Any]:
        if not self.reuses:
            return {"t": self.t, "where": f"{self.episode}/{self.t}"}
        self._info["t"] = self.t
        self._info["nested"]["t"][0] = self.t
        return self._info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t, self.resets = self.episode + 1, 0, self.resets + 1
        self.options = options
        return self._observe(), self._tell()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.t < self._length, "stepped after the end of an episode"
        self.t += 1
        if (self.episode, self.t) == self.fails_at:
            raise ValueError("the toy broke")
        ends = self.t == self._length
        reward = self.bad_reward.get((self.episode, self.t), float(self.t))
        return self._observe(), reward, ends and not self.truncates, ends and self.truncates, self._tell()

    @property
    def _length(self) -> int:
        return self.lengths[self.episode % len(self.lengths)]

    def render(self) -> Any:
        return np.full((4, 6, 3), int(self.number), np.uint8)

    def close(self) -> None:
        self.closed += 1

    def add(self, one: int, other: int = 0) -> float:
        return self.number + one + other

    def potential(self) -> float:
        return 0.5


class DictWorld(gymnasium.Env[Any, Any]):
    """Draws observations of several kinds from its generator; ends at random."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (4, 4, 1), np.uint8),
                "position": spaces.Box(-1, 1, (2,), np.float32),
                "mode": spaces.Discrete(3),
            }
        )
        self.action_space = spaces.MultiDiscrete([2, 3])

    def _observe(self) -> dict[str, Any]:
        return {
            "image": self.np_random.integers(0, 256, (4, 4, 1), dtype=np.uint8),
            "position": self.np_random.uniform(-1, 1, 2).astype(np.float32),
            "mode": int(self.np_random.integers(3)),
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {"started": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        draw = self.np_random.random()
        info = {"draw": draw, "both": draw < 0.05, "action": [int(part) for part in action]}
        return self._observe(), draw, draw < 0.15, draw < 0.05 or draw > 0.85, info


class ImageWorld(gymnasium.Env[Any, Any]):
    """Observes noise of the size of a small picture."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample() * 0 + self.np_random.integers(256, dtype=np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        image = self.np_random.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        return image, float(action.sum()) / 3, False, bool(self.np_random.random() < 0.2), {}


class Simulator:
    """What a user may have: no gymnasium, other units, other names."""

    def __init__(self, length: int = 3, offset: float = 0.0) -> None:
        self.length, self.offset = length, offset
        self.tick, self.closed = 0, 0
        self.orders: list[str] = []
        self.seeds: list[int | None] = []

    def shut_down(self) -> None:
        self.closed += 1


class SimulatorAdapter(EnvironmentAdapter):
    """Translates between orders and actions, and from centimetres to metres."""

    made: list[SimulatorAdapter] = []  # noqa: RUF012

    @classmethod
    def accepts(cls, source: object) -> bool:
        return isinstance(source, Simulator)

    def setup(self, source: Any, length: int = 3, offset: float = 0.0) -> None:
        self.simulator = source if isinstance(source, Simulator) else Simulator(length, offset)
        self.observation_space = spaces.Box(-10, 10, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.made.append(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.simulator.tick = 0
        self.simulator.seeds.append(seed)
        return self.simulator.offset, {"seed": seed}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.simulator.orders.append(action)
        self.simulator.tick += 1
        over = self.simulator.tick == self.simulator.length
        return self.simulator.offset + 100 * self.simulator.tick, 1.0, over, False, {}

    def get_observation(self, observation: Any) -> Any:
        return np.array([observation / 100], np.float32)

    def get_action(self, action: Any) -> str:
        return ("left", "right")[int(action)]

    def close(self) -> None:
        self.simulator.shut_down()


class Crowd:
    """A world whose agents come, go, and go without a word; it notes every transition that really happened.

    Episode `e` of slot `s` has `2 + (s + e) % 3` steps and ends, by `(s + e) % 4`: terminated with the next one at
    once, truncated with the next one at once, terminated and gone, or gone without a word. Who is gone comes back
    after `1 + e % 3` steps. An observation is `(slot, episode, t)`; a reward is `slot + t`.

    Attributes:
        transitions: `(slot, episode, t)` of the observation acted on: how the transition ended ("", "terminated",
            "truncated").
    """

    def __init__(self, n_slots: int = 3, size: int = 3) -> None:
        self.n_slots, self.size = n_slots, size
        self.transitions: dict[tuple[int, int, int], str] = {}
        self.closed = 0
        self.refused: list[Any] = []
        self._episode = [-1] * n_slots

    def observe(self, slot: int) -> Any:
        observation = np.full(self.size, POISON, np.float32)
        observation[:3] = slot, self._episode[slot], self._t[slot]
        return observation

    def nothing(self) -> Any:
        return np.full(self.size, POISON, np.float32)

    def restart(self) -> tuple[list[Any], list[bool]]:
        self._episode = [episode + 1 for episode in self._episode]
        self._t = [0] * self.n_slots
        # The last slot starts empty.
        self._gone = [0] * (self.n_slots - 1) + [2]
        present = [gone == 0 for gone in self._gone]
        return [self.observe(s) if here else self.nothing() for s, here in enumerate(present)], present

    def advance(self, actions: list[Any]) -> SlotStep:
        count = self.n_slots
        step = SlotStep(
            observations=[self.nothing() for _ in range(count)],
            rewards=np.full(count, POISON),
            terminated=np.zeros(count, np.bool_),
            truncated=np.zeros(count, np.bool_),
            infos=[{} for _ in range(count)],
            acted=np.zeros(count, np.bool_),
            present=np.zeros(count, np.bool_),
        )
        for slot, action in enumerate(actions):
            if self._gone[slot]:
                if action is not None:
                    self.refused.append(action)
                self._gone[slot] -= 1
                if not self._gone[slot]:
                    self._episode[slot] += 1
                    self._t[slot] = 0
                    step.observations[slot] = self.observe(slot)
                    step.present[slot] = True
                continue
            self._step_one(slot, step)
        return step

    def _step_one(self, slot: int, step: SlotStep) -> None:
        episode = self._episode[slot]
        transition = (slot, episode, self._t[slot])
        self._t[slot] += 1
        step.rewards[slot] = slot + self._t[slot]
        step.observations[slot] = self.observe(slot)
        step.infos[slot] = {"t": self._t[slot]}
        step.present[slot] = True
        self.transitions[transition] = ""
        if self._t[slot] < 2 + (slot + episode) % 3:
            return
        way = (slot + episode) % 4
        self.transitions[transition] = "terminated" if way in (0, 2) else "truncated"
        step.terminated[slot], step.truncated[slot] = way in (0, 2), way == 1
        if way < 3:
            step.final_observations[slot] = step.observations[slot]
        if way < 2:
            self._episode[slot], self._t[slot] = episode + 1, 0
            step.observations[slot] = self.observe(slot)
            step.reset_infos[slot] = {"began": True}
        else:
            self._gone[slot] = 1 + episode % 3
            step.present[slot] = False
            if way == 2:
                step.observations[slot] = self.nothing()


class CrowdAdapter(MultiSlotAdapter):
    """A `Crowd` behind the door."""

    @classmethod
    def accepts(cls, source: object) -> bool:
        return isinstance(source, Crowd)

    def setup(self, source: Any, n_slots: int = 3) -> None:
        self.crowd = source if isinstance(source, Crowd) else Crowd(n_slots)
        self.n_slots = self.crowd.n_slots
        self.observation_space = spaces.Box(-2000, 2000, (self.crowd.size,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        observations, present = self.crowd.restart()
        return observations, [{"seed": seed} for _ in range(self.n_slots)], np.array(present)

    def step(self, action: Any) -> SlotStep:
        return self.crowd.advance(action)

    def get_action(self, action: Any) -> Any:
        return int(action)

    def who(self, greeting: str = "") -> str:
        return greeting + str(self.n_slots)

    def close(self) -> None:
        self.crowd.closed += 1
