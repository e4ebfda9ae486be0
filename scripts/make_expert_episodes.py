"""Makes the expert data set in data/cartpole_expert, and prints what is in it.

An agent of this project learns CartPole-v1 until its most likely actions hold the pole for all 500 steps in 100 of 100
episodes, then acts in 40 others. Everything is seeded: on one machine, with one version of the libraries, the same
episodes come out every time. Takes about a minute, in any directory:
`python scripts/make_expert_episodes.py [folder]`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from rl_framework import EpisodeSequence, StableBaselinesAgent

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "cartpole_expert"

ENVIRONMENT = "CartPole-v1"
SEED = 0
TRAINING_STEPS = 100_000
EVALUATION_EPISODES = 100
EPISODES = 40
BEST_RETURN = 500.0

# Those of RL Baselines3 Zoo for this environment (hyperparams/ppo.yml), with 8 environments.
PARAMETERS = {
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "ent_coef": 0.0,
    "learning_rate": {"type": "linear", "start": 1e-3, "end": 0.0},
    "clip_range": {"type": "linear", "start": 0.2, "end": 0.0},
}


def train_expert(steps: int = TRAINING_STEPS) -> StableBaselinesAgent:
    """Trains the agent that shows how it is done."""
    agent = StableBaselinesAgent("ppo", PARAMETERS)
    agent.train(training_environments=ENVIRONMENT, n_environments=8, total_timesteps=steps, seed=SEED)
    return agent


def check_expert(agent: StableBaselinesAgent, best_return: float = BEST_RETURN) -> None:
    """Checks that every one of 100 episodes has the highest return there is.

    Raises:
        SystemExit: One has not.
    """
    result = agent.evaluate(ENVIRONMENT, EVALUATION_EPISODES, deterministic=True, seed=SEED)
    print(f"{EVALUATION_EPISODES} episodes, deterministic: mean {result.mean:.1f}, lowest {result.returns.min():.0f}")
    if result.returns.min() < best_return:
        sys.exit("this is no expert: train for longer, or with another seed")


def make(folder: Path, agent: StableBaselinesAgent, episodes: int = EPISODES) -> EpisodeSequence:
    """Collects the episodes into a folder, whose data set is replaced when all of them are there."""
    sequence = EpisodeSequence.collect(agent, ENVIRONMENT, episodes, seed=SEED + 1, deterministic=True)
    information = {
        "environment": ENVIRONMENT,
        "expert": {"agent": "StableBaselinesAgent", **agent.describe(), "timesteps": agent.num_timesteps, "seed": SEED},
        "deterministic": True,
        "made_by": "scripts/make_expert_episodes.py",
        "license": "MIT",
    }
    sequence.save(folder, overwrite=True, information=information)
    return EpisodeSequence.load(folder)


def main() -> None:
    """Trains, checks, collects."""
    torch.set_num_threads(1)  # sums over several threads come out in another order on another machine
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    agent = train_expert()
    check_expert(agent)
    sequence = make(folder, agent)
    for name, value in sequence.statistics().rows():
        print(f"{name}: {value}")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
