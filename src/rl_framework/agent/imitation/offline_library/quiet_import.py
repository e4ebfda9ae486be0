"""Importing d3rlpy without what it does to the process on the way."""

from __future__ import annotations

import io
import sys
import warnings
from contextlib import redirect_stdout
from typing import Any

from rl_framework.errors import require_extra

__all__ = ["import_d3rlpy"]

_MODULES = ("dataclasses_json", "gym", "h5py", "sklearn", "structlog", "d3rlpy")


def import_d3rlpy(needed_for: str) -> Any:
    """Returns d3rlpy.

    Its import configures structlog for the whole process and, on a machine with a GPU, the precision of all matrix
    products; both are put back. What it prints and warns of where shimmy is installed (that there is no display) goes
    nowhere, so that standard output stays the user's.

    Args:
        needed_for: What the user asked for, for the error.

    Raises:
        MissingExtraError: It, or something that it needs, is not installed.
    """
    if "d3rlpy" in sys.modules:
        return sys.modules["d3rlpy"]
    require_extra("offline", needed_for, *_MODULES)
    import structlog
    import torch

    was_configured, configuration = structlog.is_configured(), structlog.get_config()
    precision = torch.get_float32_matmul_precision()
    compiled_autograd = torch.cuda.is_available() and torch._dynamo.config.compiled_autograd
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import d3rlpy

    if was_configured:
        structlog.configure(**configuration)
    else:
        structlog.reset_defaults()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch._dynamo.config.compiled_autograd = compiled_autograd
    return d3rlpy
