"""Agents that learn to reach a target in a scene, over ML-Agents' own protocol.

The scene is played by `tests.servers.unity`, which is ours: no Unity build was run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.environment.unity_scenes import Scene

from rl_framework import EpisodeSequence, ImitationAgent, StableBaselinesAgent, load_agent
from rl_framework.environment.unity import UnityEnvironmentAdapter

pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")

RANDOM_RETURN = 0.3
"""Measured: 0.18 for actions drawn at random, over 32 episodes; walking straight to the target gets 1.78."""


def _straight_to_the_target(observations: Any) -> Any:
    return np.clip((observations[:, 2:] - observations[:, :2]) / 0.25, -1, 1)


def test_ppo_reaches_the_target(tmp_path: Path) -> None:
    """With two agents that act at every frame for each that acts at every second one."""
    scene = Scene(tmp_path, "--agents", 32, "--periods", "1,1,2")
    agent = StableBaselinesAgent(
        "ppo",
        {
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 6,
            "learning_rate": 2e-3,
            "gamma": 0.95,
            "policy_kwargs": {"net_arch": [32, 32], "log_std_init": -0.5},
            "device": "cpu",
        },
    )
    with UnityEnvironmentAdapter(scene.path, environment_parameters={"radius": 0.4}) as unity:
        agent.train(unity, total_timesteps=9_000, seed=1, progress_bar=False)
        result = agent.evaluate(unity, n_eval_episodes=64, deterministic=True, seed=3)
        agent.save_to_file(tmp_path / "agent.zip")
        again = load_agent(tmp_path / "agent.zip").evaluate(unity, n_eval_episodes=32, deterministic=True, seed=4)
    assert len(scene.transitions()) > agent.num_timesteps >= 9_000
    for each in (result, again):
        assert each.mean > 1.4
        assert (each.lengths < 25).mean() > 0.95


def test_bc_reaches_the_target_from_collected_episodes(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "--agents", 16)
    with UnityEnvironmentAdapter(scene.path, environment_parameters={"radius": 0.4}) as unity:
        at_random = EpisodeSequence.collect(None, unity, 32, seed=1)
        shown = EpisodeSequence.collect(_straight_to_the_target, unity, 100, seed=2)
        assert at_random.returns.mean() < RANDOM_RETURN
        assert shown.returns.mean() > 1.6
        agent = ImitationAgent("bc", {"device": "cpu"})
        agent.train(shown, total_timesteps=10 * len(shown.transitions()), seed=1, progress_bar=False)
        result = agent.evaluate(unity, n_eval_episodes=48, deterministic=True, seed=3)
    assert result.mean > 1.4
    assert (result.lengths < 25).mean() > 0.95
