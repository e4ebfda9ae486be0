"""Environments in a process each: gymnasium's `AsyncVectorEnv` without the traps that it has for environments."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState

from rl_framework.environment.adapter import MultiSlotAdapter
from rl_framework.environment.batched.batch import copy_info
from rl_framework.environment.batched.in_process import is_wrapped, record_raw_return
from rl_framework.environment.replay import ReplayableEnvironment
from rl_framework.errors import ArgumentError, EnvironmentSourceError

__all__ = ["INFO_KEY", "Workers", "WrappedInfo"]

INFO_KEY = "rl_framework.info"
"""Under this key a worker sends its info as one object."""

_GRACE_SECONDS = 10.0
"""How long a worker may take to answer before its process is ended."""


class WrappedInfo:
    """An info that `VectorEnv` must not merge into arrays, which would change types and lose values."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info


class _BoundMethod:
    """Stands for a method, which cannot leave the process of its environment."""


class _InWorker(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost layer of an environment in a worker."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise _portable(error) from error
        return observation, {INFO_KEY: WrappedInfo(info)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; the end of an episode is copied, since the worker resets before it sends anything."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise _portable(error) from error
        if terminated or truncated:
            observation, info = deepcopy(observation), copy_info(info)
        return observation, reward, terminated, truncated, {INFO_KEY: WrappedInfo(info)}

    def answer(self, task: str, name: str, args: Any, kwargs: Any) -> tuple[bool, Any]:
        """Calls, reads or sets an attribute; a mistake is an answer too, where the library would end the worker."""
        try:
            if task == "set":
                return True, self.env.set_wrapper_attr(name, args)
            if task == "wrapped":
                return True, is_wrapped(self.env, args)
            value = self.env.get_wrapper_attr(name)
            if task == "get":
                value = _BoundMethod() if callable(value) else value
            elif callable(value) or args or kwargs:
                value = value(*args, **kwargs)
            pickle.dumps(value)
        except Exception as error:  # noqa: BLE001  # it is raised again in the main process
            return False, _portable(error)
        return True, value


class _NotMade(gymnasium.Env[Any, Any]):
    """Stands for an environment that could not be made, to say why when it is asked."""

    observation_space: Any = None
    action_space: Any = None

    def __init__(self, error: Exception) -> None:
        self.error = error

    def answer(self, *args: Any) -> tuple[bool, Any]:
        """Answers everything with the error."""
        return False, _portable(self.error)


def _portable(error: Exception) -> Exception:
    """Returns an error that the main process can rebuild; one that it cannot rebuild would leave it waiting."""
    if type(error).__module__ == "builtins":
        try:
            return type(error)(str(error))
        except TypeError:
            pass
    return RuntimeError(f"{type(error).__name__}: {error}")


class _Maker:
    """Makes the environment of a worker, and remembers the spec of the one made in the main process."""

    def __init__(self, make: Callable[[], Any], argument: str, replayable: bool, fresh: bool) -> None:
        self.fresh = fresh
        self.make = make
        self.argument = argument
        self.replayable = replayable
        self.spec: EnvSpec | None = None
        self._in_worker = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "spec": None, "_in_worker": True}

    def __call__(self) -> gymnasium.Env[Any, Any]:
        if self._in_worker:
            # A terminal, or the end of a job, signals every process. The main one decides, and ends the others.
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)
        try:
            environment = self.make()
        except Exception as error:
            if not self._in_worker:
                raise
            return _NotMade(error)
        if isinstance(environment, MultiSlotAdapter):
            raise ArgumentError(
                "vectorization", "subprocess", f"{self.argument} has several slots in one world", 'Use "auto".'
            )
        self.spec = environment.spec
        record_raw_return(environment)
        if self.replayable:
            environment = ReplayableEnvironment(environment, self._make_again if self.fresh else None)
        return _InWorker(environment)

    def _make_again(self) -> gymnasium.Env[Any, Any]:
        environment = self.make()
        record_raw_return(environment)
        return environment


class Workers(AsyncVectorEnv):
    """Environments in a process each, reset in the step that ends an episode.

    Infos arrive as they were, a final observation is not changed by the reset after it, single environments can be
    asked, and `close` returns whatever has become of the processes.

    Args:
        factories: What makes each environment; sent to its process with cloudpickle.
        argument: Name of the argument they came from, for errors.
        replayable: Whether to note what their open episodes follow from.
        fresh: Whether every episode begins in a new environment.

    Attributes:
        environment_id: The id of the first environment in gymnasium's registry, if it has one.
    """

    def __init__(
        self,
        factories: Sequence[Callable[[], Any]],
        argument: str = "environments",
        replayable: bool = False,
        fresh: bool = False,
    ) -> None:
        makers = [_Maker(factory, argument, replayable, fresh) for factory in factories]
        # As Stable-Baselines3 does: a forked child of a process with threads (torch's) can deadlock.
        context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self.parent_pipes: list[Any] = []
        self.processes: list[Any] = []
        try:
            super().__init__(makers, context=context, autoreset_mode=AutoresetMode.SAME_STEP, copy=False)
        except (EOFError, ConnectionError) as error:
            self.close()
            raise EnvironmentSourceError(
                argument,
                list(factories),
                "a process ended while it made its environment; its own message is on the error stream",
                'vectorization="sync" may show it here.',
            ) from error
        except BaseException:
            self.close()
            raise
        spec = makers[0].spec
        self.environment_id = spec.id if spec is not None else None

    def _check_spaces(self) -> None:
        self.ask("get", "observation_space", range(self.num_envs))  # raises where one could not be made
        super()._check_spaces()

    def ask(self, task: str, name: str, indices: Sequence[int], args: Any = (), kwargs: Any = None) -> list[Any]:
        """Lets workers call ("call"), read ("get") or set ("set") an attribute of their environments.

        "wrapped" asks whether a wrapper of the class in `args` is around them.

        Raises:
            Exception: What an environment raised; all workers go on.
        """
        self._assert_is_running()
        for index in indices:
            self.parent_pipes[index].send(("_call", ("answer", (task, name, args, kwargs or {}), {})))
        replies = [self.parent_pipes[index].recv()[0] for index in indices]
        for succeeded, value in replies:
            if not succeeded:
                raise value
        return [
            partial(self._call_one, name, index) if isinstance(value, _BoundMethod) else value
            for index, (_, value) in zip(indices, replies, strict=True)
        ]

    def _call_one(self, name: str, index: int, *args: Any, **kwargs: Any) -> Any:
        return self.ask("call", name, [index], args, kwargs)[0]

    def close_extras(self, timeout: float | None = None, terminate: bool = False, **kwargs: Any) -> None:
        """Ends the processes: politely, and by force those that do not answer or when `terminate` is given."""
        deadline = time.monotonic() + (0.0 if terminate else _GRACE_SECONDS if timeout is None else timeout)
        interrupted = getattr(self, "_state", AsyncState.DEFAULT) is not AsyncState.DEFAULT
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None and not pipe.closed]
        for pipe in pipes:
            try:
                if interrupted and pipe.poll(max(0.0, deadline - time.monotonic())):
                    pipe.recv()
                pipe.send(("close", None))
            except (OSError, EOFError):
                continue  # the process is gone
        for process in self.processes:
            # A process that could not be started cannot be joined either.
            if process.pid is None:
                continue
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():  # it ignores politer signals
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()
