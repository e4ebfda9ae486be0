"""Episodes that can be begun again and brought to where they were.

The state of most simulators cannot be saved, but it follows from the random generators at the start of the episode and
from the actions since. Both are only read and noted, so that an environment that is watched behaves like one that is
not. Whether a replayed episode is the same one is told by everything that it showed, not by its last observation alone:
checksums of all observations and rewards are compared, and the generators at its end.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_framework.environment.batched.step_metrics import numbers_of

__all__ = ["OpenEpisode", "ReplayableEnvironment", "Replayed"]

_WATCHED_STEPS = 20
"""Steps after which an environment is not watched any more for draws from global generators."""


@dataclass(frozen=True)
class OpenEpisode:
    """An episode that has begun and not ended.

    Attributes:
        seed: What the environment's `reset` was given.
        generators: State of each generator before that reset, by owner, as data.
        actions: What was done since.
        generators_now: State of each generator now.
        checksum: Of everything that the episode has shown.
        obstacle: Why a replay cannot be trusted, even if it shows the same, or None.
        draws_from: Global generators from which the environment was seen to draw.
    """

    seed: int | None
    generators: dict[str, Any]
    actions: list[Any]
    generators_now: dict[str, Any]
    checksum: int
    obstacle: str | None = None
    draws_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replayed:
    """Where an episode is after it was replayed.

    Attributes:
        observation: The last one.
        info: The last one.
        rewards: Of each step.
        problem: Why it did not come to where it was, or None.
        step_metrics: What each step told; see `rl_framework.environment.batched.step_metrics`.
    """

    observation: Any
    info: dict[str, Any]
    rewards: list[float]
    problem: str | None = None
    step_metrics: list[dict[str, float]] = field(default_factory=list)


class ReplayableEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost layer of an environment, which notes what its open episode follows from.

    Args:
        env: The environment.
        make: Makes another one like it. With it every episode but the first begins in a new environment, which goes on
            with the generators of the last one: for simulators that remember earlier episodes, as Box2D's worlds do.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], make: Callable[[], gymnasium.Env[Any, Any]] | None = None) -> None:
        super().__init__(env)
        self._make = make
        self._seed: int | None = None
        self._generators: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._checksum = 0
        self._rewards: list[float] = []
        self._resets = 0  # of the present `env`
        self._places: list[_Place] = []
        self._obstacle: str | None = None
        self._watched_for = 0
        self._draws_from: set[str] = set()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode and notes the random states from which it starts."""
        generators = self._states()
        if self._make is not None and self._resets:
            self._renew(self._make, generators)
        self._seed, self._generators, self._actions, self._rewards = seed, generators, [], []
        before, world = self._globals(), _box2d_world(self.env)
        observation, info = self.env.reset(seed=seed, options=options)
        self._compare_globals(before)
        self._obstacle = None
        if options:
            self._obstacle = "its reset was given options"
        elif self._resets and world is not None and world is _box2d_world(self.env):
            # What it remembers shows only later, so that no comparison of the past can find it.
            self._obstacle = "its Box2D world survives a reset, and remembers the episodes before"
        else:
            self._obstacle = _hidden_beginning(self.env, seed)
        self._resets += 1
        self._checksum = _add_to_checksum(0, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Notes the action and takes it."""
        self._actions.append(np.array(action) if isinstance(action, np.ndarray) else action)
        if self._watched_for <= _WATCHED_STEPS:
            before = _global_states()
            observation, reward, terminated, truncated, info = self.env.step(action)
            self._compare_globals(before)
        else:
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._checksum = _add_to_checksum(self._checksum, observation)
        self._rewards.append(float(reward))
        return observation, reward, terminated, truncated, info

    def open_episode(self) -> OpenEpisode:
        """Returns what the open episode follows from."""
        return OpenEpisode(
            self._seed,
            _plain(self._generators),
            list(self._actions),
            _plain(self._states()),
            _add_to_checksum(self._checksum, np.array(self._rewards)),
            self._obstacle,
            tuple(sorted(self._draws_from)),
        )

    def replay_episode(self, episode: OpenEpisode) -> Replayed:
        """Begins the episode again and brings it to where it was."""
        replayed = self._replay(episode)
        if replayed.problem is not None and episode.obstacle is None:
            # Some environments do at their first reset what they do at no other.
            replayed = self._replay(episode)
        return replayed

    def _replay(self, episode: OpenEpisode) -> Replayed:
        _write(_places(self.env), episode.generators)
        observation, info = self.reset(seed=episode.seed)
        rewards = self._rewards
        told: list[dict[str, float]] = []
        for count, action in enumerate(episode.actions, start=1):
            observation, _, terminated, truncated, info = self.step(action)
            told.append(numbers_of(info))
            if terminated or truncated:
                problem = f"the episode ended at step {count} of {len(episode.actions)}"
                return Replayed(observation, info, list(rewards), problem)
        obstacle = episode.obstacle or self._obstacle
        if obstacle is not None:
            return Replayed(observation, info, list(rewards), obstacle)
        now = self.open_episode()
        if now.checksum != episode.checksum:
            return Replayed(observation, info, list(rewards), "it did not show the same")
        if now.generators_now != episode.generators_now:
            return Replayed(observation, info, list(rewards), "it drew other random numbers")
        return Replayed(observation, info, list(rewards), step_metrics=told)

    def _states(self) -> dict[str, Any]:
        # The first reset makes some of them.
        if self._resets < 3:
            self._places = _places(self.env)
        return _read(self._places)

    def _renew(self, make: Callable[[], gymnasium.Env[Any, Any]], generators: dict[str, Any]) -> None:
        old = self.env
        self.env = make()
        _write(_places(self.env), generators)
        if old is not self.env:  # a factory may return one object every time
            self._resets = 0
            old.close()

    def _globals(self) -> dict[str, Any] | None:
        return _global_states() if self._watched_for <= _WATCHED_STEPS else None

    def _compare_globals(self, before: dict[str, Any] | None) -> None:
        if before is None:
            return
        self._watched_for += 1
        now = _global_states()
        self._draws_from.update(name for name, state in before.items() if state != now.get(name))


def _global_states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate(), "np.random": _plain(np.random.get_state(legacy=False))}
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


def _box2d_world(env: gymnasium.Env[Any, Any]) -> Any:
    world = getattr(env.unwrapped, "world", None)
    return world if type(world).__module__.partition(".")[0] == "Box2D" else None


def _hidden_beginning(env: gymnasium.Env[Any, Any], seed: int | None) -> str | None:
    """Returns what an episode follows from besides what can be read, or None."""
    layer = env
    while isinstance(layer, gymnasium.Wrapper):
        told = vars(layer).get("replay_obstacle")  # what a wrapper itself knows
        if isinstance(told, str):
            return told
        layer = layer.env
    emulator = getattr(layer, "ale", None)
    if seed is None and emulator is not None and emulator.getFloat("repeat_action_probability") > 0:
        return "its emulator repeats actions by a generator that cannot be read (the wrapper sticky_actions has one)"
    return None


_Place = tuple[str, Any, str]
"""Name, owner, and the attribute of the owner that holds a generator, which a reset may replace."""


def _places(env: gymnasium.Env[Any, Any]) -> list[_Place]:
    """Finds the generators of an environment: its own, those of its spaces, and those that its layers hold."""
    found: list[_Place] = []
    layer: Any = env
    depth = 0
    while isinstance(layer, gymnasium.Wrapper):
        found += _places_in(f"wrapper {depth}", layer)
        layer, depth = layer.env, depth + 1
    found.append(("environment", layer, "np_random"))
    # Some environments sample from their spaces, which a seeded reset leaves alone.
    found += _places_in("environment", layer)
    return found


def _places_in(prefix: str, owner: Any) -> Iterator[_Place]:
    for name, value in sorted(vars(owner).items()):
        if isinstance(value, np.random.Generator | np.random.RandomState | random.Random) and name != "_np_random":
            yield f"{prefix}.{name}", owner, name
        elif isinstance(value, spaces.Space):
            yield from _places_in_space(f"{prefix}.{name}", value)


def _places_in_space(name: str, space: spaces.Space[Any]) -> Iterator[_Place]:
    yield name, space, "np_random"
    parts = getattr(space, "spaces", None)
    if parts is not None:
        for key, part in parts.items() if isinstance(parts, Mapping) else enumerate(parts):
            yield from _places_in_space(f"{name}.{key}", part)


def _read(places: list[_Place]) -> dict[str, Any]:
    return {name: _state_of(getattr(owner, attribute, None)) for name, owner, attribute in places}


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.getstate() if isinstance(generator, random.Random) else None


def _write(places: list[_Place], states: Mapping[str, Any]) -> None:
    for name, owner, attribute in places:
        # One that is made by the reset alone is not there yet, and follows from the reset.
        state, generator = states.get(name), getattr(owner, attribute, None)
        if state is None or generator is None:
            continue
        if isinstance(generator, random.Random):
            version, words, gauss = state
            generator.setstate((version, tuple(words), gauss))
            continue
        inner = state["state"]
        if "pos" in inner and not 0 <= inner["pos"] <= 624:
            raise ValueError(f"the generator {name} stands at {inner['pos']}")  # NumPy would read beyond its memory
        if isinstance(generator, np.random.RandomState):
            generator.set_state(_arrays(state))
        else:
            generator.bit_generator.state = _arrays(state)


def _plain(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, tuple):
        return [_plain(part) for part in state]
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _arrays(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: _arrays(value) for key, value in state.items()}
    return np.array(state, dtype=np.uint64) if isinstance(state, list) else state


def _add_to_checksum(checksum: int, value: Any) -> int:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            checksum = _add_to_checksum(checksum, value[key])
        return checksum
    if isinstance(value, tuple | list):
        for part in value:
            checksum = _add_to_checksum(checksum, part)
        return checksum
    array = np.asarray(value)
    return checksum if array.dtype == object else zlib.crc32(array.tobytes(), checksum)
