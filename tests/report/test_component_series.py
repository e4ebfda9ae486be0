"""What an overlay names is kept as numbers beside the video."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest

from rl_framework.report import record_video
from rl_framework.report.component_series import read_component_series, series_path

pytest.importorskip("imageio_ffmpeg")
pytest.importorskip("PIL.Image")


class Counting(gymnasium.Env):
    """Sees its own step and twice that; an episode has four steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        observation = np.array([self.count, 2 * self.count], dtype=np.float32)
        return observation, 0.5, self.count == 4, False, {"speed": 3.0 if self.count < 3 else np.inf, "text": "1"}

    def render(self):
        return np.zeros((64, 64, 3), dtype=np.uint8)


class Agent:
    def predict(self, observations, state=None, episode_starts=None, deterministic=True):
        return np.ones(len(observations), dtype=np.int64), state


def test_named_components_are_kept_frame_by_frame(tmp_path):
    names = ["double=observation[1]", "reward", "info.speed", "info.text"]
    video = record_video(Agent(), Counting(), tmp_path / "final.gif", length=7, overlay=names, n_environments=1)
    found = read_component_series(video)
    assert found is not None
    assert found.frames_per_second == 20
    np.testing.assert_array_equal(found.episodes, [1, 1, 1, 1, 2, 2, 2])
    nan = np.nan
    np.testing.assert_array_equal(found.values["double"], [0, 2, 4, 6, 0, 2, 4])
    np.testing.assert_array_equal(found.values["reward"], [nan, 0.5, 0.5, 0.5, nan, 0.5, 0.5])
    np.testing.assert_array_equal(found.values["info.speed"], [nan, 3, 3, nan, nan, 3, 3])
    np.testing.assert_array_equal(found.values["info.text"], [nan] * 7)
    assert json.loads(series_path(video).read_text())["components"][0]["name"] == "observation[1]"


@pytest.mark.parametrize("overlay", [None, True], ids=["none", "usual"])
def test_there_is_no_file_where_nothing_is_named(tmp_path, overlay):
    video = record_video(Agent(), Counting(), tmp_path / "final.gif", length=3, overlay=overlay)
    assert [path.name for path in tmp_path.iterdir()] == ["final.gif"]
    assert read_component_series(video) is None


def test_a_video_does_not_fail_with_the_file_beside_it(tmp_path, caplog):
    (tmp_path / "final.components.json" / "in the way").mkdir(parents=True)
    with pytest.raises(Exception, match="directory"):
        record_video(Agent(), Counting(), tmp_path / "final.gif", length=3, overlay=["reward"])
    assert (tmp_path / "final.gif").is_file()


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"version": 2}, "version 1"),
        ({"frames_per_second": 0}, "frames_per_second"),
        ({"frames_per_second": True}, "frames_per_second"),
        ({"episodes": 3}, "no list of numbers"),
        ({"components": 1}, "no list"),
        ({"components": [1]}, "no label"),
        ({"components": [{"label": "a", "values": [1]}]}, "1 values for 2 frames"),
        ({"components": [{"label": "a", "values": ["1", 2]}]}, "no list of numbers"),
        ({"components": [{"label": "a", "values": [10**400, 2]}]}, "too large"),
    ],
    ids=["version", "still", "true", "episodes", "components", "component", "short", "texts", "huge"],
)
def test_damaged_files_are_refused(tmp_path, changed, problem):
    video = tmp_path / "v.mp4"
    video.write_bytes(b"1234")
    whole = {"version": 1, "video_bytes": 4, "frames_per_second": 10, "episodes": [1, 1], "components": []}
    series_path(video).write_text(json.dumps(whole))
    assert read_component_series(video) is not None
    series_path(video).write_text(json.dumps({**whole, **changed}))
    with pytest.raises(ValueError, match=problem):
        read_component_series(video)
