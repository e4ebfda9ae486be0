"""An agent acting for people: in a window, on film, or just so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework import registry
from rl_framework.cli.output import note
from rl_framework.cli.trained import Trained
from rl_framework.environment import BatchedEnvironment
from rl_framework.environment.acting import act_for_episodes, check_episode_count
from rl_framework.errors import ArgumentError, EnvironmentSourceError, RecordingError
from rl_framework.report.recording.encoding import encode_video
from rl_framework.report.recording.headless import explain, without_screen
from rl_framework.seeding import check_seed, derive_seed, fresh_seed, isolated_random_state

__all__ = ["Acted", "act"]

_DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class Acted:
    """What came of it.

    Attributes:
        returns: Of each episode.
        lengths: Steps of each episode.
        seed: The seed that was used.
    """

    returns: list[float]
    lengths: list[int]
    seed: int


def act(
    trained: Trained,
    source: Any,
    arguments: dict[str, Any] | None,
    n_episodes: int,
    *,
    deterministic: bool,
    seed: int | None,
    render: str | Path | None,
) -> Acted:
    """Lets an agent act in one environment; every episode is told when it ends.

    Args:
        trained: The agent.
        source: Where it acts; anything that `evaluate` takes.
        arguments: For the environment's constructor.
        n_episodes: How many episodes.
        deterministic: Whether it takes its most likely actions.
        seed: The same seed gives the same episodes as `evaluate` with one environment.
        render: "human" for a window, a path (.mp4, .gif) for a film, None for neither.

    Raises:
        RecordingError: There is no screen, or the environment cannot be drawn.
        RLFrameworkError: The environment cannot be had.
    """
    check_episode_count(n_episodes, "--episodes")
    seed = check_seed(seed, "--seed")
    seed = fresh_seed() if seed is None else seed
    returns: list[float] = []
    lengths: list[int] = []

    def told(episode: dict[str, Any]) -> None:
        returns.append(float(episode["r"]))
        lengths.append(int(episode["l"]))
        note(f"episode {len(returns)} of {n_episodes}: return {returns[-1]:.6g}, {lengths[-1]} steps")

    agent = trained.agent
    screen = nullcontext() if render == "human" else without_screen()
    with screen, isolated_random_state(derive_seed(seed, "policy"), *agent.random_generator_owners()):
        environments = _open(trained, source, arguments, render)
        try:
            agent.check_spaces(environments, "--env")
            steps = _steps(agent, environments, n_episodes, derive_seed(seed, "environments"), deterministic, told)
            if isinstance(render, Path):
                encode_video(_frames(environments, steps), render, _frames_per_second(environments))
            else:
                for _ in steps:
                    pass
        finally:
            environments.close()
    return Acted(returns, lengths, seed)


def _open(trained: Trained, source: Any, arguments: dict[str, Any] | None, render: str | Path | None) -> Any:
    mode = "human" if render == "human" else "rgb_array"
    is_id = isinstance(source, str) and source not in registry.environment_adapters
    if render is not None and (is_id or callable(source)):
        arguments = {"render_mode": mode, **(arguments or {})}
    try:
        environments = trained.agent.open_environments(source, None, arguments, argument="--env")
    except EnvironmentSourceError as error:
        if render is not None and error.__cause__ is not None:
            raise RecordingError(f"{error}. {explain(error.__cause__)}") from error
        raise
    if environments.num_envs > 1 and isinstance(render, Path):
        note(f"there are {environments.num_envs} agents: the first is filmed")
    if isinstance(render, Path) and environments.render_mode != "rgb_array":
        environments.close()
        raise ArgumentError("--render", str(render), "this environment draws no frames", "Use --render none.")
    return environments


def _steps(
    agent: Any,
    environments: BatchedEnvironment,
    n_episodes: int,
    seed: int,
    deterministic: bool,
    told: Callable[[dict[str, Any]], None],
) -> Iterator[int]:
    """Yields how many episodes have ended, after every step."""
    n_ended = 0
    try:
        for acted in act_for_episodes(agent, environments, n_episodes, seed, deterministic):
            for index in acted.ended:
                n_ended += 1
                told(acted.step.infos[index]["episode"])
            yield n_ended
    except Exception as error:
        # A window is opened, or fails to, at the first reset.
        if type(error).__module__.partition(".")[0] in ("pygame", "glfw", "mujoco"):
            raise RecordingError(f"the environment cannot be drawn: {explain(error)}") from error
        raise


def _frames(environments: BatchedEnvironment, steps: Iterator[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Yields a frame for every step but the last, after which the next episode has begun."""
    for _ in steps:
        try:
            yield environments.render_slots()[0]
        except Exception as error:
            raise RecordingError(f"the environment cannot be drawn: {explain(error)}") from error


def _frames_per_second(environments: BatchedEnvironment) -> float:
    fps = (environments.metadata or {}).get("render_fps")
    return float(fps) if isinstance(fps, int | float) and 0 < fps <= 1000 else _DEFAULT_FPS
