"""Videos of an agent at work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from rl_framework import registry
from rl_framework.environment.batch import BatchedEnvironment
from rl_framework.environment.door import environment_id_of, open_environments
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RecordingError, shorten
from rl_framework.evaluation import Policy
from rl_framework.evaluation.evaluate import choose_actions
from rl_framework.progress import progress_bar
from rl_framework.report.encoding import check_video_arguments, encode_video
from rl_framework.seeding import check_seed, isolated_random_state

__all__ = ["record_video"]

_DEFAULT_FPS = 30.0


def record_video(
    agent: Policy,
    environment: Any,
    path: str | os.PathLike[str],
    length: int = 500,
    *,
    fps: float | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    environment_kwargs: Mapping[str, Any] | None = None,
) -> Path:
    """Records an agent acting in an environment.

    The first frame shows the start of an episode; when an episode ends, the next one begins and the video goes on with
    its first frame. Random numbers are drawn from streams of their own, so a recording changes no training that goes
    on around it. An environment that was passed in (not an id and not a factory) is reset, left in the middle of
    an episode and not closed: use one that nothing else is stepping.

    Args:
        agent: Anything with `predict`: our agents and SB3's models; see `rl_framework.evaluation.Policy`.
        environment: An id, an environment, or anything else that `train` takes. Ids are opened with
            `render_mode="rgb_array"`; everything else must have been created so. Of several environments the first is
            filmed.
        path: Ends with .mp4 (H.264, plays in browsers) or .gif. The file appears when it is whole.
        length: Number of frames: one for the start and one after every step but the last.
        fps: Frames per second; None: what the environment's metadata say (`render_fps`), or 30.
        deterministic: Whether the agent takes its most likely action instead of sampling one.
        seed: Of the environment's first episode and of the agent's samples; None: a fresh one for the samples, and the
            environment's random stream where it stands.
        environment_kwargs: For the constructor, when `environment` is an id or a factory.

    Returns:
        The path.

    Raises:
        ArgumentError: `path`, `length`, `fps` or `seed` has a value that cannot be used.
        EnvironmentSourceError: `environment` is nothing that the door knows.
        MissingExtraError: The encoder is not installed.
        RecordingError: The environment does not draw frames, or acting, drawing or encoding failed; the cause is
            chained. Nothing is left at the path that was not there before.
    """
    target = check_video_arguments(path, fps)
    if isinstance(length, bool) or length < 1 or length != int(length):
        raise ArgumentError("length", length, "must be an integer of at least 1 (frames)")
    seed = check_seed(seed)
    owners: list[Any] = getattr(agent, "random_generator_owners", list)()
    with _silence(), isolated_random_state(seed, *owners), progress_bar(int(length), "recording", "frame") as bar:
        environments = _open(environment, environment_kwargs)
        try:
            frames = _counted(_frames(agent, environments, int(length), deterministic, seed), bar)
            return encode_video(frames, target, _frames_per_second(environments) if fps is None else fps)
        finally:
            environments.close()


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps pygame from looking for a sound card when it first draws, and from complaining that there is none."""
    if "SDL_AUDIODRIVER" in os.environ:
        yield
        return
    os.environ["SDL_AUDIODRIVER"] = "dummy"
    try:
        yield
    finally:
        os.environ.pop("SDL_AUDIODRIVER", None)


def _open(source: Any, environment_kwargs: Mapping[str, Any] | None) -> BatchedEnvironment:
    # One is filmed, so the others need not be opened; but a tuple may be a pair of an environment and a factory.
    if isinstance(source, list | tuple) and source and not (isinstance(source, tuple) and callable(source[-1])):
        source = source[0]
    kwargs = dict(environment_kwargs or {})
    is_id = isinstance(source, EnvSpec) or (isinstance(source, str) and source not in registry.environment_adapters)
    if is_id:
        kwargs = {"render_mode": "rgb_array", **kwargs}
    try:
        environments = open_environments(source, environment_kwargs=kwargs or None, argument="environment")
    except EnvironmentSourceError as error:
        if is_id and isinstance(error.__cause__, TypeError):
            raise RecordingError(
                f"environment={shorten(source)}: it could not be created with {kwargs}: {error.__cause__}. "
                'A video needs an environment that takes render_mode="rgb_array".'
            ) from error
        raise
    if environments.render_mode != "rgb_array":
        mode = environments.render_mode
        name = environment_id_of(source) or environments.environment_id or "..."
        environments.close()
        raise RecordingError(
            f"environment={shorten(source)}: its render_mode is {mode!r}, and a video needs frames as arrays. "
            f'Create it with gymnasium.make("{name}", render_mode="rgb_array").'
        )
    return environments


def _frames_per_second(environments: BatchedEnvironment) -> float:
    fps = (environments.metadata or {}).get("render_fps")
    if isinstance(fps, int | float | np.number) and not isinstance(fps, bool) and 0 < fps <= 1000:
        return float(fps)
    return _DEFAULT_FPS


def _frames(
    agent: Policy, environments: BatchedEnvironment, length: int, deterministic: bool, seed: int | None
) -> Iterator[npt.NDArray[Any]]:
    observations, _ = environments.reset_slots(seed)
    state: Any = None
    episode_starts = np.ones(environments.num_envs, dtype=np.bool_)
    slot, frame = _first_frame(environments)
    yield frame
    for _ in range(length - 1):
        actions, state = choose_actions(agent, environments, observations, state, episode_starts, deterministic)
        step = environments.step_slots(actions)
        observations = step.observations
        episode_starts = step.terminated | step.truncated | ~step.acted
        yield _render(environments)[slot]


def _counted(frames: Iterator[npt.NDArray[Any]], bar: Any) -> Iterator[npt.NDArray[Any]]:
    for frame in frames:
        bar.update()
        yield frame


def _first_frame(environments: BatchedEnvironment) -> tuple[int, npt.NDArray[Any]]:
    """Finds the first slot that draws something; the video stays with it."""
    for slot, frame in enumerate(_render(environments)):
        if frame is not None:
            return slot, frame
    raise RecordingError(
        'environment: it draws nothing (render() returned None) although its render_mode is "rgb_array". '
        "A wrapper may hide its frames."
    )


def _render(environments: BatchedEnvironment) -> list[Any]:
    try:
        return environments.render_slots()
    except Exception as error:
        raise RecordingError(f"environment: it cannot be rendered: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
