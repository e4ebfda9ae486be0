"""Text as arrays: each character is drawn once and then copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.errors import require_extra

__all__ = ["Glyphs"]

_DIGITS = "0123456789"


class Glyphs:
    """The characters of Pillow's own font in one size; digits are equally wide, so that numbers stand still.

    Args:
        size: Of the text in pixels.

    Raises:
        MissingExtraError: Pillow is not installed.

    Attributes:
        height: Of a line, in pixels.
        digit_width: Of a digit, in pixels.
    """

    def __init__(self, size: int) -> None:
        require_extra("video", "overlays", "PIL")
        from PIL import ImageFont

        self._font: Any = ImageFont.load_default(size)
        self.height = int(np.ceil(self._font.getbbox("Áyg|(_")[3]))
        self._drawn: dict[str, npt.NDArray[np.uint8]] = {}
        self.digit_width = 0
        self.digit_width = max(self._glyph(digit).shape[1] for digit in _DIGITS)
        self._drawn.clear()

    def width(self, text: str) -> int:
        """Returns the width of a text in pixels."""
        return sum(self._glyph(character).shape[1] for character in text)

    def draw(self, target: npt.NDArray[np.uint8], text: str, top: int, left: int, right: int | None = None) -> None:
        """Draws white text into a grey picture, of shape `(height, width)`, as far as it fits left of `right`."""
        limit = target.shape[1] if right is None else right
        for character in text:
            glyph = self._glyph(character)
            height, width = glyph.shape
            if left + width > limit:
                return
            area = target[top : top + height, left : left + width]
            np.maximum(area, glyph[: area.shape[0]], out=area)
            left += width

    def _glyph(self, character: str) -> npt.NDArray[np.uint8]:
        known = self._drawn.get(character)
        if known is not None:
            return known
        from PIL import Image, ImageDraw

        own = int(np.ceil(self._font.getlength(character)))
        width = max(own, self.digit_width) if character in _DIGITS else max(own, 1)
        image = Image.new("L", (width, self.height))
        ImageDraw.Draw(image).text(((width - own) // 2, 0), character, fill=255, font=self._font)
        glyph = self._drawn[character] = np.asarray(image)
        return glyph
