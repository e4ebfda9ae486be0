"""Single environments, stepped one after the other in this process, and returns before reward wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import NormalizeReward

from rl_framework.environment.batched.batch import RAW_RETURN_KEY, BatchedEnvironment, SlotStep, copy_info
from rl_framework.errors import ArgumentError, EnvironmentSourceError, SpaceMismatchError

__all__ = ["InProcessEnvironments", "RawReturn", "check_instance_count", "is_wrapped", "record_raw_return"]


class RawReturn(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds the undiscounted return so far of what it wraps to every info, for wrappers above that change rewards."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._sum = 0.0
        self._transparent = True

    def __getattr__(self, name: str) -> Any:
        # A wrapper above may use its `env`, for which this stands in, in any way it likes.
        if name == "env" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_transparent" in vars(self) and name not in vars(self):
            setattr(self.env, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """The spec of what it wraps: wrappers above remember theirs, in which a recorder has no place."""
        return self.env.spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode and the sum of its rewards."""
        self._sum = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps and adds the reward to the sum."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._sum += float(reward)
        return observation, reward, terminated, truncated, {**info, RAW_RETURN_KEY: self._sum}


def record_raw_return(environment: gymnasium.Env[Any, Any]) -> gymnasium.Wrapper[Any, Any, Any, Any] | None:
    """Puts a `RawReturn` under the innermost wrapper that changes rewards.

    Args:
        environment: An environment with any number of wrappers; it is changed in place.

    Returns:
        The wrapper whose `env` is now the recorder (set it to `wrapper.env.env` to undo), or None if no wrapper
        changes rewards.
    """
    innermost = None
    layer = environment
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, RawReturn):
            return None
        if isinstance(layer, gymnasium.RewardWrapper | NormalizeReward):
            innermost = layer
        layer = layer.env
    if innermost is not None:
        innermost.env = RawReturn(innermost.env)
    return innermost


def is_wrapped(environment: gymnasium.Env[Any, Any], wrapper_class: type[Any]) -> bool:
    """Tells whether a wrapper of that class is around an environment."""
    layer = environment
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, wrapper_class):
            return True
        layer = layer.env
    return False


class InProcessEnvironments(BatchedEnvironment):
    """A list of gymnasium environments, one a slot.

    Args:
        environments: The environments; all with the same spaces.
        owned: Which of them this batch closes when it is closed.
        argument: Name of the argument they came from, for errors.

    Raises:
        SpaceMismatchError: Their spaces differ.
        EnvironmentSourceError: One of them is in the list twice.
    """

    always_tells_final_observations = True

    def __init__(
        self, environments: Sequence[gymnasium.Env[Any, Any]], owned: Sequence[bool], argument: str = "environments"
    ) -> None:
        first = environments[0]
        if len({id(environment.unwrapped) for environment in environments}) != len(environments):
            raise EnvironmentSourceError(
                argument,
                environments,
                "the same environment object is there more than once",
                "Make one environment a slot, for example with a factory and n_environments=8.",
            )
        for index, environment in enumerate(environments):
            for kind in ("observation_space", "action_space"):
                if getattr(environment, kind) != getattr(first, kind):
                    raise SpaceMismatchError(
                        argument,
                        environments,
                        f"environment {index} has {kind} {getattr(environment, kind)}, "
                        f"environment 0 has {getattr(first, kind)}",
                        "Environments trained or evaluated together need equal spaces.",
                    )
        self.environments = list(environments)
        self.metadata = dict(first.metadata or {})
        self.render_mode = first.render_mode
        super().__init__(len(environments), first.observation_space, first.action_space)
        self.spec = first.spec
        self.environment_id = first.spec.id if first.spec is not None else None
        self.vectorization = "sync"
        self.vectorization_reason = "environments in this process"
        self._owned = list(owned)
        self._recorded = [record_raw_return(environment) for environment in environments]

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        observations, infos = [], []
        for environment, seed in zip(self.environments, seeds, strict=True):
            observation, info = environment.reset(seed=seed, options=options)
            observations.append(observation)
            infos.append(copy_info(info))
        return self.stack(observations), infos

    def _step(self, actions: Any) -> SlotStep:
        actions = self.split_actions(actions)
        count = self.num_envs
        rewards = np.empty(count)
        terminated = np.zeros(count, dtype=np.bool_)
        truncated = np.zeros(count, dtype=np.bool_)
        observations: list[Any] = []
        infos: list[dict[str, Any]] = []
        final_observations: dict[int, Any] = {}
        reset_infos: dict[int, dict[str, Any]] = {}
        for index, environment in enumerate(self.environments):
            observation, rewards[index], terminated[index], truncated[index], info = environment.step(actions[index])
            infos.append(copy_info(info))
            if terminated[index] or truncated[index]:
                final_observations[index] = self.copy_observation(observation)
                observation, reset_info = environment.reset()
                reset_infos[index] = copy_info(reset_info)
            observations.append(observation)
        return SlotStep(
            observations=self.stack(observations),
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            infos=infos,
            acted=self.present,
            present=self.present,
            final_observations=final_observations,
            reset_infos=reset_infos,
        )

    def render_slots(self) -> list[Any]:
        """Returns one rendered frame a slot."""
        return [environment.render() for environment in self.environments]

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments, or reads an attribute; see the base class."""
        attributes = self.get_slots(name, indices)
        return [
            attribute(*args, **kwargs) if callable(attribute) or args or kwargs else attribute
            for attribute in attributes
        ]

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the environments, without calling it."""
        wanted = range(self.num_envs) if indices is None else indices
        return [self.environments[index].get_wrapper_attr(name) for index in wanted]

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute on the layer of the environments that has it, else on the outermost."""
        for index in range(self.num_envs) if indices is None else indices:
            self.environments[index].set_wrapper_attr(name, value)

    def close_extras(self, **kwargs: Any) -> None:
        """Gives the caller's environments back as they were and closes those that the door made."""
        for wrapper in self._recorded:
            if wrapper is not None and isinstance(wrapper.env, RawReturn):
                wrapper.env = wrapper.env.env
        self._recorded = []
        with ExitStack() as closing:  # one that cannot be closed keeps no other from it
            for environment, owned in zip(self.environments, self._owned, strict=True):
                if owned:
                    closing.callback(environment.close)


def check_instance_count(n_environments: int | None, count: int, argument: str, source: object) -> None:
    """Refuses an `n_environments` that cannot be met with objects that exist already."""
    if n_environments is not None and n_environments != count:
        raise ArgumentError(
            "n_environments",
            n_environments,
            f"{argument} holds {count} environment{'s' if count != 1 else ''} that cannot be copied",
            "Give an id or a zero-argument factory to have as many as you like.",
        )
