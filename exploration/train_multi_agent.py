"""Trains hunters and prey against each other, a policy for each, in mpe2's simple_tag.

Everything is written to a new folder under `runs/`: all agents in one bundle, the agent of each group by
itself, and the metrics.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from mpe2 import simple_tag_v3

from rl_framework import LocalConnector, MultiAgent, StableBaselinesAgent

PARAMETERS: dict[str, Any] = {"n_steps": 50, "batch_size": 200, "learning_rate": 1e-3, "gamma": 0.95, "ent_coef": 0.01}
WORLD: dict[str, Any] = {"n_environments": 4, "environment_kwargs": {"max_cycles": 25}}


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=100_000)
    parser.add_argument("--n-eval-episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the folder of this run is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    local = LocalConnector(root=arguments.root, name="multi-simple_tag")
    multi = MultiAgent(
        groups={
            "adversary": StableBaselinesAgent("ppo", PARAMETERS),
            "agent": StableBaselinesAgent("ppo", PARAMETERS),
        }
    )
    multi.train(
        simple_tag_v3.parallel_env,
        arguments.total_timesteps,
        connector=local,
        seed=arguments.seed,
        **WORLD,
    )
    result = multi.evaluate(simple_tag_v3.parallel_env, arguments.n_eval_episodes, seed=arguments.seed, **WORLD)
    local.log_evaluation(result)
    multi.upload(connector=local)
    multi.save_groups(local.directory / "groups")

    print(f"\n{result.table()}\n")
    for path in sorted(local.directory.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")


if __name__ == "__main__":
    main()
