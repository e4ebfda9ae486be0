"""The only bridge between the door's batched environments and Stable-Baselines3's `VecEnv`, in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from rl_framework.environment.batched.batch import RAW_RETURN_KEY, BatchedEnvironment, SlotStep
from rl_framework.environment.batched.in_process import is_wrapped
from rl_framework.environment.batched.workers import Workers
from rl_framework.errors import ArgumentError, NotTrainedError

__all__ = ["ExportedVecEnv", "SpacesOnlyVecEnv", "VecEnvSlots", "export_to_vec_env"]


def export_to_vec_env(batch: BatchedEnvironment) -> VecEnv:
    """Returns the `VecEnv` that Stable-Baselines3 trains on; one that the user brought is returned unchanged."""
    return batch.vec_env if isinstance(batch, VecEnvSlots) else ExportedVecEnv(batch)


class ExportedVecEnv(VecEnv):
    """A batched environment in Stable-Baselines3's form.

    Observations, rewards (float32) and infos (`terminal_observation`, `TimeLimit.truncated`, `episode`) are what
    `DummyVecEnv` over `Monitor` would give, so that training is the same to the last bit.

    Attributes:
        batch: The environment behind it.
        acted: Shape `(num_envs,)`, bool: which rows of the last step are transitions.
        decided: Shape `(num_envs,)`, bool: whose action of the last step was taken. Others than `acted` where agents
            act at different times: see `SlotStep.pending`.
    """

    def __init__(self, batch: BatchedEnvironment) -> None:
        self.batch = batch
        self.acted = self.decided = batch.present
        self._actions: Any = None
        self._ended: list[tuple[int, dict[str, Any]]] = []
        # The learner draws from its action space; an environment that draws from its own must not be disturbed.
        super().__init__(batch.num_envs, batch.single_observation_space, deepcopy(batch.single_action_space))
        self.metadata = batch.metadata
        self.render_mode = batch.render_mode

    def reset(self) -> VecEnvObs:
        """Starts a new episode in every slot, with the seeds given to `seed` before, which are used once."""
        options = self._options[0] or None
        if any((other or None) != options for other in self._options):
            raise ArgumentError("options", self._options, "differ between slots", "Give one dictionary for all.")
        observations, infos = self.batch.reset_slots(self._seeds, options)
        self.reset_infos = infos
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Takes the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every slot."""
        self.decided = self.batch.present
        step = self.batch.step_slots(self._actions)
        self.acted = step.acted
        dones = step.terminated | step.truncated
        infos = step.infos
        for info in infos:
            info["TimeLimit.truncated"] = False
        if not self.batch.may_have_finished(step):
            return step.observations, step.rewards.astype(np.float32), dones, infos
        for index in map(int, np.flatnonzero(dones)):
            info = infos[index]
            info["TimeLimit.truncated"] = bool(step.truncated[index] and not step.terminated[index])
            if index in step.final_observations:
                info["terminal_observation"] = step.final_observations[index]
            self.reset_infos[index] = step.reset_infos.get(index, {})
            self._ended.append((index, info))
        return step.observations, step.rewards.astype(np.float32), dones, infos

    def take_ended_episodes(self) -> list[tuple[int, dict[str, Any]]]:
        """Returns slot and last info of the episodes that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Closes what the door made, nothing of the caller's."""
        self.batch.close()

    def get_images(self) -> Sequence[Any]:
        """Returns one frame a slot."""
        return self.batch.render_slots()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of the environments in the slots."""
        if attr_name == "render_mode" and not hasattr(self, "render_mode"):  # asked for by VecEnv.__init__
            return [self.batch.render_mode] * self.num_envs
        if attr_name == "action_masks":  # sb3-contrib asks whether there are some
            return [self.batch.action_masks()[index] for index in self._get_indices(indices)]
        return self.batch.get_slots(attr_name, list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the environments in the slots."""
        self.batch.set_slots(attr_name, value, list(self._get_indices(indices)))

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> Any:
        """Calls a method of the environments in the slots."""
        if method_name == "action_masks":
            return [self.batch.action_masks()[index] for index in self._get_indices(indices)]
        return self.batch.call_slots(
            method_name, *method_args, indices=list(self._get_indices(indices)), **method_kwargs
        )

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Tells which slots are wrapped; `Monitor` always, because its info is given here."""
        wanted = list(self._get_indices(indices))
        if issubclass(wrapper_class, Monitor):
            return [True] * len(wanted)
        vector = getattr(self.batch, "environment", None)
        if isinstance(vector, Workers):
            return vector.ask("wrapped", "", wanted, wrapper_class)
        environments = getattr(self.batch, "environments", None) or getattr(vector, "envs", None)
        if environments is None:
            return [False] * len(wanted)
        return [is_wrapped(environments[index], wrapper_class) for index in wanted]


class VecEnvSlots(BatchedEnvironment):
    """A `VecEnv` that the user brought, in the door's form, to evaluate and to film with it.

    The statistics of a `VecNormalize` anywhere in it stay as they are, and its original rewards are given. Original
    observations are given when `VecNormalize` is the outermost layer, since the agent then normalises by itself.
    The `VecEnv` is the caller's and is never closed.
    """

    def __init__(self, vec_env: VecEnv) -> None:
        self.vec_env = vec_env
        self._normalize = _find_normalize(vec_env)
        # A Monitor sums rewards under any wrapper that changes them; a VecMonitor may be above one.
        self._monitored = not _has_layer(vec_env, VecMonitor)
        self.metadata = dict(getattr(vec_env, "metadata", None) or {})
        self.render_mode = vec_env.render_mode
        original = vec_env.venv if isinstance(vec_env, VecNormalize) else vec_env
        super().__init__(vec_env.num_envs, original.observation_space, vec_env.action_space)
        self.vectorization_reason = "a VecEnv of Stable-Baselines3"

    @property
    def normalizes(self) -> bool:
        """Whether there is a `VecNormalize` in it."""
        return self._normalize is not None

    def _reset(self, seeds: list[int | None], options: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]]]:
        if any(seed is not None for seed in seeds):
            self.vec_env.seed(seeds[0])
        if options:
            self.vec_env.set_options(options)
        with _Frozen(self._normalize):
            observations = self.vec_env.reset()
        # Only DummyVecEnv and its like keep the infos of a reset.
        infos = getattr(self.vec_env, "reset_infos", None) or [{}] * self.num_envs
        return self._original(observations), [dict(info) for info in infos]

    def _step(self, actions: Any) -> SlotStep:
        with _Frozen(self._normalize):
            observations, rewards, dones, infos = self.vec_env.step(actions)
        if self._normalize is not None:
            rewards = self._normalize.get_original_reward()
        truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos]) & dones
        step = SlotStep(
            observations=self._original(observations),
            rewards=np.asarray(rewards, dtype=np.float64),
            terminated=dones & ~truncated,
            truncated=truncated,
            infos=[dict(info) for info in infos],
            acted=self.present,
            present=self.present,
        )
        for index in np.flatnonzero(dones):
            info = step.infos[index]
            if "terminal_observation" in info:
                final = info["terminal_observation"]
                if isinstance(self.vec_env, VecNormalize):
                    final = self.vec_env.unnormalize_obs(final)
                step.final_observations[int(index)] = final
            if self._monitored and "episode" in info:
                info[RAW_RETURN_KEY] = info["episode"]["r"]
        return step

    def _original(self, observations: Any) -> Any:
        if isinstance(self.vec_env, VecNormalize):
            return self.vec_env.get_original_obs()
        if isinstance(observations, dict):
            return {key: np.array(value) for key, value in observations.items()}
        return np.array(observations)

    def render_slots(self) -> list[Any]:
        """Returns one rendered frame a slot."""
        return list(self.vec_env.get_images())

    def call_slots(self, name: str, *args: Any, indices: Sequence[int] | None = None, **kwargs: Any) -> list[Any]:
        """Calls a method of the environments, or reads an attribute; see the base class."""
        values = self.vec_env.get_attr(name, indices)
        if any(callable(value) for value in values) or args or kwargs:
            return list(self.vec_env.env_method(name, *args, indices=indices, **kwargs))
        return list(values)

    def get_slots(self, name: str, indices: Sequence[int] | None = None) -> list[Any]:
        """Reads an attribute of the environments."""
        return list(self.vec_env.get_attr(name, indices))

    def set_slots(self, name: str, value: Any, indices: Sequence[int] | None = None) -> None:
        """Sets an attribute of the environments."""
        self.vec_env.set_attr(name, value, indices)


class _Frozen:
    """Keeps a `VecNormalize` from learning inside the block."""

    def __init__(self, normalize: VecNormalize | None) -> None:
        self._normalize = normalize
        self._training = False

    def __enter__(self) -> None:
        if self._normalize is not None:
            self._training, self._normalize.training = self._normalize.training, False

    def __exit__(self, *exception: object) -> None:
        if self._normalize is not None:
            self._normalize.training = self._training


def _layers(vec_env: VecEnv) -> Iterator[VecEnv]:
    layer: Any = vec_env
    while layer is not None:
        yield layer
        layer = layer.venv if isinstance(layer, VecEnvWrapper) else None


def _find_normalize(vec_env: VecEnv) -> VecNormalize | None:
    return next((layer for layer in _layers(vec_env) if isinstance(layer, VecNormalize)), None)


def _has_layer(vec_env: VecEnv, wrapper_class: type[VecEnv]) -> bool:
    return any(isinstance(layer, wrapper_class) for layer in _layers(vec_env))


class SpacesOnlyVecEnv(VecEnv):
    """Stands for environments that are not there, so that an agent can be rebuilt from its spaces."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], num_envs: int = 1
    ) -> None:
        self.render_mode = None
        super().__init__(num_envs, observation_space, action_space)

    def reset(self) -> VecEnvObs:
        """Refuses: there is nothing to reset."""
        raise NotTrainedError("stepping; this agent has no environments, which")

    def step_async(self, actions: np.ndarray) -> None:
        """Refuses: there is nothing to step."""
        self.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Refuses: there is nothing to step."""
        raise NotTrainedError("stepping; this agent has no environments, which")

    def close(self) -> None:
        """Holds nothing."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns None for every environment."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Changes nothing."""

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Returns None for every environment."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Says no for every environment."""
        return [False] * self.num_envs
