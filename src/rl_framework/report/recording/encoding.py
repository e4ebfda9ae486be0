"""Frames in, video file out: H.264 in .mp4, or .gif."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError, NotTrainedError, RecordingError, RLFrameworkError, require_extra
from rl_framework.report.recording.ffmpeg import Encoder, find_ffmpeg
from rl_framework.whole_file import written_whole

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_video_arguments", "encode_video"]

Frame = npt.NDArray[np.uint8]

_HIGHEST_FPS = 1000
# In hundredths of a second: browsers show a frame that lasts less for a tenth of a second.
_SHORTEST_GIF_FRAME = 2
_GIF_COLORS = 256
_PALETTE_FRAMES = 16
_PALETTE_PIXELS_PER_FRAME = 1 << 16


def check_video_arguments(
    path: str | os.PathLike[str], fps: float | None, ffmpeg: str | os.PathLike[str] | None = None
) -> Path:
    """Checks what can be checked before the first frame exists.

    Raises:
        ArgumentError: The ending of the path is neither .mp4 nor .gif, `fps` is not between 0 and 1000, or there is no
            such `ffmpeg`.
        MissingExtraError: The encoder is not installed.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in (".mp4", ".gif"):
        raise ArgumentError("path", str(path), "a video's name ends with .mp4 or .gif")
    is_number = isinstance(fps, int | float | np.number) and not isinstance(fps, bool)
    if fps is not None and not (is_number and 0 < fps <= _HIGHEST_FPS):
        raise ArgumentError("fps", fps, f"must be above 0 and at most {_HIGHEST_FPS} frames per second")
    if ending == ".mp4":
        find_ffmpeg(ffmpeg)
    else:
        require_extra("video", ".gif videos", "PIL")
    return target


def encode_video(
    frames: Iterable[Any],
    path: str | os.PathLike[str],
    fps: float = 30.0,
    *,
    ffmpeg: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes frames into a video file that browsers play.

    An .mp4 is H.264 with 4:2:0 colours, which need an even width and height: the last row or column is repeated where
    one is odd. A .gif has 256 colours shared by all frames, at most 50 frames a second (above that, frames are left
    out and the speed stays), and loops forever; its frames are kept in memory until the end.

    When a frame fails, the frames before it become a whole video: at `path`, or, where a file is already, beside it
    under a name such as `video.partial.mp4`; the error tells which. An interrupt (Ctrl+C) leaves no file.

    Args:
        frames: At least one, uint8, all of one shape: `(height, width, 3)` (RGB), `(height, width, 4)` (RGB and an
            opacity, which is dropped) or `(height, width)` or `(height, width, 1)` (grey).
        path: Ends with .mp4 or .gif. Missing folders are created, and an existing file is replaced when the new one
            is whole.
        fps: Frames per second.
        ffmpeg: What makes an .mp4: None: the program that comes with imageio-ffmpeg (or what the environment variable
            IMAGEIO_FFMPEG_EXE names); "system": the machine's own; or a path.

    Returns:
        The path.

    Raises:
        ArgumentError: The ending of the path is another one, `fps` is not between 0 and 1000, or there is no such
            `ffmpeg`.
        MissingExtraError: The encoder is not installed.
        RecordingError: There is no frame, a frame is not as described, or drawing or encoding failed; the cause is
            chained, and `partial` names what there is to be seen.
    """
    target = check_video_arguments(path, fps, ffmpeg)
    checked = _CheckedFrames(frames)
    # The first frame comes before the encoder starts: most of what can go wrong goes wrong there.
    first = next(checked, None)
    if first is None:
        _raise_first(checked.failure, target)
    try:
        with written_whole(target) as temporary:
            every = chain((first,), checked)
            if target.suffix.lower() == ".mp4":
                _write_mp4(every, temporary, float(fps), find_ffmpeg(ffmpeg))
            else:
                _write_gif(every, temporary, float(fps))
            if checked.failure is not None:
                failure = checked.failure
                if isinstance(failure, NotTrainedError):  # it has not acted: there is nothing to be seen
                    raise failure
                cause = (failure.__cause__ or failure) if isinstance(failure, RecordingError) else failure
                raise _keep_partial(temporary, target, checked.count, failure) from cause
    except (RecordingError, NotTrainedError):
        raise
    except Exception as error:
        raise RecordingError(
            f"{target}: the recording failed after {checked.count} frames, and nothing was written: "
            f"{type(error).__name__}: {error}"
        ) from error
    return target


def _raise_first(failure: Exception | None, target: Path) -> NoReturn:
    """Raises what kept the first frame from coming; no file has been touched."""
    if failure is None:
        raise RecordingError(f"{target}: there is no frame to record")
    if isinstance(failure, RLFrameworkError):
        raise failure
    raise RecordingError(
        f"{target}: the recording failed after 0 frames, and nothing was written: {type(failure).__name__}: {failure}"
    ) from failure


def _keep_partial(temporary: Path, target: Path, count: int, failure: Exception) -> RecordingError:
    """Puts an unfinished video where it harms no other one, and returns the error that tells of it."""
    kept, number = Path(os.path.realpath(target)), 1
    while kept.exists():
        kept = target.with_name(f"{target.stem}.partial{'' if number == 1 else f'-{number}'}{target.suffix}")
        number += 1
    temporary.replace(kept)
    said = str(failure) if isinstance(failure, RecordingError) else f"{type(failure).__name__}: {failure}"
    return RecordingError(f"{target}: the recording failed after {count} frames, which {kept} shows: {said}", kept)


class _CheckedFrames(Iterator[Frame]):
    """Counts frames and makes each a contiguous RGB array of the first one's shape; ends where one fails.

    Attributes:
        count: Good frames so far.
        failure: Why there are no more of them, unless they just ended.
    """

    def __init__(self, frames: Iterable[Any]) -> None:
        self.count = 0
        self.failure: Exception | None = None
        self._frames = iter(frames)
        self._shape: tuple[int, ...] | None = None

    def __next__(self) -> Frame:
        if self.failure is not None:
            raise StopIteration
        try:
            return self._check(next(self._frames))
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001  # it is raised when what came before it is safe
            self.failure = error
            raise StopIteration from None

    def _check(self, frame: Any) -> Frame:
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
            kind = f"an array of {frame.dtype}" if isinstance(frame, np.ndarray) else f"a {type(frame).__name__}"
            raise RecordingError(f"frame {self.count} is {kind}: a frame is a NumPy array of uint8, from 0 to 255")
        if frame.ndim == 2:
            frame = frame[:, :, np.newaxis]
        if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or 0 in frame.shape:
            raise RecordingError(f"frame {self.count} has the shape {frame.shape}: it must be (height, width, 3)")
        rgb = frame[:, :, :3] if frame.shape[2] >= 3 else np.repeat(frame, 3, axis=2)
        if self._shape is not None and rgb.shape != self._shape:
            raise RecordingError(
                f"frame {self.count} has the shape {rgb.shape} and the ones before {self._shape}: "
                "all frames of a video must have the same size"
            )
        self._shape = rgb.shape
        self.count += 1
        return np.ascontiguousarray(rgb)


def _write_mp4(frames: Iterator[Frame], path: Path, fps: float, program: str) -> None:
    first = _with_even_sizes(next(frames))
    height, width = first.shape[:2]
    with Encoder(program, path, (width, height), fps) as encoder:
        encoder.write(first)
        for frame in frames:
            encoder.write(_with_even_sizes(frame))
        encoder.finish()
    if not _has_index(path):
        raise RecordingError(f"{path.name}: ffmpeg ended before the video was whole; is the disk full?")


def _with_even_sizes(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _has_index(path: Path) -> bool:
    """Says whether an .mp4 has its index (the box "moov"), without which nothing plays it."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        while len(header := file.read(8)) == 8:
            size, kind = int.from_bytes(header[:4], "big"), header[4:]
            if kind == b"moov":
                return True
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            if size < 8:
                return False
            file.seek(size - 8, os.SEEK_CUR)
    return False


def _write_gif(frames: Iterator[Frame], path: Path, fps: float) -> None:
    from PIL import Image

    # The shared palette needs to have seen the end of the video, so the frames wait, packed: drawn frames shrink to
    # about a hundredth.
    shape: tuple[int, ...] = ()
    packed: list[bytes] = []
    starts: list[int] = []
    count = 0
    for count, frame in enumerate(frames, start=1):
        # In hundredths of a second, the unit of the format; rounding the sum keeps the speed right on average.
        start = round((count - 1) * 100 / fps)
        if not starts or start - starts[-1] >= _SHORTEST_GIF_FRAME:
            shape = frame.shape
            packed.append(zlib.compress(frame.tobytes(), level=1))
            starts.append(start)
    end = max(round(count * 100 / fps), starts[-1] + _SHORTEST_GIF_FRAME)
    durations = [later - earlier for earlier, later in pairwise([*starts, end])]

    def unpack(index: int) -> Frame:
        return np.frombuffer(zlib.decompress(packed[index]), dtype=np.uint8).reshape(shape)

    samples = np.unique(np.linspace(0, len(packed) - 1, _PALETTE_FRAMES).astype(int))
    palette = _shared_palette([unpack(index) for index in samples])

    def images() -> Iterator[Image.Image]:
        for index, duration in enumerate(durations):
            image = Image.fromarray(unpack(index)).quantize(palette=palette, dither=Image.Dither.NONE)
            image.info["duration"] = duration * 10
            yield image

    stream = images()
    next(stream).save(path, save_all=True, append_images=stream, loop=0, optimize=False)


def _shared_palette(frames: list[Frame]) -> Image.Image:
    """Returns a one-row image whose palette suits all the frames: their very colours if there are few enough."""
    from PIL import Image

    pixels = [frame.reshape(-1, 3) for frame in frames]
    thinned = np.concatenate([part[:: max(1, len(part) // _PALETTE_PIXELS_PER_FRAME)] for part in pixels])
    codes = thinned.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colors = np.unique(codes)
    if len(colors) > _GIF_COLORS:
        return Image.fromarray(thinned[np.newaxis]).quantize(_GIF_COLORS, dither=Image.Dither.NONE)
    table = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
    # The unused entries repeat a colour, so that none of them can attract a pixel.
    table = np.concatenate([table, np.repeat(table[-1:], _GIF_COLORS - len(table), axis=0)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(table.tobytes())
    return palette
