from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest

from rl_framework.errors import ArgumentError, MissingExtraError, RecordingError
from rl_framework.report import Overlay, record_video
from rl_framework.report.components import Component, Moment
from rl_framework.report.recording.overlay import OverlayPainter

pytest.importorskip("PIL.Image")
from rl_framework.report.recording.glyphs import Glyphs

OBSERVATION = {"camera": np.array([[1, 2], [3, 4]]), "speed": np.array([0.25, -7.5])}
INFO = {"x_position": 1.5, "nested": {"deep": [10, 20]}, "name": "left", "with space": 3, "episode": {"r": 1.0}}


def moment(**changes):
    values = {
        "episode": 1,
        "step": 4,
        "reward": 1.0,
        "episode_return": 12.0,
        "action": np.array([0.5, -0.5]),
        "value": 33.25,
        "observation": OBSERVATION,
        "info": INFO,
    }
    return Moment(**{**values, **changes})


def shows(picture, text, size=13):
    """Tells whether a text can be read somewhere in a picture, pixel for pixel."""
    glyphs = Glyphs(size)
    drawn = np.zeros((glyphs.height, glyphs.width(text)), dtype=np.uint8)
    glyphs.draw(drawn, text, 0, 0)
    drawn = drawn[drawn.any(axis=1)]
    height, width = (have - need + 1 for have, need in zip(picture.shape, drawn.shape, strict=False))
    places = np.ones((height, width), dtype=bool)
    for row, column in np.argwhere(drawn > 128):  # labels are darker
        places &= picture[row : row + height, column : column + width, 0] == drawn[row, column]
        if not places.any():
            return False
    return True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("episode", 1),
        ("step", 4),
        ("reward", 1.0),
        ("return", 12.0),
        ("value", 33.25),
        ("action[1]", -0.5),
        ("observation['speed'][-1]", -7.5),
        ('observation["camera"][1][0]', 3),
        ("observation.speed[0]", 0.25),
        ("info.x_position", 1.5),
        ("info['with space']", 3),
        ("info.nested.deep[1]", 20),
        ("info.name", "left"),
        ("info.missing", None),
        ("info.nested.deep[2]", None),
        ("info.nested.__class__", None),
        ("info.name[0]", None),
        ("info.x_position[0]", None),
    ],
)
def test_components_are_read_by_name(name, value):
    assert Component(name).read(moment()) == value


@pytest.mark.parametrize(
    "name",
    [
        "",
        "observations",
        "reward[0]",
        "info",
        "observation[",
        "observation[0",
        "info.",
        "info['a",
        "info[f()]",
        "step.x",
        "observation[0] ",
        "__import__('os')",
    ],
)
def test_what_is_no_component_is_refused(name):
    with pytest.raises(ArgumentError, match="nothing that can be shown") as caught:
        Overlay([name])
    assert caught.value.argument == "overlay"


@pytest.mark.parametrize("overlay", ["step", 3, [], [1], {"step"}])
def test_what_is_no_overlay_is_refused(overlay):
    with pytest.raises(ArgumentError):
        Overlay.of(overlay)


@pytest.mark.parametrize("arguments", [{"place": "above"}, {"text_size": 2}])
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ArgumentError) as caught:
        Overlay(**arguments)
    assert caught.value.argument in arguments


def test_a_whole_action_or_observation_becomes_its_numbers():
    first = moment(observation=np.zeros(3), action=None)
    names = [line.name for line in Overlay(["action", "observation", "step"]).components(first, (2,))]
    assert names == [*(f"action[{i}]" for i in range(2)), *(f"observation[{i}]" for i in range(3)), "step"]
    assert [line.name for line in Overlay(["action"]).components(first, ())] == ["action"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["observation[5]"], r"no such part: it has the shape \(3,\)"),
        (["observation['speed']"], "no such part"),
        (["value"], "estimates no values"),
    ],
)
def test_what_can_never_be_shown_is_refused(names, said):
    with pytest.raises(ArgumentError, match=said):
        Overlay(names).components(moment(observation=np.zeros(3), value=None), ())


def test_a_dictionary_is_too_much_to_be_shown():
    with pytest.raises(ArgumentError, match=r"the parts 'camera', 'speed', too much.*observation\['camera'\]\[0\]"):
        Overlay(["observation"]).components(moment(), ())


def test_an_image_is_too_much_to_be_shown():
    with pytest.raises(ArgumentError, match=r"too much to be shown.*observation\[0\]"):
        Overlay(["observation"]).components(moment(observation=np.zeros((64, 64, 3))), ())


def test_the_usual_overlay_has_no_value_where_there_is_none():
    names = [line.name for line in Overlay().components(moment(value=None, action=None), (6,))]
    assert names == ["episode", "step", "reward", "return", *(f"action[{i}]" for i in range(6))]


def painter(names, shape, first=None, **arguments):
    overlay = Overlay(names, **arguments)
    return OverlayPainter(overlay, overlay.components(first or moment(), ()), shape)


def test_names_and_values_are_written_as_text():
    names = ["step", "return", "value", "info.x_position", "info.name", "info.missing"]
    picture = painter(names, (300, 300, 3), place="beside").paint(np.zeros((300, 300, 3), np.uint8), moment())
    panel = picture[:, 300:]
    for text in ("4", "12", "33.250", "1.500", "left", "-"):
        assert shows(panel, text), text
    assert not shows(panel, "33.251")
    other = painter(names, (300, 300, 3), place="beside")
    changed = other.paint(np.zeros((300, 300, 3), np.uint8), moment(value=33.26))
    assert shows(changed[:, 300:], "33.260")


def test_a_sign_stands_close_to_its_number():
    glyphs = Glyphs(20)
    drawn = np.zeros((glyphs.height, glyphs.width("(-1")), dtype=np.uint8)
    glyphs.draw(drawn, "(-1", 0, 0)
    gaps = np.diff(np.flatnonzero(drawn.any(axis=0))) - 1
    assert gaps.max() < glyphs.digit_width / 2


def test_inside_a_large_frame_only_a_corner_changes():
    frame = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    before = frame.copy()
    picture = painter(["step", "return"], frame.shape).paint(frame, moment())
    np.testing.assert_array_equal(frame, before)
    assert picture.shape == frame.shape
    rows, columns = np.nonzero((picture != frame).any(axis=2))
    assert 20 < rows.max() < 100
    assert 100 < columns.max() < 300
    # It darkens what is under it, but for the text.
    assert picture[: rows.max(), : columns.max()].mean() < 0.4 * frame.mean()


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 12), (84, 84, 1), (210, 160, 3), (5, 300, 4)])
def test_beside_a_small_frame_the_picture_is_enlarged_and_readable(shape):
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = painter(["step", "return", "value", "info.name"], shape).paint(frame, moment())
    height, width = shape[:2]
    rgb = np.dstack([frame] * 3) if frame.ndim == 2 else frame[:, :, :3]
    panel = 88
    scale = max(1, -(-panel // height))
    assert picture.shape[0] >= panel - 30
    scale = next(s for s in range(1, 65) if s * height >= picture.shape[0] or s == 64) if scale > 1 else 1
    enlarged = np.broadcast_to(rgb, (height, width, 3)).repeat(scale, axis=0).repeat(scale, axis=1)
    np.testing.assert_array_equal(picture[: enlarged.shape[0], : enlarged.shape[1]], enlarged)
    assert shows(picture[:, enlarged.shape[1] :], "33.250")


def curve_of(picture, row=0):
    """Returns the rows in which the curve of a line runs, by column."""
    colored = picture.max(axis=2).astype(int) - picture.min(axis=2) > 40
    line = Glyphs(13).height + 3
    band = colored[row * line : (row + 1) * line + 3]
    return [np.flatnonzero(column) for column in band.T if column.any()]


def test_the_curve_follows_the_value_and_begins_anew_with_an_episode():
    paint = painter(["value"], (40, 40, 3), place="beside")
    frame = np.zeros((40, 40, 3), np.uint8)
    for value in range(20):
        picture = paint.paint(frame, moment(value=float(value)))
    rising = [rows.mean() for rows in curve_of(picture[:, 40:])]
    assert len(rising) == 20
    assert all(later <= earlier for earlier, later in itertools.pairwise(rising))
    assert rising[0] - rising[-1] > 8
    for value in range(5):
        picture = paint.paint(frame, moment(episode=2, value=-float(value)))
    falling = [rows.mean() for rows in curve_of(picture[:, 40:])]
    assert len(falling) == 5
    assert falling[-1] - falling[0] > 8


def test_a_long_episode_shows_its_last_steps():
    paint = painter(["value"], (40, 40, 3), place="beside")
    for value in range(500):
        picture = paint.paint(np.zeros((40, 40, 3), np.uint8), moment(value=float(value)))
    assert 90 <= len(curve_of(picture[:, 40:])) <= 96


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1e300, "1.00e+300"),
        (-1e-9, "-1.00e-09"),
        (123456.5, "1.23e+05"),
        (True, "1"),
        (np.float32(2.5), "2.500"),
        (np.array([1, 2]), "1 2"),
        ([], "[]"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_any_value_can_be_shown(value, text):
    paint = painter(["info.x"], (100, 100, 3), place="beside")
    for _ in range(3):
        picture = paint.paint(np.zeros((100, 100, 3), np.uint8), moment(info={"x": value}))
    assert shows(picture[:, 100:], text)


class Counting(gymnasium.Env):
    """An episode has four steps, each of which pays 10 more than the one before and tells of itself."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1000, 1000, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(100)
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0, 77], dtype=np.float32), {"told": 500}

    def step(self, action):
        self.count += 1
        info = {"told": 500 + self.count}
        return np.array([self.count, 77], dtype=np.float32), 10.0 * self.count, self.count == 4, False, info

    def render(self):
        return np.full((120, 30, 3), self.count, dtype=np.uint8)


class Agent:
    def predict(self, observations, state=None, episode_starts=None, deterministic=True):
        return (61 + observations[:, 0]).astype(int), None

    def estimate_value(self, observations):
        return -800.0 - observations[:, 0]


def filmed(monkeypatch, tmp_path, agent, **arguments):
    """Returns the frames that would be encoded."""
    frames = []

    def keep(given, path, *rest, **options):
        frames.extend(given)
        return path

    monkeypatch.setattr("rl_framework.report.recording.video.encode_video", keep)
    record_video(agent, Counting, tmp_path / "video.gif", **arguments)
    return frames


def test_a_video_tells_what_belongs_to_each_frame(tmp_path, monkeypatch):
    names = ["episode", "step", "reward", "return", "action", "value", "observation[1]", "info.told"]
    frames = filmed(monkeypatch, tmp_path, Agent(), length=6, overlay=names)
    expected = [
        {"step": "0", "reward": "-", "return": "0", "action": "-", "value": "-800", "told": "500"},
        {"step": "1", "reward": "10", "return": "10", "action": "61", "value": "-801", "told": "501"},
        {"step": "2", "reward": "20", "return": "30", "action": "62", "value": "-802", "told": "502"},
        {"step": "3", "reward": "30", "return": "60", "action": "63", "value": "-803", "told": "503"},
        {"step": "0", "return of the one before": "2 (100)", "action": "-", "value": "-800", "told": "500"},
        {"step": "1", "reward": "10", "return": "10", "action": "61", "value": "-801", "told": "501"},
    ]
    for frame, texts in zip(frames, expected, strict=True):
        for what, text in texts.items():
            assert shows(frame, text), (what, text)
        assert shows(frame, "77")


def test_an_agent_without_estimates_has_the_usual_overlay_all_the_same(tmp_path, monkeypatch):
    class Plain:
        predict = Agent.predict

    with_value, without = (
        filmed(monkeypatch, tmp_path, agent, length=2, overlay=True)[0].shape for agent in (Agent(), Plain())
    )
    assert with_value[0] >= without[0]
    with pytest.raises(ArgumentError, match="estimates no values"):
        filmed(monkeypatch, tmp_path, Plain(), length=2, overlay=["value"])


def test_a_component_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"observation\[9\]"):
        record_video(Agent(), Counting, tmp_path / "video.mp4", overlay=["observation[9]"])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_a_video_with_its_overlay(tmp_path):
    class Failing(Counting):
        def step(self, action):
            if self.count == 2:
                raise ZeroDivisionError("the simulator broke")
            return super().step(action)

    with pytest.raises(RecordingError, match="after 3 frames") as caught:
        record_video(Agent(), Failing, tmp_path / "video.mp4", overlay=True)
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(caught.value.partial))
    assert next(reader)["size"][1] % 2 == 0
    assert sum(1 for _ in reader) == 3


def test_without_pillow_the_command_is_named(monkeypatch):
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rl-framework\[video\]"):
        Glyphs(13)


def test_a_label_stands_for_a_name():
    shown = moment()
    hull = Component("hull angle = observation['speed'][0]")
    assert (hull.label, hull.name, hull.read(shown)) == ("hull angle", "observation['speed'][0]", 0.25)
    assert Component("info['with space']").label == "info['with space']"
    with pytest.raises(ArgumentError, match="is nothing that can be shown"):
        Component("hull angle=observatio[0]")
    lines = Overlay(["joints=action", "V=value"]).components(shown, (2,))
    assert [(line.label, line.name) for line in lines] == [
        ("joints[0]", "action[0]"),
        ("joints[1]", "action[1]"),
        ("V", "value"),
    ]
    assert Overlay(["V=value"]).wants_value
    frame = np.zeros((200, 400, 3), np.uint8)
    labelled, plain = (
        painter([name], frame.shape, place="beside").paint(frame, shown).shape[1]
        for name in ("hull=observation['speed'][0]", "observation['speed'][0]")
    )
    assert labelled < plain
