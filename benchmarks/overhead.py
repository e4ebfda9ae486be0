"""What training through the framework costs beside plain Stable-Baselines3: a ratio, side by side in one run.

Both train the same algorithm with the same parameters, seed and environments, one torch thread each, in turn
(A B, B A, A B, ...), so that a drift of the machine's speed falls on both. Timed is everything from making the
environments to the trained agent. Run it with

    python benchmarks/overhead.py

and read the median ratio; 1.00 means that the framework costs nothing.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env

from rl_framework import StableBaselinesAgent

CASES: dict[str, dict[str, Any]] = {
    "ppo": {"environment": "CartPole-v1", "n": 8, "steps": 32_768, "parameters": {"n_steps": 256, "batch_size": 256}},
    "a2c": {"environment": "CartPole-v1", "n": 8, "steps": 32_768, "parameters": {}},
    "dqn": {"environment": "CartPole-v1", "n": 1, "steps": 30_000, "parameters": {"learning_starts": 500}},
    "sac": {"environment": "Pendulum-v1", "n": 1, "steps": 1_500, "parameters": {"learning_starts": 100}},
}


def _plain(name: str, case: dict[str, Any], seed: int) -> Callable[[], Any]:
    algorithm_class = getattr(stable_baselines3, name.upper())

    def train() -> None:
        vec_env = make_vec_env(case["environment"], case["n"], seed=seed)
        algorithm_class("MlpPolicy", vec_env, seed=seed, device="cpu", **case["parameters"]).learn(case["steps"])

    return train


def _framework(name: str, case: dict[str, Any], seed: int) -> Callable[[], Any]:
    def train() -> None:
        agent = StableBaselinesAgent(name, {**case["parameters"], "device": "cpu"})
        agent.train(case["environment"], case["steps"], case["n"], seed=seed, progress_bar=False)

    return train


def _seconds(run: Callable[[], Any]) -> float:
    gc.collect()  # what the run before left behind is not this one's business
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'case':6} {'plain, s':>10} {'framework, s':>13} {'ratio':>7}   lowest to highest")
    for name in arguments.cases:
        case = CASES[name]
        _seconds(_framework(name, {**case, "steps": case["steps"] // 8}, seed=0))  # warms up caches of both
        plain, framework = [], []
        for repeat in range(arguments.repeats):
            order = [(_plain, plain), (_framework, framework)]
            for make, times in order if repeat % 2 == 0 else reversed(order):
                times.append(_seconds(make(name, case, repeat)))
        ratios = [ours / theirs for ours, theirs in zip(framework, plain, strict=True)]
        print(
            f"{name:6} {statistics.median(plain):10.2f} {statistics.median(framework):13.2f} "
            f"{statistics.median(ratios):7.3f}   {min(ratios):.3f} to {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
