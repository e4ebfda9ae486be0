"""The training of one group of agents, as its agent sees it, beside others in the same world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rl_framework.agent.multi_agent.rendezvous import Loop, Want
from rl_framework.agent.reinforcement.library.listener import StopTraining
from rl_framework.training import Event, Training

__all__ = ["GroupEvent", "GroupTraining"]


@dataclass(frozen=True, kw_only=True)
class GroupEvent(Event):
    """Something happened in the training of one group; the names of the metrics begin with the group's.

    Attributes:
        group: Name of the group.
        event: What happened, as the group's own agent told it, with its own count of timesteps.
    """

    group: str
    event: Event


class GroupTraining(Training):
    """Hands on what an agent reports, and lets it wait for the others.

    Args:
        name: Name of the group.
        agent: The group's agent.
        whole: The training of all groups.
        seed: Root of this group's seeds.
        total_timesteps: The agent's own timesteps at which it has been trained enough.
        is_over: Tells whether the training of all is over, so that no further rollout is to begin.
    """

    def __init__(
        self,
        name: str,
        agent: Any,
        whole: Training,
        seed: int,
        total_timesteps: int,
        is_over: Callable[[], bool],
    ) -> None:
        self._whole = whole
        self.name = name
        self.loop: Loop | None = None
        self._is_over = is_over
        super().__init__(agent, [], seed, agent.num_timesteps)
        self.total_timesteps = total_timesteps
        self.resumed = whole.resumed

    @property
    def stop_reason(self) -> str | None:
        """Why the training of all groups is to stop early, or None."""
        return self._whole.stop_reason

    @stop_reason.setter
    def stop_reason(self, reason: str | None) -> None:
        if reason is not None:
            self._whole.stop_reason = reason

    def is_heard(self, kind: type[Event]) -> bool:
        """Tells whether any callback listens to what groups tell."""
        return self._whole.is_heard(GroupEvent)

    def emit(self, event: Event) -> None:
        """Tells every callback, in the main thread."""
        if self.is_heard(type(event)):
            told = GroupEvent(
                timestep=self._whole.timestep,
                time=event.time,
                metrics={f"{self.name}/{name}": value for name, value in event.metrics.items()},
                histograms={f"{self.name}/{name}": samples for name, samples in event.histograms.items()},
                group=self.name,
                event=event,
            )
            self._ask(Want.CALL, partial(self._whole.emit, told))

    def step(self, timestep: int) -> None:
        """Waits until all groups have taken in the step."""
        self.timestep = timestep
        self._ask(Want.STEPPED)

    def boundary(self, timestep: int) -> None:
        """Waits for the others, since a checkpoint can be written when nothing of anybody is half done.

        Raises:
            StopTraining: The training of all is over.
        """
        self.timestep = timestep
        if self._is_over():
            raise StopTraining
        self._ask(Want.BOUNDARY)

    def _ask(self, want: Want, given: Any = None) -> None:
        assert self.loop is not None  # set before the loop begins
        self.loop.ask(want, given)
