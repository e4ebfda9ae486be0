import importlib.util

import numpy as np
import pytest

from rl_framework.errors import ArgumentError, MissingExtraError, RecordingError
from rl_framework.report.recording.encoding import encode_video

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")


def moving_square(count=20, height=48, width=64):
    for index in range(count):
        frame = np.full((height, width, 3), 255, dtype=np.uint8)
        frame[10:26, index : index + 16] = (200, 30, 60)
        yield frame


def decode_mp4(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader]


def decode_gif(path):
    image = Image.open(path)
    frames, durations = [], []
    for index in range(image.n_frames):
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info["duration"])
    return image, frames, durations


def test_an_mp4_shows_the_frames_it_was_given(tmp_path):
    path = encode_video(moving_square(), tmp_path / "new" / "video.mp4", fps=25)
    meta, frames = decode_mp4(path)
    assert (meta["codec"], meta["pix_fmt"].split("(")[0], meta["fps"]) == ("h264", "yuv420p", 25)
    assert meta["size"] == (64, 48)
    assert len(frames) == 20
    for shown, given in zip(frames, moving_square(), strict=True):
        assert np.abs(shown.astype(int) - given).mean() < 4
    assert [file.name for file in path.parent.iterdir()] == ["video.mp4"]


def test_an_mp4_can_be_played_before_it_is_loaded(tmp_path):
    content = encode_video(moving_square(), tmp_path / "video.mp4").read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")


@pytest.mark.parametrize(("height", "width"), [(47, 63), (47, 64), (48, 63), (1, 1)])
def test_odd_sizes_are_padded_by_repeating_the_edge(tmp_path, height, width):
    meta, frames = decode_mp4(encode_video(moving_square(3, height, width), tmp_path / "video.mp4"))
    assert meta["size"] == (width + width % 2, height + height % 2)
    original = next(moving_square(1, height, width))
    assert np.abs(frames[0][:height, :width].astype(int) - original).mean() < 6
    assert frames[0][-1, -1].min() > 230 or min(height, width) == 1


@pytest.mark.parametrize("fps", [0.5, 12.5, 60, np.float32(30)])
def test_an_mp4_keeps_any_speed(tmp_path, fps):
    meta, frames = decode_mp4(encode_video(moving_square(4), tmp_path / "video.mp4", fps=fps))
    assert meta["fps"] == pytest.approx(float(fps), rel=0.01)
    assert len(frames) == 4


def test_a_gif_shows_the_frames_exactly_and_loops_forever(tmp_path):
    image, frames, durations = decode_gif(encode_video(moving_square(), tmp_path / "video.gif", fps=25))
    assert image.size == (64, 48)
    assert image.info["loop"] == 0
    assert durations == [40] * 20
    for shown, given in zip(frames, moving_square(), strict=True):
        np.testing.assert_array_equal(shown, given)


def test_a_gif_of_many_colours_looks_alike(tmp_path):
    rows, columns = np.mgrid[0:64, 0:64].astype(np.uint8)
    picture = np.stack([rows * 4, columns * 4, (rows + columns) * 2], axis=2)
    frames = [np.roll(picture, shift, axis=1) for shift in range(5)]
    _, shown, _ = decode_gif(encode_video(frames, tmp_path / "video.gif"))
    for decoded, given in zip(shown, frames, strict=True):
        assert np.abs(decoded.astype(int) - given).mean() < 12


def test_a_colour_that_comes_late_is_in_the_shared_palette(tmp_path):
    frames = [np.full((8, 8, 3), 255, dtype=np.uint8) for _ in range(60)]
    for frame in frames[40:]:
        frame[:4] = (0, 0, 200)
    _, shown, _ = decode_gif(encode_video(frames, tmp_path / "video.gif"))
    assert shown[-1][0, 0].tolist() == [0, 0, 200]


@pytest.mark.parametrize("fps", [30, 50, 60, 200])
def test_a_gif_takes_as_long_as_the_episode_and_is_never_slowed_by_browsers(tmp_path, fps):
    count = 60
    _, _, durations = decode_gif(encode_video(moving_square(count), tmp_path / "video.gif", fps=fps))
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(1000 * count / fps, abs=25)


def test_a_gif_may_have_a_single_frame(tmp_path):
    image, _, _ = decode_gif(encode_video(moving_square(1), tmp_path / "video.gif"))
    assert image.n_frames == 1


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
@pytest.mark.parametrize("kind", ["grey", "grey with an axis", "opacity", "not contiguous"])
def test_other_layouts_of_a_frame(tmp_path, name, kind):
    rgb = next(moving_square(1))
    grey = rgb[:, :, 1]
    frame = {
        "grey": grey,
        "grey with an axis": grey[:, :, np.newaxis],
        "opacity": np.dstack([rgb, np.zeros_like(grey)]),
        "not contiguous": np.asfortranarray(rgb),
    }[kind]
    path = encode_video([frame] * 2, tmp_path / name)
    shown = (decode_mp4(path) if name.endswith("mp4") else decode_gif(path))[1][0]
    expected = np.dstack([grey] * 3) if "grey" in kind else rgb
    assert np.abs(shown.astype(int) - expected).mean() < 4


class SimulatorError(Exception):
    pass


def breaking(good_frames):
    yield from moving_square(good_frames)
    raise SimulatorError("the simulator is gone")


def decode(path):
    return (decode_mp4 if path.suffix == ".mp4" else decode_gif)(path)[1]


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
def test_a_failure_in_the_middle_leaves_a_playable_file_of_what_came_before(tmp_path, name):
    with pytest.raises(RecordingError, match=r"after 7 frames.*the simulator is gone") as caught:
        encode_video(breaking(7), tmp_path / name)
    assert isinstance(caught.value.__cause__, SimulatorError)
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.partial == tmp_path / name
    assert [file.name for file in tmp_path.iterdir()] == [name]
    shown = decode(tmp_path / name)
    assert len(shown) == 7
    assert np.abs(shown[6].astype(int) - list(moving_square(7))[6]).mean() < 4


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
def test_a_failure_never_replaces_an_older_video(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    for _ in range(2):
        with pytest.raises(RecordingError, match="after 7 frames"):
            encode_video(breaking(7), tmp_path / name)
    stem, ending = name.split(".")
    partials = [f"{stem}.partial.{ending}", f"{stem}.partial-2.{ending}"]
    assert {file.name for file in tmp_path.iterdir()} == {name, *partials}
    assert (tmp_path / name).read_bytes() == b"old"
    assert [len(decode(tmp_path / partial)) for partial in partials] == [7, 7]


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
def test_a_failure_before_the_first_frame_touches_no_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(RecordingError, match=r"after 0 frames.*the simulator is gone") as caught:
        encode_video(breaking(0), tmp_path / name)
    assert isinstance(caught.value.__cause__, SimulatorError)
    assert caught.value.partial is None
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {name: b"old"}


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
def test_an_interrupt_passes_and_leaves_nothing(tmp_path, name):
    def interrupted():
        yield from moving_square(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_video(interrupted(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "no frame"),
        ([np.zeros((4, 4, 3))], "array of float64"),
        ([None], "a NoneType"),
        ([np.zeros((4, 4, 2), dtype=np.uint8)], r"shape \(4, 4, 2\)"),
        ([np.zeros((0, 4, 3), dtype=np.uint8)], r"shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_frame_is_refused(tmp_path, frames, said):
    for name in ("video.mp4", "video.gif"):
        with pytest.raises(RecordingError, match=said):
            encode_video(frames, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["video.mp4", "video.gif"])
def test_frames_of_another_size_end_the_video_and_are_named(tmp_path, name):
    frames = [np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 6, 3), dtype=np.uint8)]
    with pytest.raises(RecordingError, match=r"frame 1 .* same size"):
        encode_video(frames, tmp_path / name)
    assert len(decode(tmp_path / name)) == 1


@pytest.mark.parametrize("after_frames", [0, 3, 4])
def test_an_encoder_that_dies_is_an_error_and_not_a_broken_file(tmp_path, monkeypatch, after_frames):
    """ffmpeg is replaced by a program that ends early, as it does when the disk is full."""
    program = tmp_path / "ffmpeg"
    size = after_frames * 48 * 64 * 3
    broken = 'for last; do :; done; printf "a video without its end" >"${last#file:}"'
    last_words = 'echo "No space left on device" >&2'
    program.write_text(f"#!/bin/sh\n{broken}\nhead -c {size} >/dev/null\n{last_words}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    folder = tmp_path / "videos"
    with pytest.raises(RecordingError, match="No space left on device"):
        encode_video(moving_square(4), folder / "video.mp4")
    assert list(folder.iterdir()) == []


def _wrapper(tmp_path, name):
    """A program that notes that it was called, and is ffmpeg."""
    program, note = tmp_path / name, tmp_path / f"{name} was called"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\ntouch "{note}"\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n')
    program.chmod(0o755)
    return program, note


@pytest.mark.parametrize("asked", ["system", "a path", "the environment variable"])
def test_another_ffmpeg_is_used_when_asked(tmp_path, monkeypatch, asked):
    program, note = _wrapper(tmp_path, "ffmpeg")
    if asked == "system":
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    elif asked == "the environment variable":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    ffmpeg = {"system": "system", "a path": program}.get(asked)
    path = encode_video(moving_square(3), tmp_path / "video.mp4", ffmpeg=ffmpeg)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    assert note.exists()
    assert len(decode_mp4(path)[1]) == 3


@pytest.mark.parametrize("ffmpeg", ["system", "/nowhere/ffmpeg"])
def test_an_ffmpeg_that_is_not_there_is_named(tmp_path, monkeypatch, ffmpeg):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArgumentError, match="no such program") as caught:
        encode_video(moving_square(3), tmp_path / "video.mp4", ffmpeg=ffmpeg)
    assert caught.value.argument == "ffmpeg"


def test_a_program_that_cannot_be_started_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    with pytest.raises(RecordingError, match=r"could not be started: .*IMAGEIO_FFMPEG_EXE names /nowhere/ffmpeg"):
        encode_video(moving_square(3), tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


def test_no_system_ffmpeg_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(decode_mp4(encode_video(moving_square(3), tmp_path / "video.mp4"))[1]) == 3


@pytest.mark.parametrize("name", ["video.avi", "video", "video.mp4.zip"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"ends with \.mp4 or \.gif"):
        encode_video(moving_square(), tmp_path / name)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 5000])
def test_impossible_speeds_are_refused(tmp_path, fps):
    with pytest.raises(ArgumentError) as caught:
        encode_video(moving_square(), tmp_path / "video.mp4", fps=fps)
    assert caught.value.argument == "fps"


@pytest.mark.parametrize(("name", "module"), [("video.mp4", "imageio_ffmpeg"), ("video.gif", "PIL")])
def test_a_missing_encoder_is_answered_with_the_command_that_installs_it(tmp_path, monkeypatch, name, module):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda wanted: None if wanted == module else find_spec(wanted))
    with pytest.raises(MissingExtraError, match=r'pip install "rl-framework\[video\]"'):
        encode_video(moving_square(), tmp_path / name)


def test_a_relative_name_may_look_like_an_option_or_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-y.mp4", "a:b.mp4", "with space %d.MP4"):
        encode_video(moving_square(2), name)
        assert len(decode_mp4(tmp_path / name)[1]) == 2


def test_nothing_is_printed(tmp_path, capfd):
    encode_video(moving_square(), tmp_path / "video.mp4")
    encode_video(moving_square(), tmp_path / "video.gif")
    assert capfd.readouterr() == ("", "")
