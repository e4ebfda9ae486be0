"""The environments of a video, side by side."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.environment.batched.batch import BatchedEnvironment, SlotStep
from rl_framework.errors import RecordingError
from rl_framework.report.component_series import ComponentSeries
from rl_framework.report.components import Moment
from rl_framework.report.recording.overlay import Overlay, OverlayPainter

__all__ = ["Tiles"]

_GAP, _GAP_GREY = 2, 96
_SHOWN_KEY = re.compile(r"[^'\"=\\]+")


class Tiles:
    """Puts the frames of some slots together and keeps account of their episodes.

    Args:
        environments: What is filmed.
        count: How many of the slots that draw something, the first ones, to film.
        columns: Of the grid.
        overlay: What to write onto every tile, or None.

    Attributes:
        series: The components of the first tile that the overlay names; None: it names none.
    """

    def __init__(self, environments: BatchedEnvironment, count: int, columns: int, overlay: Overlay | None) -> None:
        self._environments = environments
        self._count = count
        self._columns = min(columns, count)
        self._overlay = overlay
        self._slots: list[int] = []
        self._painters: list[OverlayPainter] = []
        self._moments: list[Moment] = []
        self._shape: tuple[int, ...] = ()
        self.series: ComponentSeries | None = None

    @property
    def wants_value(self) -> bool:
        """Whether the agent's estimates are shown."""
        return self._overlay is not None and self._overlay.wants_value

    def begin(self, observations: Any, infos: list[dict[str, Any]], frames: list[Any], values: Any) -> Any:
        """Returns the first picture of all.

        Args:
            observations: Batched observation.
            infos: One a slot.
            frames: One a slot, or None where nothing is drawn.
            values: The agent's estimates, shape `(slots,)`, or None.

        Raises:
            RecordingError: Nothing is drawn.
            ArgumentError: The overlay names what is not there.
        """
        drawing = [slot for slot, frame in enumerate(frames) if frame is not None]
        if not drawing:
            raise RecordingError(
                'environment: it draws nothing (render() returned None) although its render_mode is "rgb_array". '
                "A wrapper may hide its frames."
            )
        self._slots = drawing[: self._count]
        overlay = self._overlay
        if overlay is not None:
            for slot in self._slots:
                moment = Moment(1, 0, None, 0.0, None, _of(values, slot), self._observation(observations, slot), {})
                moment.info = infos[slot]
                space = self._environments.single_action_space
                keys = [key for key in space if _SHOWN_KEY.fullmatch(key)] if isinstance(space, spaces.Dict) else ()
                lines = overlay.components(moment, tuple(space.shape or ()), keys)
                self._moments.append(moment)
                self._painters.append(OverlayPainter(overlay, lines, np.shape(frames[slot])))
                if overlay.show is not None and self.series is None:
                    self.series = ComponentSeries(lines)
        self._note_components()
        return self._compose(frames)

    def go_on(self, step: SlotStep, actions: Any, frames: list[Any], values: Any) -> Any:
        """Returns the picture after a step; arguments as in `begin`."""
        if self._overlay is not None:
            taken = self._environments.split_actions(actions)
            for moment, slot in zip(self._moments, self._slots, strict=True):
                self._account(moment, slot, step, taken[slot], _of(values, slot))
        self._note_components()
        return self._compose(frames)

    def _note_components(self) -> None:
        if self.series is not None:
            self.series.add(self._moments[0])

    def _account(self, moment: Moment, slot: int, step: SlotStep, action: Any, value: float | None) -> None:
        moment.observation, moment.value = self._observation(step.observations, slot), value
        if step.terminated[slot] or step.truncated[slot]:
            moment.previous_return = moment.episode_return + float(step.rewards[slot])
            moment.episode, moment.step, moment.episode_return = moment.episode + 1, 0, 0.0
            moment.reward, moment.action, moment.info = None, None, step.reset_infos.get(slot, {})
        elif step.acted[slot]:
            moment.step, moment.reward = moment.step + 1, float(step.rewards[slot])
            moment.episode_return += moment.reward
            moment.action, moment.info = action, step.infos[slot]

    def _observation(self, observations: Any, slot: int) -> Any:
        return self._environments.observation_of(observations, slot)

    def _compose(self, frames: list[Any]) -> Any:
        chosen = [frames[slot] for slot in self._slots]
        if self._painters and all(isinstance(frame, np.ndarray) and frame.ndim in (2, 3) for frame in chosen):
            pairs = zip(self._painters, chosen, self._moments, strict=True)
            chosen = [painter.paint(frame, moment) for painter, frame, moment in pairs]
        return chosen[0] if self._count == 1 else self._side_by_side(chosen)

    def _side_by_side(self, frames: list[Any]) -> npt.NDArray[Any]:
        shapes = [np.shape(frame) for frame in frames]
        if not self._shape:
            if any(len(shape) != 3 for shape in shapes):
                raise RecordingError(f"frames have the shapes {shapes}: in a grid each must be (height, width, 3)")
            self._shape = tuple(np.max(shapes, axis=0))
        height, width, channels = self._shape
        rows = -(-self._count // self._columns)
        size = (rows * (height + _GAP) - _GAP, self._columns * (width + _GAP) - _GAP, channels)
        canvas = np.full(size, _GAP_GREY, dtype=np.uint8)
        for index, frame in enumerate(frames):
            if len(shapes[index]) != 3 or any(np.greater(shapes[index], self._shape)) or frame.dtype != np.uint8:
                raise RecordingError(
                    f"a frame has the shape {shapes[index]} and the ones before {self._shape}: "
                    "all frames of a video must have the same size"
                )
            top, left = index // self._columns * (height + _GAP), index % self._columns * (width + _GAP)
            canvas[top : top + shapes[index][0], left : left + shapes[index][1]] = frame
        return canvas


def _of(values: Any, slot: int) -> float | None:
    return None if values is None else float(values[slot])
