"""`mlagents_envs`' own environment, with another way to wait, to listen and to be closed.

Importing this module imports `mlagents_envs`: call `load_mlagents_envs` before.
"""

from __future__ import annotations

import atexit
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import grpc
from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto
from mlagents_envs.communicator_objects.unity_to_external_pb2_grpc import add_UnityToExternalProtoServicer_to_server
from mlagents_envs.environment import UnityEnvironment
from mlagents_envs.exception import (
    UnityCommunicatorStoppedException,
    UnityEnvironmentException,
    UnityTimeOutException,
    UnityWorkerInUseException,
)
from mlagents_envs.rpc_communicator import RpcCommunicator, UnityToExternalServicerImplementation

__all__ = ["FAILURES", "Player"]

FAILURES = (
    UnityEnvironmentException,
    UnityCommunicatorStoppedException,
    UnityTimeOutException,
    EOFError,
    OSError,
)
"""What a player that died, hung up or hangs shows itself as."""

_LAST_WORDS = 5.0
"""Seconds that the message to quit may take."""
_LOOK_EVERY = 0.1
"""Seconds between two looks at whether the process is still alive. The library's own are a tenth of the time-out."""


class _ServerThreads(Executor):
    """Threads for the library's server that the end of a program does not wait for.

    Python joins those of a `ThreadPoolExecutor` before it calls what is registered with `atexit`: a program that leaves
    a player open would wait for ever for a thread that waits for the player, which waits to be told to quit.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a function called in one of the threads."""
        future: Future[Any] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # who asks for the result gets it
                future.set_exception(error)

        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the threads end when they have done what there is; it does not wait for them."""
        for _ in range(self._count):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class _Communicator(RpcCommunicator):
    """The library's server, which listens on one host and not on every network of the machine.

    Args:
        worker_id: Number of the player.
        base_port: Port of player 0.
        timeout_wait: Seconds to wait for an answer.
        host: Where to listen.
    """

    def __init__(self, worker_id: int, base_port: int, timeout_wait: float, host: str) -> None:
        self._host = host
        super().__init__(worker_id, base_port, timeout_wait)

    def create_server(self) -> None:
        """Starts to listen.

        Raises:
            UnityWorkerInUseException: Somebody else listens on the port.
        """
        self.check_port(self.port)
        # The library lets two servers share a port, of which the player then meets either; and it refuses messages over
        # 4 MB, which a few cameras exceed.
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        self._threads = _ServerThreads(2)
        self.server = grpc.server(thread_pool=self._threads, options=options)
        self.unity_to_external = UnityToExternalServicerImplementation()
        add_UnityToExternalProtoServicer_to_server(self.unity_to_external, self.server)
        try:
            bound = self.server.add_insecure_port(f"{self._host}:{self.port}")
        except RuntimeError as error:
            self._threads.shutdown()
            raise UnityWorkerInUseException(self.worker_id) from error
        if not bound:
            self._threads.shutdown()
            raise UnityWorkerInUseException(self.worker_id)
        self.server.start()
        self.is_open = True

    def poll_for_timeout(self, poll_callback: Callable[[], None] | None = None) -> None:
        """Waits for the player's next message.

        Raises:
            UnityTimeOutException: There was none in time.
            UnityEnvironmentException: The player's process has ended.
        """
        deadline = time.monotonic() + self.timeout_wait
        while not self.unity_to_external.parent_conn.poll(_LOOK_EVERY):
            if poll_callback is not None:
                poll_callback()
            if time.monotonic() > deadline:
                raise UnityTimeOutException(f"no message for {self.timeout_wait:g} seconds")

    def initialize(self, inputs: Any, poll_callback: Callable[[], None] | None = None) -> Any:
        """Exchanges the first two messages; the library would wait for the second one for ever."""
        self.poll_for_timeout(poll_callback)
        academy = self.unity_to_external.parent_conn.recv().unity_output
        message = UnityMessageProto()
        message.header.status = 200
        message.unity_input.CopyFrom(inputs)
        self.unity_to_external.parent_conn.send(message)
        self.poll_for_timeout(poll_callback)
        self.unity_to_external.parent_conn.recv()
        return academy

    def close(self) -> None:
        """Tells the player to quit; the library would cut the line before that has arrived."""
        if self.is_open:
            self.is_open = False
            message = UnityMessageProto()
            message.header.status = 400
            self.unity_to_external.parent_conn.send(message)
            self.server.stop(_LAST_WORDS).wait()
            self._threads.shutdown()
            self.unity_to_external.parent_conn.close()


class Player(UnityEnvironment):
    """A Unity player that was started here, or the Editor.

    Args:
        host: Where to listen for it.
        arguments: Of `mlagents_envs.environment.UnityEnvironment`.

    Raises:
        UnityWorkerInUseException: The port is taken.
        UnityTimeOutException: The player did not connect in time.
        UnityEnvironmentException: The player ended at once, or speaks another version of the protocol.
    """

    def __init__(self, host: str, **arguments: Any) -> None:
        self._host = host
        try:
            super().__init__(**arguments)
        except BaseException:
            self.shut_down(patience=0)
            raise

    def _get_communicator(self, worker_id: int, base_port: int, timeout_wait: float) -> _Communicator:
        return _Communicator(worker_id, base_port, timeout_wait, self._host)

    def shut_down(self, patience: float) -> None:
        """Tells the player to quit, and ends its process if it does not.

        Args:
            patience: Seconds that it has for that.
        """
        atexit.unregister(self._close)  # or every player of a long training would be kept until the end
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if not hasattr(self, "_communicator"):
            return
        self._loaded = False
        self._communicator.close()
        self._process = None
        if process is None:
            return
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
