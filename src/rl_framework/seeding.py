"""Random numbers: a tree of seeds, and global random states that are put back.

Everything the framework draws for itself comes from a branch of one tree, so that adding a consumer (an evaluation,
a video) never shifts what another one draws.
"""

from __future__ import annotations

import random
import secrets
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from rl_framework.errors import ArgumentError

__all__ = [
    "capture_global_state",
    "check_seed",
    "derive_seed",
    "fresh_seed",
    "isolated_random_state",
    "restore_global_state",
]

# Environments and SB3 take seeds below 2**31, and vectorised environments count upwards from the first.
_SEED_BITS = 31
_ROOM_FOR_ENVIRONMENTS = 1 << 16


def fresh_seed() -> int:
    """Draws a seed from the operating system, without touching any random state."""
    return secrets.randbelow((1 << _SEED_BITS) - _ROOM_FOR_ENVIRONMENTS)


def check_seed(seed: int | None, argument: str = "seed") -> int | None:
    """Returns the seed as a plain int.

    Raises:
        ArgumentError: It is no integer from 0 to 2**32 - 1.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 32:
        raise ArgumentError(argument, seed, "a seed is an integer from 0 to 2**32 - 1, or None")
    return int(seed)


def derive_seed(seed: int, *path: str | int) -> int:
    """Returns the seed at the end of a path in the seed tree.

    Args:
        seed: Root of the tree.
        path: Names and numbers that lead to the branch, such as `("evaluation", 3)`.

    Returns:
        A seed from 0 to 2**31 - 2**16, independent of the seeds of all other paths.
    """
    keys = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in path]
    state = np.random.SeedSequence(seed, spawn_key=keys).generate_state(1, np.uint32)[0]
    return int(state) % ((1 << _SEED_BITS) - _ROOM_FOR_ENVIRONMENTS)


@contextmanager
def isolated_random_state(seed: int | None = None, *generator_owners: Any) -> Iterator[None]:
    """Lets code draw random numbers without leaving a trace.

    The global states of Python, NumPy and torch (CPU and every CUDA device in use) are put back at the end.

    Args:
        seed: Seeds the global generators inside the block; None: fresh randomness.
        generator_owners: Objects with a `np_random` generator (such as spaces) that are treated alike.
    """
    seed = fresh_seed() if seed is None else seed
    torch = sys.modules.get("torch")
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    cuda_states = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None
    owner_states = [owner.np_random.bit_generator.state for owner in generator_owners]
    try:
        random.seed(seed)
        np.random.seed(seed % (1 << 32))
        if torch:
            torch.manual_seed(seed)
        for index, owner in enumerate(generator_owners):
            owner.seed(derive_seed(seed, "owner", index))
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch and torch_state is not None:
            torch.set_rng_state(torch_state)
        if torch and cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        for owner, state in zip(generator_owners, owner_states, strict=True):
            # `seed` replaces the generator object, so the state goes into whatever generator is there now.
            owner.np_random.bit_generator.state = state


def capture_global_state() -> dict[str, Any]:
    """Returns the states of the global generators of Python, NumPy and torch as JSON-able data."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
    }
    torch = sys.modules.get("torch")
    if torch:
        state["torch"] = torch.get_rng_state().tolist()
        if torch.cuda.is_initialized():
            state["cuda"] = [device.tolist() for device in torch.cuda.get_rng_state_all()]
    return state


def restore_global_state(state: dict[str, Any]) -> None:
    """Puts the global generators into the states that `capture_global_state` returned.

    Raises:
        ValueError: It is no such state.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch = sys.modules.get("torch")
    if torch and "torch" in state:
        torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.tensor(device, dtype=torch.uint8) for device in state["cuda"]])
