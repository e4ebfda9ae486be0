"""How fast recorded episodes are read: the framework beside the imitation library, side by side in one run.

A million transitions like CartPole's, in episodes of a thousand steps, are written once by the library and once by the
framework. Then, in turn, so that a drift of the machine's speed falls on all:

- one episode at random: its observations, actions and rewards as arrays of one's own;
- all transitions flat: observations, actions, next observations, rewards and ends as arrays of one's own.

Read by the library from its data set, by the framework from the library's data set, and from the framework's own. Run
it with

    python benchmarks/episodes.py

and read the ratios: how many times faster than the library. The goal is at least 20 for the framework's own format.
Files are in the system's cache, so that the disk does not matter.

On 2 busy cores, with imitation 1.0.1, medians of 3 repeats (lowest to highest): an episode from the framework's own
format 0.036 ms instead of 1.256 ms, 31 times faster (30 to 81); all transitions 0.023 s instead of 15.8 s, 750 times
(581 to 878). From the library's data set the framework needs 0.042 ms and 0.024 s.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from gymnasium import spaces
from imitation.data import rollout, serialize
from imitation.data.types import TrajectoryWithRew

from rl_framework.episode import Episode, EpisodeSequence

Task = Callable[[], Any]
SOURCES = ("library", "framework from its data", "framework")


def _episodes(count: int, length: int) -> EpisodeSequence:
    generator = np.random.default_rng(0)
    box = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    return EpisodeSequence.from_episodes(
        (
            Episode(
                observations=generator.standard_normal((length + 1, 4)).astype(np.float32),
                actions=generator.integers(0, 2, length),
                rewards=np.ones(length),
                terminated=False,
                truncated=True,
            )
            for _ in range(count)
        ),
        box,
        spaces.Discrete(2),
    )


def _library(trajectories: Sequence[TrajectoryWithRew], draws: list[int]) -> tuple[Task, Task]:
    def one_by_one() -> Any:
        chosen = (trajectories[index] for index in draws)  # their arrays are new ones already
        return [(trajectory.obs, trajectory.acts, trajectory.rews) for trajectory in chosen]

    return one_by_one, lambda: rollout.flatten_trajectories_with_rew(list(trajectories))


def _framework(sequence: EpisodeSequence, draws: list[int]) -> tuple[Task, Task]:
    def one_by_one() -> Any:
        chosen = (sequence[index] for index in draws)
        return [(episode.observations.copy(), episode.actions.copy(), episode.rewards.copy()) for episode in chosen]

    return one_by_one, lambda: sequence.transitions().all()


def _seconds(run: Task) -> float:
    gc.collect()
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _report(what: str, unit: str, scale: float, times: dict[str, list[float]]) -> None:
    for source in SOURCES:
        ratios = [theirs / ours for theirs, ours in zip(times["library"], times[source], strict=True)]
        print(
            f"{what:18} {source:24} {statistics.median(times[source]) * scale:10.3f} {unit:3} "
            f"{statistics.median(ratios):8.1f}   {min(ratios):.1f} to {max(ratios):.1f}"
        )


def main() -> None:
    """Prints one line for each task and source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1_000)
    parser.add_argument("--length", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--draws", type=int, default=200, help="random episodes a repeat")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    made = _episodes(arguments.episodes, arguments.length)
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "theirs", Path(folder) / "ours"
        writing = _seconds(lambda: serialize.save(theirs, list(made.to_imitation_episodes())))
        print(
            f"written by the library in {writing:.2f} s, by the framework in {_seconds(lambda: made.save(ours)):.2f} s"
        )
        library = serialize.load(theirs)
        from_its_data, own = EpisodeSequence.from_dataset(theirs), EpisodeSequence.load(ours)
        generator = np.random.default_rng(1)
        single: dict[str, list[float]] = {source: [] for source in SOURCES}
        flat: dict[str, list[float]] = {source: [] for source in SOURCES}
        for repeat in range(arguments.repeats):
            draws = generator.integers(0, len(made), arguments.draws).tolist()
            readers = (_library(library, draws), _framework(from_its_data, draws), _framework(own, draws))
            order = list(zip(SOURCES, readers, strict=True))
            for source, (one_by_one, all_at_once) in order if repeat % 2 == 0 else reversed(order):
                single[source].append(_seconds(one_by_one))
                flat[source].append(_seconds(all_at_once))
        print(f"{'task':18} {'read by':24} {'median':>14} {'ratio':>8}   lowest to highest")
        _report("one episode", "ms", 1e3 / arguments.draws, single)
        _report("all transitions", "s", 1.0, flat)
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
