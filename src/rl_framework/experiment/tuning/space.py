"""The search space: usual ranges by name, what a key allows, and Optuna's distributions."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from rl_framework.errors import ConfigurationError
from rl_framework.experiment.reading.documents import Key
from rl_framework.experiment.reading.overrides import parse_key
from rl_framework.experiment.sections.section import complaint
from rl_framework.experiment.tuning.choosing import GRID, PRUNERS, SAMPLERS, Choice, complaints_about
from rl_framework.experiment.tuning.section import AUTO, SearchEntry

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from rl_framework.experiment.config import ExperimentConfig

__all__ = ["USUAL", "Dimension", "check_tuning", "grid", "override", "search_space"]

USUAL: dict[str, dict[str, Any]] = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "gamma": {"choices": [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999]},
    "gae_lambda": {"choices": [0.8, 0.9, 0.92, 0.95, 0.98, 0.99, 1.0]},
    "n_steps": {"choices": [16, 32, 64, 128, 256, 512, 1024, 2048]},
    "n_epochs": {"choices": [1, 3, 5, 10, 20]},
    "batch_size": {"choices": [16, 32, 64, 128, 256, 512]},
    "ent_coef": {"low": 1e-8, "high": 0.1, "log": True},
    "vf_coef": {"low": 0.1, "high": 1.0},
    "clip_range": {"low": 0.1, "high": 0.4},
    "max_grad_norm": {"low": 0.3, "high": 5.0, "log": True},
    "tau": {"low": 1e-3, "high": 0.1, "log": True},
    "buffer_size": {"choices": [10_000, 100_000, 1_000_000]},
    "learning_starts": {"choices": [0, 1_000, 10_000]},
    "train_freq": {"choices": [1, 4, 8, 16, 64]},
    "gradient_steps": {"choices": [1, 4, 8, 16, 64]},
    "target_update_interval": {"choices": [1, 100, 1_000, 10_000]},
    "exploration_fraction": {"low": 0.05, "high": 0.5},
    "exploration_final_eps": {"low": 0.01, "high": 0.2},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
"""What "auto" stands for, by the last part of the key."""

_SEARCHED = ("agent", "environment", "episodes")
_ALSO = ("training", "total_timesteps")
_FOLDER = re.compile(r"[^/\\\s.][^/\\]{0,99}")


@dataclass(frozen=True)
class Dimension:
    """The values of one key.

    Attributes:
        key: Dotted.
        choices: The values; None: a range.
        low: Of a range.
        high: Of a range.
        log: Whether orders of magnitude are alike.
        step: Between values; None: any value.
    """

    key: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """Returns it in Optuna's terms."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution([_category(choice) for choice in self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def suggest(self, trial: optuna.Trial) -> Any:
        """Returns the value of the key for a trial: what it has already, or what the sampler proposes."""
        distribution: Any = self.distribution()
        if self.choices is not None:
            return self.value(trial.suggest_categorical(self.key, distribution.choices))
        suggest: Any = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return suggest(self.key, self.low, self.high, step=distribution.step, log=self.log)

    def value(self, found: Any) -> Any:
        """Returns the value of the key for what Optuna chose."""
        if self.choices is None:
            return found
        return next(choice for choice in self.choices if _same(_category(choice), found))

    def points(self) -> list[Any]:
        """Returns what a grid tries, in Optuna's terms."""
        if self.choices is not None:
            return [_category(choice) for choice in self.choices]
        assert self.step is not None  # the configuration was checked
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + index * self.step for index in range(count)]


def _category(choice: Any) -> Any:
    """Returns a choice as Optuna stores it: lists and mappings as JSON."""
    return choice if choice is None or isinstance(choice, bool | int | float | str) else json.dumps(choice)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def override(key: str, value: Any) -> str:
    """Returns a value as it is written on the command line."""
    return f"{key}={json.dumps(value)}"


def search_space(config: ExperimentConfig, injected: Collection[str] = ()) -> list[Dimension]:
    """Returns the search space of a checked configuration, in the order of its file."""
    assert config.tuning is not None  # whoever calls this has looked
    data = config.to_data()
    found = []
    for key, written in config.tuning.search.items():
        entry = _entry(key, written)
        if entry.choices is not None:
            found.append(Dimension(key, tuple(entry.choices)))
            continue
        assert entry.low is not None  # a range has both ends
        assert entry.high is not None  # likewise
        # As the key has them: 1e3 is an integer for a key of integers, 1 a number for one of numbers.
        is_whole = _Tried(data, key, injected).is_whole(entry.low, entry.high)
        kind = int if is_whole and float(entry.step or 1).is_integer() else float
        step = None if entry.step is None else kind(entry.step)
        found.append(Dimension(key, None, kind(entry.low), kind(entry.high), entry.log, step))
    return found


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Returns every combination, in Optuna's terms."""
    keys = [dimension.key for dimension in space]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(each.points() for each in space))]


def check_tuning(config: ExperimentConfig, injected: Collection[str] = ()) -> Iterable[InitErrorDetails]:
    """Returns what is wrong with the section `tuning`, by what the rest of the configuration allows.

    Both ends of each range, and each choice, are put into the configuration in place of what is there. Values that
    only do not go with those of other searched keys are left to the trials.

    Args:
        config: The configuration.
        injected: Names of what the program gives; see `load_config`.
    """
    tuning = config.tuning
    assert tuning is not None  # whoever calls this has looked
    yield from complaints_about("sampler", tuning.sampler, SAMPLERS)
    yield from complaints_about("pruner", tuning.pruner, PRUNERS)
    if tuning.seeds is not None and len(set(tuning.seeds)) < len(tuning.seeds):
        yield complaint("holds a seed twice", ("seeds",))
    if tuning.study is not None and not _FOLDER.fullmatch(tuning.study):
        yield complaint("must be usable as the name of a folder", ("study",))
    if tuning.storage is not None and "://" in tuning.storage and not tuning.storage.startswith("sqlite:///"):
        yield complaint("must be a file, or sqlite:///path", ("storage",))
    is_grid = Choice.of(tuning.sampler).name == GRID
    data = config.to_data()
    for key, written in tuning.search.items():
        for wrong in _wrong_with(_Tried(data, key, injected), written, is_grid):
            yield {**wrong, "loc": ("search", key, *wrong.get("loc", ()))}


def _wrong_with(tried: _Tried, written: Any, is_grid: bool) -> Iterable[InitErrorDetails]:
    """Returns what is wrong with one entry of the search."""
    parsed = parse_key(tried.key)
    if parsed is None or (parsed[0] not in _SEARCHED and parsed != _ALSO):
        allowed = "agent, environment, episodes and training.total_timesteps"
        return [complaint(f"cannot be searched: only keys of {allowed} can")]
    if written == AUTO and _last(tried.key) not in USUAL:
        known = ", ".join(USUAL)
        return [complaint(f"has no usual range: write {{low: ..., high: ...}} or {{choices: [...]}}; known: {known}")]
    try:
        entry = _entry(tried.key, written)
    except ValidationError as error:
        return [complaint(each["msg"], each["loc"]) for each in error.errors(include_url=False)]
    if is_grid and entry.choices is None and entry.step is None:
        return [complaint("a grid needs choices, or a step")]
    return _refusals(tried, parsed, entry, is_usual=written == AUTO)


def _entry(key: str, written: Any) -> SearchEntry:
    return SearchEntry.model_validate(USUAL[_last(key)] if written == AUTO else written)


def _refusals(tried: _Tried, parsed: Key, entry: SearchEntry, is_usual: bool) -> list[InitErrorDetails]:
    values: dict[Key, Any] = {("choices", index): value for index, value in enumerate(entry.choices or ())}
    values |= {(name,): value for name, value in (("low", entry.low), ("high", entry.high)) if value is not None}
    found: dict[str, InitErrorDetails] = {}
    for part, value in values.items():
        for key, message in tried.refusals(value, parsed):
            is_own = key == tried.key
            message = message if is_own else f"{key}: {message}"
            found.setdefault(message, complaint(message, part if is_own and not is_usual else ()))
    if not found and entry.step is not None and not float(entry.step).is_integer():
        assert entry.low is not None  # a step is that of a range
        for _, message in tried.refusals(entry.low + entry.step, parsed):
            what = message.partition(",")[0]
            found.setdefault(what, complaint(f"{what}, and is {entry.step:g}", ("step",)))
    return list(found.values())


class _Tried:
    """A configuration with one value after the other in place of what it has for a key."""

    def __init__(self, data: Mapping[str, Any], key: str, injected: Collection[str] = ()) -> None:
        self.key = key
        self._data, self._injected = data, injected

    def _config(self, value: Any) -> ExperimentConfig:
        from rl_framework.experiment.config import load_config

        return load_config(self._data, [override(self.key, value)], injected=self._injected)

    def refusals(self, value: Any, parsed: Key) -> list[tuple[str, str]]:
        """Returns key and message of what is wrong with the key, what is above it, and what is in it."""
        try:
            self._config(value)
        except ConfigurationError as error:
            problems = [(problem.key, problem.message) for problem in error.problems]
            return [each for each in problems if _concerns(parse_key(each[0]) or (), parsed)]
        return []

    def is_whole(self, *values: Any) -> bool:
        """Tells whether the key holds integers when these are written."""
        for value in values:
            found: Any = self._config(value).to_data()
            for part in parse_key(self.key) or ():
                found = found[part]
            if type(found) is not int:
                return False
        return True


def _concerns(problem: Key, key: Key) -> bool:
    length = min(len(problem), len(key))
    return problem[:length] == key[:length]


def _last(key: str) -> str:
    parts = parse_key(key) or ("",)
    return str(parts[-1])
