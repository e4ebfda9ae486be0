"""How long 500 frames of CartPole take to film, without and with an overlay, and what a grid of four costs.

Run it with

    python benchmarks/recording.py

on a machine that does nothing else. Each line is the fastest of several recordings: rendering, acting, drawing and
encoding, from the call to the whole file. The encoder runs beside Python, on another core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework import record_video

FRAMES = 500
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "overlay": {"overlay": True},
    "overlay with observations": {"overlay": ["step", "return", "action", "value", "observation"]},
    "grid of four with overlay": {"overlay": True, "n_environments": 4},
}


class Balancing:
    """Keeps the pole up, so that no time goes into a network."""

    def predict(self, observations: Any, *_: Any) -> Any:
        return (observations[:, 2] + 0.3 * observations[:, 3] > 0).astype(int), None

    def estimate_value(self, observations: Any) -> Any:
        return 100.0 - 500.0 * np.abs(observations[:, 2])


def main() -> None:
    """Prints one line a case and file format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for ending in (".mp4", ".gif"):
            for name, options in CASES.items():
                seconds = []
                for _ in range(arguments.repeats):
                    started = time.perf_counter()
                    record_video(Balancing(), "CartPole-v1", Path(directory) / f"v{ending}", FRAMES, seed=1, **options)
                    seconds.append(time.perf_counter() - started)
                print(f"{ending[1:]} {name:27} {min(seconds):6.2f} s   ({max(seconds):.2f} s at worst)", flush=True)


if __name__ == "__main__":
    main()
