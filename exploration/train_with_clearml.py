"""Trains PPO on CartPole-v1 and follows it in ClearML; a clone of the task trains with the values changed there.

It needs a ClearML server and its keys (run `clearml-init` once). With `--queue` the training is handed to a ClearML
agent.
"""

from __future__ import annotations

import argparse
import logging

from rl_framework import ClearMLConnector, ClearMLUploadConfig, StableBaselinesAgent


def main() -> None:
    """Runs the whole job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=100_000)
    parser.add_argument("--queue", help="hand the training to an agent that listens to this queue")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    connector = ClearMLConnector(ClearMLUploadConfig("rl_framework examples", tags=["cartpole"]))
    parameters = connector.hyperparameters({"learning_rate": 1e-3, "n_steps": 256, "gamma": 0.98})
    if arguments.queue:
        connector.execute_remotely(arguments.queue)
    agent = StableBaselinesAgent(algorithm_class="ppo", algorithm_parameters=parameters)
    agent.train("CartPole-v1", arguments.total_timesteps, n_environments=8, seed=0, connector=connector)
    agent.upload(connector=connector, video_recording_environment="CartPole-v1")
    connector.close()


if __name__ == "__main__":
    main()
