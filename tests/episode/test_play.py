"""A person at the keyboard, typed by a script: real pygame events on SDL's video driver without a screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium import spaces
from tests.environment.toys import Counter

from rl_framework.episode import EpisodeSequence
from rl_framework.episode.play import play_episodes
from rl_framework.errors import ArgumentError, RecordingError

FAST = 5000.0
KEYS = {"left": 0, "right": 1}


class Board(gymnasium.Env[Any, Any]):
    """Notes what it is told; an episode has five steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(self, action_space: Any = None, render_mode: str | None = "rgb_array", fails_at: int = 0) -> None:
        self.observation_space = spaces.Box(0, 100, (2,), np.float32)
        self.action_space = action_space or spaces.Discrete(4)
        self.render_mode = render_mode
        self.seeds: list[int | None] = []
        self.actions: list[Any] = []
        self.closed, self.fails_at = 0, fails_at
        self._observation = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        self._observation[:] = len(self.seeds), 0
        return self._observation, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.actions.append(np.array(action).tolist())
        if len(self.actions) == self.fails_at:
            raise ValueError("the board broke")
        self._observation[1] = self.t
        return self._observation, 1.5, self.t == 5, False, {"t": self.t}

    def render(self) -> Any:
        return np.full((20, 30, 3), 50 * self.t, np.uint8)

    def close(self) -> None:
        self.closed += 1


def typing(*frames: str) -> Callable[[int], None]:
    """Types frame by frame: "+left" presses, "-left" releases, "left" does both, "x" closes the window."""

    def type_frame(number: int) -> None:
        assert number < len(frames), "the script is over, and the game is not"
        for word in frames[number].split():
            if word == "x":
                pygame.event.post(pygame.event.Event(pygame.QUIT))
                continue
            key = pygame.key.key_code(word.strip("+-"))
            for sign, kind in (("-", pygame.KEYDOWN), ("+", pygame.KEYUP)):
                if word[0] != sign:
                    pygame.event.post(pygame.event.Event(kind, key=key))

    return type_frame


def play(environment: Any, *frames: str, **options: Any) -> EpisodeSequence:
    options = {"keys": KEYS, "fps": FAST, **options}
    return play_episodes(environment, key_source=typing(*frames), **options)


def test_keys_become_actions_and_steps_an_episode() -> None:
    board = Board()
    played = play(board, "", "left", "", "+right", "", "", "-right", "left", seed=3)
    assert len(played) == 1
    episode = played[0]
    assert episode.actions.tolist() == [0, 1, 1, 1, 0] == board.actions, "it waited while no key was held"
    assert episode.observations.tolist() == [[1, t] for t in range(6)]
    assert episode.rewards.tolist() == [1.5] * 5
    assert (episode.terminated, episode.truncated) == (True, False)
    assert episode.infos is not None
    assert [info["t"] for info in episode.infos] == [1, 2, 3, 4, 5]
    assert (board.seeds, board.closed) == ([3], 0)
    assert played.action_space == board.action_space
    assert not played.spaces_are_inferred


def test_noop_while_no_key_is_held_once_the_episode_has_begun() -> None:
    board = Board()
    play(board, "", "", "left", "", "", "right", "", noop=3)
    assert board.actions == [0, 3, 3, 1, 3]
    board = Board()
    play(board, "", "", "space", "", "", "right", "", keys={**KEYS, (): 2})
    assert board.actions == [2, 2, 2, 1, 2], "any key begins"


def test_keys_together() -> None:
    board = Board()
    keys = {"left": 0, "up": 1, ("up", "left"): 2, "right": 3}
    play(board, "+left", "+up", "-left", "+right", "-right", keys=keys)
    assert board.actions == [0, 2, 1, 3, 1], "a combination, and else the key that was pressed last"


def test_continuous_actions_add_up_within_the_bounds() -> None:
    board = Board(spaces.Box(-1, 1, (2,), np.float32))
    keys = {(): [0, 0], "left": [-1, 0], "up": [0, 0.5], "w": [0, 0.75], ("left", "w"): [0.25, 0.25]}
    played = play(board, "+left", "+up", "+w", "-left", "-w -up", keys=keys)
    assert board.actions == [[-1, 0], [-1, 0.5], [-1, 1], [0, 1], [0, 0]]
    assert played[0].actions.dtype == np.float32
    board = Board(spaces.Box(-1, 1, (2,), np.float32))
    play(board, "+left", "+w", "-left", "-w", "", keys=keys)
    assert board.actions[1] == [0.25, 0.25], "unless their combination is listed"


def test_restart_forgets_what_was_played_of_the_episode() -> None:
    board = Board()
    played = play(board, "+left", "", "r", "-left", "", *["right"] * 5, seed=3)
    assert len(played) == 1
    assert played[0].observations[:, 0].tolist() == [2] * 6
    assert played[0].actions.tolist() == [1] * 5
    assert board.seeds == [3, None]


def test_a_pause_is_no_step() -> None:
    board = Board()
    play(board, "left", "p", "left", "", "p", "", "", "right", noop=3)
    assert board.actions == [0, 3, 3, 3, 1]


@pytest.mark.parametrize("end", ["escape", "x"])
def test_ending_keeps_the_finished_episodes(end: str) -> None:
    board = Board()
    played = play(board, "+left", "", "", "", "", "", "-left", "left", "left", end, n_episodes=5)
    assert len(played) == 1
    assert len(board.actions) == 7
    assert played[0].observations[:, 0].tolist() == [1] * 6


def test_every_episode_begins_with_a_new_key() -> None:
    board = Board()
    played = play(board, "+left", *[""] * 7, "right", "", "", "", "", n_episodes=2, noop=3)
    assert [episode.actions.tolist() for episode in played] == [[0] * 5, [1, 0, 0, 0, 0]]


def test_nothing_finished_is_nothing_to_return() -> None:
    with pytest.raises(RecordingError, match="no episode was finished"):
        play(Board(), "left", "escape")


def test_episodes_before_a_failure_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the board broke") as caught:
        play(Board(fails_at=8), *["left"] * 10, n_episodes=3, path=tmp_path / "episodes")
    assert "The 1 finished episodes before it are kept" in caught.value.__notes__[0]
    assert len(EpisodeSequence.load(tmp_path / "episodes")) == 1

    def interrupt(number: int) -> None:
        if number == 7:
            raise KeyboardInterrupt
        typing(*["left"] * 8)(number)

    assert len(play_episodes(Board(), 3, keys=KEYS, fps=FAST, key_source=interrupt)) == 1


def test_a_path_that_is_taken_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    board = Board()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ArgumentError, match="path="):
        play(board, path=tmp_path)
    assert not board.seeds


def test_the_window_shows_the_frame_and_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, colours, sizes = [], [], set()
    flip = pygame.display.flip

    def look() -> None:
        screen = pygame.display.get_surface()
        captions.append(pygame.display.get_caption()[0])
        colours.append(screen.get_at((0, 0))[:3])
        sizes.add(screen.get_size())
        flip()

    monkeypatch.setattr(pygame.display, "flip", look)
    play(Board(), "", "left", "p", "p", *["left"] * 4)
    assert captions[0] == "Board  |  episode 1 of 1  |  step 0  |  return 0  |  press a key to begin"
    assert captions[2] == "Board  |  episode 1 of 1  |  step 1  |  return 1.5"
    assert captions[3].endswith("step 1  |  return 1.5  |  paused (P)")
    assert captions[-1].endswith("step 5  |  return 7.5  |  the end")
    assert colours[0] == (0, 0, 0)
    assert colours[-1] == (250, 250, 250), "the last frame is shown too"
    assert sizes == {(30 * 21, 20 * 21)}
    assert not pygame.display.get_init(), "the window is gone"


def test_frames_keep_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Clock:
        def tick(self, fps: float) -> None:
            asked.append(fps)

    monkeypatch.setattr(pygame.time, "Clock", Clock)
    play(Board(), *["left"] * 5, fps=None)
    assert set(asked) == {50}


def test_an_environment_of_gymnasium_by_its_id() -> None:
    played = play("CartPole-v1", "", *["+left"], *[""] * 40, keys=None, seed=0, n_episodes=1)
    episode = played[0]
    assert set(episode.actions.tolist()) == {0}
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=0)
    for row, action in zip(episode.observations, episode.actions, strict=False):
        assert np.array_equal(row, observation)
        observation = environment.step(action)[0]
    assert np.array_equal(episode.observations[-1], observation)
    assert episode.terminated


def test_environments_that_take_turns_wait_for_keys() -> None:
    options = {"map_name": "4x4", "is_slippery": False}
    played = play("FrozenLake-v1", "", "down", "", "down", "right", "", "up", keys=None, environment_kwargs=options)
    assert played[0].observations.tolist() == [0, 4, 8, 9, 5]
    assert played[0].actions.tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize(
    "name",
    [
        "Acrobot",
        "CartPole",
        "CliffWalking",
        "FrozenLake",
        "LunarLander",
        "MountainCar",
        "MountainCarContinuous",
        "Pendulum",
        "Taxi",
    ],
)
def test_every_known_mapping_fits_its_environment(name: str) -> None:
    newest = max(spec.version or 0 for spec in gymnasium.registry.values() if spec.name == name)
    environment = gymnasium.make(f"{name}-v{newest}", render_mode="rgb_array", max_episode_steps=1)
    assert len(play(environment, "left", keys=None)) == 1
    environment.close()


def test_the_environments_own_mapping() -> None:
    class Own(Board):
        def get_keys_to_action(self) -> Any:
            return {(): 0, (ord("a"),): 1, "d": 2, "ad": 3}

    board = Own()
    play(board, "+a", "+d", "-a", "-d", "", keys=None)
    assert board.actions == [1, 3, 2, 0, 0]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"keys": {"left": 4}}, r"keys\['left'\]=4: is no action of Discrete\(4\)"),
        ({"keys": {"left": True}}, r"keys\['left'\]=True: is no action"),
        ({"keys": {"lefd": 0}}, "there is no key 'lefd'"),
        ({"keys": {276: 0}}, "there is no key with the code 276"),
        ({"keys": {"r": 0}}, "the key 'r' begins the episode anew"),
        ({"keys": {("left", "escape"): 0}}, "the key 'escape' ends"),
        ({"keys": {}}, "must be a mapping from keys to actions"),
        ({"keys": {(): 1}}, "must be a mapping from keys to actions"),
        ({"keys": None}, "nobody knows which keys"),
        ({"noop": 9}, "noop=9: is no action"),
        ({"fps": 0}, "fps=0: must be a number above zero"),
        ({"zoom": -1}, "zoom=-1: must be a number above zero"),
        ({"n_episodes": 0}, "n_episodes=0: must be an integer of at least 1"),
    ],
    ids=lambda value: None if isinstance(value, str) else "_".join(f"{k}_{v}" for k, v in value.items()),
)
def test_mistakes_are_told_before_anything_is_played(options: dict[str, Any], problem: str) -> None:
    board = Board()
    with pytest.raises(ArgumentError, match=problem):
        play(board, **options)
    assert (board.seeds, board.closed) == ([], 0)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Board(render_mode=None), "its render_mode is None.*rgb_array"),
        (lambda: [Board(), Board()], "one environment, and 2 slots came"),
        (lambda: Counter, "its render_mode is None"),
    ],
    ids=["no_frames", "several", "factory"],
)
def test_what_cannot_be_played_in(make: Callable[[], Any], problem: str) -> None:
    with pytest.raises(ArgumentError, match=f"environment=.*{problem}"):
        play(make())


def test_frames_that_are_no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "render", lambda self: None)
    with pytest.raises(RecordingError, match=r"render\(\) returned nothing, not an image"):
        play(Board(), "left")


SCRIPT = """
import gymnasium, pygame
from rl_framework.episode import EpisodeSequence
def press(number):
    assert pygame.display.get_driver() == "x11", pygame.display.get_driver()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_LEFT))
played = EpisodeSequence.play("CartPole-v1", seed=0, fps=1000, key_source=press)
print(len(played), set(played[0].actions.tolist()))
"""


def _run(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("SDL_VIDEODRIVER", "DISPLAY")}
    return subprocess.run(command, env=inherited | environ, capture_output=True, text=True, timeout=120, check=False)


def test_without_a_display_it_says_so() -> None:
    code = SCRIPT.replace("import gymnasium", "import os; os.environ.pop('WAYLAND_DISPLAY', None); import gymnasium")
    answer = _run([sys.executable, "-c", code])
    assert "RecordingError: there is no display to play on" in answer.stderr


@pytest.mark.skipif(
    shutil.which("xvfb-run") is None, reason="xvfb-run (the X server without a screen) is not installed"
)
def test_on_an_x_server() -> None:
    answer = _run(["xvfb-run", "-a", sys.executable, "-c", SCRIPT], SDL_VIDEODRIVER="x11")
    assert answer.stdout == "1 {0}\n", answer.stderr


def test_without_pygame_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl_framework.errors.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "rl-framework\[classic-control\]"'):
        play(Board())
