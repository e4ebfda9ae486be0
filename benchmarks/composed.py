"""How fast PPO made of parts trains beside plain Stable-Baselines3's: a ratio, side by side in one run.

Same hyperparameters (the library's defaults), environments and number of steps, one torch thread each, in turn, so
that a drift of the machine's speed falls on all. Three ways: operation by operation ("eager"), with each optimizer step
as one compiled program ("compiled"), and compiled on environments that are a torch program ("tensors", CartPole only).
Compiling happens in a first short training that is not timed but told: it takes longest the first time on a machine.
Run it with

    python benchmarks/composed.py

and read the median ratio: steps a second of each way, divided by Stable-Baselines3's. That the curves are the same is
tested in tests/learning/test_composed_curves.py.
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

from rl_framework import ComposedAgent
from rl_framework.agent.reinforcement.parts import PPO

CASES: dict[str, dict[str, Any]] = {
    "CartPole-v1, 8": {"environment": "CartPole-v1", "n": 8, "n_steps": 2048},
    "CartPole-v1, 1": {"environment": "CartPole-v1", "n": 1, "n_steps": 2048},
    "Pendulum-v1, 8": {"environment": "Pendulum-v1", "n": 8, "n_steps": 2048},
    "LunarLander-v3, 8": {"environment": "LunarLander-v3", "n": 8, "n_steps": 2048},
}


def _timed(train: Callable[[int], Any], steps: int) -> float:
    gc.collect()  # what the run before left behind is not this one's business
    started = time.process_time()
    train(steps)
    return time.process_time() - started


class _Plain:
    def __init__(self, case: dict[str, Any]) -> None:
        vec_env = make_vec_env(case["environment"], case["n"], seed=0)
        self.model = stable_baselines3.PPO("MlpPolicy", vec_env, n_steps=case["n_steps"], seed=0, device="cpu")

    def train(self, steps: int) -> None:
        self.model.learn(steps, reset_num_timesteps=False)


class _Composed:
    def __init__(self, case: dict[str, Any], compiled: bool, environment: str | None = None) -> None:
        self.agent = ComposedAgent([PPO(n_steps=case["n_steps"])], compiled=compiled, device="cpu")
        self.environment, self.n = environment or case["environment"], case["n"]

    def train(self, steps: int) -> None:
        self.agent.train(self.environment, steps, self.n, progress_bar=False)


def main() -> None:
    """Prints a line for each way in each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=2, help="rollouts of each timed training")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'case':18} {'way':9} {'steps/s':>9} {'ratio':>6}   lowest to highest   seconds to compile (CPU, clock)")
    for name in arguments.cases:
        case = CASES[name]
        rows = case["n_steps"] * case["n"]
        ways: dict[str, Any] = {
            "plain": _Plain(case),
            "eager": _Composed(case, compiled=False),
            "compiled": _Composed(case, compiled=True),
        }
        if case["environment"] == "CartPole-v1" and case["n"] > 1:
            ways["tensors"] = _Composed(case, compiled=True, environment="rl_framework/TensorCartPole-v1")
        warming: dict[str, tuple[float, float]] = {}
        for way, trained in ways.items():
            clock = time.perf_counter()
            warming[way] = (_timed(trained.train, rows), time.perf_counter() - clock)
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        steps = arguments.rollouts * rows
        for repeat in range(arguments.repeats):
            for way in list(ways) if repeat % 2 == 0 else reversed(list(ways)):
                speeds[way].append(steps / _timed(ways[way].train, steps))
        for way, measured in speeds.items():
            ratios = [mine / theirs for mine, theirs in zip(measured, speeds["plain"], strict=True)]
            told = f"   {min(ratios):.2f} to {max(ratios):.2f}"
            if way in ("compiled", "tensors"):
                told += f"   {warming[way][0] - rows / statistics.median(measured):.1f}, {warming[way][1]:.1f}"
            print(f"{name:18} {way:9} {statistics.median(measured):9.0f} {statistics.median(ratios):6.2f}{told}")


if __name__ == "__main__":
    main()
