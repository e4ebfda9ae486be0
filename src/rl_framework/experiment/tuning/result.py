"""What came of a search: its trials, and the best of them, in figures and in words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rl_framework.experiment.tuning.space import Dimension
from rl_framework.experiment.tuning.trial import ATTEMPTS, REASON, values_of

if TYPE_CHECKING:
    import optuna

__all__ = ["Confirmation", "TrialRecord", "TuningResult", "importance_in", "shown_parameters", "trials_in"]

State = Literal["complete", "pruned", "failed", "running"]

_STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}

_FEWEST = 10
"""Complete trials from which the importance of parameters says something."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: From 0.
        state: "complete", "pruned" (ended early), "failed", or "running" (also: left behind by a process that is gone).
        value: What is compared; of a pruned trial its last value in between; None: there is none.
        parameters: Its values, by dotted key.
        intermediate: Values in between, by the number of the evaluation.
        seconds: How long it took, pauses included; None: it is not over.
        reason: Why it failed.
        attempts: How many times it was begun or gone on with.
    """

    number: int
    state: State
    value: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    intermediate: Mapping[int, float] = field(default_factory=dict)
    seconds: float | None = None
    reason: str | None = None
    attempts: int = 0


@dataclass(frozen=True)
class Confirmation:
    """A candidate on fresh seeds.

    Attributes:
        number: Of its trial.
        parameters: Its values, by dotted key.
        seen: Its value in the search.
        folder: Where its runs are, one for each seed.
        scores: The value of each run, by seed.
        value: The interquartile mean of these; None: it could not be confirmed.
        interval: The ends of its 95 % interval (bootstrap over seeds, which is too narrow with few of them).
        n_episodes: Episodes of all evaluations together.
        reason: Why it could not be confirmed.
    """

    number: int
    parameters: Mapping[str, Any]
    seen: float
    folder: Path
    scores: Mapping[int, float] = field(default_factory=dict)
    value: float | None = None
    interval: tuple[float, float] | None = None
    n_episodes: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class TuningResult:
    """What came of a search.

    Attributes:
        folder: Of the study.
        metric: What was compared.
        direction: "maximize" or "minimize".
        trials: In the order of their numbers.
        confirmations: The best candidates on fresh seeds, the best one first.
        importance: How much each key matters for the value (PED-ANOVA), adding up to 1; empty with few trials.
        best_config: The file of the best configuration; None: there is none.
        is_done: Whether nothing is left to do.
    """

    folder: Path
    metric: str
    direction: Literal["maximize", "minimize"]
    trials: Sequence[TrialRecord]
    confirmations: Sequence[Confirmation] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    best_config: Path | None = None
    is_done: bool = True

    def ranked(self) -> list[TrialRecord]:
        """Returns the complete trials, the best one first."""
        sign = -1 if self.direction == "maximize" else 1
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def best(self) -> TrialRecord | None:
        """The trial that was chosen: the best by the values on fresh seeds, else by those of the search."""
        chosen = self.confirmed
        ranked = self.ranked()
        if chosen is not None:
            return next(trial for trial in ranked if trial.number == chosen.number)
        return ranked[0] if ranked else None

    @property
    def confirmed(self) -> Confirmation | None:
        """The best candidate on fresh seeds; None: none was confirmed."""
        return next((each for each in self.confirmations if each.value is not None), None)

    @property
    def best_parameters(self) -> dict[str, Any]:
        """The values of the chosen trial, by dotted key; empty if there is none."""
        return {} if self.best is None else dict(self.best.parameters)

    def counts(self) -> dict[str, int]:
        """Returns how many trials there are in each state."""
        states: list[State] = ["complete", "pruned", "failed", "running"]
        found = {state: sum(trial.state == state for trial in self.trials) for state in states}
        return {state: count for state, count in found.items() if count}

    def words(self) -> str:
        """Says how good the best configuration is, and how that differs from what the search saw."""
        best = self.best
        if best is None or best.value is None:
            return "no trial is complete"
        complete = len(self.ranked())
        extreme = "highest" if self.direction == "maximize" else "lowest"
        is_first = best.number == self.ranked()[0].number
        place = f"the {extreme} of {complete} complete trials" if is_first else f"not the {extreme} there"
        seen = f"in the search trial {best.number} had {self.metric} {best.value:.6g}, {place}"
        confirmed = self.confirmed
        if confirmed is None or confirmed.value is None or confirmed.interval is None:
            why = next((each.reason for each in self.confirmations if each.reason), None)
            told = f" ({why})" if why else ""
            return f"{_capital(seen)}. It was not confirmed on fresh seeds{told}: expect less of it."
        low, high = confirmed.interval
        n = len(confirmed.scores)
        again = f"on {n} fresh seed{'s' * (n > 1)}: IQM {confirmed.value:.6g}"
        again += f", 95 % interval {low:.6g} to {high:.6g}" if n > 1 else " (one seed has no interval)"
        return f"{_capital(again)}; {seen}. {self._difference(confirmed)}"

    def _difference(self, confirmed: Confirmation) -> str:
        assert confirmed.value is not None  # whoever calls this has looked
        assert confirmed.interval is not None  # likewise
        low, high = confirmed.interval
        difference = confirmed.value - confirmed.seen
        worse = difference < 0 if self.direction == "maximize" else difference > 0
        if difference == 0:
            return "Both agree."
        told = f"The search saw {abs(difference):.4g} {'too much' if difference < 0 else 'too little'}"
        if low <= confirmed.seen <= high:
            return f"{told}, which is within what other seeds vary by."
        if worse:
            return f"{told}, as the best of several noisy values does: count on the value on fresh seeds."
        return f"{told}: count on the value on fresh seeds."

    def to_data(self) -> dict[str, Any]:
        """Returns it for JSON."""
        best = self.best
        return {
            "folder": str(self.folder),
            "metric": self.metric,
            "direction": self.direction,
            "n_trials": len(self.trials),
            "counts": self.counts(),
            "best": None if best is None else _data(asdict(best)),
            "confirmed": None if self.confirmed is None else _data(asdict(self.confirmed)),
            "confirmations": [_data(asdict(each)) for each in self.confirmations],
            "importance": dict(self.importance),
            "best_config": None if self.best_config is None else str(self.best_config),
            "words": self.words(),
            "done": self.is_done,
            "trials": [_data(asdict(trial)) for trial in self.trials],
        }


def _data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _data(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_data(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def shown_parameters(parameters: Mapping[str, Any]) -> str:
    """Writes parameters in a line, by the last parts of their keys."""
    return ", ".join(
        f"{key.rpartition('.')[2]} {f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in parameters.items()
    )


def trials_in(study: optuna.Study, space: Sequence[Dimension]) -> list[TrialRecord]:
    """Returns the trials of a study."""
    found = []
    for frozen in study.get_trials(deepcopy=False):
        seconds = frozen.duration.total_seconds() if frozen.duration is not None else None
        found.append(
            TrialRecord(
                frozen.number,
                _STATES.get(frozen.state.name, "running"),
                frozen.value,
                values_of(frozen.params, space),
                dict(frozen.intermediate_values),
                seconds,
                frozen.user_attrs.get(REASON),
                int(frozen.user_attrs.get(ATTEMPTS, 0)),
            )
        )
    return found


def importance_in(study: optuna.Study) -> dict[str, float]:
    """Returns how much each key matters, the most first; empty if that cannot be told from so few trials."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _FEWEST or len({trial.value for trial in complete}) < 2 or len(complete[0].params) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {key: float(value) for key, value in found.items()}
