"""Evaluation: fixed quotas of episodes, and statistics that do not mistake noise for progress."""

from rl_framework.evaluation.evaluate import Policy, evaluate_policy
from rl_framework.evaluation.result import EvaluationResult
from rl_framework.evaluation.statistics import bootstrap_interval, interquartile_mean

__all__ = ["EvaluationResult", "Policy", "bootstrap_interval", "evaluate_policy", "interquartile_mean"]
