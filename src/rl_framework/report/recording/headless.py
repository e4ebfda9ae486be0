"""Drawing on machines that have no screen, and saying what is missing where it cannot be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from functools import cache
from importlib.util import find_spec

__all__ = ["explain", "without_screen"]

_OPENGL_SIGNS = ("opengl", "mujoco", "egl", "osmesa", "glfw", "mjr_", "glgeterror", "gl context", "glcontext")
_SCREEN_SIGNS = ("video device", "no display", "cannot open display", "display name", "xserver", "x11")


@contextmanager
def without_screen() -> Iterator[None]:
    """Lets pygame and MuJoCo draw into memory inside the block, unless the user has chosen otherwise.

    pygame is kept from looking for a sound card, and complaining that there is none. Where there is no screen it draws
    on a dummy one, and MuJoCo by EGL or OSMesa, whichever is installed; both read that when they first draw.
    """
    wanted = {"SDL_AUDIODRIVER": "dummy"}
    if _has_no_screen():
        wanted["SDL_VIDEODRIVER"] = "dummy"
        backend = _opengl_without_screen()
        if backend is not None:
            wanted["MUJOCO_GL"] = backend
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _has_no_screen() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@cache
def _opengl_without_screen() -> str | None:
    """Returns MuJoCo's name of the OpenGL that can be used here, or None."""
    if find_spec("mujoco") is None:
        return None
    for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if find_library(library) is not None:
            return name
    return None


def explain(error: BaseException) -> str:
    """Returns what went wrong in drawing, and what to do about it."""
    said = f"{type(error).__name__}: {error}".strip()
    signs = f"{type(error).__module__} {said}".lower()
    if any(sign in signs for sign in _OPENGL_SIGNS):
        chosen = os.environ.get("MUJOCO_GL")
        now = f"It is {chosen!r} now" if chosen else "It is not set now"
        return (
            f"{said}. OpenGL could not be started. Without a screen MuJoCo draws by EGL (a graphics card, or Mesa: "
            "libegl1) or OSMesa (no card at all: libosmesa6): install one and set the environment variable "
            f"MUJOCO_GL=egl or MUJOCO_GL=osmesa before Python starts. {now}"
        )
    if any(sign in signs for sign in _SCREEN_SIGNS):
        return (
            f"{said}. It wants a screen, and there is none: set the environment variable SDL_VIDEODRIVER=dummy for "
            "pygame, or start Python with xvfb-run"
        )
    if "pip install" in signs or isinstance(error, ImportError):
        return f'{said}. For gymnasium\'s classic control: pip install "rl-framework[classic-control]"'
    return said
