"""Clones the expert of `data/cartpole_expert`, evaluates the clone and films it.

Behavioural cloning needs no environment: it learns from the recorded episodes alone. `--algorithm gail` or `dagger`
learn by acting too. Everything is written to a new folder under `runs/`: the agent, its metrics, the learning curve,
the evaluation, and a replay.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from rl_framework import EpisodeSequence, ImitationAgent, LocalConnector
from rl_framework.agent import Agent

ENVIRONMENT = "CartPole-v1"
EXPERT = Path(__file__).resolve().parents[1] / "data" / "cartpole_expert"

PARAMETERS: dict[str, dict[str, Any]] = {
    "bc": {"batch_size": 32, "policy": {"type": "MlpPolicy", "net_arch": [32, 32]}},
    "dagger": {"rollout_round_min_episodes": 3, "rollout_round_min_timesteps": 500},
    "gail": {
        "demo_batch_size": 1_024,
        "allow_variable_horizon": True,  # the episodes of CartPole end early when the pole falls
        "gen_replay_buffer_capacity": 2_048,
        "n_disc_updates_per_round": 8,
        "gen_algo": {
            "algorithm_class": "ppo",
            "algorithm_parameters": {"n_steps": 128, "batch_size": 64, "ent_coef": 0.0, "learning_rate": 4e-4},
        },
    },
}
TIMESTEPS = {"bc": 200_000, "dagger": 10_000, "gail": 100_000}


def expert() -> Agent:
    """Returns somebody who says what to do in states that are not in the data: a clone of the expert, trained long."""
    episodes = EpisodeSequence.from_dataset(EXPERT)
    return ImitationAgent("bc", PARAMETERS["bc"]).train(episodes, total_timesteps=400_000, seed=1)


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=sorted(PARAMETERS), default="bc")
    parser.add_argument("--total-timesteps", type=int, help="bc: transitions learned from; others: environment steps")
    parser.add_argument("--n-eval-episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the folder of this run is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    algorithm = arguments.algorithm

    episodes = EpisodeSequence.from_dataset(EXPERT)
    print(f"{episodes.statistics()}\n")
    training, validation = episodes.split(validation_fraction=0.2, seed=arguments.seed)
    local = LocalConnector(root=arguments.root, name=f"{algorithm}-{ENVIRONMENT}")

    parameters = dict(PARAMETERS[algorithm])
    if algorithm == "dagger":
        parameters["expert_policy"] = expert()
    agent = ImitationAgent(algorithm_class=algorithm, algorithm_parameters=parameters)
    agent.train(
        episode_sequence=training,
        training_environments=None if algorithm == "bc" else ENVIRONMENT,
        n_environments=None if algorithm == "bc" else 8,
        total_timesteps=arguments.total_timesteps or TIMESTEPS[algorithm],
        validation_episode_sequence=validation,
        connector=local,
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

    print(f"\n{result.table()}\n")
    for path in sorted(local.directory.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")


if __name__ == "__main__":
    main()
