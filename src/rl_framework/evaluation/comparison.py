"""Comparing two algorithms, or two trained agents, without mistaking noise for progress."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rl_framework.errors import ArgumentError, UnknownNameError
from rl_framework.evaluation.inference import (
    MOST_RUNS,
    MeanStatistic,
    Side,
    difference_interval,
    improvement_interval,
    runs_until_decided,
)
from rl_framework.evaluation.runs import Evidence, Results, Unit, gather_evidence
from rl_framework.evaluation.statistics import share_ahead
from rl_framework.html_table import html_table

__all__ = ["Comparison", "Verdict", "compare"]

Verdict = Literal["a_better", "b_better", "equivalent", "undecided"]

_FEWEST_RUNS = 3
_LABELS = {"mean": "mean", "iqm": "interquartile mean (IQM)"}


@dataclass(frozen=True)
class Comparison:
    """What can be said about two algorithms (or, with one run each, two trained agents).

    `str(comparison)` says it in words.

    Attributes:
        verdict: "a_better", "b_better", "equivalent" (within the margin) or "undecided".
        names: What A and B are called.
        unit: What counts as one piece of evidence. "run": the verdict is about the algorithms; "episode": there was
            one run each, and it is about these two trained agents only.
        statistic: What is compared: "mean" or "iqm".
        score_a: The statistic of A, in the unit of the scores.
        score_b: The statistic of B.
        difference: A minus B.
        interval: Of the difference, at `level`; None: a single run has no spread to tell it from.
        equivalence_interval: Of the difference, at `1 - 2 * (1 - level)`, which has to lie within the margin.
        probability_of_improvement: How probable it is that a run of A scores higher than a run of B.
        probability_interval: Of this probability, at `level`.
        margin: Differences up to this count as none; None: not asked for.
        level: Coverage of the intervals.
        counts_a: Runs (or episodes) of A per task.
        counts_b: Runs (or episodes) of B per task.
        tasks: Names of the tasks, where known.
        runs_needed: About how many runs of each side (on each task) would decide it in four of five cases, were
            difference and spread what they look like now; see `runs_until_decided`. None: it is decided, would take
            more than 1,000, or cannot be known from one run.
        episodes_needed: The same for episodes, where `unit` is "episode".
        caveats: Sentences about what limits the conclusion.
    """

    verdict: Verdict
    names: tuple[str, str]
    unit: Unit
    statistic: MeanStatistic
    score_a: float
    score_b: float
    difference: float
    interval: tuple[float, float] | None
    equivalence_interval: tuple[float, float] | None
    probability_of_improvement: float
    probability_interval: tuple[float, float]
    margin: float | None
    level: float
    counts_a: tuple[int, ...]
    counts_b: tuple[int, ...]
    tasks: tuple[str, ...] | None
    runs_needed: int | None
    episodes_needed: int | None
    caveats: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain Python values that JSON can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return " ".join([self._headline(), self._scores(), *self._reasons(), self._probability(), *self.caveats])

    def _repr_html_(self) -> str:
        """Represents the comparison in a notebook."""
        a, b = self.names
        rows = [
            (f"{_LABELS[self.statistic]} of {a}", _number(self.score_a)),
            (f"{_LABELS[self.statistic]} of {b}", _number(self.score_b)),
            (f"difference, {a} minus {b}", _number(self.difference)),
            (
                f"{_percent(self.level)} interval of the difference",
                _span(self.interval) if self.interval else "unknown",
            ),
            (f"probability that {a} is ahead", f"{self.probability_of_improvement:.2f}"),
            (f"{_percent(self.level)} interval of this", _span(self.probability_interval, ".2f")),
            (f"{self.unit}s of {a}", _count(self.counts_a)),
            (f"{self.unit}s of {b}", _count(self.counts_b)),
        ]
        return html_table(self._headline(), rows, " ".join([*self._reasons(), *self.caveats]))

    def _headline(self) -> str:
        a, b = (f"this agent {name}" if self.unit == "episode" else name for name in self.names)
        text = {
            "a_better": f"{a} is better than {b}.",
            "b_better": f"{b} is better than {a}.",
            "equivalent": f"{a} and {b} are equivalent within ±{_number(self.margin or 0)}.",
            "undecided": f"Not decided whether {a} or {b} is better.",
        }[self.verdict]
        return text[0].upper() + text[1:] if self.unit == "episode" else text

    def _scores(self) -> str:
        (a, b), label = self.names, _LABELS[self.statistic]
        per_task = f" on each of {len(self.counts_a)} tasks" if len(self.counts_a) > 1 else ""
        return (
            f"The {label} of {a} is {_number(self.score_a)} ({_count(self.counts_a, self.unit)}{per_task}) "
            f"and that of {b} {_number(self.score_b)} ({_count(self.counts_b, self.unit)}{per_task})."
        )

    def _reasons(self) -> list[str]:
        a, b = self.names
        difference = f"The difference is {_number(self.difference)} ({a} minus {b})"
        if self.interval is None or self.equivalence_interval is None:
            return [f"{difference}; how far it is to be trusted cannot be told."]
        interval = f"{_percent(self.level)} interval of the difference, {_span(self.interval)},"
        zero_inside = self.interval[0] <= 0 <= self.interval[1]
        if self.verdict in ("a_better", "b_better"):
            return [f"{difference}, and the {interval} leaves out zero."]
        if self.verdict == "equivalent":
            inner = f"{_percent(2 * self.level - 1)} interval of the difference, {_span(self.equivalence_interval)},"
            reasons = [f"{difference}, and the {inner} lies within the margin."]
            if not zero_inside:
                reasons.append("So a difference there is, but one too small to matter by this margin.")
            return reasons
        if self.interval[0] == self.interval[1]:
            same = f"No {self.unit} scored differently from the others of its side, so there is no spread to go by."
            return [f"{difference}. {same}", *self._needed()]
        if not zero_inside:
            return [f"{difference}. The {interval} leaves out zero, but rests on too little.", *self._needed()]
        within = "" if self.margin is None else f" and does not keep within ±{_number(self.margin)}"
        return [f"{difference}. The {interval} holds zero{within}.", *self._needed()]

    def _needed(self) -> list[str]:
        needed = self.runs_needed if self.unit == "run" else self.episodes_needed
        if needed is not None:
            guess = "a rough guess, because it rests on the same few numbers"
            amount = f"about {needed} {self.unit}s of each are needed"
            return [f"If difference and spread are what they look like now, {amount} ({guess})."]
        if min(*self.counts_a, *self.counts_b) < _FEWEST_RUNS:
            return []
        hint = "" if self.margin is not None else " With a margin it could be asked whether it is too small to matter."
        return [f"The difference is too small to be settled by {MOST_RUNS:,} {self.unit}s of each.{hint}"]

    def _probability(self) -> str:
        a, b = self.names
        article = "an" if self.unit == "episode" else "a"
        return (
            f"The probability that {article} {self.unit} of {a} scores higher than one of {b} is "
            f"{self.probability_of_improvement:.2f} ({_percent(self.level)} interval "
            f"{_span(self.probability_interval, '.2f')})."
        )


def compare(
    results_a: Results,
    results_b: Results,
    *,
    margin: float | None = None,
    level: float = 0.95,
    statistic: MeanStatistic | None = None,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Says whether one algorithm is better than another, whether they are equivalent, or whether that is open.

    The unit of evidence is the training run: one score per run, each with its own seed, trained independently. Several
    evaluations of one trained agent are not several runs. With one `EvaluationResult` on each side the episodes are
    the evidence, and the verdict is about these two trained agents only. Higher scores are better.

    Methods: an interval by Student's t without the assumption of equal variances (Welch's for means, Yuen's for IQMs,
    the sources are in the module `inference`); equivalence by two one-sided tests (Schuirmann 1987), that is by the
    interval at `1 - 2 * (1 - level)`. Below 3 runs a side nothing is claimed. If no run of either side differs from
    the others of its side, there is no spread to compute with, and a permutation test decides instead (it takes 4
    runs each at 95 %). No random numbers are drawn.

    Measured (2,000 or more simulations a cell, nominal 5 %): how often, in per cent, a difference is claimed where
    there is none, with 3, 5 and 10 runs each. Beside it, a percentile bootstrap of the mean.

    | scores of the runs                                  | mean (one task) | IQM (one task)  | bootstrap      |
    |-----------------------------------------------------|-----------------|-----------------|----------------|
    | normal                                              | 3.4, 4.4, 4.4   | 3.6, 4.5, 5.3   | 19, 13, 10     |
    | normal, standard deviations 1 and 3                 | 5.0, 5.5, 5.8   | 5.4, 5.8, 5.5   | 24, 15, 10     |
    | heavy tails (t with 3 degrees of freedom)           | 3.3, 3.9, 4.5   | 2.6, 3.9, 4.6   | 20, 13, 10     |
    | skewed (log-normal)                                 | 2.3, 1.9, 2.9   | 1.9, 3.3, 3.1   | 18, 15, 11     |
    | 1 run in 5 fails, in both                           | 1.9, 1.0, 3.2   | 1.8, 2.9, 2.0   | 22, 15, 10     |
    | 1 run in 5 fails in A, none in B, averages equal    | 11, 14, 10      | 3.7, 4.8, 4.4   | 35, 26, 13     |

    The last row is the weakness of means: with few runs the failures are often not seen at all (and if the runs of B
    hardly vary, it errs in 50 % with 3 runs and 35 % with 5). With 3 against 10 runs of one shape it is 3 to 7; with
    five tasks and IQMs 1 to 5, but with two tasks of 4 runs, 1 in 5 of which fail, 16.

    A difference of 1.5 standard deviations between normal scores is found with 3, 5 and 10 runs in 23, 51 and 88 % of
    the cases by means, in 23, 33 and 78 % by IQMs. Equivalence is claimed in at most 6 % of the cases where the
    difference is as large as the margin, but in 10 to 14 % where one side is log-normal, the other normal, and means
    are compared. The interval of the probability of improvement covers it in 90 to 99 % of the cases with 3 to 10 runs
    each (85 % with 3 against 10 runs and three times the spread).

    Args:
        results_a: `EvaluationResult`s, one per training run; or one score per run, of shape `(n_runs,)` or
            `(n_runs, n_tasks)`; or a mapping from task to one of the first two. Scores of several tasks must be on
            one scale.
        results_b: As `results_a`, on the same tasks; the number of runs may differ.
        margin: A difference up to this, in the unit of the scores, does not matter to you; None: do not ask for
            equivalence. Choose it before you see the results.
        level: Coverage of the intervals, above 0.5, at most 0.999.
        statistic: "mean" or "iqm" (of all runs on all tasks); None: "mean" for one task, where the IQM of 5 runs rests
            on 3 of them, and "iqm" for several, as Agarwal et al. (2021) recommend.
        names: What to call A and B in words.

    Returns:
        The comparison; `str()` of it is a paragraph.

    Raises:
        ArgumentError: There is no score, one is not finite, tasks or environments differ, or an argument is not valid.
    """
    _check(margin, level, statistic, names)
    evidence = gather_evidence(results_a, results_b)
    a_scores, b_scores = evidence.a, evidence.b
    statistic = statistic or ("mean" if a_scores.n_tasks == 1 else "iqm")
    a, b = Side.of(a_scores, statistic), Side.of(b_scores, statistic)
    probability = share_ahead(a_scores, b_scores)
    interval = difference_interval(a, b, level)
    inner = difference_interval(a, b, 1 - 2 * (1 - level))
    verdict = _verdict(a, b, interval, inner, margin, level)
    needed = _needed(a, b, margin, level) if verdict == "undecided" else None
    return Comparison(
        verdict=verdict,
        names=names,
        unit=evidence.unit,
        statistic=statistic,
        score_a=a.estimate,
        score_b=b.estimate,
        difference=a.estimate - b.estimate,
        interval=interval,
        equivalence_interval=inner,
        probability_of_improvement=probability,
        probability_interval=improvement_interval(probability, a.counts, b.counts, level),
        margin=None if margin is None else float(margin),
        level=float(level),
        counts_a=tuple(a.counts.tolist()),
        counts_b=tuple(b.counts.tolist()),
        tasks=a_scores.tasks,
        runs_needed=needed if evidence.unit == "run" else None,
        episodes_needed=needed if evidence.unit == "episode" else None,
        caveats=(*_caveats(evidence, a, b, names), *_other_way_round(evidence, a, b, statistic), *evidence.caveats),
    )


def _check(margin: float | None, level: float, statistic: str | None, names: tuple[str, str]) -> None:
    if margin is not None and not (_is_number(margin) and 0 < margin < math.inf):
        raise ArgumentError("margin", margin, "must be a number above zero, in the unit of the scores, or None")
    if not (_is_number(level) and 0.5 < level <= 0.999):
        raise ArgumentError("level", level, "must lie above 0.5 and not above 0.999", "0.95 gives 95 % intervals.")
    if statistic not in (None, *_LABELS):
        raise UnknownNameError("statistic", str(statistic), _LABELS)
    if len(names) != 2 or not all(isinstance(name, str) and name for name in names) or names[0] == names[1]:
        raise ArgumentError("names", names, "must be two different texts")


def _verdict(
    a: Side,
    b: Side,
    interval: tuple[float, float] | None,
    inner: tuple[float, float] | None,
    margin: float | None,
    level: float,
) -> Verdict:
    if interval is None or inner is None or _fewest(a, b) < _FEWEST_RUNS:
        return "undecided"
    if _no_spread(a, b) and _chance_of_complete_order(a, b) > 1 - level:
        return "undecided"
    if margin is not None and -margin < inner[0] and inner[1] < margin:
        return "equivalent"
    if interval[0] > 0:
        return "a_better"
    return "b_better" if interval[1] < 0 else "undecided"


def _needed(a: Side, b: Side, margin: float | None, level: float) -> int | None:
    if not _no_spread(a, b):
        return runs_until_decided(a, b, margin, level, max(_FEWEST_RUNS, _fewest(a, b) + 1))
    if a.estimate == b.estimate and margin is None:
        return None
    runs = range(_FEWEST_RUNS, MOST_RUNS)
    return next((number for number in runs if 2 / math.comb(2 * number, number) <= 1 - level), None)


def _caveats(evidence: Evidence, a: Side, b: Side, names: tuple[str, str]) -> tuple[str, ...]:
    caveats = []
    if evidence.unit == "episode":
        caveats.append(
            "This compares two trained agents, one run each, with their episodes as evidence. It says nothing about "
            "the algorithms: another training run, with another seed, may come out the other way round. For that, "
            f"train at least {_FEWEST_RUNS}, better 5 or more, runs of each with different seeds."
        )
    for side, name in zip((a, b), names, strict=True):
        fewest = int(side.counts.min())
        if fewest < _FEWEST_RUNS:
            runs = f"is only 1 {evidence.unit}" if fewest == 1 else f"are only {fewest} {evidence.unit}s"
            caveats.append(
                f"There {runs} of {name}: below {_FEWEST_RUNS} of each, no difference is called real, however large."
            )
        elif (side.variances == 0).all():
            caveats.append(
                f"All {evidence.unit}s of {name} scored the same: failures that are rare may just not have been seen."
            )
    return tuple(caveats)


def _other_way_round(evidence: Evidence, a: Side, b: Side, statistic: MeanStatistic) -> tuple[str, ...]:
    other: MeanStatistic = "iqm" if statistic == "mean" else "mean"
    difference = Side.of(evidence.a, other).estimate - Side.of(evidence.b, other).estimate
    if difference * (a.estimate - b.estimate) >= 0:
        return ()
    return (f"Judged by the {_LABELS[other]} it would be the other way round: look at the single {evidence.unit}s.",)


def _no_spread(a: Side, b: Side) -> bool:
    return bool((a.variances == 0).all() and (b.variances == 0).all())


def _chance_of_complete_order(a: Side, b: Side) -> float:
    """Returns how probable it is that all of one side lie above all of the other, were they not different (p-value)."""
    return 2 / float(np.prod([math.comb(m + n, m) for m, n in zip(a.counts, b.counts, strict=True)], dtype=np.float64))


def _fewest(a: Side, b: Side) -> int:
    return int(min(a.counts.min(), b.counts.min()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _number(value: float) -> str:
    """Four digits, but never fewer than stand before the decimal point, except in huge numbers."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


def _span(interval: tuple[float, float], form: str = "") -> str:
    low, high = (format(end, form) if form else _number(end) for end in interval)
    return f"{low} to {high}"


def _percent(level: float) -> str:
    return f"{100 * level:.4g} %"


def _count(counts: tuple[int, ...], unit: str = "") -> str:
    low, high = min(counts), max(counts)
    number = str(low) if low == high else f"{low} to {high}"
    return number if not unit else f"{number} {unit}" if number == "1" else f"{number} {unit}s"
