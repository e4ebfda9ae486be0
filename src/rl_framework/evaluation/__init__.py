"""Evaluation: fixed quotas of episodes, and statistics that do not mistake noise for progress."""

from rl_framework.evaluation.bootstrap import (
    Estimate,
    PerformanceProfile,
    StratifiedIndices,
    performance_profile,
    probability_of_improvement_interval,
    stratified_bootstrap,
    stratified_indices,
)
from rl_framework.evaluation.comparison import Comparison, compare
from rl_framework.evaluation.evaluate import Policy, evaluate_policy
from rl_framework.evaluation.members import MultiAgentResult
from rl_framework.evaluation.result import EvaluationResult
from rl_framework.evaluation.statistics import (
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    bootstrap_interval,
    interquartile_mean,
    optimality_gap,
    probability_of_improvement,
)

__all__ = [
    "Comparison",
    "Estimate",
    "EvaluationResult",
    "MultiAgentResult",
    "PerformanceProfile",
    "Policy",
    "StratifiedIndices",
    "aggregate_iqm",
    "aggregate_mean",
    "aggregate_median",
    "aggregate_optimality_gap",
    "bootstrap_interval",
    "compare",
    "evaluate_policy",
    "interquartile_mean",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "probability_of_improvement_interval",
    "stratified_bootstrap",
    "stratified_indices",
]
