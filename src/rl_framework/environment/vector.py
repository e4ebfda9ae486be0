"""Any gymnasium `VectorEnv`, whatever its autoreset mode, in the door's same-step form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rl_framework.environment.batch import BatchedEnvironment, SlotStep
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
    slots: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, value in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        mask = infos.get(f"_{key}")
        if isinstance(value, dict):
            for index, part in enumerate(split_infos(value, count)):
                if part or (mask is not None and mask[index]):
                    slots[index][key] = part
            continue
        for index in range(count) if mask is None else map(int, np.flatnonzero(mask)):
            try:
                slots[index][key] = value[index]
            except (TypeError, IndexError, KeyError):
                slots[index][key] = value  # one value for the whole batch
    return slots


class VectorEnvironments(BatchedEnvironment):
    """A gymnasium `VectorEnv` of any autoreset mode.

    Same-step environments pass through. Where single slots can be reset (mode disabled, and gymnasium's own sync and
    async environments), an ended episode is followed by its reset at once. Other next-step environments spend one
    step on each reset: in that step the slot is absent.

    Args:
        environment: The vector environment.
        owned: Whether closing this batch closes it.
        argument: Name of the argument it came from, for errors.
    """

    def __init__(self, environment: VectorEnv[Any, Any, Any], owned: bool, argument: str = "environments") -> None:
        self.environment = environment
        self.mode = autoreset_mode(environment, argument)
        inner = environment.unwrapped
        # An AsyncVectorEnv without shared memory would reset such a slot a second time.
        own_vectorizer = isinstance(inner, SyncVectorEnv) or (isinstance(inner, AsyncVectorEnv) and inner.shared_memory)
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
        step = SlotStep(
            observations=self._own(observations),
            rewards=np.array(rewards, dtype=np.float64),
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
        final_observations = infos.pop("final_obs", None)
        final_infos = split_infos(infos.pop("final_info", {}), self.num_envs)
        for key in ("_final_obs", "_final_info"):
            infos.pop(key, None)
        step.infos = split_infos(infos, self.num_envs)
        for index in np.flatnonzero(finished):
            step.reset_infos[int(index)] = step.infos[index]
            step.infos[index] = final_infos[index]
            if final_observations is not None:
                final = self.observation_of(final_observations, int(index))
                step.final_observations[int(index)] = self.copy_observation(
                    final.item() if isinstance(final, np.ndarray) and final.dtype == object else final
                )

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
        frames: Any = self.environment.render()
        return list(frames) if frames is not None else [None] * self.num_envs

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments, or reads an attribute; see the base class."""
        call = getattr(self.environment, "call", None) or getattr(self.environment.unwrapped, "call", None)
        if call is None:
            value = getattr(self.environment, name)
            values = [value] * self.num_envs
        else:
            values = list(call(name, *args, **kwargs))
        return values if indices is None else [values[index] for index in indices]

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the environments."""
        if indices is not None and len(set(indices)) != self.num_envs:
            raise AttributeError(f"{type(self.environment).__name__} can only set {name!r} on all slots at once")
        target: Any = self.environment if hasattr(self.environment, "set_attr") else self.environment.unwrapped
        target.set_attr(name, value)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the vector environment if the door made it."""
        if not self._owned:
            return
        try:
            self.environment.close(**kwargs)
        except (OSError, EOFError):
            # Worker processes that an interrupt has ended already cannot answer.
            self.environment.close(terminate=True)
