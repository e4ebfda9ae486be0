"""Numbers and little curves drawn onto the frames of a video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.report.components import Component, Moment, numbers_in
from rl_framework.report.recording.glyphs import Glyphs

__all__ = ["Overlay", "OverlayPainter"]

Frame = npt.NDArray[np.uint8]

_DEFAULT = ("episode", "step", "reward", "return", "action", "value")
_MOST_PARTS = 8
_VALUE_CHARACTERS = 11
_CURVE_WIDTH, _GAP = 96, 6
_CURVE_COLORS = np.array([[86, 180, 233], [230, 159, 0], [0, 200, 140]], dtype=np.uint8)
_INSIDE_SHARE, _INSIDE_AREA = 0.6, 0.25
_LARGEST_SCALE, _SMALL = 64, 128
_PANEL_GREY = 20


@dataclass(frozen=True)
class Overlay:
    """What to write onto a video, each with a curve of its last steps.

    Args:
        show: Names: "episode", "step", "reward", "return", "action", "value" (the agent's estimate of the return to
            come), and parts of what it sees, does and is told: "observation[2]", "observation['camera'][0]",
            "action[0]", "info.x_position", "info['x_position']". An action or an observation of up to eight numbers
            may be named as a whole. A label of your own may stand before a name: "hull angle=observation[0]". None:
            episode, step, reward, return, action and, if the agent has one, value.
        place: "inside" a corner of the frame, "beside" it (a small frame is enlarged), or "auto": inside if that
            hides at most a quarter of the frame.
        text_size: Height of the text in pixels; None: by the size of the frame.

    Raises:
        ArgumentError: A name is none of these, or `place` or `text_size` cannot be used.
    """

    show: Sequence[str] | None = None
    place: Literal["auto", "inside", "beside"] = "auto"
    text_size: int | None = None

    def __post_init__(self) -> None:
        names = [] if self.show is None else self.show
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ArgumentError("overlay", self.show, "must be a list of names", f"Such as {list(_DEFAULT)}.")
        if self.show is not None and not names:
            raise ArgumentError("overlay", self.show, "names nothing to show", "Leave it out to have no overlay.")
        for name in names:
            Component(name)
        if self.place not in ("auto", "inside", "beside"):
            raise ArgumentError("place", self.place, "must be auto, inside or beside")
        if self.text_size is not None and not 6 <= self.text_size <= 200:
            raise ArgumentError("text_size", self.text_size, "must be from 6 to 200 pixels")

    @classmethod
    def of(cls, overlay: Any) -> Overlay | None:
        """Returns what `record_video(overlay=...)` stands for: an `Overlay`, True, a list of names, or None."""
        if overlay is None or overlay is False:
            return None
        if isinstance(overlay, Overlay):
            return overlay
        if overlay is True:
            return cls()
        if isinstance(overlay, str) or not isinstance(overlay, Sequence):
            raise ArgumentError("overlay", overlay, "must be True, a list of names, or an Overlay")
        return cls(tuple(overlay))

    @property
    def wants_value(self) -> bool:
        """Whether it shows the agent's estimate, if there is one."""
        return self.show is None or any(Component(name).root == "value" for name in self.show)

    def components(
        self, first: Moment, action_shape: tuple[int, ...], action_keys: Sequence[str] = ()
    ) -> list[Component]:
        """Returns the lines to draw: a whole action or observation becomes its numbers.

        Args:
            first: How the episode begins.
            action_shape: Of one action.
            action_keys: Of an action that is a dictionary: its parts become lines.

        Raises:
            ArgumentError: The observation has no such part, is too large, or the agent estimates no values.
        """
        lines: list[Component] = []
        for name in _DEFAULT if self.show is None else self.show:
            component = Component(name)
            component.check_observation(first.observation)
            if component.root == "value" and first.value is None:
                if self.show is None:
                    continue
                raise ArgumentError("overlay", name, "this agent estimates no values", "Leave it out.")
            if component.root == "action" and not component.path and action_keys:
                lines += [Component(f"{key}=action[{key!r}]") for key in action_keys]
                continue
            value = component.read(first)
            if component.root == "observation" and isinstance(value, Mapping):
                problem = f"has the parts {', '.join(map(repr, value))}, too much to be shown"
                raise ArgumentError("overlay", name, problem, f"Name one: \"{name}['{next(iter(value), '...')}'][0]\".")
            shape = action_shape if component.root == "action" else np.shape(value)
            if component.root not in ("action", "observation") or component.path or not any(shape):
                lines.append(component)
                continue
            size = math.prod(shape)
            if len(shape) > 1 or (size > _MOST_PARTS and self.show is not None):
                raise ArgumentError(
                    "overlay", name, f"has the shape {shape}, too much to be shown", f'Name parts: "{name}[0]".'
                )
            parts = [f"[{index}]" for index in range(min(size, _MOST_PARTS))]
            lines += [Component(f"{component.label}{part}={component.name}{part}") for part in parts]
        return lines


class OverlayPainter:
    """Draws an overlay onto the frames of one environment, in their order.

    Args:
        overlay: What to draw.
        components: Its lines.
        frame_shape: Shape of a frame, `(height, width, 3)`.
    """

    def __init__(self, overlay: Overlay, components: Sequence[Component], frame_shape: tuple[int, ...]) -> None:
        height, width = frame_shape[:2]
        self._components = list(components)
        self._glyphs = glyphs = Glyphs(overlay.text_size or max(13, height // 32))
        self._row = glyphs.height + 3
        label_width = max(glyphs.width(component.label) for component in components)
        self._value_at = _GAP + label_width + _GAP
        self._curve_at = self._value_at + _VALUE_CHARACTERS * glyphs.digit_width + _GAP
        panel = (_GAP + self._row * len(self._components), self._curve_at + _CURVE_WIDTH + _GAP)
        self._labels = np.zeros(panel, dtype=np.uint8)
        for index, component in enumerate(self._components):
            glyphs.draw(self._labels, component.label, _GAP // 2 + index * self._row, _GAP)
        self._labels -= self._labels >> 2  # a little darker than the values
        self._inside = overlay.place == "inside" or (overlay.place == "auto" and _fits(panel, height, width))
        # Pixels are repeated, so that a picture of a few of them is no smaller than the text beside it.
        tall = max(panel[0], _SMALL)
        self._scale = 1 if self._inside else min(_LARGEST_SCALE, max(1, math.ceil(tall / height)))
        self._history: list[list[float]] = [[] for _ in self._components]
        self._episode = 0

    def paint(self, frame: Any, moment: Moment) -> Frame:
        """Returns the frame with the overlay; the frame itself stays as it is."""
        frame = _as_rgb(frame)
        if moment.episode != self._episode:
            self._episode = moment.episode
            self._history = [[] for _ in self._components]
        panel_height, panel_width = self._labels.shape
        if self._inside:
            canvas: Frame = np.array(frame)
            region = canvas[:panel_height, :panel_width]
            region >>= 2
        else:
            picture = frame.repeat(self._scale, axis=0).repeat(self._scale, axis=1) if self._scale > 1 else frame
            height, width = picture.shape[:2]
            canvas = np.zeros((max(height, panel_height), width + panel_width, 3), dtype=np.uint8)
            canvas[:height, :width] = picture
            canvas[:, width:] = _PANEL_GREY
            region = canvas[:panel_height, width:]
        self._paint_lines(region, moment)
        return canvas

    def _paint_lines(self, region: Frame, moment: Moment) -> None:
        text = self._labels.copy()
        for index, component in enumerate(self._components):
            top = _GAP // 2 + index * self._row
            value = component.read(moment)
            shown = _as_text(value)
            if component.root == "episode" and moment.previous_return is not None:
                shown = f"{shown} ({_as_text(moment.previous_return)})"
            self._glyphs.draw(text, shown[: _VALUE_CHARACTERS + 3], top, self._value_at, self._curve_at - 2)
            if component.root not in ("episode", "step"):
                self._paint_curve(region, index, top, value)
        text = text[: region.shape[0], : region.shape[1]]
        for channel in range(3):  # to broadcast along an axis of three takes ten times as long
            np.maximum(region[..., channel], text, out=region[..., channel])

    def _paint_curve(self, region: Frame, index: int, top: int, value: Any) -> None:
        numbers = [] if value is None else numbers_in(value, 1)
        history = self._history[index]
        if numbers and math.isfinite(numbers[0]):
            history.append(numbers[0])
            del history[:-_CURVE_WIDTH]
        if len(history) < 2:
            return
        values = np.array(history)
        low, high = values.min(), values.max()
        tall = self._row - 4
        span = float(high) - float(low)
        heights = (values - low) / span if 0 < span < math.inf else np.full(len(values), 0.5)
        levels = np.rint((1 - heights) * (tall - 1)).astype(np.int64)
        before = np.concatenate([levels[:1], levels[:-1]])
        rows = np.arange(tall)[:, np.newaxis]
        line = (rows >= np.minimum(levels, before)) & (rows <= np.maximum(levels, before))
        area = region[top + 2 : top + 2 + tall, self._curve_at : self._curve_at + len(values)]
        area[line[: area.shape[0], : area.shape[1]]] = _CURVE_COLORS[index % len(_CURVE_COLORS)]


def _fits(panel: tuple[int, int], height: int, width: int) -> bool:
    return (
        panel[0] <= _INSIDE_SHARE * height
        and panel[1] <= _INSIDE_SHARE * width
        and panel[0] * panel[1] <= _INSIDE_AREA * height * width
    )


def _as_rgb(frame: Any) -> Frame:
    """Makes a frame that `encode_video` would take an RGB one; leaves what it would refuse for it to refuse."""
    if frame.ndim == 2:
        frame = frame[:, :, np.newaxis]
    return frame[:, :, :3] if frame.shape[2] >= 3 else np.repeat(frame, 3, axis=2)


def _as_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    numbers = numbers_in(value, 3)
    return " ".join(map(_number, numbers)) if numbers else str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) and size < 1e7:
        return str(int(value))
    if size >= 1e5 or size < 1e-3:
        return f"{value:.2e}"
    return f"{value:.3f}" if size < 100 else f"{value:.1f}"
