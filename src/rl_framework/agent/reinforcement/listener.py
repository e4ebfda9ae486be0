"""From Stable-Baselines3's callbacks and logger to this framework's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from rl_framework.environment.sb3 import ExportedVecEnv
from rl_framework.errors import NonFiniteError, RLFrameworkError
from rl_framework.training import EpisodeEnded, RolloutEnded, Training, Updated

__all__ = ["EventListener", "attached"]


class _UpdateWriter(KVWriter):
    """An output of the library's logger that emits what it is given as an event."""

    def __init__(self, listener: EventListener) -> None:
        self._listener = listener

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        metrics = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        }
        self._listener.emit_update(metrics)

    def close(self) -> None:
        """Holds nothing."""


_PATIENCE = 10_000
"""Steps for which all slots may be empty."""


class _StopTraining(Exception):  # noqa: N818 - a signal and no error
    """Ends the training of an algorithm that does not listen to its callbacks."""


@contextmanager
def attached(listener: EventListener, algorithm: Any) -> Iterator[None]:
    """Runs the library's `learn` inside the block with a listener to its logger."""
    quiet = not algorithm._custom_logger and not algorithm.verbose and algorithm.tensorboard_log is None
    if quiet:
        # The library itself would leave an empty directory behind, every time.
        algorithm.set_logger(Logger(folder=None, output_formats=[]))
    is_ars = type(algorithm).__name__ == "ARS"
    if is_ars:
        algorithm._trigger_callback = _telling_ars(algorithm)
    try:
        yield
    except _StopTraining:
        listener.on_training_end()
    finally:
        if is_ars:
            del algorithm._trigger_callback
        if quiet:
            algorithm._custom_logger = False
        formats = algorithm.logger.output_formats if hasattr(algorithm, "_logger") else []
        if listener.writer in formats:
            formats.remove(listener.writer)


def _telling_ars(algorithm: Any) -> Callable[..., None]:
    """Lets ARS tell its callbacks what a step brought, as the other algorithms do."""
    trigger = algorithm._trigger_callback

    def trigger_callback(step: dict[str, Any], *arguments: Any, callback: BaseCallback, n_envs: int) -> None:
        callback.update_locals({**step, "new_obs": step["new_observations"]})
        trigger(step, *arguments, callback=callback, n_envs=n_envs)

    return trigger_callback


class EventListener(BaseCallback):
    """Reports what Stable-Baselines3 does.

    Args:
        training: Whom to report to.
        vec_env: What the algorithm trains on, below any normalisation.
    """

    def __init__(self, training: Training, vec_env: Any) -> None:
        super().__init__()
        self.training = training
        self._exported = vec_env if isinstance(vec_env, ExportedVecEnv) else None
        self.writer = _UpdateWriter(self)
        self._returns = np.zeros(vec_env.num_envs)
        self._lengths = np.zeros(vec_env.num_envs, dtype=np.int64)
        self._steps = 0
        self._empty_for = 0
        self._latest: Any = None

    def emit_update(self, metrics: dict[str, float]) -> None:
        """Emits what the library's logger reported."""
        # The library also repeats the step count, which every event has.
        metrics.pop("time/total_timesteps", None)
        if metrics:
            count = int(getattr(self.model, "_n_updates", 0))
            self.training.emit(Updated(timestep=self.model.num_timesteps, metrics=metrics, n_updates=count))

    def _on_training_start(self) -> None:
        self.model.logger.output_formats.append(self.writer)

    def _on_step(self) -> bool:
        if self.training.stop_reason is not None:  # the algorithm does not listen to what this method returns
            raise _StopTraining
        if self._exported is not None:
            self._watch_exported(self._exported)
            ended = self._exported.take_ended_episodes()
        else:
            ended = self._watch_foreign()
        timestep = self.model.num_timesteps
        for slot, info in ended:
            if "episode" in info:
                self.training.emit(EpisodeEnded.from_info(timestep, slot, info))
        self.training.step(timestep)
        return self.training.stop_reason is None

    def _watch_exported(self, exported: ExportedVecEnv) -> None:
        """Takes care of empty slots."""
        if not exported.batch.may_be_absent:
            return
        # The library counts every slot; nothing happened in the empty ones.
        self.model.num_timesteps -= int(np.sum(~exported.acted))
        self._empty_for = 0 if exported.acted.any() else self._empty_for + 1
        if self._empty_for > _PATIENCE:
            raise RLFrameworkError(f"nobody has been in any slot of the environment for {_PATIENCE} steps")

    def _watch_foreign(self) -> list[tuple[int, dict[str, Any]]]:
        """Does for a `VecEnv` that the user brought what the door does for others: checks numbers, sums rewards.

        Returns:
            Slot and last info of the episodes that ended.
        """
        if self.locals["new_obs"] is self._latest:  # ARS reports a step once for each environment
            return []
        self._latest = self.locals["new_obs"]
        self._steps += 1
        rewards, observations = self.locals["rewards"], self.locals["new_obs"]
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None:  # its clipping would hide infinity, and its rewards are not what was earned
            rewards, observations = normalize.get_original_reward(), normalize.get_original_obs()
        for kind, values in (("reward", {"": rewards}), ("observation", _by_key(observations))):
            for array in values.values():
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
                    index = int(np.flatnonzero(~finite)[0])
                    raise NonFiniteError(kind, index, self._steps, array[index])
        self._returns += rewards
        self._lengths += 1
        for slot in np.flatnonzero(self.locals["dones"]):
            episode = {"r": float(self._returns[slot]), "l": int(self._lengths[slot])}
            self.locals["infos"][slot].setdefault("episode", episode)
            self._returns[slot], self._lengths[slot] = 0.0, 0
        infos = self.locals["infos"]
        return [(int(slot), infos[slot]) for slot in np.flatnonzero(self.locals["dones"])]

    def _on_rollout_end(self) -> None:
        self.training.emit(RolloutEnded(timestep=self.model.num_timesteps))

    def _on_training_end(self) -> None:
        # The library writes what an update reported when the next rollout ends; after the last one nobody would.
        self.model.logger.dump(self.model.num_timesteps)


def _by_key(observations: Any) -> dict[str, np.ndarray]:
    return observations if isinstance(observations, dict) else {"": observations}
