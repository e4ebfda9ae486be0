"""Jupyter kernels that nothing else on the machine can get in the way of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from traitlets.config import Config

__all__ = ["private_sockets"]


@contextmanager
def private_sockets() -> Iterator[Config]:
    """Gives a configuration with which kernels are spoken to over files.

    Of ports, Jupyter finds free ones and lets go of them for the kernel, which opens them about a second later: by then
    another test may have one of them.
    """
    if os.name != "posix":
        yield Config()
        return
    with tempfile.TemporaryDirectory(prefix="k") as folder:  # and not in `tmp_path`: a socket's path must be short
        yield Config({"KernelManager": {"transport": "ipc", "ip": str(Path(folder, "k"))}})
