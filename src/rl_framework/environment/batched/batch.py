"""The one batched form that every environment takes behind the door.

A `BatchedEnvironment` is a gymnasium `VectorEnv` in same-step autoreset mode: when the episode of a slot ends, the
observation returned for that slot already belongs to its next episode, and the last observation of the ended one is
kept apart. A slot is a place for one environment or one agent; the mask `present` says which slots hold somebody.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from rl_framework.environment.batched.step_metrics import EPISODE_METRICS_KEY, StepMetrics
from rl_framework.environment.replay import OpenEpisode, Replayed
from rl_framework.errors import ArgumentError, NonFiniteError, shorten

__all__ = ["RAW_RETURN_KEY", "BatchedEnvironment", "SlotStep", "copy_info"]

RAW_RETURN_KEY = "rl_framework.raw_return"
"""Info key under which the return before reward wrappers travels; never reaches the user."""

_ARRAY_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(slots=True)
class SlotStep:
    """What one step of all slots brought.

    Attributes:
        observations: Batched observation, leading axis `num_envs`. For a slot whose episode ended it is the first
            observation of the next episode.
        rewards: Shape `(num_envs,)`, float64.
        terminated: Shape `(num_envs,)`, bool: the episode ended by the task's own rule.
        truncated: Shape `(num_envs,)`, bool: the episode was cut, for example by a time limit.
        infos: One dictionary a slot, of the transition that was just made; the environment keeps no hold of it.
            When an episode ended it has the entry `"episode"`: `{"r": undiscounted return before reward wrappers,
            "l": length in steps, "t": seconds}`, and `"episode_metrics"` if there were any; see `step_metrics`.
        final_observations: The last observation of each episode that ended, by slot.
        reset_infos: The info that came with the reset of each slot whose episode ended.
        acted: Shape `(num_envs,)`, bool: whether somebody was in the slot to act, that is, whether this row is a
            transition. Rows where it is False must not be learned from or counted.
        present: Shape `(num_envs,)`, bool: whether somebody is in the slot now and will act next.
        pending: Shape `(num_envs,)`, bool, or None where that never happens: who has acted and will be told what came
            of it in a later step, because others decide in between. Such a row is no transition yet (`acted` and
            `present` are False) and repeats the observation that was acted on; it is one in the step in which the
            agent is asked again or its episode ends, with the reward since it acted.
        actions: Batched action that the transitions of this step were made with, where some of them were pending;
            None: the one that was given to the step.
    """

    observations: Any
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    infos: list[dict[str, Any]]
    acted: NDArray[np.bool_]
    present: NDArray[np.bool_]
    final_observations: dict[int, Any] = field(default_factory=dict)
    reset_infos: dict[int, dict[str, Any]] = field(default_factory=dict)
    pending: NDArray[np.bool_] | None = None
    actions: Any = None


class BatchedEnvironment(VectorEnv[Any, Any, Any]):
    """Base of everything behind the door.

    Subclasses implement `_reset` and `_step`; this class checks that numbers are finite, sums returns, and offers
    gymnasium's `reset` and `step` on top.

    Attributes:
        present: Shape `(num_envs,)`, bool: which slots hold somebody. All True unless `may_be_absent`.
        may_be_absent: Whether slots can ever be empty. What stores transitions needs to know.
        vectorization: How the slots are run: "sync", "subprocess", "native", "adapter" or "given".
        vectorization_reason: Why, in words.
        environment_id: The id of the environment in gymnasium's registry, if it has one.
        step_count: Steps since the last reset of all slots.
        replayable: Whether open episodes can be noted and replayed; see `open_episodes`.
        fresh_environments: Whether every episode begins in a newly made environment.
        always_tells_final_observations: Whether `final_observations` of a step names every episode that ended.
        latest_observations: Batched observation that was handed out last.
        seconds_stepping: Wall time spent inside the environments' own `step` since then.
    """

    may_be_absent: bool = False
    replayable: bool = False
    fresh_environments: bool = False
    always_tells_final_observations: bool = False
    vectorization: str = "given"
    vectorization_reason: str = "the environments came vectorized"
    environment_id: str | None = None

    def __init__(
        self, num_envs: int, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        self.num_envs = num_envs
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.metadata = {**(self.metadata or {}), "autoreset_mode": AutoresetMode.SAME_STEP}
        self.present = np.ones(num_envs, dtype=np.bool_)
        self.seconds_stepping = 0.0
        self.step_count = 0
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._step_metrics = StepMetrics(num_envs)
        self._started = time.time()
        self.latest_observations: Any = None
        self._latest_infos: tuple[list[dict[str, Any]], dict[int, dict[str, Any]]] = ([{}] * num_envs, {})
        self._float_observations = _has_floats(observation_space)

    # What a subclass implements

    @abstractmethod
    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        """Starts a new episode in every slot; sets `present` where slots can be absent."""

    @abstractmethod
    def _step(self, actions: Any) -> SlotStep:
        """Steps every slot that holds somebody and resets those whose episode ended."""

    def render_slots(self) -> list[Any]:
        """Returns one rendered frame a slot: an RGB array `(height, width, 3)`, or None where nothing is drawn."""
        return [None] * self.num_envs

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments, or reads an attribute that cannot be called.

        Args:
            name: Name of the method, looked up through wrappers.
            args: Positional arguments, the same for every slot.
            indices: Slots to ask; None: all.
            kwargs: Keyword arguments, the same for every slot.
        """
        raise AttributeError(f"{type(self).__name__} has no per-slot {name!r}")

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the environments, without calling it; arguments as in `call_slots`."""
        raise AttributeError(f"{type(self).__name__} has no per-slot {name!r}")

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns which actions are allowed now.

        Masks come from the environments' method `action_masks`, as sb3-contrib has it, or from the entry
        "action_mask" of their last infos, as gymnasium's Taxi and PettingZoo have it.

        Returns:
            Shape `(num_envs, n_actions)`, bool; everything is allowed where nobody is.

        Raises:
            AttributeError: These environments have no masks.
        """
        try:
            masks = self.call_slots("action_masks")
        except AttributeError:
            infos, reset_infos = self._latest_infos
            masks = [reset_infos.get(index, info).get("action_mask") for index, info in enumerate(infos)]
        known = next((np.asarray(mask) for mask in masks if mask is not None), None)
        if known is None:
            raise AttributeError("action_masks")
        allowed = np.ones((self.num_envs, *known.shape), dtype=np.bool_)
        for index in np.flatnonzero(self.present):
            if masks[index] is not None:
                allowed[index] = np.asarray(masks[index], dtype=np.bool_)
        return allowed

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the environments; arguments as in `call_slots`."""
        raise AttributeError(f"{type(self).__name__} has no per-slot {name!r}")

    # What everybody uses

    def reset_slots(
        self, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Starts a new episode in every slot.

        Args:
            seed: An int seeds slot `i` with `seed + i`; a sequence has one entry a slot; None leaves the random
                streams where they are.
            options: Passed to each environment's `reset`.

        Returns:
            The batched observation and one info dictionary a slot.

        Raises:
            ArgumentError: The number of seeds is not the number of slots.
            NonFiniteError: An observation holds NaN or infinity.
        """
        if seed is None:
            seeds: list[int | None] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + index for index in range(self.num_envs)]
        else:
            seeds = list(seed)
            if len(seeds) != self.num_envs:
                raise ArgumentError("seed", seed, f"{self.num_envs} slots need as many seeds", "Pass one int.")
        self.step_count = 0
        self.seconds_stepping = 0.0
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._step_metrics.clear()
        self._started = time.time()
        observations, infos = self._reset(seeds, options)
        self._latest_infos, self.latest_observations = (infos, {}), observations
        self._check_observations(observations)
        return observations, infos

    def step_slots(self, actions: Any) -> SlotStep:
        """Steps every slot.

        Args:
            actions: Batched action, leading axis `num_envs`; rows of absent slots are ignored.

        Returns:
            What the step brought; see `SlotStep`.

        Raises:
            NonFiniteError: An observation or reward is NaN or infinite.
        """
        started = time.perf_counter()
        step = self._step(actions)
        self.seconds_stepping += time.perf_counter() - started
        self.step_count += 1
        self._latest_infos, self.latest_observations = (step.infos, step.reset_infos), step.observations
        if not _all_finite(step.rewards):
            index = int(np.flatnonzero(~np.isfinite(step.rewards))[0])
            raise NonFiniteError("reward", index, self.step_count, float(step.rewards[index]))
        self._check_observations(step.observations)
        if self.may_be_absent:
            self._returns += step.rewards * step.acted
            self._lengths += step.acted
        else:
            self._returns += step.rewards
            self._lengths += 1
        self._step_metrics.add(step.infos, step.acted if self.may_be_absent else None)
        raw_returns = [info.pop(RAW_RETURN_KEY, None) for info in step.infos]
        if self.may_have_finished(step):
            finished = step.terminated | step.truncated
            for index in map(int, np.flatnonzero(finished & step.acted)):
                if self._float_observations and index in step.final_observations:
                    self._check_observation(step.final_observations[index], index)
                self._finish_episode(step.infos[index], index, raw_returns[index])
        return step

    def may_have_finished(self, step: SlotStep) -> bool:
        """Tells, cheaply, whether an episode may have ended in a step; in most steps none has."""
        if self.always_tells_final_observations:
            return bool(step.final_observations)
        return bool(step.terminated.any() or step.truncated.any())

    def open_episodes(self) -> list[OpenEpisode]:
        """Returns what the open episode of each slot follows from; only if the batch is `replayable`."""
        return list(self.call_slots("open_episode"))

    def replay_slots(self, episodes: Sequence[OpenEpisode]) -> list[Replayed]:
        """Brings every slot to where an open episode was.

        Args:
            episodes: What `open_episodes` returned, also in another process.

        Returns:
            Where each slot is now. Whether that is where it was is for the caller to compare.
        """
        replayed = [
            self.call_slots("replay_episode", episode, indices=[index])[0] for index, episode in enumerate(episodes)
        ]
        for index, slot in enumerate(replayed):
            self._returns[index] = 0.0
            for reward in slot.rewards:  # in this order, so that the sum is the same to the last bit
                self._returns[index] += reward
            self._lengths[index] = len(slot.rewards)
            self._step_metrics.replay(index, slot.step_metrics)
        self._latest_infos = ([copy_info(slot.info) for slot in replayed], {})
        self.latest_observations = self.stack([slot.observation for slot in replayed])
        return replayed

    def restart_slot(self, index: int, seed: int) -> Any:
        """Begins a new episode in one slot of a `replayable` batch.

        Returns:
            Its first observation.
        """
        observation, info = self.call_slots("reset", indices=[index], seed=seed)[0]
        self._returns[index], self._lengths[index] = 0.0, 0
        self._step_metrics.clear([index])
        self._latest_infos[0][index] = copy_info(info)
        return observation

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a new episode in every slot, in gymnasium's form; see `reset_slots`."""
        observations, infos = self.reset_slots(seed, options)
        return observations, self._merge_infos(dict(enumerate(infos)))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every slot, in gymnasium's form for same-step autoreset; see `step_slots`.

        The info has `"final_obs"` and `"final_info"` for ended episodes, and `"present"`, the mask of the slots that
        hold somebody.
        """
        step = self.step_slots(actions)
        merged: dict[str, Any] = {}
        for index, info in enumerate(step.infos):
            if index in step.final_observations:
                final = {"final_obs": step.final_observations[index], "final_info": info}
                merged = self._add_info(merged, final, index)
                info = step.reset_infos.get(index, {})
            merged = self._add_info(merged, info, index)
        merged["present"] = step.present.copy()
        return step.observations, step.rewards, step.terminated, step.truncated, merged

    def render(self) -> tuple[Any, ...] | None:
        """Returns one rendered frame a slot."""
        return tuple(self.render_slots())

    # Bits that subclasses share

    def split_actions(self, actions: Any) -> Any:
        """Returns something to index by slot: the array itself, or a list for structured actions."""
        if isinstance(self.single_action_space, _ARRAY_SPACES):
            return actions
        return list(iterate(self.action_space, actions))

    def stack(self, observations: Sequence[Any]) -> Any:
        """Copies one observation a slot into a new batch of the space's own dtype."""
        space = self.single_observation_space
        if isinstance(space, _ARRAY_SPACES):
            return _stack_array(space, observations)
        if isinstance(space, spaces.Dict) and all(isinstance(s, _ARRAY_SPACES) for s in space.spaces.values()):
            return {
                key: _stack_array(subspace, [observation[key] for observation in observations])
                for key, subspace in space.spaces.items()
            }
        return concatenate(space, observations, create_empty_array(space, n=len(observations)))

    def copy_observation(self, observation: Any) -> Any:
        """Copies one observation, in the space's dtype, so that a later reset cannot change it."""
        return _copy_member(self.single_observation_space, observation)

    def observation_of(self, observations: Any, index: int) -> Any:
        """Copies the observation of one slot out of a batch."""
        if isinstance(observations, dict):
            return {key: self.observation_of(value, index) for key, value in observations.items()}
        if isinstance(observations, tuple):
            if isinstance(self.single_observation_space, spaces.Tuple):
                return tuple(self.observation_of(value, index) for value in observations)
            return deepcopy(observations[index])
        return np.array(observations[index])

    def _merge_infos(self, infos: dict[int, dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for index, info in infos.items():
            merged = self._add_info(merged, info, index)
        return merged

    def _finish_episode(self, info: dict[str, Any], index: int, raw_return: float | None) -> None:
        info["episode"] = {
            "r": float(self._returns[index] if raw_return is None else raw_return),
            "l": int(self._lengths[index]),
            "t": round(time.time() - self._started, 6),
        }
        metrics = self._step_metrics.finish(index)
        if metrics:
            info[EPISODE_METRICS_KEY] = metrics
        self._returns[index] = 0.0
        self._lengths[index] = 0

    def _check_observations(self, observations: Any) -> None:
        if not self._float_observations:
            return
        if isinstance(observations, np.ndarray):
            if _all_finite(observations):
                return
        elif all(map(_all_finite, _leaves(observations))):
            return
        for index in range(self.num_envs):
            self._check_observation(self.observation_of(observations, index), index)

    def _check_observation(self, observation: Any, index: int) -> None:
        for part in _leaves(observation):
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                raise NonFiniteError("observation", index, self.step_count, shorten(observation))

    def __del__(self) -> None:
        """Does nothing: only an explicit `close` may close, since the environments may be the caller's."""


def copy_info(info: dict[str, Any]) -> dict[str, Any]:
    """Copies an info with the arrays and containers in it, which environments like to reuse."""
    return {key: _copy_value(value) for key, value in info.items()} if info else {}


def _copy_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return copy_info(value)
    # A deep copy of just anything can be a copy of the whole simulator.
    return deepcopy(value) if isinstance(value, list | set | tuple) else value


def _copy_member(space: gymnasium.Space[Any], observation: Any) -> Any:
    if isinstance(space, _ARRAY_SPACES):
        return np.array(observation, dtype=space.dtype)
    if isinstance(space, spaces.Dict):
        return {key: _copy_member(subspace, observation[key]) for key, subspace in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_copy_member(*pair) for pair in zip(space.spaces, observation, strict=True))
    return deepcopy(observation)


def _stack_array(space: gymnasium.Space[Any], observations: Sequence[Any]) -> NDArray[Any]:
    batch = np.empty((len(observations), *(space.shape or ())), dtype=space.dtype)
    for index, observation in enumerate(observations):
        batch[index] = observation
    return batch


def _all_finite(array: NDArray[Any]) -> bool:
    """Tells whether there is neither NaN nor infinity; the sum shows that at half the price, unless it overflows."""
    return array.dtype.kind != "f" or math.isfinite(np.add.reduce(array, axis=None)) or bool(np.isfinite(array).all())


def _leaves(observation: Any) -> list[NDArray[Any]]:
    if isinstance(observation, dict):
        return [leaf for value in observation.values() for leaf in _leaves(value)]
    if isinstance(observation, tuple | list):
        return [leaf for value in observation for leaf in _leaves(value)]
    leaf = np.asarray(observation)
    return [leaf] if leaf.dtype != object else []


def _has_floats(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(_has_floats(subspace) for subspace in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return any(_has_floats(subspace) for subspace in space.spaces)
    return isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f"
