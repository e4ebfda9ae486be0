"""Any gymnasium `VectorEnv`, whatever its autoreset mode, in the door's same-step form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.environment.batched.workers import INFO_KEY, Workers
from rl_framework.errors import EnvironmentSourceError

__all__ = ["VectorEnvironments", "autoreset_mode", "split_infos"]


def autoreset_mode(environment: VectorEnv[Any, Any, Any], argument: str = "environments") -> AutoresetMode:
    """Tells how a vector environment starts its next episodes.

    Raises:
        EnvironmentSourceError: It does not say, and guessing wrong would mix transitions of two episodes.
    """
    # Sync and Async write the mode into a metadata dictionary that all environments of a class share, so that
    # their own attribute is the one to believe.
    mode = getattr(environment.unwrapped, "autoreset_mode", None) or (environment.metadata or {}).get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        pass
    raise EnvironmentSourceError(
        argument,
        environment,
        "this vector environment does not say how it starts the next episode",
        "Set its metadata['autoreset_mode'] to a gymnasium.vector.AutoresetMode.",
    )


def split_infos(infos: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Turns gymnasium's dictionary of arrays with `_key` masks into one dictionary a slot."""
    if INFO_KEY in infos:
        return [wrapped.info if wrapped is not None else {} for wrapped in infos[INFO_KEY]]
    slots: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        mask = infos.get(f"_{key}")
        if isinstance(value, dict):
            for index, part in enumerate(split_infos(value, count)):
                if part if mask is None else mask[index]:
                    slots[index][key] = part
            continue
        one_each = isinstance(value, np.ndarray | list | tuple) and np.ndim(value) > 0 and len(value) == count
        for index in range(count) if mask is None else map(int, np.flatnonzero(mask)):
            part = value[index] if one_each else value
            slots[index][key] = part.copy() if isinstance(part, np.ndarray) else part
    return slots


class VectorEnvironments(BatchedEnvironment):
    """A gymnasium `VectorEnv` of any autoreset mode.

    Same-step environments pass through. Where single slots can be reset (mode disabled, and gymnasium's own sync and
    async environments without wrappers), an ended episode is followed by its reset at once. Other next-step
    environments spend one step on each reset: in that step the slot is absent.

    Args:
        environment: The vector environment.
        owned: Whether closing this batch closes it.
        argument: Name of the argument it came from, for errors.
    """

    def __init__(self, environment: VectorEnv[Any, Any, Any], owned: bool, argument: str = "environments") -> None:
        self.environment = environment
        self.mode = autoreset_mode(environment, argument)
        # An AsyncVectorEnv without shared memory would reset such a slot a second time, and gymnasium's wrappers
        # either refuse to reset single slots or take that for a reset of all.
        own_vectorizer = isinstance(environment, SyncVectorEnv) or (
            isinstance(environment, AsyncVectorEnv) and environment.shared_memory
        )
        self._resets_single_slots = self.mode is AutoresetMode.DISABLED or (
            self.mode is AutoresetMode.NEXT_STEP and own_vectorizer
        )
        self.may_be_absent = self.mode is AutoresetMode.NEXT_STEP and not own_vectorizer
        self.metadata = dict(environment.metadata or {})
        self.render_mode = environment.render_mode
        super().__init__(environment.num_envs, environment.single_observation_space, environment.single_action_space)
        # gymnasium asks `call` for the id of a sub-environment in its own classes; others carry a spec.
        self.spec = environment.spec
        self.environment_id = environment.spec.id if environment.spec is not None else None
        self._owned = owned

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        self.present = np.ones(self.num_envs, dtype=np.bool_)
        first = seeds[0]
        counted = first is not None and seeds == [first + index for index in range(self.num_envs)]
        if all(seed is None for seed in seeds):
            seed: Any = None
        else:
            # Natively vectorized environments have one random stream and take one int.
            seed = first if counted else seeds
        observations, infos = self.environment.reset(seed=seed, options=options)
        return self._own(observations), split_infos(infos, self.num_envs)

    def _step(self, actions: Any) -> SlotStep:
        acted = self.present
        observations, rewards, terminated, truncated, infos = self.environment.step(actions)
        terminated = np.array(terminated, dtype=np.bool_)
        truncated = np.array(truncated, dtype=np.bool_)
        rewards = np.array(rewards, dtype=np.float64)
        if self.may_be_absent:
            terminated &= acted
            truncated &= acted
            rewards[~acted] = 0.0
        step = SlotStep(
            observations=self._own(observations),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            infos=[],
            acted=acted,
            present=acted,
        )
        finished = terminated | truncated
        if self.mode is AutoresetMode.SAME_STEP:
            self._take_same_step(step, infos, finished)
        else:
            step.infos = split_infos(infos, self.num_envs)
            for index in np.flatnonzero(finished):
                step.final_observations[int(index)] = self.observation_of(step.observations, int(index))
            if self._resets_single_slots:
                self._reset_finished(step, finished)
            else:
                step.present = self.present = ~finished
        return step

    def _take_same_step(self, step: SlotStep, infos: dict[str, Any], finished: NDArray[np.bool_]) -> None:
        infos = dict(infos)
        final_observations = infos.pop("final_obs", None)
        final_infos = split_infos(infos.pop("final_info", {}), self.num_envs)
        for key in ("_final_obs", "_final_info"):
            infos.pop(key, None)
        step.infos = split_infos(infos, self.num_envs)
        for index in np.flatnonzero(finished):
            step.reset_infos[int(index)] = step.infos[index]
            step.infos[index] = final_infos[index]
            if final_observations is not None:
                if isinstance(final_observations, np.ndarray) and final_observations.dtype == object:
                    final = final_observations[index]  # gymnasium's own: one observation an element
                else:
                    final = self.observation_of(final_observations, int(index))
                step.final_observations[int(index)] = self.copy_observation(final)

    def _reset_finished(self, step: SlotStep, finished: NDArray[np.bool_]) -> None:
        if not finished.any():
            return
        observations, infos = self.environment.reset(options={"reset_mask": finished})
        step.observations = self._own(observations)
        for index, info in enumerate(split_infos(infos, self.num_envs)):
            if finished[index]:
                step.reset_infos[index] = info

    def _own(self, observations: Any) -> Any:
        """Copies a batch, so that an environment that reuses its arrays cannot change what was handed out."""
        if isinstance(observations, dict):
            return {key: self._own(value) for key, value in observations.items()}
        if isinstance(observations, tuple):
            return tuple(self._own(value) for value in observations)
        return np.array(observations)

    def render_slots(self) -> list[Any]:
        """Returns one rendered frame a slot."""
        if isinstance(self.environment, Workers):
            return self.environment.ask("call", "render", range(self.num_envs))
        frames: Any = self.environment.render()
        return list(frames) if frames is not None else [None] * self.num_envs

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments, or reads an attribute; see the base class.

        A natively vectorized environment is called once, for all slots.
        """
        wanted = range(self.num_envs) if indices is None else indices
        inner: Any = self.environment.unwrapped
        if isinstance(inner, Workers):
            return inner.ask("call", name, wanted, args, kwargs)
        if isinstance(inner, SyncVectorEnv):
            attributes = self.get_slots(name, indices)
            return [value(*args, **kwargs) if callable(value) or args or kwargs else value for value in attributes]
        if len(set(wanted)) != self.num_envs and (args or kwargs):
            raise AttributeError(f"{type(inner).__name__} can only call {name!r} on all slots at once")
        if hasattr(inner, "call"):
            values = list(inner.call(name, *args, **kwargs))
        else:
            value = getattr(self.environment, name)
            values = [value(*args, **kwargs) if callable(value) or args or kwargs else value] * self.num_envs
        return [values[index] for index in wanted]

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the environments; `AsyncVectorEnv` calls it if it can be called."""
        wanted = range(self.num_envs) if indices is None else indices
        inner: Any = self.environment.unwrapped
        if isinstance(inner, Workers):
            return inner.ask("get", name, wanted)
        if isinstance(inner, SyncVectorEnv):
            return [inner.envs[index].get_wrapper_attr(name) for index in wanted]
        if hasattr(inner, "call"):
            return self.call_slots(name, indices=wanted)
        return [getattr(self.environment, name) for _ in wanted]

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the environments."""
        wanted = range(self.num_envs) if indices is None else indices
        inner: Any = self.environment.unwrapped
        if isinstance(inner, Workers):
            inner.ask("set", name, wanted, value)
        elif isinstance(inner, SyncVectorEnv):
            for index in wanted:
                inner.envs[index].set_wrapper_attr(name, value)
        elif len(set(wanted)) != self.num_envs:
            raise AttributeError(f"{type(inner).__name__} can only set {name!r} on all slots at once")
        else:
            # A list alone would be taken for one value a slot.
            inner.set_attr(name, [value] * self.num_envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the vector environment if the door made it."""
        if self._owned:
            self.environment.close(**kwargs)
