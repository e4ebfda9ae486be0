"""Episodes of a person at the keyboard."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from rl_framework import registry
from rl_framework.environment.acting import check_episode_count
from rl_framework.environment.batched.batch import RAW_RETURN_KEY, copy_info
from rl_framework.environment.batched.in_process import InProcessEnvironments
from rl_framework.environment.door import environment_id_of, open_environments
from rl_framework.environment.wrappers import WrapperSpecification
from rl_framework.episode.checks import check_episode, check_spaces
from rl_framework.episode.episode import Episode
from rl_framework.episode.recording.keys import Keymap, keymap_for
from rl_framework.episode.recording.recorder import EpisodeRecorder, check_free
from rl_framework.episode.storage import open_data_set, write_data_set
from rl_framework.errors import ArgumentError, RecordingError, require_extra
from rl_framework.seeding import check_seed, isolated_random_state

if TYPE_CHECKING:
    from rl_framework.episode.sequence import EpisodeSequence

__all__ = ["play_episodes"]

logger = logging.getLogger(__name__)

_DEFAULT_FPS = 30.0
_COMFORTABLE_SIZE = 640
"""Pixels of the longer side of the window that small frames are enlarged to, in whole steps."""


def play_episodes(
    environment: Any,
    n_episodes: int = 1,
    *,
    keys: Mapping[Any, Any] | None = None,
    noop: Any = None,
    fps: float | None = None,
    seed: int | None = None,
    zoom: float | None = None,
    environment_kwargs: dict[str, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    key_source: Callable[[int], None] | None = None,
    wrappers: Sequence[WrapperSpecification] | None = None,
) -> EpisodeSequence:
    """Opens a window in which a person plays with the keyboard, and keeps the episodes.

    Every episode begins with a key; return and step are in the title of the window. `R` begins an episode anew and
    forgets what was played of it, `P` pauses. Escape, closing the window, or an interrupt (Ctrl-C) ends: the finished
    episodes are kept and the open one is forgotten, since it shows no end from which anybody could learn.

    Args:
        environment: An id, a factory, a registered adapter, or one environment made with `render_mode="rgb_array"`.
        n_episodes: How many episodes to play.
        keys: Action by key: `{"left": 0, "right": 1, ("left", "up"): 2}`, with pygame's names or codes, and tuples
            for keys that are held together. The largest combination of which all keys are held counts, and of equally
            large ones the one pressed last; actions of a `Box` are added up where their combination is not listed.
            None: what is known for environments of gymnasium, or the environment's own `get_keys_to_action`.
        noop: Action while no key is held. None: that of the empty combination `()` in the mapping, and without one
            the environment waits for a key; so it does with CartPole, FrozenLake and everything that takes turns.
        fps: Steps per second; None: what the environment's metadata say (`render_fps`), or 30.
        seed: Of the environment's first episode; None: its random stream where it stands.
        zoom: Pixels of the window for one of the frame; None: whole steps up to about 640 pixels.
        environment_kwargs: Arguments for `gymnasium.make` or the factory.
        path: Folder in which the episodes are kept; None: a temporary one, which goes when nothing refers to it any
            more. If the environment fails, the finished episodes are kept in either, and the error says where.
        key_source: Called with the number of the frame before keys are read; pygame events that it posts are read as
            if they were typed. For tests, and for other devices than keyboards.
        wrappers: What to put around the environment, as in `train`, for agents that are to learn in them.

    Returns:
        The finished episodes: `n_episodes`, or fewer if the person ended it.

    Raises:
        MissingExtraError: pygame is not installed.
        RecordingError: There is no display, the environment draws no frames, or no episode was finished.
        ArgumentError: Keys that do not exist or are taken, actions that the environment does not take, or nobody
            knows which keys to use.
        UnsupportedSpaceError: Observations or actions that episodes cannot hold.
    """
    require_extra("classic-control", "playing with the keyboard", "pygame")
    from rl_framework.episode.sequence import EpisodeSequence

    n_episodes = check_episode_count(n_episodes, "n_episodes")
    check_free(path)
    seed = check_seed(seed)
    for name, value in (("fps", fps), ("zoom", zoom)):
        if value is not None and (isinstance(value, bool) or not 0 < value < 10_000):
            raise ArgumentError(name, value, "must be a number above zero")
    with isolated_random_state(seed):
        batch = _open(environment, environment_kwargs, wrappers)
        try:
            played = batch.environments[0]
            check_spaces(played.observation_space, played.action_space)
            with _display() as pygame:
                keymap = keymap_for(keys, noop, played, pygame.key)
                fps = _frames_per_second(played) if fps is None else fps
                game = _Game(pygame, batch, keymap, n_episodes, seed, fps, zoom, key_source)
                folder = _keep(game, path)
        finally:
            batch.close()
    storage = open_data_set(folder)
    if path is None:
        storage.remove_when_unused()
    return EpisodeSequence.from_storage(storage)


def _keep(game: _Game, path: str | os.PathLike[str] | None) -> Path:
    """Writes the episodes as they are finished; raises what ended the game early, once they are safe."""
    episodes = game.episodes()
    first = next(episodes, None)
    if first is None:
        raise game.error or RecordingError("no episode was finished, so there is none to return")
    folder = Path(tempfile.mkdtemp(prefix="rl_framework-episodes-") if path is None else path)
    write_data_set(chain([first], episodes), folder, *game.spaces)
    if isinstance(game.error, Exception):
        game.error.add_note(
            f"The {game.finished} finished episodes before it are kept: EpisodeSequence.load({str(folder)!r})"
        )
        raise game.error
    return folder


def _open(
    source: Any, environment_kwargs: dict[str, Any] | None, wrappers: Sequence[WrapperSpecification] | None
) -> InProcessEnvironments:
    kwargs = dict(environment_kwargs or {})
    is_id = isinstance(source, EnvSpec) or (isinstance(source, str) and source not in registry.environment_adapters)
    if is_id:
        kwargs = {"render_mode": "rgb_array", **kwargs}
    batch = open_environments(source, environment_kwargs=kwargs or None, argument="environment", wrappers=wrappers)
    problem = ""
    if not isinstance(batch, InProcessEnvironments) or batch.num_envs != 1:
        problem = f"a person plays in one environment, and {batch.num_envs} slots came"
    elif batch.render_mode != "rgb_array":
        name = environment_id_of(source) or batch.environment_id or "..."
        problem = (
            f"its render_mode is {batch.render_mode!r}, and a window needs frames as arrays. "
            f'Create it with gymnasium.make("{name}", render_mode="rgb_array")'
        )
    if problem:
        batch.close()
        raise ArgumentError("environment", source, problem)
    assert isinstance(batch, InProcessEnvironments)
    return batch


@contextmanager
def _display() -> Iterator[Any]:
    """Starts pygame's display, and ends it if nobody had started it before."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    was_there = pygame.display.get_init()
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
        # SDL falls back to a window that nobody sees.
        if driver == "offscreen" and os.environ.get("SDL_VIDEODRIVER") != driver:
            raise pygame.error("no screen was found")
    except pygame.error as error:
        raise RecordingError(
            f"there is no display to play on ({error}). Play on a machine with a screen, or over a connection that "
            "forwards it (ssh -X); on Linux the environment variable DISPLAY names it."
        ) from error
    try:
        yield pygame
    finally:
        if not was_there:
            pygame.display.quit()


def _frames_per_second(environment: gymnasium.Env[Any, Any]) -> float:
    fps = (environment.metadata or {}).get("render_fps")
    if isinstance(fps, int | float | np.number) and not isinstance(fps, bool) and 0 < fps <= 1000:
        return float(fps)
    return _DEFAULT_FPS


class _Window:
    """Shows frames and reads keys.

    Attributes:
        held: Codes of the keys that are held, in the order in which they were pressed.
        pressed: Codes of the keys that were pressed since the frame before, also if they were released again.
        closed: Whether somebody has closed the window.
    """

    def __init__(self, pygame: Any, fps: float, zoom: float | None, key_source: Callable[[int], None] | None) -> None:
        self.held: dict[int, None] = {}
        self.pressed: dict[int, None] = {}
        self.closed = False
        self._pygame, self._fps, self._zoom, self._key_source = pygame, fps, zoom, key_source
        self._clock = pygame.time.Clock()
        self._screen: Any = None
        self._shown = 0

    def show(self, frame: Any, caption: str) -> None:
        """Draws a frame, and waits until it is time for the next."""
        pygame = self._pygame
        frame = _checked_frame(frame)
        surface = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        if self._screen is None:
            zoom = self._zoom or max(1, _COMFORTABLE_SIZE // max(surface.get_size()))
            self._screen = pygame.display.set_mode([max(1, round(side * zoom)) for side in surface.get_size()])
        pygame.transform.scale(surface, self._screen.get_size(), self._screen)
        pygame.display.set_caption(caption)
        pygame.display.flip()
        self._clock.tick(self._fps)

    def read_keys(self) -> None:
        """Takes what was typed since the last time."""
        pygame = self._pygame
        if self._key_source is not None:
            self._key_source(self._shown)
        self._shown += 1
        self.pressed = {}
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self.closed = True
            elif event.type == pygame.KEYDOWN:
                self.held[event.key] = self.pressed[event.key] = None
            elif event.type == pygame.KEYUP:
                self.held.pop(event.key, None)


class _Game:
    """One person, one environment, some episodes.

    Attributes:
        finished: How many episodes are finished.
        error: What ended the game, so that it can be raised when they are safe.
        spaces: Of one observation, and of one action.
    """

    def __init__(
        self,
        pygame: Any,
        batch: InProcessEnvironments,
        keymap: Keymap,
        n_episodes: int,
        seed: int | None,
        fps: float,
        zoom: float | None,
        key_source: Callable[[int], None] | None,
    ) -> None:
        self.batch, self.n_episodes, self.finished = batch, n_episodes, 0
        self.error: BaseException | None = None
        self._environment = batch.environments[0]
        self.spaces = self._environment.observation_space, self._environment.action_space
        self._keymap, self._seed = keymap, seed
        self._window = _Window(pygame, fps, zoom, key_source)
        self._codes = {name: pygame.key.key_code(name) for name in ("escape", "r", "p")}
        self._name = batch.environment_id or type(self._environment.unwrapped).__name__

    def episodes(self) -> Iterator[Episode]:
        """Yields the episodes as they are finished."""
        for number in range(1, self.n_episodes + 1):
            try:
                episode = self._play(number)
                if episode is None:
                    return
                check_episode(episode, *self.spaces, f"episode {number - 1}")
            # Whatever it is, the episodes before it are kept, and then it is raised.
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
                self.error = error
                return
            self.finished = number
            logger.info("episode %d of %d: %s", number, self.n_episodes, episode)
            yield episode

    def _play(self, number: int) -> Episode | None:
        recorder, began, paused = self._begin(), False, False
        while True:
            state = "paused (P)" if paused else "" if began else "press a key to begin"
            self._show(number, recorder, state)
            self._window.read_keys()
            pressed = self._window.pressed
            if self._window.closed or self._codes["escape"] in pressed:
                return None
            if self._codes["r"] in pressed:
                recorder, began, paused = self._begin(), False, False
                continue
            if self._codes["p"] in pressed:
                paused = not paused
            began = began or any(code not in self._codes.values() for code in pressed)
            if paused or not began:
                continue
            action = self._keymap.action({**self._window.held, **pressed})
            if action is None:
                continue
            terminated, truncated = self._step(recorder, action)
            if terminated or truncated:
                self._show(number, recorder, "the end")
                return recorder.finish(terminated, truncated)

    def _begin(self) -> EpisodeRecorder:
        observation, _ = self._environment.reset(seed=self._seed)
        self._seed = None
        return EpisodeRecorder(self.batch.copy_observation(observation))

    def _step(self, recorder: EpisodeRecorder, action: Any) -> tuple[bool, bool]:
        observation, reward, terminated, truncated, info = self._environment.step(action)
        info = {key: value for key, value in copy_info(info).items() if key != RAW_RETURN_KEY}
        recorder.add(np.array(action), float(reward), self.batch.copy_observation(observation), info)
        return bool(terminated), bool(truncated)

    def _show(self, number: int, recorder: EpisodeRecorder, state: str) -> None:
        parts = [self._name, f"episode {number} of {self.n_episodes}", f"step {len(recorder)}"]
        parts += [f"return {recorder.return_so_far:g}", *([state] if state else [])]
        self._window.show(self._environment.render(), "  |  ".join(parts))


def _checked_frame(frame: Any) -> NDArray[np.uint8]:
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        what = "nothing" if frame is None else f"an array of {array.dtype} with the shape {array.shape}"
        raise RecordingError(f"environment: render() returned {what}, not an image of uint8 (height, width, 3)")
    return array
