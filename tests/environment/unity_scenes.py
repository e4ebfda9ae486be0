"""Players for the tests of Unity: executables that are `tests.servers.unity` with some arguments."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.servers.unity import read_log, transitions_of, write_player

__all__ = ["Scene", "Scenes", "own_port"]

_ports_asked_for = itertools.count()


def own_port() -> int:
    """Returns a free port that only this process uses: below those that systems hand out to whoever asks for any."""
    while True:
        port = 10_000 + (8 * os.getpid() + next(_ports_asked_for)) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("localhost", port))
            except OSError:
                continue
            return port


class Scene:
    """An executable, and what its players noted."""

    def __init__(self, folder: Path, *arguments: Any) -> None:
        folder.mkdir(exist_ok=True)
        np.random.seed(0)  # from which players get their seeds
        self.log_file = folder / "player.jsonl"
        self.path = write_player(folder / "Reach.x86_64", *arguments, log=self.log_file)

    @property
    def log(self) -> list[dict[str, Any]]:
        return read_log(self.log_file)

    def noted(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["what"] == what]

    def transitions(self, behavior: str | None = None) -> list[dict[str, Any]]:
        return transitions_of(self.log, behavior)


Scenes = Callable[..., Scene]
