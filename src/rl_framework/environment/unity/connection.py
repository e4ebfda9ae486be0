"""A Unity player that is started, reached, and started again when it dies."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.environment.unity.options import UnityOptions
from rl_framework.environment.unity.protobuf_loader import load_mlagents_envs
from rl_framework.errors import EnvironmentSourceError, RLFrameworkError

if TYPE_CHECKING:
    from rl_framework.environment.unity.side_channels import Channels

__all__ = ["UnityConnection"]

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a player has to quit."""
_STEADY = 1_000
"""Messages after which a player is no longer one that crashes again and again."""
_PORTS_TRIED = 64

_workers = itertools.count()


class UnityConnection:
    """One player, or an environment of `mlagents_envs` that the user has.

    Args:
        options: What to start.
        given: The user's environment, which is neither restarted nor closed.

    Attributes:
        environment: The `BaseEnv` of `mlagents_envs` to speak to.
        channels: Its side channels; None for a user's environment, whose own ones are the user's.
        restarts: How often a player was started again after it had died.
    """

    def __init__(self, options: UnityOptions, given: Any = None) -> None:
        load_mlagents_envs()
        from rl_framework.environment.unity.player import FAILURES

        self.options = options
        self.environment: Any = given
        self.channels: Channels | None = None
        self.failures = FAILURES
        self.restarts = 0
        self._is_given = given is not None
        self._messages = 0
        self._deaths = 0  # one soon after the other
        self._parameters = dict(options.environment_parameters)
        # Drawn from the generator that trainings and evaluations seed before they make environments.
        self._seed = int(np.random.randint(2**31 - 1)) if options.seed is None else int(options.seed)
        self._worker = options.worker_id or 0

    def open(self) -> None:
        """Starts the player and waits until it has said hello.

        Raises:
            EnvironmentSourceError: It cannot be started or reached; the message says what to do.
        """
        if self.environment is not None:
            return
        from rl_framework.environment.unity.side_channels import Channels

        options = self.options
        executable = None if options.file_name is None else find_executable(options.file_name)
        if options.worker_id is None and not options.is_editor:
            self._worker = next(
                _workers
            )  # also for a successor, whose log would overwrite what its predecessor died of
        if options.log_folder is not None:
            Path(options.log_folder).mkdir(parents=True, exist_ok=True)
        self.channels = Channels(options.side_channels, self._seed)
        self.channels.set_engine(options.time_scale, options.engine)
        self.channels.set_parameters(self._parameters)
        if options.is_editor:
            logger.warning("waiting for the Unity Editor on port %d: press Play", self._ports()[0])
        self.environment = self._start(executable)
        self._messages = 0

    def _start(self, executable: str | None) -> Any:
        from mlagents_envs.exception import UnityWorkerInUseException

        from rl_framework.environment.unity.player import Player

        options, ports = self.options, self._ports()
        for port in ports:
            try:
                return Player(
                    host=options.host,
                    file_name=executable,
                    worker_id=self._worker,
                    base_port=port - self._worker,
                    seed=(self._seed + self.restarts) % 2**31,  # or it would begin the same episodes again
                    no_graphics=options.no_graphics,
                    timeout_wait=options.timeout,
                    additional_args=[str(argument) for argument in options.additional_arguments],
                    side_channels=list(self.channels.all) if self.channels is not None else [],
                    log_folder=None if options.log_folder is None else str(Path(options.log_folder).absolute()),
                    num_areas=options.num_areas,
                )
            except UnityWorkerInUseException:
                continue
            except (*self.failures, ValueError) as error:
                raise self._explained(error) from error
        raise EnvironmentSourceError(
            "base_port",
            options.base_port,
            f"port {ports[0]} is in use"
            + (f", and so are the {len(ports) - 1} after it" if len(ports) > 1 else "")
            + ": something else listens there, perhaps another training",
            "Close it, or leave base_port out to have a free one found."
            if not options.is_editor
            else "Close it: the Editor connects to this port; to change it, give base_port, and the Editor the command "
            "line argument --mlagents-port.",
        )

    def _ports(self) -> list[int]:
        """Returns the ports to try, in order."""
        options = self.options
        if options.is_editor:
            return [5004 if options.base_port is None else options.base_port]
        if options.base_port is None:
            return [_free_port() for _ in range(3)]
        first = options.base_port + (options.worker_id or 0)
        return [first] if options.worker_id is not None else list(range(first, first + _PORTS_TRIED))

    def _explained(self, error: Exception) -> EnvironmentSourceError:
        """Says what a failed start means."""
        from mlagents_envs.exception import UnityTimeOutException

        options, text = self.options, str(error)
        log = (
            f"Its log is in {Path(options.log_folder).absolute()}."
            if options.log_folder is not None
            else "Give log_folder to see what it says."
        )
        value = options.file_name
        if isinstance(error, UnityTimeOutException):
            if options.is_editor:
                problem = f"the Unity Editor did not connect within {options.timeout:g} seconds"
                remedy = "Press Play in the Editor while it waits; give a longer timeout if you need more time."
            else:
                problem = f"the player was started, and did not connect within {options.timeout:g} seconds"
                remedy = (
                    "Its Behavior Type must be Default, and it must contain ML-Agents; a slow machine needs a longer "
                    f"timeout; without a screen give no_graphics=True. {log}"
                )
            return EnvironmentSourceError("file_name", value, problem, remedy)
        if isinstance(error, ValueError) or "API version is not compatible" in text:
            problem = f"{options.described} speaks another version of the protocol: {' '.join(text.split())}"
            remedy = "Install the ML-Agents package of Unity that fits this mlagents-envs, or the other way round."
            return EnvironmentSourceError("file_name", value, problem, remedy)
        if isinstance(error, OSError) and not options.is_editor:
            return EnvironmentSourceError(
                "file_name",
                value,
                f"it cannot be run: {error}",
                "Give the executable that Unity built for this system.",
            )
        return EnvironmentSourceError("file_name", value, f"the player ended before it connected: {text}", log)

    def restart(self, error: BaseException) -> None:
        """Starts the player again.

        Args:
            error: What it died of.

        Raises:
            RLFrameworkError: It died too often, or it is the user's.
        """
        if self._is_given:
            raise RLFrameworkError(
                f"the Unity environment stopped answering: {_one_line(error)}. It was given as an object, which only "
                "you can restart: give the path of the executable instead, and it is restarted when it dies."
            ) from error
        self._deaths = 1 if self._messages > _STEADY else self._deaths + 1
        self.close(patience=0)
        limit = self.options.max_restarts
        if self._deaths > limit:
            raise RLFrameworkError(
                f"{self.options.described} died {self._deaths} times, each soon after it was started (max_restarts="
                f"{limit}); the last time: {_one_line(error)}. "
                + ("Give log_folder to see what it says." if self.options.log_folder is None else "Its log says more.")
            ) from error
        self.restarts += 1
        logger.warning("%s died (%s); starting it again", self.options.described, _one_line(error))
        self.open()

    def count_message(self) -> None:
        """Notes that the player has answered."""
        self._messages += 1

    def set_parameters(self, parameters: dict[str, Any]) -> None:
        """Sends parameters of the scene, now and to every player after this one.

        Raises:
            EnvironmentSourceError: The environment is the user's.
            ArgumentError: A value is neither a number nor a sampler.
        """
        if self.channels is None:
            raise EnvironmentSourceError(
                "environment_parameters",
                parameters,
                "this Unity environment was given as an object, and its side channels are yours",
                "Use its EnvironmentParametersChannel, or give the path of the executable.",
            )
        self.channels.set_parameters(parameters)
        self._parameters |= parameters

    def close(self, patience: float = _PATIENCE) -> None:
        """Ends the player; a user's environment is left open."""
        if self._is_given or self.environment is None:
            return
        environment, self.environment = self.environment, None
        environment.shut_down(patience)


def find_executable(file_name: str | os.PathLike[str]) -> str:
    """Returns an absolute path that ML-Agents can resolve; endings such as .x86_64 and .app can be left out.

    Raises:
        EnvironmentSourceError: There is none, or it may not be run.
    """
    from mlagents_envs.env_utils import validate_environment_path

    path = Path(file_name).expanduser()
    found = validate_environment_path(str(path))
    if found is None:
        inside = sorted(each.name for each in path.iterdir() if _looks_executable(each)) if path.is_dir() else []
        if inside:
            remedy = f"It is a folder: give the executable in it, which may be {' or '.join(inside[:3])}."
        else:
            remedy = "Build the scene in Unity (File > Build Settings) and give the path of what it built."
        raise EnvironmentSourceError("file_name", str(file_name), "there is no Unity executable of that name", remedy)
    if not os.access(found, os.X_OK):
        raise EnvironmentSourceError(
            "file_name", str(file_name), "it may not be executed", f"Allow it: chmod +x '{found}'."
        )
    return str(path.absolute())  # and not what was found: inside an .app, ML-Agents would not find it again


def _looks_executable(path: Path) -> bool:
    return path.suffix in (".x86_64", ".x86", ".exe", ".app")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
