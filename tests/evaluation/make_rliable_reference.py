"""Writes data/rliable.json: scores, the indices that rliable drew, and what rliable made of them.

rliable is not among the development dependencies, because its newest version (1.2) needs arch below 8, which does not
import with pandas 3. To make the file again, in an environment of its own:

    pip install rliable==1.2.0 "pandas<3"
    python tests/evaluation/make_rliable_reference.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
from rliable import library, metrics

TARGET = Path(__file__).parent / "data" / "rliable.json"
N_RESAMPLES = 30
LEVEL = 0.9
AGGREGATES = ["mean", "median", "iqm", "optimality_gap"]


def aggregates(scores: np.ndarray) -> np.ndarray:
    return np.array([getattr(metrics, f"aggregate_{name}")(scores) for name in AGGREGATES])


def recorded(bootstrap: type, function, *arguments, **options):
    """Calls an rliable function, and returns its result and the indices that its bootstrap drew."""
    drawn = []
    original = bootstrap.update_indices

    def update_indices(self):
        indices = original(self)
        drawn.append(indices)
        return indices

    with mock.patch.object(bootstrap, "update_indices", update_indices):
        points, intervals = function(*arguments, reps=N_RESAMPLES, confidence_interval_size=LEVEL, **options)
    return points["x"], intervals["x"], drawn


def estimate(result) -> dict:
    point, interval, drawn = result
    runs, tasks = (np.array([indices[place] for indices in drawn]) for place in (0, 1))
    low, high = np.asarray(interval)
    return {
        "value": np.atleast_1d(point).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "runs": runs.tolist(),
        "tasks": tasks[:, 0].tolist(),
    }


def case(x: np.ndarray, y: np.ndarray, thresholds: list[float]) -> dict:
    one = library.StratifiedBootstrap
    two = library.StratifiedIndependentBootstrap
    profiles = {
        kind: estimate(
            recorded(
                one,
                library.create_performance_profile,
                {"x": x},
                thresholds,
                use_score_distribution=kind == "run_score",
            )
        )
        for kind in ("run_score", "average_score")
    }

    def improvement(x, y):
        return np.array([metrics.probability_of_improvement(x, y)])

    point, interval, drawn = recorded(two, library.get_interval_estimates, {"x": [x, y]}, improvement)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "thresholds": thresholds,
        "optimality_gap_of_0.3": float(metrics.aggregate_optimality_gap(x, 0.3)),
        "aggregates": estimate(recorded(one, library.get_interval_estimates, {"x": x}, aggregates)),
        "aggregates_over_tasks": estimate(
            recorded(one, library.get_interval_estimates, {"x": x}, aggregates, task_bootstrap=True)
        ),
        "profiles": profiles,
        "improvement": {
            "value": float(point[0]),
            "low": float(interval[0][0]),
            "high": float(interval[1][0]),
            "runs_x": [np.asarray(positional[0][0]).tolist() for positional, _ in drawn],
            "runs_y": [np.asarray(positional[1][0]).tolist() for positional, _ in drawn],
        },
    }


def main() -> None:
    np.random.seed(0)  # rliable draws from the global generator.
    generator = np.random.default_rng(0)
    thresholds = [-0.5, 0.0, 0.25, 0.5, 1.0, 2.0]
    cases = {
        "normal": case(generator.normal(0.5, 1, (5, 4)), generator.normal(0, 1, (3, 4)), thresholds),
        "ties": case(generator.integers(0, 3, (4, 3)) / 2.0, generator.integers(0, 3, (6, 3)) / 2.0, thresholds),
        "skewed": case(generator.exponential(0.7, (7, 3)), generator.exponential(0.4, (7, 3)), thresholds),
        "one task": case(generator.normal(1, 1, (6, 1)), generator.normal(0, 1, (5, 1)), thresholds),
    }
    reference = {
        "made_with": {name: version(name) for name in ("rliable", "arch", "scipy", "numpy")},
        "level": LEVEL,
        "aggregate_names": AGGREGATES,
        "cases": cases,
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
