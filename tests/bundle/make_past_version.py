"""Writes the bundles in `data/`, which every later version of the package has to open.

They are never written again for a version that has been released: a reader that needs that is the mistake that the
tests are there to find. When `FORMAT_VERSION` rises, run this once before the change is released, and commit what is
new:

    python -m tests.bundle.make_past_version
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from rl_framework import StableBaselinesAgent
from rl_framework.bundle import FORMAT_VERSION
from rl_framework.bundle.checkpoint import list_checkpoints

DATA = Path(__file__).parent / "data"
TRAINED_FOR, CHECKPOINT_EVERY = 48, 16


def make_agent():
    """A small agent that has everything a deployable bundle can have of PPO: schedules, classes, a normaliser."""
    parameters = {
        "n_steps": 8,
        "batch_size": 8,
        "n_epochs": 2,
        "learning_rate": {"type": "linear", "start": 1e-2, "end": 1e-3},
        "policy_kwargs": {"net_arch": [8], "activation_fn": "relu"},
        "device": "cpu",
    }
    return StableBaselinesAgent("ppo", parameters, normalize_observations=True)


def train(agent, **arguments):
    """Trains as the stored agents were."""
    return agent.train(
        "CartPole-v1", TRAINED_FOR, n_environments=2, progress_bar=False, checkpoint_every=CHECKPOINT_EVERY, **arguments
    )


def preferences(agent, observations):
    """What the policy makes of observations, before one action is chosen: shape `(n, 2)`, log probabilities."""
    policy = agent.algorithm.policy
    normalised = policy.obs_to_tensor(agent.normaliser.normalise(observations))[0]
    return policy.get_distribution(normalised).distribution.logits.detach().numpy()


def main() -> None:
    """Writes an agent, a checkpoint, and what both of them did."""
    DATA.mkdir(exist_ok=True)
    agent = make_agent()
    observations = np.random.default_rng(0).uniform(-1, 1, (32, 4)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        train(agent, checkpoint_directory=folder, seed=0)
        timestep, checkpoint = list_checkpoints(folder)[-1]
        (DATA / f"version_{FORMAT_VERSION}_checkpoint.zip").write_bytes(checkpoint.read_bytes())
    agent.save_to_file(DATA / f"version_{FORMAT_VERSION}_agent.zip")
    recorded = {"observations": observations.tolist(), "timesteps": {"checkpoint": timestep, "agent": TRAINED_FOR}}
    for name in ("agent", "checkpoint"):
        recorded[name] = preferences(
            agent.load_from_file(DATA / f"version_{FORMAT_VERSION}_{name}.zip"), observations
        ).tolist()
    (DATA / f"version_{FORMAT_VERSION}.json").write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
