"""From Stable-Baselines3's callbacks and logger to this framework's events."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from rl_framework.agent.reinforcement.library.state.training_state import PendingState
from rl_framework.environment.batched.step_metrics import EPISODE_METRICS_KEY, StepMetrics
from rl_framework.environment.sb3 import ExportedVecEnv
from rl_framework.errors import ArgumentError, NonFiniteError, RLFrameworkError
from rl_framework.training import ActionDistribution, EpisodeEnded, RolloutEnded, Training, Updated

__all__ = ["EventListener", "StopTraining", "attached"]


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


class StopTraining(Exception):  # noqa: N818 - a signal and no error
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
        algorithm._do_one_update = _pausing_ars(algorithm, listener)
    try:
        yield
    except StopTraining:
        listener.on_training_end()
    finally:
        if is_ars:
            del algorithm._trigger_callback, algorithm._do_one_update
        if quiet:
            algorithm._custom_logger = False
        formats = algorithm.logger.output_formats if hasattr(algorithm, "_logger") else []
        if listener.writer in formats:
            formats.remove(listener.writer)


def _telling_ars(algorithm: Any) -> Callable[..., None]:
    """Lets ARS tell its callbacks what a step brought, as the other algorithms do.

    It reports a step once for each environment whose episodes it still counts, in their order, and begins new episodes
    for each candidate.
    """
    trigger, latest = algorithm._trigger_callback, np.inf

    def trigger_callback(step: dict[str, Any], *arguments: Any, callback: BaseCallback, n_envs: int) -> None:
        nonlocal latest
        is_new = step["i"] <= latest
        latest = step["i"]
        begins = is_new and not step["episode_counts"].any() and bool((step["current_lengths"] == 1).all())
        callback.update_locals({**step, "new_obs": step["new_observations"], "is_new": is_new, "begins": begins})
        trigger(step, *arguments, callback=callback, n_envs=n_envs)

    return trigger_callback


def _pausing_ars(algorithm: Any, listener: EventListener) -> Callable[..., None]:
    """Lets ARS pause before it draws for an update; it tells of the beginning of a rollout only after that."""
    update = algorithm._do_one_update

    def do_one_update(*arguments: Any) -> None:
        listener.boundary()
        update(*arguments)

    return do_one_update


class EventListener(BaseCallback):
    """Reports what Stable-Baselines3 does.

    Args:
        training: Whom to report to.
        vec_env: What the algorithm trains on, below any normalisation.
        pending: What a resumed training has to put back when its first rollout has begun.
    """

    def __init__(self, training: Training, vec_env: Any, pending: PendingState | None = None) -> None:
        super().__init__()
        self._pending = pending
        self.training = training
        self._exported = vec_env if isinstance(vec_env, ExportedVecEnv) else None
        self.writer = _UpdateWriter(self)
        self._returns = np.zeros(vec_env.num_envs)
        self._lengths = np.zeros(vec_env.num_envs, dtype=np.int64)
        self._step_metrics = StepMetrics(vec_env.num_envs)
        self._actions = training.gather_actions(vec_env.action_space)
        self._steps = 0
        self._empty_for = 0

    def emit_update(self, metrics: dict[str, float]) -> None:
        """Emits what the library's logger reported."""
        # The library also repeats the step count, which every event has.
        metrics.pop("time/total_timesteps", None)
        if metrics:
            count = int(getattr(self.model, "_n_updates", 0))
            self.training.emit(Updated(timestep=self.model.num_timesteps, metrics=metrics, n_updates=count))

    def boundary(self) -> None:
        """Takes note that nothing is half done."""
        if self._pending is not None:
            self._pending.put_back(self.model)
            self._pending = None
        self.training.boundary(self.model.num_timesteps)

    def _on_rollout_start(self) -> None:
        if type(self.model).__name__ != "ARS":
            self.boundary()

    def _on_training_start(self) -> None:
        self.model.logger.output_formats.append(self.writer)
        if self._pending is not None:
            self._pending.put_back_log(self.model.logger)
        if "action_masks" in inspect.signature(type(self.model).predict).parameters:
            self._check_masks()

    def _check_masks(self) -> None:
        if not self.training_env.has_attr("action_masks"):
            raise ArgumentError(
                "training_environments",
                self.training_env,
                f"{type(self.model).__name__} uses action masks, and these environments have none",
                "Give them a method action_masks(), for example with sb3_contrib's ActionMasker"
                + (", or an info 'action_mask'." if self._exported is not None else "."),
            )

    def _on_step(self) -> bool:
        if self.training.stop_reason is not None:  # the algorithm does not listen to what this method returns
            raise StopTraining
        if self._exported is not None:
            if self._exported.batch.may_be_absent:
                self._watch_exported(self._exported)
            ended = self._exported.take_ended_episodes()
        else:
            ended = self._watch_foreign()
        timestep = self.model.num_timesteps
        if self._actions is not None:
            self._note_actions(self._actions)
        for slot, info in ended:
            if "episode" in info:
                self.training.emit(EpisodeEnded.from_info(timestep, slot, info))
        self.training.step(timestep)
        return self.training.stop_reason is None

    def _watch_exported(self, exported: ExportedVecEnv) -> None:
        """Takes care of empty slots."""
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
        if not self.locals.get("is_new", True):
            return []
        if self.locals.get("begins", False):
            self._returns[:], self._lengths[:] = 0.0, 0
            self._step_metrics.clear()
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
        self._step_metrics.add(self.locals["infos"])
        for slot in np.flatnonzero(self.locals["dones"]):
            episode = {"r": float(self._returns[slot]), "l": int(self._lengths[slot])}
            info = self.locals["infos"][slot]
            info.setdefault("episode", episode)
            metrics = self._step_metrics.finish(int(slot))
            if metrics:
                info[EPISODE_METRICS_KEY] = metrics
            self._returns[slot], self._lengths[slot] = 0.0, 0
        infos = self.locals["infos"]
        return [(int(slot), infos[slot]) for slot in np.flatnonzero(self.locals["dones"])]

    def _note_actions(self, actions: ActionDistribution) -> None:
        if not self.locals.get("is_new", True):  # ARS tells of a step once for each environment
            return
        # What the environments were given: on-policy algorithms clip what they sampled.
        taken = self.locals.get("clipped_actions", self.locals.get("actions"))
        if taken is not None:
            absent = self._exported is not None and self._exported.batch.may_be_absent
            actions.add(taken[self._exported.acted] if absent and self._exported is not None else taken)

    def _on_rollout_end(self) -> None:
        if self._actions is not None:  # some algorithms have a rollout in every step
            timestep = self.model.num_timesteps
            metrics, histograms = self._actions.report(timestep)
            self.training.emit(RolloutEnded(timestep=timestep, metrics=metrics, histograms=histograms))

    def _on_training_end(self) -> None:
        # The library writes what an update reported when the next rollout ends; after the last one nobody would.
        self.model.logger.dump(self.model.num_timesteps)


def _by_key(observations: Any) -> dict[str, np.ndarray]:
    return observations if isinstance(observations, dict) else {"": observations}
