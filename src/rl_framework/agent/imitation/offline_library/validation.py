"""How well an algorithm does on episodes that it does not learn from."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_framework.agent.imitation.offline_library.acting import last_actions
from rl_framework.agent.imitation.offline_library.batches import StretchBatches
from rl_framework.agent.imitation.offline_library.forms import ActionForm, ObservationForm
from rl_framework.episode import EpisodeSequence

__all__ = ["measure"]

_MOST_ROWS = 2_000
_ROWS_AT_ONCE = 256


def measure(
    algorithm: Any,
    episodes: EpisodeSequence,
    observations: ObservationForm,
    actions: ActionForm,
    stretches: StretchBatches | None,
    has_values: bool,
) -> dict[str, float]:
    """Compares an algorithm with recorded episodes: with up to 2,000 of their transitions, evenly chosen.

    Args:
        algorithm: The library's object.
        episodes: What it has not learned from.
        observations: The library's form of observations.
        actions: The library's form of actions.
        stretches: Batches of the same episodes, for transformers.
        has_values: Whether it estimates values of actions.

    Returns:
        Means: `accuracy`, the share of transitions where it would have done what was done, or, for continuous actions,
        `mse`, the squared difference of the actions; with values also `value`, of what was done, and `td_error`, the
        squared difference between it and the reward plus the discounted value of what would be done next, in the
        scale of the reward scaler.
    """
    transitions = episodes.transitions()
    count = min(len(transitions), _MOST_ROWS)
    rows = np.linspace(0, len(transitions) - 1, count).astype(np.int64)
    sums: dict[str, float] = defaultdict(float)
    for start in range(0, count, _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        batch = transitions.gather(some)
        before = observations(batch.observations)
        if stretches is None:
            chosen = actions.from_library(algorithm.predict(before))
        else:
            chosen = actions.from_library(last_actions(algorithm, stretches.at(some), actions, deterministic=True))
        if actions.is_discrete:
            sums["accuracy"] += float((chosen == batch.actions.reshape(-1)).sum())
        else:
            sums["mse"] += float(((chosen - batch.actions) ** 2).reshape(len(some), -1).mean(axis=1).sum())
        if has_values:
            value, error = _values(algorithm, batch, before, observations(batch.next_observations), actions)
            sums["value"] += float(value.sum())
            sums["td_error"] += float((error**2).sum())
    return {name: total / count for name, total in sums.items()}


def _values(
    algorithm: Any, batch: Any, before: NDArray[np.float32], after: NDArray[np.float32], actions: ActionForm
) -> tuple[NDArray[Any], NDArray[Any]]:
    done = actions(batch.actions)
    value = algorithm.predict_value(before, done[:, 0] if actions.is_discrete else done).reshape(-1)
    following = algorithm.predict_value(after, algorithm.predict(after)).reshape(-1)
    rewards, scaler = np.asarray(batch.rewards, np.float64), algorithm.config.reward_scaler
    if scaler is not None:
        rewards = scaler.transform_numpy(rewards)
    return value, value - (rewards + algorithm.config.gamma * np.where(batch.terminated, 0.0, following))
