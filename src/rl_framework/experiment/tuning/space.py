"""The search space: usual ranges by name, what a key allows, and Optuna's distributions."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import InitErrorDetails

from rl_framework.errors import ConfigurationError
from rl_framework.experiment.reading.documents import Key
from rl_framework.experiment.reading.overrides import parse_key
from rl_framework.experiment.sections.section import complaint
from rl_framework.experiment.tuning.section import SearchEntry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from rl_framework.experiment.config import ExperimentConfig

__all__ = ["USUAL", "Dimension", "check_search", "grid", "override", "search_space"]

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


def search_space(config: ExperimentConfig) -> list[Dimension]:
    """Returns the search space of a checked configuration, in the order of its file."""
    assert config.tuning is not None  # whoever calls this has looked
    data = config.to_data()
    found = []
    for key, entry in config.tuning.search.items():
        said = USUAL[_last(key)] if entry.auto else entry.given()
        if "choices" in said:
            found.append(Dimension(key, tuple(said["choices"])))
            continue
        low, high, step = said["low"], said["high"], said.get("step")
        taken = [_taken(data, key, end) for end in (low, high)]
        # As the key has them: 1e3 is an integer for a key of integers, 1 a number for one of numbers.
        is_whole = all(type(end) is int for end in taken) and (step is None or float(step).is_integer())
        low, high = (int(low), int(high)) if is_whole else (float(low), float(high))
        step = None if step is None else int(step) if is_whole else float(step)
        found.append(Dimension(key, None, low, high, bool(said.get("log", False)), step))
    return found


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Returns every combination, in Optuna's terms."""
    keys = [dimension.key for dimension in space]
    return [
        dict(zip(keys, values, strict=True)) for values in itertools.product(*(each.points() for each in space))
    ]


def check_search(config: ExperimentConfig) -> Iterable[InitErrorDetails]:
    """Returns what is wrong with the keys and ranges of the search, by what the rest of the configuration allows.

    Both ends of each range, and each choice, are put into the configuration in place of what is there. Values that
    only do not go with those of other searched keys are left to the trials.
    """
    assert config.tuning is not None  # whoever calls this has looked
    data = config.to_data()
    for key, entry in config.tuning.search.items():
        parsed = parse_key(key)
        if parsed is None or (parsed[0] not in _SEARCHED and parsed != _ALSO):
            allowed = "agent, environment, episodes and training.total_timesteps"
            yield complaint(f"cannot be searched: only keys of {allowed} can", ("search", key))
            continue
        if entry.auto and _last(key) not in USUAL:
            message = f"has no usual range: write {{low: ..., high: ...}} or {{choices: [...]}}; known: {', '.join(USUAL)}"
            yield complaint(message, ("search", key))
            continue
        yield from _refusals(data, key, parsed, entry)


def _refusals(data: dict[str, Any], key: str, parsed: Key, entry: SearchEntry) -> Iterable[InitErrorDetails]:
    said = USUAL[_last(key)] if entry.auto else entry.given()
    tried: dict[Key, Any] = {("choices", index): value for index, value in enumerate(said.get("choices") or ())}
    tried |= {(name,): said[name] for name in ("low", "high") if name in said}
    told: set[str] = set()
    for part, value in tried.items():
        try:
            _config(data, key, value)
        except ConfigurationError as error:
            for problem in error.problems:
                if not _concerns(parse_key(problem.key) or (), parsed):
                    continue
                about_key = problem.key != key
                message = f"{problem.key}: {problem.message}" if about_key else problem.message
                if message not in told:
                    told.add(message)
                    yield complaint(message, ("search", key) if entry.auto or about_key else ("search", key, *part))
    if said.get("step") is not None and not told:
        whole = type(_taken(data, key, said["low"])) is int and type(_taken(data, key, said["high"])) is int
        if whole and not float(said["step"]).is_integer():
            try:
                _config(data, key, said["low"] + said["step"])
            except ConfigurationError:
                yield complaint(f"must be an integer, and is {said['step']}", ("search", key, "step"))


def _concerns(problem: Key, key: Key) -> bool:
    length = min(len(problem), len(key))
    return problem[:length] == key[:length]


def _config(data: Mapping[str, Any], key: str, value: Any) -> ExperimentConfig:
    from rl_framework.experiment.config import load_config

    return load_config(data, [override(key, value)])


def _taken(data: Mapping[str, Any], key: str, value: Any) -> Any:
    """Returns a value as a checked configuration holds it."""
    found: Any = _config(data, key, value).to_data()
    for part in parse_key(key) or ():
        found = found[part]
    return found


def _last(key: str) -> str:
    parts = parse_key(key) or ("",)
    return str(parts[-1])
