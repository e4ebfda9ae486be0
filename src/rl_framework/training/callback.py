"""Who listens to training, and the handle they get."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rl_framework.errors import BundleError
from rl_framework.training.action_distribution import ActionDistribution
from rl_framework.training.events import (
    CheckpointSaved,
    EpisodeEnded,
    Evaluated,
    Event,
    RolloutEnded,
    TrainingEnded,
    TrainingFailed,
    TrainingStarted,
    Updated,
    Validated,
    VideoRecorded,
)

if TYPE_CHECKING:
    from rl_framework.bundle import Bundle

__all__ = ["Callback", "Training"]

logger = logging.getLogger(__name__)

_ACTIONS = "training_state/actions.npz"


class Callback:
    """Base of everything that listens to training. Override what you need; every method does nothing by default.

    Example:
        ```python
        class StopWhenSolved(Callback):
            def on_episode_end(self, event, training):
                if event.episode_return >= 500:
                    training.stop("solved")
        ```
    """

    def on_event(self, event: Event, training: Training) -> None:
        """Receives every event; calls the method for its kind. Override it to treat all events alike."""
        for kind, method in _METHODS.items():
            if isinstance(event, kind):
                getattr(self, method)(event, training)
                return

    def on_training_start(self, event: TrainingStarted, training: Training) -> None:
        """Training is about to begin."""

    def on_step(self, training: Training) -> None:
        """Every slot has made one step. Called often: keep it short."""

    def on_boundary(self, training: Training) -> None:
        """Nothing is half done: the moment at which everything can be saved. Called often: keep it short."""

    def on_rollout_end(self, event: RolloutEnded, training: Training) -> None:
        """A rollout was collected."""

    def on_update(self, event: Updated, training: Training) -> None:
        """The algorithm reported on its updates."""

    def on_episode_end(self, event: EpisodeEnded, training: Training) -> None:
        """An episode of a training environment ended."""

    def on_evaluation(self, event: Evaluated, training: Training) -> None:
        """The agent was evaluated in between."""

    def on_validation(self, event: Validated, training: Training) -> None:
        """The agent was compared with recorded episodes."""

    def on_checkpoint(self, event: CheckpointSaved, training: Training) -> None:
        """A checkpoint is on disk."""

    def on_video(self, event: VideoRecorded, training: Training) -> None:
        """A video of the agent is on disk."""

    def on_training_end(self, event: TrainingEnded, training: Training) -> None:
        """Training is over: finished, stopped by a callback, or interrupted by the user."""

    def on_failure(self, event: TrainingFailed, training: Training) -> None:
        """Training ended with an exception."""

    def flush(self) -> None:
        """Sees to it that nothing received so far can be lost; called before a checkpoint is written."""

    def run_id(self) -> str | None:
        """Returns what a resumed training needs to go on in the same run of a tracker, or None."""
        return None

    def rejoin(self, run_id: str) -> None:
        """Goes on in an earlier run; called before `on_training_start` of a resumed training.

        Args:
            run_id: From a checkpoint, which may come from anybody: check it.
        """


_METHODS: dict[type[Event], str] = {
    TrainingStarted: "on_training_start",
    RolloutEnded: "on_rollout_end",
    Updated: "on_update",
    EpisodeEnded: "on_episode_end",
    Evaluated: "on_evaluation",
    Validated: "on_validation",
    CheckpointSaved: "on_checkpoint",
    VideoRecorded: "on_video",
    TrainingEnded: "on_training_end",
    TrainingFailed: "on_failure",
}


def _listens(callback: Callback, kind: type[Event]) -> bool:
    if type(callback).on_event is not Callback.on_event or "on_event" in vars(callback):
        return True
    method = next((name for known, name in _METHODS.items() if issubclass(kind, known)), None)
    if method is None:
        return False
    return getattr(type(callback), method) is not getattr(Callback, method) or method in vars(callback)


class Training:
    """A running training: what callbacks may ask and do.

    Attributes:
        agent: The agent being trained.
        total_timesteps: The value of `timestep` at which training will end.
        timestep: Environment steps the agent has been trained on so far.
        seed: Root of this training's seeds.
        stop_reason: Why training is to stop early, or None.
        start: Timestep at which this call of `train` began, also if it was resumed since.
        record: What is trained, on what, with which seeds, versions and automatic choices.
        resumed: Whether it goes on from a checkpoint.
    """

    def __init__(self, agent: Any, callbacks: Iterable[Callback], seed: int, timestep: int = 0) -> None:
        self.start = timestep
        self.record: dict[str, Any] = {}
        self.agent = agent
        self.seed = seed
        self.timestep = timestep
        self.total_timesteps = timestep
        self.stop_reason: str | None = None
        self.callbacks = list(callbacks)
        self.resumed = False
        self._actions: ActionDistribution | None = None
        self._gathered: np.ndarray[Any, Any] | None = None
        self._boundary_watchers = [
            callback for callback in self.callbacks if type(callback).on_boundary is not Callback.on_boundary
        ]
        self._listeners: dict[type[Event], list[Callback]] = {}
        self._steppers = [callback for callback in self.callbacks if type(callback).on_step is not Callback.on_step]

    def is_heard(self, kind: type[Event]) -> bool:
        """Tells whether any callback does something about events of a kind; the others need not be made."""
        return bool(self._listeners_to(kind))

    def emit(self, event: Event) -> None:
        """Tells every callback about an event, in the order in which they were given."""
        for callback in self._listeners_to(type(event)):
            callback.on_event(event, self)

    def _listeners_to(self, kind: type[Event]) -> list[Callback]:
        if kind not in self._listeners:
            self._listeners[kind] = [callback for callback in self.callbacks if _listens(callback, kind)]
        return self._listeners[kind]

    def emit_failure(self, error: BaseException) -> None:
        """Tells every callback that training failed; one that fails at that keeps none of the others from knowing."""
        event = TrainingFailed(timestep=self.timestep, error=error)
        for callback in self.callbacks:
            try:
                callback.on_event(event, self)
            except Exception as further_error:
                logger.exception("%s failed while it was told of a failure", type(callback).__name__)
                error.add_note(f"Further, {type(callback).__name__} failed while it was told: {further_error!r}")

    def step(self, timestep: int) -> None:
        """Takes note that every slot has made one step."""
        self.timestep = timestep
        for callback in self._steppers:
            callback.on_step(self)

    def boundary(self, timestep: int) -> None:
        """Takes note that nothing is half done: a rollout ended, was learned from, and none has begun."""
        self.timestep = timestep
        for callback in self._boundary_watchers:
            callback.on_boundary(self)

    def gather_actions(self, action_space: gymnasium.Space[Any]) -> ActionDistribution | None:
        """Returns what gathers the actions for the agent to report; None: nobody would hear of them.

        Raises:
            BundleError: The checkpoint that training goes on from holds no actions of this space.
        """
        if not self.is_heard(RolloutEnded):
            return None
        try:
            self._actions = ActionDistribution(action_space, self.timestep, gathered=self._gathered)
        except ValueError as error:
            raise BundleError(f"the actions in the checkpoint are damaged: {error}") from error
        return self._actions

    def members(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of what was gathered and not yet reported, as members of a bundle."""
        gathered = None if self._actions is None else self._actions.gathered
        return {} if gathered is None else {_ACTIONS: {"actions": gathered}}

    def take_members(self, checkpoint: Bundle) -> None:
        """Goes on with what `members` returned.

        Raises:
            BundleError: It is damaged.
        """
        if _ACTIONS in checkpoint:
            self._gathered = checkpoint.arrays(_ACTIONS).get("actions")

    def flush(self) -> None:
        """Lets every callback bring to safety what it has received."""
        for callback in self.callbacks:
            callback.flush()

    def run_ids(self) -> dict[str, str]:
        """Returns the run ids of the callbacks that have one, by class name and count."""
        return {name: run_id for name, callback in self._named() if (run_id := callback.run_id()) is not None}

    def rejoin(self, run_ids: Mapping[str, Any]) -> None:
        """Lets callbacks go on in the runs that `run_ids` told of."""
        for name, callback in self._named():
            if isinstance(run_id := run_ids.get(name), str):
                callback.rejoin(run_id)

    def _named(self) -> Iterator[tuple[str, Callback]]:
        counts: Counter[str] = Counter()
        for callback in self.callbacks:
            name = type(callback).__name__
            counts[name] += 1
            yield f"{name} {counts[name]}", callback

    def stop(self, reason: str) -> None:
        """Asks training to end after the current step."""
        self.stop_reason = reason
