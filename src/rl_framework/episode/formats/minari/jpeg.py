"""Images that Minari stored as JPEG."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.errors import EpisodeDataError

__all__ = ["decode_images"]


def decode_images(files: Iterable[bytes], shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """Decodes JPEG images.

    Args:
        files: One JPEG file an image.
        shape: What each image has to have: `(height, width)` or `(height, width, channels)`.
        where: What to call them in an error.

    Returns:
        Shape `(n, *shape)`.

    Raises:
        EpisodeDataError: One of them is no JPEG, or has another shape.
    """
    from PIL import Image

    images: list[NDArray[Any]] = []
    for row, content in enumerate(files):
        try:
            with Image.open(BytesIO(content), formats=["JPEG"]) as image:
                # The size stands at the beginning: nothing larger than expected is ever decoded.
                if image.size != (shape[1], shape[0]):
                    raise EpisodeDataError(f"{where}[{row}] is an image of {image.size[::-1]}, not {shape}")
                images.append(np.asarray(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise EpisodeDataError(f"{where}[{row}] is no JPEG image: {error}") from error
        if images[-1].shape != shape:
            raise EpisodeDataError(f"{where}[{row}] is an image of {images[-1].shape}, not {shape}")
    return np.stack(images) if images else np.zeros((0, *shape), np.uint8)
