"""What several seeds of one experiment say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rl_framework.evaluation import EvaluationResult

__all__ = ["summary_over_seeds"]


def summary_over_seeds(results: Mapping[int, EvaluationResult]) -> dict[str, Any]:
    """Summarises the evaluations of several runs; a run counts as one score, the mean return of its episodes.

    Args:
        results: The result of each run, by its seed.

    Returns:
        JSON-able data: `scores` by seed, their `mean` and `std`, the interquartile mean `iqm` and the ends of its 95 %
        interval (stratified bootstrap, which is too narrow with few runs), and `n_seeds`.
    """
    from rl_framework.evaluation import stratified_bootstrap

    scores = {seed: result.mean for seed, result in results.items()}
    values = np.array(list(scores.values()))
    estimate = stratified_bootstrap(values[:, np.newaxis], "iqm")
    return {
        "n_seeds": len(scores),
        "scores": {str(seed): score for seed, score in scores.items()},
        "mean": float(values.mean()),
        "std": float(values.std()),
        "iqm": float(estimate.value),
        "interval_95": [float(estimate.low), float(estimate.high)],
        "n_episodes": sum(result.n_episodes for result in results.values()),
        "environment": next(iter(results.values())).environment,
    }
