"""Scores of several runs on one or more tasks, also where the tasks have different numbers of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl_framework.errors import ArgumentError

__all__ = ["Scores", "TaskScores", "as_numbers", "task_scores"]

Scores = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""Shape `(n_runs, n_tasks)`, or a mapping from each task to its scores of shape `(n_runs_of_this_task,)`."""


@dataclass(frozen=True, eq=False)
class TaskScores:
    """Scores in one array, a column a task.

    Attributes:
        values: float64 of shape `(largest number of runs, n_tasks)`. Column `t` holds `counts[t]` scores and below
            them NaN.
        counts: Number of runs per task, int64 of shape `(n_tasks,)`.
        tasks: Names of the tasks, where they have names.
    """

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    tasks: tuple[str, ...] | None = None

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return int(self.counts.size)

    @property
    def even(self) -> bool:
        """Whether every task has the same number of runs."""
        return bool((self.counts == self.counts[0]).all())

    @property
    def columns(self) -> list[npt.NDArray[np.float64]]:
        """The scores of each task, each of shape `(n_runs_of_this_task,)`."""
        return [self.values[:count, task] for task, count in enumerate(self.counts)]


def task_scores(scores: Scores, argument: str = "scores") -> TaskScores:
    """Brings scores into one form.

    Args:
        scores: Shape `(n_runs, n_tasks)`, or a mapping from task to scores of shape `(n_runs_of_this_task,)`.
        argument: What the caller calls them, for the error.

    Returns:
        The scores, copied.

    Raises:
        ArgumentError: There is no score, one is not a finite number, or the shape is another.
    """
    if not isinstance(scores, Mapping):
        values = as_numbers(scores, argument)
        if values.ndim != 2:
            raise ArgumentError(
                argument,
                scores,
                f"must have the shape (n_runs, n_tasks), and has the shape {values.shape}",
                "For a single task write np.reshape(scores, (-1, 1)).",
            )
        return TaskScores(values.copy(), np.full(values.shape[1], values.shape[0], dtype=np.int64))
    if not scores:
        raise ArgumentError(argument, scores, "there must be at least one task")
    columns = []
    for task, column in scores.items():
        numbers = as_numbers(column, f"{argument}[{task!r}]")
        if numbers.ndim != 1:
            raise ArgumentError(f"{argument}[{task!r}]", column, "must be one-dimensional: one score per run")
        columns.append(numbers)
    counts = np.array([column.size for column in columns], dtype=np.int64)
    padded = np.full((counts.max(), len(columns)), np.nan)
    for index, column in enumerate(columns):
        padded[: column.size, index] = column
    return TaskScores(padded, counts, tuple(str(task) for task in scores))


def as_numbers(values: npt.ArrayLike, argument: str = "values") -> npt.NDArray[np.float64]:
    """Returns finite numbers as float64.

    Raises:
        ArgumentError: There is none, or one is not a finite real number.
    """
    try:
        array = np.asarray(values)
        # A cast would drop the imaginary part with no more than a warning.
        numbers = array.astype(np.float64) if array.dtype.kind != "c" else None
    except (TypeError, ValueError) as error:
        remedy = "Where tasks have different numbers of runs, give a mapping from task to scores."
        raise ArgumentError(argument, values, "must be numbers, in rows of the same length", remedy) from error
    if numbers is None:
        raise ArgumentError(argument, values, "must be real numbers")
    if numbers.size == 0:
        raise ArgumentError(argument, values, "there must be at least one")
    if not np.isfinite(numbers).all():
        remedy = "A run that failed needs a score too: leaving it out would flatter the algorithm."
        raise ArgumentError(argument, values, "must be finite, without NaN and infinity", remedy)
    return numbers
