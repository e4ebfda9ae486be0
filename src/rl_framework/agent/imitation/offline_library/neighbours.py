"""PRDC's search for the nearest transition of the data, which d3rlpy sets up in a `fit` that is not used here."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_framework.agent.imitation.offline_library.batches import TransitionBatches

__all__ = ["fit_neighbours", "own_neighbours"]

_ROWS_AT_ONCE = 4096


def own_neighbours(algorithm: Any) -> Any:
    """Gives a PRDC that is not built yet a search of its own: the library has one for all objects of the class."""
    from d3rlpy.algos import PRDC
    from sklearn.neighbors import NearestNeighbors

    if isinstance(algorithm, PRDC):
        algorithm._nbsr = NearestNeighbors(n_neighbors=1, algorithm="auto", n_jobs=1)
    return algorithm


def fit_neighbours(algorithm: Any, batches: TransitionBatches, count: int) -> None:
    """Lets PRDC look at all transitions, which it holds in memory.

    Args:
        algorithm: The library's object; others than PRDC are left alone.
        batches: Of the data.
        count: How many transitions there are.
    """
    from d3rlpy.algos import PRDC

    if not isinstance(algorithm, PRDC):
        return
    rows = []
    for start in range(0, count, _ROWS_AT_ONCE):
        batch = batches.at(np.arange(start, min(start + _ROWS_AT_ONCE, count)))
        weighted = algorithm.config.beta * batch.observations.reshape(len(batch.actions), -1)
        rows.append(np.concatenate([np.asarray(weighted.cpu()), np.asarray(batch.actions.cpu())], axis=1))
    algorithm._nbsr.fit(np.concatenate(rows))
