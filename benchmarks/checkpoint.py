"""What share of training time checkpoints take: the time that training waits for them, and nothing else.

PPO on 8 CartPoles and SAC on Pendulum, both with layers of 64 units and a checkpoint every 10,000 timesteps. SAC's
replay buffer grows, and every checkpoint holds all that has been written to it: it is measured over the first
checkpoint, and again with a full buffer of a million transitions, which is as dear as it gets. Run it with

    python benchmarks/checkpoint.py

and read the share, which is to stay under 1 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from rl_framework import Callback, StableBaselinesAgent
from rl_framework.training.callbacks import PeriodicCheckpoint

EVERY = 10_000
SMALL = {"policy_kwargs": {"net_arch": [64, 64]}, "device": "cpu"}
CASES: dict[str, dict[str, Any]] = {
    "ppo": {"algorithm": "ppo", "environment": "CartPole-v1", "n": 8, "steps": 100_000, "fill": False},
    "sac": {"algorithm": "sac", "environment": "Pendulum-v1", "n": 1, "steps": 11_000, "fill": False},
    "sac, 1M": {"algorithm": "sac", "environment": "Pendulum-v1", "n": 1, "steps": 11_000, "fill": True},
}


class TimedCheckpoint(PeriodicCheckpoint):
    """Notes how long training waits."""

    def __init__(self, directory: str | Path) -> None:
        super().__init__(directory, EVERY, keep_last=2)
        self.seconds: list[float] = []
        self.sizes: list[int] = []

    def save(self, training: Any) -> Path:
        started = time.perf_counter()
        path = super().save(training)
        self.seconds.append(time.perf_counter() - started)
        self.sizes.append(path.stat().st_size)
        return path

    def on_training_end(self, event: Any, training: Any) -> None:
        started = time.perf_counter()
        super().on_training_end(event, training)  # what is still being written then is waited for
        if self.seconds:
            self.seconds[-1] += time.perf_counter() - started


class FullBuffer(Callback):
    """Pretends that a million transitions have been collected before."""

    def on_training_start(self, event: Any, training: Any) -> None:
        buffer = training.agent.algorithm.replay_buffer
        for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards):
            array[...] = 0.1
        buffer.full = True


def measure(case: dict[str, Any], directory: str) -> tuple[float, TimedCheckpoint]:
    """Returns the seconds of training, checkpoints included, and what was noted of these."""
    checkpoint = TimedCheckpoint(directory)
    agent = StableBaselinesAgent(case["algorithm"], SMALL)
    callbacks = [checkpoint, *([FullBuffer()] if case["fill"] else [])]
    started = time.perf_counter()
    agent.train(case["environment"], case["steps"], case["n"], callbacks=callbacks, seed=0, progress_bar=False)
    return time.perf_counter() - started, checkpoint


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--directory", help="where to write; None: a temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'case':8} {'checkpoints':>11} {'MB each':>8} {'ms each':>8} {'ms first':>9} {'training, s':>12} {'share':>8}"
    )
    for name in arguments.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
            seconds, checkpoint = measure(case, folder)
        count, waited = len(checkpoint.seconds), sum(checkpoint.seconds)
        # As if checkpoints came exactly every 10,000 timesteps: the last stretch of a run has none.
        per_period = waited / count / ((seconds - waited) * EVERY / case["steps"] + waited / count)
        print(
            f"{name:8} {count:11} {checkpoint.sizes[-1] / 1e6:8.2f} {1e3 * waited / count:8.1f} "
            f"{1e3 * checkpoint.seconds[0]:9.1f} {seconds:12.1f} {per_period:8.2%}"
        )


if __name__ == "__main__":
    main()
