"""Evaluations of several training runs of two algorithms, brought into the form that a comparison needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError
from rl_framework.evaluation.result import EvaluationResult
from rl_framework.evaluation.scores import TaskScores, as_numbers, task_scores

__all__ = ["Evidence", "Results", "Unit", "gather_evidence"]

Runs = EvaluationResult | Sequence[EvaluationResult] | npt.ArrayLike
Results = Runs | Mapping[str, Runs]
Unit = Literal["run", "episode"]

_Group = list[EvaluationResult] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scores of both sides, on the same tasks in the same order.

    Attributes:
        a: One score per unit of evidence.
        b: As `a`.
        unit: What a score is of.
        caveats: Sentences about what limits a conclusion.
    """

    a: TaskScores
    b: TaskScores
    unit: Unit
    caveats: tuple[str, ...]


def gather_evidence(results_a: Results, results_b: Results) -> Evidence:
    """Reads both sides of a comparison.

    A run counts as one score, the mean return of its episodes. Only where each side has one single evaluation per task
    are its episodes the evidence.

    Args:
        results_a: See `compare`.
        results_b: See `compare`.

    Returns:
        The scores.

    Raises:
        ArgumentError: One of them is nothing that `compare` takes, or they are on different tasks.
    """
    groups_a, groups_b = _groups("results_a", results_a), _groups("results_b", results_b)
    if set(groups_a) != set(groups_b):
        here, there = (f"{len(groups)} ({', '.join(groups)})" for groups in (groups_b, groups_a))
        raise ArgumentError("results_b", results_b, f"the tasks must be those of A, and are {here} instead of {there}")
    groups_b = {task: groups_b[task] for task in groups_a}
    environments = {task: _environment(task, groups_a[task], groups_b[task]) for task in groups_a}
    groups = [*groups_a.values(), *groups_b.values()]
    unit: Unit = "episode" if all(isinstance(group, list) and len(group) == 1 for group in groups) else "run"
    a, b = (
        task_scores({task: _scores(group, unit) for task, group in side.items()}, argument)
        for side, argument in ((groups_a, "results_a"), (groups_b, "results_b"))
    )
    if not isinstance(results_a, Mapping):
        only = next(iter(environments.values()))
        tasks = (only,) if only and len(environments) == 1 else None
        a, b = replace(a, tasks=tasks), replace(b, tasks=tasks)
    return Evidence(a, b, unit, _caveats(groups))


def _groups(argument: str, results: Results) -> dict[str, _Group]:
    """Returns the runs of each task; tasks without names are numbered."""
    if isinstance(results, Mapping):
        if not results:
            raise ArgumentError(argument, results, "there must be at least one task")
        return {str(task): _group(f"{argument}[{task!r}]", runs) for task, runs in results.items()}
    group = _group(argument, results, two_dimensions=True)
    if isinstance(group, list) or group.ndim == 1:
        return {"task 1": group}
    return {f"task {index + 1}": column for index, column in enumerate(group.T)}


def _group(argument: str, runs: Any, two_dimensions: bool = False) -> _Group:
    # A result can be read as two numbers, so NumPy would make an array of means and standard deviations.
    if isinstance(runs, EvaluationResult):
        return [runs]
    if isinstance(runs, Sequence) and any(isinstance(run, EvaluationResult) for run in runs):
        if not all(isinstance(run, EvaluationResult) for run in runs):
            raise ArgumentError(argument, runs, "must be evaluation results only, or numbers only")
        if len({id(run) for run in runs}) < len(runs):
            raise ArgumentError(argument, runs, "holds the same result twice, which would count one run as several")
        return list(runs)
    if isinstance(runs, Mapping):
        raise ArgumentError(argument, runs, "must be evaluation results or numbers, not a mapping inside a mapping")
    numbers = as_numbers(runs, argument)
    if numbers.ndim != 1 and not (two_dimensions and numbers.ndim == 2):
        shapes = "(n_runs,) or (n_runs, n_tasks)" if two_dimensions else "(n_runs,)"
        raise ArgumentError(argument, runs, f"must have the shape {shapes}, and has the shape {numbers.shape}")
    return numbers


def _environment(task: str, *sides: _Group) -> str | None:
    names = {run.environment for side in sides if isinstance(side, list) for run in side if run.environment}
    if len(names) > 1:
        raise ArgumentError(
            "results_b",
            sorted(names),
            f"the evaluations of {task} are of different environments",
            "Give a mapping from task to results; for one task under several names, give [r.mean for r in results].",
        )
    return names.pop() if names else None


def _scores(group: _Group, unit: Unit) -> npt.NDArray[np.float64]:
    if not isinstance(group, list):
        return group
    return group[0].returns if unit == "episode" else np.array([run.mean for run in group])


def _caveats(groups: list[_Group]) -> tuple[str, ...]:
    caveats = []
    evaluated = [group for group in groups if isinstance(group, list)]
    if len({run.deterministic for group in evaluated for run in group}) > 1:
        caveats.append(
            "Some evaluations took the agent's most likely action and others sampled one: that may be all that differs."
        )
    if len({run.environment for group in evaluated for run in group if run.environment}) > 1:
        caveats.append(
            "The returns of several environments were put together as they are: unless they are on one scale, the "
            "environment with the largest returns decides."
        )
    return tuple(caveats)
