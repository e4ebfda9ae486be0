"""The program that makes .mp4 files, fed with frames through a pipe."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError, RecordingError, require_extra

__all__ = ["Encoder", "find_ffmpeg", "make_preview"]

_LAST_WORDS = 500
_NAMED = "IMAGEIO_FFMPEG_EXE"


def find_ffmpeg(ffmpeg: str | os.PathLike[str] | None = None) -> str:
    """Finds the program.

    Args:
        ffmpeg: None: what the environment variable IMAGEIO_FFMPEG_EXE names, or the one that comes with the package
            imageio-ffmpeg. "system": the one that is installed on this machine. Anything else: its path.

    Raises:
        MissingExtraError: imageio-ffmpeg is not installed, and no other program was asked for.
        ArgumentError: There is no such program.
    """
    if ffmpeg is None:
        named = os.environ.get(_NAMED)
        if named:
            return named
        require_extra("video", ".mp4 videos", "imageio_ffmpeg")
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    wanted = "ffmpeg" if ffmpeg == "system" else os.fspath(ffmpeg)
    found = shutil.which(wanted)
    if found is None:
        raise ArgumentError(
            "ffmpeg",
            str(ffmpeg),
            "there is no such program on this machine",
            "Leave it out to use the one that comes with imageio-ffmpeg, or install ffmpeg.",
        )
    return found


class Encoder:
    """One .mp4 file in the making: H.264, yuv420p, with its index at the front.

    Args:
        program: Path of ffmpeg.
        path: Where to; an existing file is overwritten.
        size: Width and height in pixels, both even.
        fps: Frames per second.
    """

    def __init__(self, program: str, path: Path, size: tuple[int, int], fps: float) -> None:
        width, height = size
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6f}", "-i", "-"]
        # faststart moves the index to the front, so that a browser can play before it has loaded everything.
        output = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "20"]
        command = [program, "-y", "-loglevel", "error", *source, *output, "-movflags", "+faststart", _as_file(path)]
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                # A terminal interrupts a whole group: what becomes of the video is decided here.
                process_group=0 if os.name == "posix" else None,
            )
        except OSError as error:
            self._words.close()
            named = "the environment variable IMAGEIO_FFMPEG_EXE names " if program == os.environ.get(_NAMED) else ""
            raise RecordingError(f"ffmpeg could not be started: {named}{program}: {error}") from error

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Adds a contiguous frame of shape `(height, width, 3)`.

        Raises:
            RecordingError: ffmpeg has ended, for example because the disk is full.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame.data)
        except OSError as error:
            self._process.wait()
            raise RecordingError(f"ffmpeg ended before the video was whole: {self._last_words()}") from error

    def finish(self) -> None:
        """Lets ffmpeg end the file.

        Raises:
            RecordingError: It could not.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            self._process.wait()
            raise RecordingError(f"ffmpeg ended before the video was whole: {self._last_words()}") from error
        if self._process.wait() != 0:
            raise RecordingError(f"ffmpeg ended before the video was whole: {self._last_words()}")

    def _last_words(self) -> str:
        self._words.seek(0)
        words = " ".join(self._words.read().decode(errors="replace").split())[-_LAST_WORDS:]
        return words or f"it said nothing (exit code {self._process.returncode}); is the disk full?"

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):  # what was still to be written has no reader any more
                self._process.stdin.close()
        self._words.close()


def make_preview(video: Path, gif: Path, *, seconds: float = 10.0, fps: int = 10, width: int = 320) -> Path:
    """Makes a short animated .gif of an .mp4, for trackers that show pictures and no videos.

    Args:
        video: What to show.
        gif: Where to.
        seconds: How much of it.
        fps: Pictures a second.
        width: In pixels, at most.

    Returns:
        `gif`.

    Raises:
        RecordingError: ffmpeg cannot read the video or write the picture.
        MissingExtraError: imageio-ffmpeg is not installed.
    """
    shown = f"fps={fps},scale='min({width},iw)':-1:flags=area"
    graph = f"{shown},split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=none"
    limits: Sequence[Any] = ["-t", str(seconds), "-i", _as_file(video)]
    command = [find_ffmpeg(), "-y", "-loglevel", "error", *limits, "-vf", graph, "-loop", "0", _as_file(gif)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        words = " ".join(done.stderr.decode(errors="replace").split())[-_LAST_WORDS:]
        raise RecordingError(f"{video}: ffmpeg could not make a preview: {words}")
    return gif


def _as_file(path: Path) -> str:
    """Names a file so that ffmpeg takes it neither for an option nor for a protocol or a pattern."""
    return f"file:{path.absolute()}"
