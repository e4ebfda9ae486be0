"""Trains PPO in a Unity scene, evaluates it, films it if its agents have a camera, and writes the model for the scene.

Give the path of what Unity built, or nothing to train in the Editor (press Play when it is asked for). Everything is
written to a new folder under `runs/`. `docs/unity.md` tells how to make a scene that can be trained.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from rl_framework import LocalConnector, StableBaselinesAgent, record_video
from rl_framework.environment.unity import UnityEnvironmentAdapter
from rl_framework.errors import RecordingError

PARAMETERS = {"n_steps": 64, "batch_size": 256, "n_epochs": 6, "learning_rate": 1e-3, "gamma": 0.97}


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("player", type=Path, nargs="?", help="what Unity built; nothing: the Editor")
    parser.add_argument("--behavior", help="if there are several")
    parser.add_argument("--total-timesteps", type=int, default=100_000)
    parser.add_argument("--n-eval-episodes", type=int, default=50)
    parser.add_argument("--time-scale", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where the folder of this run is made")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    local = LocalConnector(root=arguments.root, name="ppo-unity")
    agent = StableBaselinesAgent(algorithm_class="ppo", algorithm_parameters=PARAMETERS)
    with UnityEnvironmentAdapter(
        arguments.player,
        behavior_name=arguments.behavior,
        time_scale=arguments.time_scale,
        seed=arguments.seed,
        log_folder=local.directory,
    ) as unity:
        agent.train(unity, total_timesteps=arguments.total_timesteps, connector=local, seed=arguments.seed)
        result = agent.evaluate(unity, n_eval_episodes=arguments.n_eval_episodes, deterministic=True)
        local.log_evaluation(result)
        try:
            record_video(agent, unity, local.directory / "replay.mp4", length=300)
        except RecordingError as error:
            logging.getLogger(__name__).warning("no video: %s", error)
    agent.upload(connector=local)
    agent.save_for_unity(local.directory / "model.onnx")

    print(f"\n{result.table()}\n")
    for path in sorted(local.directory.iterdir()):
        print(f"  {path}{'/' if path.is_dir() else ''}")


if __name__ == "__main__":
    main()
