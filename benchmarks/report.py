"""How long a report of ten runs of a million timesteps takes, and how large it is.

    python benchmarks/report.py

The runs are made up: two configurations with five seeds each; an episode lasts `--episode-length` timesteps on average
and leaves a line, every 2,048 timesteps an update leaves another one with 14 metrics, and every 50,000 an evaluation.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

TIMESTEPS = 1_000_000
LOSSES = ("loss", "value_loss", "policy_gradient_loss", "entropy_loss", "approx_kl", "clip_fraction", "learning_rate")
NORMS = ("gradient", "clipped_gradient", "weights", "update")


def make_run(folder: Path, algorithm: str, seed: int, episode_length: float) -> int:
    """Makes the folder of a run; returns how many lines it has measured."""
    generator = np.random.default_rng([seed, len(algorithm)])
    lengths = generator.geometric(1 / episode_length, int(1.2 * TIMESTEPS / episode_length) + 100)
    ends = np.cumsum(lengths)
    lines = []
    for timestep, length in zip(ends[ends <= TIMESTEPS].tolist(), lengths.tolist(), strict=False):
        reached = 500 * (1 - np.exp(-timestep / 250_000)) + generator.normal(0, 50)
        lines.append((timestep, {"episode/return": reached, "episode/length": float(length)}))
    for timestep in range(2_048, TIMESTEPS, 2_048):
        values = {f"train/{name}": generator.random() for name in LOSSES}
        values |= {f"norms/policy_{name}": generator.random() for name in NORMS}
        lines.append((timestep, {**values, "rollout/ep_rew_mean": 1.0, "time/fps": 3e3, "time/iterations": 1.0}))
    for timestep in range(50_000, TIMESTEPS + 1, 50_000):
        ends_of = {"evaluation/mean_return": 400.0, "evaluation/low": 380.0, "evaluation/high": 410.0}
        lines.append((timestep, ends_of))
    lines.sort(key=lambda line: line[0])
    folder.mkdir(parents=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for timestep, metrics in lines:
            file.write(json.dumps({"timestep": timestep, "time": 1.7e9 + timestep / 3e3, "metrics": metrics}) + "\n")
    returns = generator.normal(480, 10, 100).tolist()
    (folder / "results.json").write_text(json.dumps({"returns": returns, "lengths": [100] * 100}))
    (folder / "config.yaml").write_text(f"seed: {seed}\nagent: {{algorithm: {algorithm}}}\n")
    return len(lines)


def main() -> None:
    """Makes the runs, and a report of them, several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episode-length", type=float, default=150.0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    from rl_framework import write_report

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lines = sum(
            make_run(folder / "runs" / algorithm / f"seed-{seed}", algorithm, seed, arguments.episode_length)
            for algorithm in ("ppo", "a2c")
            for seed in range(5)
        )
        size = sum(path.stat().st_size for path in (folder / "runs").rglob("metrics.jsonl"))
        print(f"10 runs of {TIMESTEPS:,} timesteps: {lines:,} lines, {size / 1e6:.0f} MB")
        for png in [False] * arguments.repeats + [True]:
            wall, cpu = time.perf_counter(), time.process_time()
            page = write_report(folder / "runs", folder / "page.html", png=png)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            what = "page and PNG" if png else "page"
            print(f"{what}: {wall:.2f} s ({cpu:.2f} s of CPU), {page.stat().st_size / 1e6:.1f} MB, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
