"""Videos that play inside a notebook."""

from __future__ import annotations

import base64
import html
import os
from pathlib import Path

from rl_framework.errors import ArgumentError

__all__ = ["InlineVideo", "show_video"]

_MEGABYTE = 1_000_000


class InlineVideo:
    """A video that a notebook plays below the cell, and goes on playing when the file is gone; see `show_video`.

    Attributes:
        path: The file it was read from.
        width: Pixels on the page, or None.
    """

    def __init__(self, path: Path, content: bytes, width: int | None) -> None:
        self.path = path
        self.width = width
        self._content = content

    def __repr__(self) -> str:
        return f"InlineVideo({str(self.path)!r}, {len(self._content) / _MEGABYTE:.2g} MB)"

    def _repr_html_(self) -> str:
        """Plays the video in a notebook, without a link to any file."""
        encoded = base64.b64encode(self._content).decode("ascii")
        width = "" if self.width is None else f' width="{self.width}"'
        name = html.escape(self.path.name)
        style = 'style="max-width:100%"'
        if self.path.suffix.lower() == ".gif":
            return f'<img src="data:image/gif;base64,{encoded}" alt="{name}"{width} {style}/>'
        return (
            f'<video controls autoplay loop muted playsinline title="{name}"{width} {style}>'
            f'<source src="data:video/mp4;base64,{encoded}" type="video/mp4"></video>'
        )


def show_video(path: str | os.PathLike[str], width: int | None = None, *, max_megabytes: float = 20.0) -> InlineVideo:
    """Puts a video into a notebook, when it is the last thing in a cell (or given to `display`).

        show_video(record_video(agent, "CartPole-v1", "replay.mp4"))

    It is stored in the notebook, which grows by four thirds of the file. Elsewhere nothing is shown.

    Args:
        path: An .mp4 or a .gif, such as `record_video` writes.
        width: Pixels on the page; None: those of the video.
        max_megabytes: What may be put into the notebook at most.

    Returns:
        What the notebook shows.

    Raises:
        ArgumentError: There is no such file, it is no video of these kinds, or it is too large.
    """
    path = Path(path)
    if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
        raise ArgumentError("width", width, "must be a number of pixels of at least 1, or None")
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise ArgumentError("path", str(path), "a video ends with .mp4 or .gif")
    if not path.is_file():
        raise ArgumentError("path", str(path), "there is no such file", "record_video(...) writes one.")
    size = path.stat().st_size
    if size > max_megabytes * _MEGABYTE:
        raise ArgumentError(
            "path",
            str(path),
            f"has {size / _MEGABYTE:.1f} MB, and {max_megabytes:g} are put into a notebook at most",
            "Record fewer frames (length=...), an .mp4 instead of a .gif, or allow it: "
            f"max_megabytes={-(-size // _MEGABYTE)}.",
        )
    content = path.read_bytes()
    is_gif = content[:4] == b"GIF8"
    if not (is_gif if path.suffix.lower() == ".gif" else content[4:8] == b"ftyp"):
        raise ArgumentError("path", str(path), f"is no {path.suffix.lower()}, whatever its name says")
    return InlineVideo(path, content, width)
