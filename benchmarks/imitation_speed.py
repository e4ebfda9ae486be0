"""How fast behavioural cloning is beside that of the imitation library: transitions a second, side by side in one run.

Both train the same network on the same made-up data with the same loss, the same optimizer and the same batch size, one
torch thread each, in turn (A B, B A, A B, ...), so that a drift of the machine's speed falls on both. That they compute
the same is what `tests/agent/imitation/test_behavioural_cloning.py` shows: on equal batches losses, gradients and
weights are equal. Timed are the steps of the optimizer with everything that happens around each, including what is
measured and logged every 500 batches, after a few to warm up. Run it with

    python benchmarks/imitation_speed.py

and read the ratio, which is to be at least 3 at batch size 32 and 8 at 1,024.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from imitation.algorithms.bc import BC
from imitation.data.types import Transitions
from imitation.util.logger import HierarchicalLogger
from stable_baselines3.common.logger import Logger

from rl_framework.agent.imitation import ImitationAgent
from rl_framework.agent.imitation.library.behavioural_cloning import BehaviouralCloning
from rl_framework.agent.imitation.library.cloning_policy import build_bc_policy
from rl_framework.episode import Episode, EpisodeSequence

N_EPISODES, LENGTH = 50, 1000
SPACES: dict[str, tuple[spaces.Box, Any]] = {
    "cartpole": (spaces.Box(-np.inf, np.inf, (4,), np.float32), spaces.Discrete(2)),
    "hopper": (spaces.Box(-np.inf, np.inf, (11,), np.float32), spaces.Box(-1.0, 1.0, (3,), np.float32)),
}
WARM_UP = 50

Train = Callable[[int], Any]
"""Trains for a number of batches."""


def made_up(case: str) -> EpisodeSequence:
    """Returns episodes of random observations, whose actions are a function of them."""
    observation_space, action_space = SPACES[case]
    rng = np.random.default_rng(0)
    size = observation_space.shape[0]
    rule = rng.normal(size=(size, 3))
    episodes = []
    for _ in range(N_EPISODES):
        observations = rng.normal(size=(LENGTH + 1, size)).astype(np.float32)
        values = observations[:-1] @ rule
        discrete = isinstance(action_space, spaces.Discrete)
        actions = (values[:, 0] > 0).astype(np.int64) if discrete else np.tanh(values).astype(np.float32)
        episodes.append(Episode(observations, actions, np.ones(LENGTH), terminated=False, truncated=True))
    return EpisodeSequence.from_episodes(episodes, observation_space, action_space)


def library(sequence: EpisodeSequence, batch_size: int) -> Train:
    """Returns the training of `imitation.algorithms.bc.BC`, without a progress bar and with a logger that is silent."""
    batch = sequence.transitions().all()
    learner = BC(
        observation_space=sequence.observation_space,
        action_space=sequence.action_space,
        rng=np.random.default_rng(0),
        demonstrations=Transitions(
            obs=batch.observations,
            acts=batch.actions,
            infos=np.array([{}] * len(batch)),
            next_obs=batch.next_observations,
            dones=batch.terminated,
        ),
        batch_size=batch_size,
        device="cpu",
        custom_logger=HierarchicalLogger(Logger(None, [])),
    )
    return lambda n_batches: learner.train(n_batches=n_batches, progress_bar=False)


def kernel(sequence: EpisodeSequence, batch_size: int) -> Train:
    """Returns our training without the agent around it."""
    policy = build_bc_policy(sequence.observation_space, sequence.action_space, seed=0, device="cpu")
    learner = BehaviouralCloning(policy, sequence.transitions(), batch_size)
    return lambda n_batches: list(learner.train_batches(n_batches))


def traced(sequence: EpisodeSequence, batch_size: int) -> Train:
    """Returns our training as it is for networks that are not differentiated by hand."""
    policy = build_bc_policy(sequence.observation_space, sequence.action_space, seed=0, device="cpu")
    learner = BehaviouralCloning(policy, sequence.transitions(), batch_size)
    learner._plain = None
    return lambda n_batches: list(learner.train_batches(n_batches))


def agent(sequence: EpisodeSequence, batch_size: int) -> Train:
    """Returns the training of `ImitationAgent`; a call goes on with the same policy and reads the episodes anew."""
    learner = ImitationAgent("bc", {"batch_size": batch_size, "device": "cpu"})
    return lambda n_batches: learner.train(sequence, total_timesteps=n_batches * batch_size, progress_bar=False)


# The first is what the others are compared with.
CONTENDERS: dict[str, Callable[[EpisodeSequence, int], Train]] = {
    "imitation": library,
    "kernel": kernel,
    "traced": traced,
    "agent": agent,
}


def _rate(train: Train, n_batches: int, batch_size: int) -> float:
    gc.collect()  # what the run before left behind is not this one's business
    started = time.process_time()
    train(n_batches)
    return n_batches * batch_size / (time.process_time() - started)


def measure(case: str, batch_size: int, names: list[str], repeats: int) -> dict[str, Any]:
    """Returns median rates, in transitions a second, and the median, lowest and highest ratio to the first."""
    sequence = made_up(case)
    trainings = {name: CONTENDERS[name](sequence, batch_size) for name in names}
    n_batches = dict.fromkeys(names, 192) | {names[0]: 64}  # the library takes longer for each
    times = max(1, 512 // batch_size)
    for train in trainings.values():
        train(WARM_UP)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            rates[name].append(_rate(trainings[name], n_batches[name] * times, batch_size))
    result: dict[str, Any] = {"case": case, "batch_size": batch_size}
    for name in names:
        ratios = [mine / first for mine, first in zip(rates[name], rates[names[0]], strict=True)]
        result[name] = {
            "rate": statistics.median(rates[name]),
            "ratio": [min(ratios), statistics.median(ratios), max(ratios)],
        }
    return result


def main() -> None:
    """Prints one line a case, batch size and contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[32, 256, 1024])
    parser.add_argument("--json", type=Path, help="where to write the figures; None: nowhere")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'case':9} {'batch':>6} {'':14} {'transitions/s':>14} {'ratio':>7}   lowest to highest")
    results = []
    for case in arguments.cases:
        for batch_size in arguments.batch_sizes:
            result = measure(case, batch_size, list(CONTENDERS), arguments.repeats)
            results.append(result)
            for name in CONTENDERS:
                low, middle, high = result[name]["ratio"]
                rate = result[name]["rate"]
                print(f"{case:9} {batch_size:6} {name:14} {rate:14,.0f} {middle:7.2f}   {low:.2f} to {high:.2f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
