"""Trains, evaluates and films PPO on CartPole-v1; `make demo` runs this file.

Everything is written to a new folder under `runs/`: the agent, its metrics (JSON Lines and TensorBoard events), the
learning curve, the evaluation, and a replay.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from rl_framework import LocalConnector, StableBaselinesAgent, TensorBoardConnector

ENVIRONMENT = "CartPole-v1"

# Tuned for CartPole by RL Baselines3 Zoo (hyperparams/ppo.yml).
PARAMETERS = {
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "ent_coef": 0.0,
    "learning_rate": {"type": "linear", "start": 1e-3, "end": 0.0},
    "clip_range": {"type": "linear", "start": 0.2, "end": 0.0},
}


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=100_000)
    parser.add_argument("--n-eval-episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the folder of this run is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    local = LocalConnector(root=arguments.root, name=f"ppo-{ENVIRONMENT}")
    tensorboard = TensorBoardConnector(local.directory / "tensorboard")

    agent = StableBaselinesAgent(algorithm_class="ppo", algorithm_parameters=PARAMETERS)
    agent.train(
        training_environments=ENVIRONMENT,
        n_environments=8,
        total_timesteps=arguments.total_timesteps,
        connector=[local, tensorboard],
        seed=arguments.seed,
    )
    result = agent.evaluate(
        evaluation_environment=ENVIRONMENT,
        n_eval_episodes=arguments.n_eval_episodes,
        deterministic=True,
        seed=arguments.seed,
    )
    local.log_evaluation(result)
    agent.upload(connector=local, video_recording_environment=ENVIRONMENT)
    tensorboard.close()

    print(f"\n{result.table()}\n")
    for path in sorted(local.directory.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")


if __name__ == "__main__":
    main()
