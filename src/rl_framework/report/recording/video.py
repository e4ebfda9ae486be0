"""Videos of an agent at work."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from rl_framework import registry
from rl_framework.environment.batched.batch import BatchedEnvironment
from rl_framework.environment.door import can_be_made_afresh, environment_id_of, open_environments
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RecordingError, shorten
from rl_framework.evaluation import Policy
from rl_framework.evaluation.evaluate import choose_actions
from rl_framework.progress import progress_bar
from rl_framework.report.recording.encoding import check_video_arguments, encode_video
from rl_framework.report.recording.headless import explain, without_screen
from rl_framework.report.recording.overlay import Overlay
from rl_framework.report.recording.tiles import Tiles
from rl_framework.seeding import check_seed, isolated_random_state

__all__ = ["check_filmable", "record_video"]

logger = logging.getLogger(__name__)

_DEFAULT_FPS = 30.0


def record_video(
    agent: Policy,
    environment: Any,
    path: str | os.PathLike[str],
    length: int = 500,
    *,
    fps: float | None = None,
    overlay: Overlay | bool | list[str] | tuple[str, ...] | None = None,
    n_environments: int | None = None,
    grid: tuple[int, int] | None = None,
    deterministic: bool = True,
    seed: int | None = None,
    environment_kwargs: Mapping[str, Any] | None = None,
    ffmpeg: str | os.PathLike[str] | None = None,
    show_progress: bool = True,
) -> Path:
    """Records an agent acting in an environment.

    The first frame shows the start of an episode; when an episode ends, the next one begins and the video goes on with
    its first frame. Random numbers are drawn from streams of their own, so a recording changes no training that goes
    on around it. An environment that was passed in (not an id and not a factory) is reset, left in the middle of
    an episode and not closed: use one that nothing else is stepping. No screen is needed.

    If something fails after the first frame, what was filmed until then becomes a whole video: at the path, or, where
    a file is already, beside it under a name such as `replay.partial.mp4`; the error tells where.

    What an overlay names is also kept as numbers, frame by frame, in a file beside the video: `replay.components.json`
    (of several environments, that of the first one); see `rl_framework.report.component_series`.

    Args:
        agent: Anything with `predict`: our agents and SB3's models; see `rl_framework.evaluation.Policy`.
        environment: An id, an environment, or anything else that `train` takes. Ids are opened with
            `render_mode="rgb_array"`; everything else must have been created so. Of several environments the first
            are filmed.
        path: Ends with .mp4 (H.264, plays in browsers) or .gif. The file appears when it is whole.
        length: Number of frames: one for the start and one after every step but the last.
        fps: Frames per second; None: what the environment's metadata say (`render_fps`), or 30.
        overlay: What to write onto the frames: True for episode, step, reward, return, action and value estimate; a
            list of names, such as `["return", "observation[2]", "info.x_position"]`; or an `Overlay`.
        n_environments: How many environments to film at once, in a grid; None: one, or as many as `grid` has places.
        grid: Rows and columns; None: about square.
        deterministic: Whether the agent takes its most likely action instead of sampling one.
        seed: Of the environments' first episodes (slot `i` has `seed + i`) and of the agent's samples; None: a fresh
            one for the samples, and the environment's random stream where it stands.
        environment_kwargs: For the constructor, when `environment` is an id or a factory.
        ffmpeg: What makes an .mp4: None: the program that comes with imageio-ffmpeg (or what the environment variable
            IMAGEIO_FFMPEG_EXE names); "system": the machine's own; or a path.
        show_progress: Whether to show a progress bar if it takes longer than a second.

    Returns:
        The path.

    Raises:
        ArgumentError: An argument has a value that cannot be used.
        EnvironmentSourceError: `environment` is nothing that the door knows.
        SpaceMismatchError: Its spaces are not the agent's.
        NotTrainedError: The agent has no model yet.
        MissingExtraError: The encoder is not installed.
        RecordingError: The environment does not draw frames, or acting, drawing or encoding failed; the cause is
            chained, and `partial` names the video of what came before.
    """
    target = check_video_arguments(path, fps, ffmpeg)
    _check_agent(agent)
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1:
        raise ArgumentError("length", length, "must be an integer of at least 1 (frames)")
    count, columns = _check_grid(n_environments, grid)
    shown = Overlay.of(overlay)
    seed = check_seed(seed)
    owners: list[Any] = getattr(agent, "random_generator_owners", list)()
    bar = progress_bar(int(length), "recording", "frame", enabled=show_progress)
    with without_screen(), isolated_random_state(seed, *owners), bar:
        environments = _open(agent, environment, environment_kwargs, count)
        try:
            _check_spaces(agent, environments)
            tiles = Tiles(environments, count, columns, shown)
            frames = _counted(_frames(agent, environments, int(length), deterministic, seed, tiles), bar)
            speed = _frames_per_second(environments) if fps is None else fps
            encode_video(frames, target, speed, ffmpeg=ffmpeg)
            _keep_components(tiles, target, speed)
            return target
        finally:
            environments.close()


def _keep_components(tiles: Tiles, video: Path, fps: float) -> None:
    if tiles.series is not None:
        try:
            tiles.series.write(video, fps)
        except OSError as error:  # the video is there, and worth more
            logger.error("the components of %s could not be kept: %s", video, error)


def check_filmable(
    agent: Any,
    environment: Any,
    environment_kwargs: Mapping[str, Any] | None,
    n_environments: int | None,
    overlay: Overlay | None,
) -> None:
    """Draws a single frame, to find out early whether there will be videos; arguments as in `record_video`.

    Raises:
        ArgumentError: The overlay names what is not there.
        EnvironmentSourceError: It is nothing that the door knows.
        SpaceMismatchError: Its spaces are not the agent's.
        RecordingError: It does not draw frames.
    """
    count, columns = _check_grid(n_environments, None)
    with without_screen(), isolated_random_state():
        environments = _open(agent, environment, environment_kwargs, count)
        try:
            _check_spaces(agent, environments)
            tiles = Tiles(environments, count, columns, overlay)
            next(_frames(agent, environments, 1, True, None, tiles))
        finally:
            environments.close()


def _check_agent(agent: Any) -> None:
    if not callable(getattr(agent, "predict", None)):
        raise ArgumentError(
            "agent",
            agent,
            "has no `predict`",
            "Give a trained agent or a model of Stable-Baselines3; load_agent(path) opens a file.",
        )


def _check_spaces(agent: Any, environments: BatchedEnvironment) -> None:
    check = getattr(agent, "check_spaces", None)  # models of other libraries have none
    if check is not None:
        check(environments, "environment")


def _check_grid(n_environments: int | None, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Returns how many environments to film, and the columns of the grid."""
    if grid is not None:
        whole = isinstance(grid, tuple | list) and len(grid) == 2
        if not whole or not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in grid):
            raise ArgumentError("grid", grid, "must be rows and columns, such as (2, 2)")
    if n_environments is None:
        n_environments = 1 if grid is None else grid[0] * grid[1]
    if isinstance(n_environments, bool) or not isinstance(n_environments, int | np.integer) or n_environments < 1:
        raise ArgumentError("n_environments", n_environments, "must be an integer of at least 1")
    if grid is not None and n_environments > grid[0] * grid[1]:
        raise ArgumentError("n_environments", n_environments, f"a grid of {grid} has {grid[0] * grid[1]} places")
    return int(n_environments), math.ceil(math.sqrt(n_environments)) if grid is None else int(grid[1])


def _open(agent: Any, source: Any, environment_kwargs: Mapping[str, Any] | None, count: int) -> BatchedEnvironment:
    opener = getattr(agent, "open_environments", open_environments)  # models of other libraries have none
    # So many are filmed that the others need not be opened; but a tuple may be a pair of an environment and a factory.
    if isinstance(source, list | tuple) and source and not (isinstance(source, tuple) and callable(source[-1])):
        source = source[0] if count == 1 else list(source[:count])
    kwargs = dict(environment_kwargs or {})
    is_id = isinstance(source, EnvSpec) or (isinstance(source, str) and source not in registry.environment_adapters)
    if is_id:
        kwargs = {"render_mode": "rgb_array", **kwargs}
    makes_several = count > 1 and not isinstance(source, list) and can_be_made_afresh(source)
    try:
        environments: BatchedEnvironment = opener(
            source, count if makes_several else None, environment_kwargs=kwargs or None, argument="environment"
        )
    except EnvironmentSourceError as error:
        if is_id and isinstance(error.__cause__, TypeError):
            raise RecordingError(
                f"environment={shorten(source)}: it could not be created with {kwargs}: {error.__cause__}. "
                'A video needs an environment that takes render_mode="rgb_array".'
            ) from error
        raise
    problem: Exception | None = None
    if environments.render_mode != "rgb_array":
        name = environment_id_of(source) or environments.environment_id
        remedy = f'Create it with gymnasium.make("{name or "..."}", render_mode="rgb_array")'
        if name is None and callable(source):
            remedy += ', or, if the factory takes it, give lambda: factory(render_mode="rgb_array")'
        problem = RecordingError(
            f"environment={shorten(source)}: its render_mode is {environments.render_mode!r}, and a video needs frames "
            f"as arrays. {remedy}."
        )
    elif environments.num_envs < count:
        problem = ArgumentError(
            "n_environments",
            count,
            f"there are {environments.num_envs} environments to film",
            "Give an id or a factory, of which as many can be made as you like.",
        )
    if problem is not None:
        environments.close()
        raise problem
    return environments


def _frames_per_second(environments: BatchedEnvironment) -> float:
    fps = (environments.metadata or {}).get("render_fps")
    if isinstance(fps, int | float | np.number) and not isinstance(fps, bool) and 0 < fps <= 1000:
        return float(fps)
    return _DEFAULT_FPS


def _frames(
    agent: Policy,
    environments: BatchedEnvironment,
    length: int,
    deterministic: bool,
    seed: int | None,
    tiles: Tiles,
) -> Iterator[npt.NDArray[Any]]:
    estimate = getattr(agent, "estimate_value", None) if tiles.wants_value else None
    observations, infos = environments.reset_slots(seed)
    state: Any = None
    episode_starts = np.ones(environments.num_envs, dtype=np.bool_)
    values = None if estimate is None else estimate(observations)
    yield tiles.begin(observations, infos, _render(environments), values)
    for _ in range(length - 1):
        actions, state = choose_actions(agent, environments, observations, state, episode_starts, deterministic)
        step = environments.step_slots(actions)
        observations = step.observations
        episode_starts = step.terminated | step.truncated | ~step.acted
        values = None if estimate is None else estimate(observations)
        yield tiles.go_on(step, actions, _render(environments), values)


def _counted(frames: Iterator[npt.NDArray[Any]], bar: Any) -> Iterator[npt.NDArray[Any]]:
    for frame in frames:
        bar.update()
        yield frame


def _render(environments: BatchedEnvironment) -> list[Any]:
    try:
        return environments.render_slots()
    except Exception as error:
        raise RecordingError(f"environment: it cannot be rendered: {explain(error)}") from error
