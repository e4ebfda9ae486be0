"""What the section `tuning` of an experiment's file can say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import InitErrorDetails

from rl_framework.experiment.sections.section import Count, Section, as_whole, complaint
from rl_framework.experiment.sections.signatures import OneMessage

__all__ = ["AUTO", "ConfirmationConfig", "SearchEntry", "TuningConfig"]

AUTO = "auto"

_Number = Annotated[int | float, OneMessage()]


class SearchEntry(Section):
    """The values of one key: a range (`low`, `high`), or `choices`."""

    low: _Number | None = None
    """The lowest value, included."""
    high: _Number | None = None
    """The highest value, included."""
    log: bool = False
    """Whether every order of magnitude is as likely as the next one."""
    step: _Number | None = None
    """Only low, low + step, low + 2 step, ..."""
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    """These values."""

    def further_complaints(self, info: ValidationInfo) -> Iterable[InitErrorDetails]:
        """Compares the numbers with each other."""
        if (self.choices is None) == (self.low is None and self.high is None):
            yield complaint('must be "auto", {low: ..., high: ...} or {choices: [...]}')
        elif self.choices is not None:
            if self.log or self.step is not None:
                yield complaint("log and step are for a range")
            if any(value in self.choices[:index] for index, value in enumerate(self.choices)):
                yield complaint("holds a value twice", ("choices",))
        elif self.low is None or self.high is None:
            yield complaint("is needed beside the other end", ("low" if self.low is None else "high",))
        else:
            yield from self._range_complaints(self.low, self.high)

    def _range_complaints(self, low: float, high: float) -> Iterable[InitErrorDetails]:
        if low >= high:
            yield complaint(f"must be above low, and {high:g} is not above {low:g}", ("high",))
        if self.log and low <= 0:
            yield complaint(f"must be above 0 with log, and is {low:g}", ("low",))
        if self.step is not None and self.log:
            yield complaint("cannot be given with log", ("step",))
        elif self.step is not None and not 0 < self.step <= high - low:
            yield complaint(f"must be above 0 and at most high - low, and is {self.step:g}", ("step",))


class ConfirmationConfig(Section):
    """How the best candidates are measured again, on seeds that the search has not seen."""

    candidates: Count = 1
    """How many of the best trials."""
    seeds: Annotated[int, Field(ge=0, le=1000), BeforeValidator(as_whole)] = 5
    """How many seeds each is trained on; 0: none, so that only the value seen in the search is known."""
    n_episodes: Count | None = None
    """Episodes of the evaluation after each training; null: as `evaluation` says."""


_ENTRY = {"anyOf": [{"const": AUTO}, SearchEntry.model_json_schema()]}


class TuningConfig(Section):
    """A search for parameters: `rl-framework tune`."""

    trials: Count = 20
    """How many trials the search has, those before an interruption included."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which no further trial begins; null: none."""
    workers: Count = 1
    """Processes that train at the same time, each with one thread."""
    sampler: str | dict[str, Any] = "tpe"
    """Who proposes values: tpe, random, grid, cmaes, qmc or gp; or {type: tpe, n_startup_trials: 20}."""
    pruner: str | dict[str, Any] = "median"
    """Who ends trials early: median, percentile, successive_halving, hyperband, threshold or none; or a mapping."""
    metric: str = "evaluation/mean_return"
    """What is compared: a metric of evaluations or validations."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether more is better."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 32)]], Field(min_length=1)] | None = None
    """Each trial is trained on each of them and has the mean of their values; null: a seed of its own for each."""
    storage: str | None = None
    """Where the study lies: a journal file, or SQLite (.db, or sqlite:///path); null: a journal in its folder."""
    study: str | None = None
    """Name of the study, and of its folder in `run_directory`; null: the name of the run and "-tuning"."""
    keep_checkpoints: bool = False
    """Whether the checkpoints of trials that are over stay there."""
    confirm: ConfirmationConfig = Field(default_factory=ConfirmationConfig)
    """How the best candidates are measured again."""
    search: Annotated[dict[str, Annotated[Any, WithJsonSchema(_ENTRY)]], Field(min_length=1)]
    """What is searched: values by dotted keys, such as agent.parameters.learning_rate."""
