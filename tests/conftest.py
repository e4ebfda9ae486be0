"""What all tests share: one torch thread, no network, quiet libraries."""

from __future__ import annotations

import os
import signal

# A shell starts what it puts into the background with Ctrl-C ignored, and processes hand that on to their children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# pygame looks for a display and a sound card when it renders.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

import pytest
import torch

# Two threads beside another busy process can be 50 times slower than one.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """No test may leave files in the checkout."""
    monkeypatch.chdir(tmp_path)
