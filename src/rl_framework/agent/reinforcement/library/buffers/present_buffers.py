"""Buffers and statistics of only what somebody did and saw, for environments whose slots can be empty."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, DictRolloutBuffer, ReplayBuffer, RolloutBuffer
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her import HerReplayBuffer

from rl_framework.agent.reinforcement.library.buffers.present_rollout import PresentRollout, swap_decisions
from rl_framework.environment.sb3 import ExportedVecEnv
from rl_framework.errors import ArgumentError, shorten

__all__ = [
    "PresentDictReplayBuffer",
    "PresentDictRolloutBuffer",
    "PresentReplayBuffer",
    "PresentRolloutBuffer",
    "buffers_for_absence",
    "connect_buffers",
]


class PresentRolloutBuffer(PresentRollout, RolloutBuffer):
    """A `RolloutBuffer` for slots that can be empty."""


class PresentDictRolloutBuffer(PresentRollout, DictRolloutBuffer):
    """A `DictRolloutBuffer` for slots that can be empty."""


class _PresentReplay:
    """Stores each transition by itself; rows of absent slots are not stored at all."""

    vec_env: VecEnv
    _decisions: dict[str, Any]

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: Any = "auto",
        n_envs: int = 1,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("optimize_memory_usage"):
            raise ArgumentError(
                "algorithm_parameters['optimize_memory_usage']",
                True,
                "needs transitions in unbroken rows, and slots of this environment can be empty",
                "Leave it out.",
            )
        super().__init__(buffer_size, observation_space, action_space, device, 1, **kwargs)  # type: ignore[call-arg]

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        acted = getattr(self.vec_env, "acted", np.ones(len(reward), dtype=np.bool_))
        decided = getattr(self.vec_env, "decided", acted)
        if (decided != acted).any():
            obs = {key: part.copy() for key, part in obs.items()} if isinstance(obs, dict) else obs.copy()
            action = action.copy()
            seen = {f"observations.{key}": part for key, part in obs.items()} if isinstance(obs, dict) else {"": obs}
            kept = getattr(self, "_decisions", {})
            self._decisions = swap_decisions(kept, {**seen, "actions": action}, decided, acted)
        for index in np.flatnonzero(acted):
            row = slice(index, index + 1)
            super().add(  # type: ignore[misc]
                _rows(obs, row), _rows(next_obs, row), action[row], reward[row], done[row], [infos[index]]
            )


class PresentReplayBuffer(_PresentReplay, ReplayBuffer):
    """A `ReplayBuffer` for slots that can be empty."""


class PresentDictReplayBuffer(_PresentReplay, DictReplayBuffer):
    """A `DictReplayBuffer` for slots that can be empty."""


class _PresentMeanStd(RunningMeanStd):
    """Running statistics of the rows that somebody is behind."""

    def __init__(self, original: RunningMeanStd, rows: Callable[[], Any]) -> None:
        self.mean, self.var, self.count = original.mean, original.var, original.count
        self._rows = rows

    def update(self, arr: np.ndarray) -> None:
        """Takes in a batch."""
        rows = self._rows()
        if rows.any():
            super().update(arr[rows])

    def __reduce__(self) -> Any:
        # A copy, such as the library makes for evaluation, is of the numbers and not of the environment.
        return _plain_statistics, (self.mean, self.var, self.count)


def _plain_statistics(mean: Any, var: Any, count: float) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=np.shape(mean))
    statistics.mean, statistics.var, statistics.count = np.copy(mean), np.copy(var), count
    return statistics


def _leave_out_of_statistics(vec_normalize: Any, vec_env: ExportedVecEnv) -> None:
    def present() -> Any:
        return vec_env.batch.present

    def acted() -> Any:
        return vec_env.acted

    if vec_normalize.norm_obs:
        rms = vec_normalize.obs_rms
        vec_normalize.obs_rms = (
            {key: _PresentMeanStd(part, present) for key, part in rms.items()}
            if isinstance(rms, dict)
            else _PresentMeanStd(rms, present)
        )
    vec_normalize.ret_rms = _PresentMeanStd(vec_normalize.ret_rms, acted)


def _rows(observations: Any, rows: slice) -> Any:
    if isinstance(observations, dict):
        return {key: value[rows] for key, value in observations.items()}
    return observations[rows]


def buffers_for_absence(
    algorithm_class: type[Any], arguments: dict[str, Any], observation_space: spaces.Space[Any]
) -> dict[str, Any]:
    """Returns constructor arguments that make an algorithm learn from present slots only.

    Raises:
        ArgumentError: The user asked for a buffer that cannot leave slots out.
    """
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    is_dict = isinstance(observation_space, spaces.Dict)
    if issubclass(algorithm_class, OffPolicyAlgorithm):
        name = "replay_buffer_class"
        chosen: type[Any] = PresentDictReplayBuffer if is_dict else PresentReplayBuffer
        conflicting = arguments.get(name) or (arguments.get("n_steps", 1) > 1 and "n_steps")
    else:
        name = "rollout_buffer_class"
        if name not in inspect.signature(algorithm_class).parameters:
            raise _needs_everybody(algorithm_class)
        usual = _usual_rollout_buffer(algorithm_class, is_dict)
        chosen = _for_absence(usual)
        conflicting = arguments.get(name)
    if conflicting:
        raise ArgumentError(
            "algorithm_parameters",
            conflicting,
            "this buffer would learn from slots of the environment that hold nobody",
            "Leave it out, or give the environments one by one.",
        )
    return {name: chosen}


def _usual_rollout_buffer(algorithm_class: type[Any], is_dict: bool) -> type[Any]:
    if algorithm_class.__name__ == "MaskablePPO":
        from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer

        return MaskableDictRolloutBuffer if is_dict else MaskableRolloutBuffer
    return DictRolloutBuffer if is_dict else RolloutBuffer


def _for_absence(buffer_class: type[Any]) -> Any:
    """Returns the rollout buffer that takes the place of one of the library's, or None."""
    if buffer_class.__name__.startswith("Maskable"):  # sb3-contrib need not be installed
        from rl_framework.agent.reinforcement.library.buffers import present_maskable_buffers as maskable

        return maskable.REPLACEMENTS.get(buffer_class)
    return {RolloutBuffer: PresentRolloutBuffer, DictRolloutBuffer: PresentDictRolloutBuffer}.get(buffer_class)


def _needs_everybody(algorithm_class: type[Any]) -> ArgumentError:
    return ArgumentError(
        "algorithm_class",
        algorithm_class,
        f"{algorithm_class.__name__} needs unbroken episodes, and slots of this environment can hold nobody",
        'Use another algorithm, such as "ppo", or give the environments one by one.',
    )


def connect_buffers(algorithm: Any, vec_env: Any) -> None:
    """Tells an algorithm's buffers, and the statistics it normalises by, which environment knows who acted.

    An algorithm that was built where nobody is ever absent may go on where somebody is: its rollout buffer, which is
    empty between rollouts, is replaced.

    Raises:
        ArgumentError: Its buffer cannot leave slots out, or asks for what the environments do not have.
    """
    may_be_absent = isinstance(vec_env, ExportedVecEnv) and vec_env.batch.may_be_absent
    if may_be_absent and not hasattr(algorithm, "rollout_buffer") and not hasattr(algorithm, "replay_buffer"):
        raise _needs_everybody(type(algorithm))
    for name in ("rollout_buffer", "replay_buffer"):
        buffer: Any = getattr(algorithm, name, None)
        if buffer is not None and may_be_absent and not isinstance(buffer, PresentRollout | _PresentReplay):
            buffer = _replace(algorithm, buffer)
        if isinstance(buffer, PresentRollout | _PresentReplay):
            buffer.vec_env = vec_env
        if isinstance(buffer, HerReplayBuffer):
            _check_goals(algorithm)
            buffer.env = algorithm.env  # the library leaves the one that it was built with
        if type(buffer).__name__.startswith("Recurrent") and isinstance(buffer.action_space, spaces.MultiBinary):
            # It keeps actions in the type of their space, and torch takes no log probability of an int8.
            buffer.action_space = copy(buffer.action_space)
            buffer.action_space.dtype = np.dtype(np.float32)
    vec_normalize = algorithm.get_vec_normalize_env()
    if may_be_absent and vec_normalize is not None:
        _leave_out_of_statistics(vec_normalize, vec_env)


def _check_goals(algorithm: Any) -> None:
    keys = ("observation", "achieved_goal", "desired_goal")
    space = algorithm.observation_space
    if not isinstance(space, spaces.Dict) or not set(keys) <= set(space.spaces):
        raise ArgumentError(
            "training_environments",
            algorithm.env,
            f"hindsight goals need observations with {', '.join(keys)}, and these are {shorten(space)}",
            "Leave replay_buffer_class out, or give environments with goals.",
        )
    if not algorithm.env.has_attr("compute_reward"):
        raise ArgumentError(
            "training_environments",
            algorithm.env,
            "hindsight goals need its method compute_reward(achieved_goal, desired_goal, info), and it has none",
        )


def _replace(algorithm: Any, buffer: Any) -> Any:
    replacement = _for_absence(type(buffer))
    if replacement is None:
        raise ArgumentError(
            "training_environments",
            algorithm.env,
            f"slots of this environment can hold nobody, and the agent's {type(buffer).__name__} would store them",
            "Go on where nobody is absent, or begin with a new agent.",
        )
    algorithm.rollout_buffer_class = replacement
    algorithm.rollout_buffer = replacement(
        buffer.buffer_size,
        buffer.observation_space,
        buffer.action_space,
        buffer.device,
        gae_lambda=buffer.gae_lambda,
        gamma=buffer.gamma,
        n_envs=buffer.n_envs,
    )
    return algorithm.rollout_buffer
