"""Grids, machines without a screen, and videos that any player takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rl_framework.errors import ArgumentError, RecordingError
from rl_framework.report import record_video
from rl_framework.report.recording.headless import explain, without_screen
from rl_framework.training.metrics import read_histograms

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "recording.md"


class Coloured(gymnasium.Env):
    """Shows its seed in red and its step in green; episodes are as long as the seed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-10, 1000, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    render_mode = "rgb_array"
    made = 0

    def __init__(self, height=10, width=15):
        self.height, self.width = height, width
        self.seed, self.closed = 1, False
        type(self).made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.count = seed or self.seed, 0
        return np.array([0], dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        return np.array([self.count], dtype=np.float32), 1.0, self.count == self.seed, False, {}

    def render(self):
        frame = np.zeros((self.height, self.width, 3), dtype=np.uint8)
        frame[:, :, :2] = (self.seed * 20, self.count * 20)
        return frame

    def close(self):
        self.closed = True


class Still:
    def predict(self, observations, state=None, episode_starts=None, deterministic=True):
        return np.zeros(len(observations), dtype=int), None


@pytest.fixture
def film(monkeypatch, tmp_path):
    """Returns the frames that would be encoded."""

    def frames_of(environment, agent=None, **arguments):
        frames = []
        monkeypatch.setattr(
            "rl_framework.report.recording.video.encode_video", lambda given, *_, **__: frames.extend(given)
        )
        record_video(agent or Still(), environment, tmp_path / "video.mp4", **arguments)
        return frames

    return frames_of


def tiles_of(frame, rows, columns, height=10, width=15):
    """Returns (seed, step) of every tile; None where there is none."""
    shown = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + 2), column * (width + 2)
            tile = frame[top : top + height, left : left + width]
            same = (tile == tile[0, 0]).all()
            assert same
            red, green, blue = tile[0, 0]
            shown.append(None if blue else (red // 20, green // 20))
    return shown


def test_each_tile_is_an_environment_of_its_own_whose_episodes_end_by_themselves(film):
    frames = film(Coloured, length=6, n_environments=4, seed=2)
    assert {frame.shape for frame in frames} == {(22, 32, 3)}
    seeds = range(2, 6)
    for step, frame in enumerate(frames):
        assert tiles_of(frame, 2, 2) == [(seed, step % seed) for seed in seeds]


@pytest.mark.parametrize(
    ("arguments", "rows", "columns", "count"),
    [
        ({"grid": (1, 3)}, 1, 3, 3),
        ({"grid": (3, 1)}, 3, 1, 3),
        ({"grid": (2, 3), "n_environments": 5}, 2, 3, 5),
        ({"n_environments": 3}, 2, 2, 3),
        ({"n_environments": 5}, 2, 3, 5),
        ({"grid": (1, 1)}, 1, 1, 1),
    ],
)
def test_the_form_of_the_grid(film, arguments, rows, columns, count):
    (frame,) = film(Coloured, length=1, seed=1, **arguments)
    assert frame.shape == (rows * 12 - 2, columns * 17 - 2, 3)
    expected = [(1 + index, 0) if index < count else None for index in range(rows * columns)]
    assert tiles_of(frame, rows, columns) == expected


def test_of_a_list_the_first_are_filmed_and_nothing_else_is_made(film):
    environments = [Coloured() for _ in range(4)]
    (frame,) = film(environments, length=1, n_environments=2, seed=1)
    assert tiles_of(frame, 1, 2) == [(1, 0), (2, 0)]
    assert not any(environment.closed for environment in environments)
    assert not hasattr(environments[2], "count")


def test_a_vector_environment_gives_its_first_slots(film):
    vector = gymnasium.vector.SyncVectorEnv([Coloured] * 3)
    (frame,) = film(vector, length=1, n_environments=2, seed=1)
    assert tiles_of(frame, 1, 2) == [(1, 0), (2, 0)]


def test_tiles_of_different_sizes_have_the_room_of_the_largest(film):
    (frame,) = film([Coloured(10, 15), Coloured(6, 20)], length=1, n_environments=2, seed=1)
    assert frame.shape == (10, 42, 3)
    assert (frame[:6, 22:42, 0] == 40).all()
    assert (frame[6:, 22:42] == 96).all()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"n_environments": 0}, "n_environments"),
        ({"n_environments": 5, "grid": (2, 2)}, "n_environments"),
        ({"n_environments": True}, "n_environments"),
        ({"grid": (2,)}, "grid"),
        ({"grid": (0, 2)}, "grid"),
        ({"grid": "2x2"}, "grid"),
    ],
)
def test_impossible_grids_are_refused_before_anything_is_opened(tmp_path, arguments, argument):
    Coloured.made = 0
    with pytest.raises(ArgumentError) as caught:
        record_video(Still(), Coloured, tmp_path / "video.mp4", **arguments)
    assert caught.value.argument == argument
    assert Coloured.made == 0


@pytest.mark.parametrize("source", ["one", "list", "vector"])
def test_more_tiles_than_environments_are_refused(tmp_path, source):
    environments = {
        "one": lambda: Coloured(),
        "list": lambda: [Coloured(), Coloured()],
        "vector": lambda: gymnasium.vector.SyncVectorEnv([Coloured] * 2),
    }[source]()
    with pytest.raises(ArgumentError, match="environments to film") as caught:
        record_video(Still(), environments, tmp_path / "video.mp4", n_environments=3)
    assert caught.value.argument == "n_environments"


def probe(path):
    """Returns what ffmpeg itself finds in a file when it decodes all of it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr


def test_a_grid_with_overlays_is_a_video_that_browsers_play(tmp_path):
    path = record_video(
        Still(), lambda: Coloured(51, 37), tmp_path / "video.mp4", 9, overlay=True, n_environments=4, seed=3
    )
    found = probe(path)
    assert "Video: h264" in found
    assert "yuv420p" in found
    assert "20 fps" in found
    assert "error" not in found.lower()
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    assert (width % 2, height % 2) == (0, 0)
    assert sum(1 for _ in reader) == 9
    content = path.read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")


def test_an_ffmpeg_of_ones_own_is_used(tmp_path):
    copy = shutil.copy(imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "my-ffmpeg")
    assert record_video(Still(), Coloured, tmp_path / "video.mp4", 3, ffmpeg=copy).stat().st_size > 0
    with pytest.raises(ArgumentError, match="no such program"):
        record_video(Still(), Coloured, tmp_path / "video.mp4", 3, ffmpeg=tmp_path / "nothing")


# Machines without a screen


@pytest.fixture
def no_screen(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a screen")
def test_without_a_screen_the_drivers_are_chosen_for_the_time_of_the_recording(no_screen, monkeypatch):
    monkeypatch.setattr("rl_framework.report.recording.headless._opengl_without_screen", lambda: "egl")
    before = dict(os.environ)
    with without_screen():
        chosen = {name: value for name, value in os.environ.items() if name not in before}
    assert chosen == {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "MUJOCO_GL": "egl"}
    assert dict(os.environ) == before
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with without_screen():
        assert (os.environ["MUJOCO_GL"], os.environ["SDL_VIDEODRIVER"]) == ("osmesa", "x11")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    with without_screen():
        assert "MUJOCO_GL" not in os.environ


def test_pygame_that_wants_a_window_has_a_dummy_one(no_screen, tmp_path):
    pygame = pytest.importorskip("pygame")

    class Window(Coloured):
        def render(self):
            pygame.display.init()
            window = pygame.display.set_mode((16, 12))
            window.fill((0, 90, 0))
            try:
                return np.transpose(pygame.surfarray.array3d(window), (1, 0, 2))
            finally:
                pygame.display.quit()

    assert "20 fps" in probe(record_video(Still(), Window, tmp_path / "video.mp4", 3))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux without a screen")
def test_mujoco_draws_without_a_screen_or_says_what_to_do(no_screen, tmp_path):
    """In a process of its own: mujoco reads its environment variable once, and a failure may end the process."""
    pytest.importorskip("mujoco")
    code = (
        "import json, numpy as np\n"
        "from rl_framework import record_video\n"
        "from rl_framework.errors import RLFrameworkError\n"
        "class Still:\n"
        "    def predict(self, observations, *rest): return np.zeros((len(observations), 1), np.float32), None\n"
        "try:\n"
        "    record_video(Still(), 'InvertedPendulum-v5', 'video.mp4', 3)\n"
        "except RLFrameworkError as error:\n"
        "    print(json.dumps(str(error)))\n"
        "else:\n"
        "    print(json.dumps(None))\n"
    )

    def said(**environment):
        command, own = [sys.executable, "-c", code], {**os.environ, **environment}
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])

    message = said()
    if message is None:
        assert "h264" in probe(tmp_path / "video.mp4")
    else:
        assert "MUJOCO_GL=egl" in message
    message = said(MUJOCO_GL="glfw")  # needs a screen
    assert "MUJOCO_GL=egl or MUJOCO_GL=osmesa" in message
    assert "It is 'glfw' now" in message


class FatalError(Exception):
    __module__ = "mujoco"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (FatalError("gladLoadGL error"), "MUJOCO_GL=egl"),
        (AttributeError("'NoneType' object has no attribute 'glGetError'"), "MUJOCO_GL=egl"),
        (RuntimeError("Failed to make the EGL context current."), "MUJOCO_GL=egl"),
        (OSError("No available video device"), "SDL_VIDEODRIVER=dummy"),
        (ImportError("No module named 'pygame'"), r"rl-framework\[classic-control\]"),
    ],
)
def test_what_is_missing_is_said_with_the_remedy(tmp_path, error, remedy):
    class Broken(Coloured):
        def render(self):
            raise error

    with pytest.raises(RecordingError, match=remedy) as caught:
        record_video(Still(), Broken, tmp_path / "video.mp4")
    assert caught.value.__cause__ is error
    assert str(error) in explain(error)


def test_the_code_in_the_documentation_works_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), flags=re.DOTALL)
    exec(compile(code, DOCUMENTATION.name, "exec"), {})
    videos = sorted(path.name for path in Path("run/videos").iterdir())
    assert videos == ["agent_000001000.mp4", "agent_000002000.mp4"]
    assert "h264" in probe("run/replay.mp4")
    names = {name for _, name, _ in read_histograms("run/histograms.jsonl")}
    assert {"rollout/action", "norms/policy_gradient"} <= names
    assert Path("run/four.gif").stat().st_size > 0
