"""The standard preprocessing of Atari games.

`{"type": "atari"}` follows Machado et al. (2018), "Revisiting the Arcade Learning Environment": an episode is a game,
and chance comes from sticky actions, which the ids `ALE/<Game>-v5` have inside the emulator. What Mnih et al. (2015)
did for DQN, and what Stable-Baselines3's `AtariWrapper` does, is `{"type": "atari", "terminal_on_life_loss": true,
"fire_reset": true}` around `<Game>NoFrameskip-v4`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.wrappers import AtariPreprocessing, ClipReward

from rl_framework.errors import ArgumentError, require_extra

__all__ = ["atari"]

_Env = gymnasium.Env[Any, Any]
_LARGEST_SIDE = 512


def atari(
    env: _Env,
    noop_max: int = 30,
    frame_skip: int = 4,
    screen_size: int = 84,
    grayscale: bool = True,
    clip_reward: bool = True,
    terminal_on_life_loss: bool = False,
    fire_reset: bool = False,
    *,
    training: bool = False,
) -> _Env:
    """Prepares an Atari game for learning (gymnasium's `AtariPreprocessing`, and what it leaves out).

    Args:
        env: A game, with any frame skip of its own, which is not used.
        noop_max: A game begins with up to this many idle frames.
        frame_skip: For how many frames an action is repeated; the last two are shown as their maximum.
        screen_size: Side of the image.
        grayscale: Whether the image is `(side, side)` instead of `(side, side, 3)`.
        clip_reward: Whether the learner sees only rewards from -1 to 1. Returns are told as the game pays them.
        terminal_on_life_loss: Whether, in training, a lost life ends the episode; the next one goes on in the same
            game. Evaluations and videos always play whole games.
        fire_reset: Whether FIRE is pressed at the beginning, in games that wait for it.
        training: Whether an agent learns here.

    Raises:
        ArgumentError: This is no Atari game, or a number cannot be used.
    """
    require_extra("atari", "the wrapper 'atari'", "ale_py", "cv2")
    if not hasattr(env.unwrapped, "ale"):
        raise ArgumentError("env", env, "is no Atari game", 'Use ids such as "ALE/Pong-v5".')
    if not isinstance(screen_size, int) or not 1 <= screen_size <= _LARGEST_SIDE:
        raise ArgumentError("screen_size", screen_size, f"must be from 1 to {_LARGEST_SIDE}")
    wrapped: _Env = _Frames(
        env, noop_max=noop_max, frame_skip=frame_skip, screen_size=screen_size, grayscale_obs=grayscale
    )
    if terminal_on_life_loss and training:
        wrapped = _LifeAsEpisode(wrapped)
    if fire_reset and "FIRE" in _meanings(env)[1:2]:
        wrapped = _FireAtReset(wrapped)
    return ClipReward(wrapped, -1.0, 1.0) if clip_reward else wrapped


def _meanings(env: _Env) -> list[str]:
    game: Any = env.unwrapped
    return list(game.get_action_meanings())


class _Frames(AtariPreprocessing):
    """Gymnasium's wrapper, for a game that would skip frames by itself, too."""

    def __init__(self, env: _Env, **arguments: Any) -> None:
        with _frame_by_frame(env):
            super().__init__(env, **arguments)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts a game."""
        with _frame_by_frame(self.env):
            return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        """Repeats an action."""
        with _frame_by_frame(self.env):
            return super().step(action)


@contextmanager
def _frame_by_frame(env: _Env) -> Iterator[None]:
    """Keeps a game from skipping frames by itself inside the block; the game may be the caller's."""
    game: Any = env.unwrapped
    before = game._frameskip
    game._frameskip = 1
    try:
        yield
    finally:
        game._frameskip = before


class _LifeAsEpisode(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends an episode with each life; the next one goes on in the same game, one idle step later."""

    def __init__(self, env: _Env) -> None:
        super().__init__(env)
        self._lives = 0
        self._is_over = True
        self.replay_obstacle: str | None = None  # told to `ReplayableEnvironment`

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Goes on with the next life, or starts a game."""
        if not self._is_over and seed is None and not options:
            observation, _, terminated, truncated, info = self.env.step(0)
            self._is_over = bool(terminated or truncated)
            self.replay_obstacle = "it began with a later life of a game"
        else:
            self._is_over = True
        if self._is_over:
            self.replay_obstacle = None
            observation, info = self.env.reset(seed=seed, options=options)
            self._is_over = False
        self._lives = self._count()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Plays on; a life lost ends the episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._is_over = bool(terminated or truncated)
        lives, self._lives = self._lives, self._count()
        return observation, reward, terminated or self._lives < lives, truncated, info

    def _count(self) -> int:
        game: Any = self.env.unwrapped
        return int(game.ale.lives())


class _FireAtReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Presses FIRE when an episode begins."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode with FIRE."""
        self.env.reset(seed=seed, options=options)
        observation, _, terminated, truncated, info = self.env.step(1)
        if terminated or truncated:
            return self.env.reset()
        return observation, info
