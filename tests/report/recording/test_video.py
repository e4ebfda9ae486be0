import random

import gymnasium
import numpy as np
import pytest

from rl_framework.errors import (
    ArgumentError,
    EnvironmentSourceError,
    MissingExtraError,
    NotTrainedError,
    RecordingError,
)
from rl_framework.report import record_video

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")


class Counting(gymnasium.Env):
    """Shows its own step in the frame's red (10 a step) and the action in green; an episode has four steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode=None, draws=True):
        self.render_mode = render_mode
        self.draws = draws
        self.count, self.action, self.seeds, self.closed = 0, 0, [], False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.count, self.action = 0, 0
        return np.array([0, self.np_random.uniform()], dtype=np.float32), {}

    def step(self, action):
        np.random.uniform()  # Some environments draw from the global generator.
        self.count, self.action = self.count + 1, int(action)
        return np.array([self.count, 0], dtype=np.float32), 1.0, self.count == 4, False, {}

    def render(self):
        frame = np.zeros((8, 8, 3), dtype=np.uint8)
        frame[:, :, :2] = (self.count * 10, self.action * 100)
        return frame if self.draws else None

    def close(self):
        self.closed = True


class Agent:
    """Acts 1 on even and 2 on odd steps, and remembers how it was asked."""

    def __init__(self, fail_after=None):
        self.calls, self.fail_after = [], fail_after

    def predict(self, observations, state=None, episode_starts=None, deterministic=True):
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise ZeroDivisionError("the policy broke")
        random.random()
        np.random.uniform()
        self.calls.append((observations.shape, state, episode_starts.tolist(), deterministic))
        actions = np.where(observations[:, 0] % 2 == 0, 1, 2)
        return actions, 0 if state is None else state + 1


def drawing():
    return Counting(render_mode="rgb_array")


def gif(path):
    """Returns the (step, action) shown in each frame, and each frame's milliseconds."""
    image = Image.open(path)
    shown, durations = [], []
    for index in range(image.n_frames):
        image.seek(index)
        red, green, _ = image.convert("RGB").getpixel((0, 0))
        shown.append((red // 10, green // 100))
        durations.append(image.info["duration"])
    return shown, durations


EPISODE = [(0, 0), (1, 1), (2, 2), (3, 1)]


def test_films_start_and_steps_and_goes_on_with_the_next_episode(tmp_path):
    agent = Agent()
    path = record_video(agent, drawing, tmp_path / "video.gif", length=10, seed=1)
    assert path == tmp_path / "video.gif"
    shown, durations = gif(path)
    assert shown == [*EPISODE, *EPISODE, *EPISODE[:2]]
    assert durations == [50] * 10  # render_fps is 20
    assert [call[2] for call in agent.calls] == [[True], [False], [False], [False]] * 2 + [[True]]
    assert [call[1] for call in agent.calls] == [None, *range(8)]
    assert {call[0] for call in agent.calls} == {(1, 2)}


def test_speed_and_determinism_can_be_chosen(tmp_path):
    agent = Agent()
    _, durations = gif(record_video(agent, drawing, tmp_path / "a.gif", length=4, fps=10, deterministic=False))
    assert durations == [100] * 4
    assert not any(call[3] for call in agent.calls)


def test_an_id_is_opened_so_that_it_draws(tmp_path):
    pytest.importorskip("pygame")
    path = record_video(_Balancing(), "CartPole-v1", tmp_path / "video.mp4", length=12, seed=0)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    assert (meta["codec"], meta["size"], meta["fps"]) == ("h264", (600, 400), 50)
    frames = [np.frombuffer(frame, dtype=np.uint8).reshape(400, 600, 3) for frame in reader]
    assert len(frames) == 12
    expected = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    expected.reset(seed=0)
    assert np.abs(frames[0].astype(int) - expected.render()).mean() < 2
    expected.close()


class _Balancing:
    def predict(self, observations, state=None, episode_starts=None, deterministic=True):
        return (observations[:, 2] + observations[:, 3] > 0).astype(int), None


@pytest.mark.parametrize("several", ["list", "vector"])
def test_of_several_environments_the_first_is_filmed(tmp_path, several):
    if several == "list":
        source = [drawing(), Counting()]
    else:
        source = gymnasium.vector.SyncVectorEnv([drawing, drawing])
    shown, _ = gif(record_video(Agent(), source, tmp_path / "video.gif", length=4))
    assert shown == EPISODE


def test_a_pair_of_environment_and_factory_films_the_factorys(tmp_path):
    stub = Counting()
    assert gif(record_video(Agent(), (stub, drawing), tmp_path / "video.gif", length=4))[0] == EPISODE
    assert stub.seeds == []


def test_a_vec_env_of_stable_baselines_is_filmed(tmp_path):
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    shown, _ = gif(record_video(Agent(), vec_env.DummyVecEnv([drawing]), tmp_path / "video.gif", length=5))
    assert shown == [*EPISODE, EPISODE[0]]


def test_the_callers_environment_is_not_closed_and_a_made_one_is(tmp_path):
    own, made = drawing(), []
    record_video(Agent(), own, tmp_path / "a.gif", length=2, seed=5)
    record_video(Agent(), lambda: made.append(drawing()) or made[0], tmp_path / "b.gif", length=2)
    assert not own.closed
    assert own.seeds == [5]
    assert made[0].closed


def test_recording_leaves_no_trace_in_the_global_random_states(tmp_path):
    random.seed(1)
    np.random.seed(1)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    record_video(Agent(), drawing, tmp_path / "a.gif", length=6)
    with pytest.raises(RecordingError):
        record_video(Agent(fail_after=3), drawing, tmp_path / "b.gif", length=6)
    assert random.getstate() == python_state
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), numpy_state, strict=True))


def test_same_seed_same_video(tmp_path):
    class Sampling(Agent):
        def predict(self, observations, *rest):
            return np.random.randint(0, 3, len(observations)), None

    videos = [gif(record_video(Sampling(), drawing, tmp_path / "v.gif", length=30, seed=seed)) for seed in (1, 1, 2)]
    assert videos[0] == videos[1] != videos[2]


@pytest.mark.parametrize("source", [Counting(), Counting, [Counting()]])
def test_an_environment_that_was_not_made_for_drawing_is_refused_with_the_remedy(tmp_path, source):
    with pytest.raises(RecordingError, match=r'gymnasium\.make\(".*", render_mode="rgb_array"\)') as caught:
        record_video(Agent(), source, tmp_path / "video.mp4")
    assert ("lambda: factory(" in str(caught.value)) is callable(source)
    assert list(tmp_path.iterdir()) == []


def test_the_remedy_names_the_callers_own_id(tmp_path):
    environment = gymnasium.make("CartPole-v1")
    with pytest.raises(RecordingError, match=r'gymnasium\.make\("CartPole-v1", render_mode="rgb_array"\)'):
        record_video(Agent(), environment, tmp_path / "video.mp4")
    environment.close()


def test_an_id_whose_environment_cannot_draw(tmp_path, monkeypatch):
    class Blind(Counting):
        def __init__(self):
            super().__init__()

    spec = gymnasium.envs.registration.EnvSpec("Blind-v0", entry_point=Blind)
    monkeypatch.setitem(gymnasium.registry, "Blind-v0", spec)
    with pytest.raises(RecordingError, match="takes render_mode"):
        record_video(Agent(), "Blind-v0", tmp_path / "video.mp4")
    with pytest.raises(EnvironmentSourceError):
        record_video(Agent(), "DoesNotExist-v0", tmp_path / "video.mp4")


def test_an_environment_that_draws_nothing(tmp_path):
    with pytest.raises(RecordingError, match="draws nothing"):
        record_video(Agent(), Counting("rgb_array", draws=False), tmp_path / "video.mp4")


@pytest.mark.parametrize("first_bad_frame", [0, 3])
def test_a_display_that_is_missing_is_named(tmp_path, first_bad_frame):
    class Headless(Counting):
        def render(self):
            if self.count >= first_bad_frame:
                raise OSError("no display found")
            return super().render()

    environment = Headless("rgb_array")
    with pytest.raises(RecordingError, match="cannot be rendered: OSError: no display found") as caught:
        record_video(Agent(), environment, tmp_path / "video.mp4")
    assert isinstance(caught.value.__cause__, OSError)
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"] * (first_bad_frame > 0)


def test_a_failure_in_the_middle_is_chained_and_leaves_what_was_filmed(tmp_path):
    made = []
    with pytest.raises(RecordingError, match=r"after 6 frames.*the policy broke") as caught:
        record_video(Agent(fail_after=5), lambda: made.append(drawing()) or made[0], tmp_path / "video.gif")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.partial == tmp_path / "video.gif"
    assert gif(tmp_path / "video.gif")[0] == [*EPISODE, *EPISODE[:2]]
    assert made[0].closed


def test_an_agent_that_was_not_trained_says_so(tmp_path):
    class Untrained:
        def predict(self, *arguments):
            raise NotTrainedError("predict")

    with pytest.raises(NotTrainedError):
        record_video(Untrained(), drawing, tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"path": "video.avi"}, "path"),
        ({"length": 0}, "length"),
        ({"length": 1.5}, "length"),
        ({"length": "5"}, "length"),
        ({"fps": -5}, "fps"),
        ({"fps": "30"}, "fps"),
        ({"agent": "agent.zip"}, "agent"),
        ({"agent": lambda observations: [0]}, "agent"),
        ({"seed": -1}, "seed"),
        ({"environment": None}, "environment"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_opened(tmp_path, arguments, named):
    def unopened():
        raise AssertionError("the environment was opened")

    with pytest.raises(ArgumentError) as caught:
        record_video(**{"agent": Agent(), "environment": unopened, "path": tmp_path / "video.mp4", **arguments})
    assert caught.value.argument == named


def test_a_missing_encoder_is_known_before_anything_is_opened(tmp_path, monkeypatch):
    def unopened():
        raise AssertionError("the environment was opened")

    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rl-framework\[video\]"):
        record_video(Agent(), unopened, tmp_path / "video.mp4")


@pytest.mark.parametrize(("render_fps", "milliseconds"), [(None, 30), (0, 30), ("fast", 30), (10, 100)])
def test_metadata_without_a_usable_speed_means_30(tmp_path, render_fps, milliseconds):
    environment = drawing()
    environment.metadata = {"render_fps": render_fps}
    _, durations = gif(record_video(Agent(), environment, tmp_path / "video.gif", length=2))
    assert durations[0] == milliseconds


def test_importing_the_package_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys, rl_framework.report, rl_framework.training.metrics, rl_framework.evaluation.result\n"
        "print([name for name in ('torch', 'matplotlib', 'PIL', 'imageio_ffmpeg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
