"""Tuned hyperparameters, in the form of a configuration."""

from __future__ import annotations

from typing import Any

EXPECTED_SARSA_CORRIDOR: dict[str, Any] = {
    "source": "corridor-kit",
    "agent": {"type": "custom", "algorithm": "expected_sarsa", "parameters": {"learning_rate": 0.5, "epsilon": 0.2}},
    "environment": {"type": "corridor", "n_environments": 2},
    "training": {"total_timesteps": 2000},
}
