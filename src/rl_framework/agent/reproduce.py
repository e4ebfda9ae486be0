"""Training an agent again from its record, and comparing what comes out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_framework import registry
from rl_framework.agent.load import load_agent
from rl_framework.agent.record import run_record
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.bundle import Bundle, decode_value, read_bundle
from rl_framework.environment.door import VECTORIZATIONS
from rl_framework.errors import ArgumentError, BundleError
from rl_framework.training import Callback, Training

__all__ = ["Reproduction", "reproduce"]

logger = logging.getLogger(__name__)

_AGENT, _RECORD = "agent.zip", "record.json"
_RECORD_SIZE = 16 << 20
_MOST_ENVIRONMENTS = 1 << 16


@dataclass(frozen=True)
class Reproduction:
    """Whether training again gave the same agent.

    Attributes:
        equal: Whether every number of the deployable part is the same to the last bit.
        difference: The first difference; None if there is none.
        notes: What is otherwise than it was recorded, such as the version of a library. It may explain a difference.
        timesteps: How many steps were trained.
    """

    equal: bool
    difference: str | None
    notes: tuple[str, ...]
    timesteps: int

    def __str__(self) -> str:
        """Says it in a few lines."""
        answer = "equal, to the last bit" if self.equal else f"not equal: {self.difference}"
        return "\n".join([f"trained again for {self.timesteps} timesteps: {answer}", *(f"  {n}" for n in self.notes)])

    def __bool__(self) -> bool:
        return self.equal


def reproduce(path: str | Path, trust: bool = False) -> Reproduction:
    """Trains an agent again as its record says, and compares the result with what was saved.

    What a record can name is limited, because it may be somebody else's: environments that are registered here, with
    numbers as arguments.

    Args:
        path: A bundle that holds its record (a checkpoint does), or the folder of a `LocalConnector` after `upload`.
        trust: Whether to believe the record more than that. An environment id with a module prefix then imports that
            module, a name may be that of an adapter or a simulator's executable, which is started, and the arguments
            of the environment may be anything.

    Returns:
        Whether the two are equal, or the first difference.

    Raises:
        BundleError: The bundle or the record is damaged, or asks for something that needs `trust=True`.
        ArgumentError: The path, or the run, cannot be reproduced from a record: the reason is said.
    """
    saved, records = _open(Path(path))
    with saved:
        record = _the_only(records, saved.path)
        run = _Run.from_record(record, saved, trust)
        loaded = load_agent(saved.path)
        if not isinstance(loaded, RLAgent):
            kind = type(loaded).__name__
            raise _impossible(saved.path, f"a record does not hold the episodes that an {kind} learns from")
        agent = _untrained(loaded, saved.path)
        end = _End(loaded.num_timesteps, at_boundary=run.is_checkpoint)
        with _refusals_are_bundle_errors(saved.path):
            agent.train(
                run.environment,
                run.total_timesteps,
                run.n_environments,
                run.environment_kwargs,
                callbacks=[end],
                seed=run.seed,
                progress_bar=False,
                vectorization=run.vectorization,
                wrappers=loaded.wrappers,
            )
        members = agent.saved_members() if end.members is None else end.members
        difference = _first_difference(saved, members)
    return Reproduction(difference is None, difference, tuple(_notes(record)), end.timestep)


# What the record says


@dataclass(frozen=True)
class _Run:
    """The arguments of a call of `train`, as far as they were recorded."""

    environment: str
    environment_kwargs: dict[str, Any] | None
    n_environments: int
    seed: int
    total_timesteps: int
    vectorization: str
    is_checkpoint: bool

    @classmethod
    def from_record(cls, record: Mapping[str, Any], saved: Bundle, trust: bool) -> _Run:
        source = record.get("environment_source", "id")
        environment = record.get("environment")
        if source != "id" or not isinstance(environment, str):
            was = "not named" if source == "id" else f"given as {source}"
            raise _impossible(saved.path, f"its environments were {was}, which no record can make again")
        if record.get("callbacks"):
            logger.info("callbacks are not called again: %s", record["callbacks"])
        choice = record.get("choices", {}) if isinstance(record.get("choices", {}), dict) else {}
        vectorization = choice.get("vectorization", {}).get("value") if choice.get("vectorization") else "sync"
        if vectorization not in VECTORIZATIONS:
            raise _impossible(saved.path, f"its environments came vectorized ({str(vectorization)[:60]!r})")
        if "total_timesteps" not in record:
            raise _impossible(saved.path, "its record does not say for how many timesteps it was trained")
        kwargs = decode_value(record.get("environment_kwargs"))
        if kwargs is not None and not (isinstance(kwargs, dict) and all(isinstance(key, str) for key in kwargs)):
            raise BundleError(f"{saved.path}: the recorded environment_kwargs are {str(kwargs)[:100]!r}")
        _check_trusted(environment, kwargs or {}, saved.path, trust)
        return cls(
            environment,
            kwargs or None,
            _whole(record, "n_environments", saved.path, 1, _MOST_ENVIRONMENTS),
            _whole(record, "seed", saved.path, 0, 2**64),
            _whole(record, "total_timesteps", saved.path, 1, 2**62),
            vectorization,
            "training" in saved.information,
        )


def _whole(record: Mapping[str, Any], name: str, path: Path, least: int, most: int) -> int:
    value = record.get(name)
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{path}: the record says {name}={str(value)[:60]}")
    return value


def _check_trusted(environment: str, kwargs: dict[str, Any], path: Path, trust: bool) -> None:
    """Refuses what would import, start or open something that the record names."""
    if trust:
        return
    remedy = "if you trust where it comes from, call reproduce(path, trust=True)"
    if ":" in environment:
        raise BundleError(
            f"{path}: its record names the environment {environment[:200]!r}: the module before the colon would be "
            f"imported; {remedy}"
        )
    # An adapter may take a name, or a path, and start what is there.
    if environment in registry.environment_adapters or environment not in gymnasium.registry:
        raise BundleError(
            f"{path}: its record names the environment {environment[:200]!r}, which is none that gymnasium has "
            f"registered here: import the package that registers it, or, {remedy}"
        )
    for name, value in kwargs.items():
        # Text may be a path to read or a module to import.
        if not (value is None or isinstance(value, bool | int | float)):
            raise BundleError(
                f"{path}: its record gives the environment {name[:60]}={str(value)[:100]!r}, and only numbers are "
                f"passed on from a record; {remedy}"
            )


def _open(path: Path) -> tuple[Bundle, list[Any]]:
    """Returns the saved agent, and the records of its training."""
    if not path.is_dir():
        saved = read_bundle(path)
        information = saved.information
        records = information.get("runs", [information["record"]] if "record" in information else [])
        return saved, _checked(records, path)
    if not (path / _AGENT).exists() or not (path / _RECORD).exists():
        raise ArgumentError(
            "path",
            str(path),
            f"this folder does not hold both {_AGENT} and {_RECORD}",
            "Train with LocalConnector and upload the agent, or name a checkpoint.",
        )
    return read_bundle(path / _AGENT), _checked(_read_record(path / _RECORD), path / _RECORD)


def _read_record(path: Path) -> Any:
    try:
        if path.stat().st_size > _RECORD_SIZE:
            raise BundleError(f"{path} is larger than any record")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no record: {type(error).__name__}: {error}") from error


def _checked(records: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise BundleError(f"{path} holds no list of records")
    return records


def _the_only(records: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    # A training that was interrupted and resumed is the same as one that was not.
    begun = [record for record in records if "resumed_from" not in record]
    if not begun:
        raise _impossible(path, "it holds no record of a training that began")
    if len(begun) > 1 or begun[0].get("start", 0) != 0:
        calls = f"{len(begun)} calls of train" if len(begun) > 1 else "an agent that had been trained before"
        raise _impossible(path, f"its record tells of {calls}, and only one that began with a new agent can be")
    return begun[0]


def _impossible(path: Path, reason: str) -> ArgumentError:
    return ArgumentError("path", str(path), f"this run cannot be reproduced from its record: {reason}")


@contextmanager
def _refusals_are_bundle_errors(path: Path) -> Iterator[None]:
    """A record that asks for what cannot be trained is the record's fault, not that of who opens it."""
    try:
        yield
    except ArgumentError as error:
        raise BundleError(f"{path}: what its record asks for cannot be trained here: {error}") from error


# Training again


def _untrained(loaded: RLAgent, path: Path) -> RLAgent:
    """Returns an agent of the same configuration that has met no environment."""
    if hasattr(loaded, "untrained"):  # one with parts, which belong to it
        fresh: RLAgent = loaded.untrained()
        return fresh
    names = [name for name in signature(type(loaded).__init__).parameters if name != "self"]
    missing = [name for name in names if not hasattr(loaded, name)]
    if missing:
        raise _impossible(path, f"{type(loaded).__name__} does not keep its argument {missing[0]!r}")
    return type(loaded)(**{name: getattr(loaded, name) for name in names})


class _End(Callback):
    """Ends the training where the saved agent was: a run may have been stopped, and a checkpoint is from within one.

    Args:
        timestep: Of the saved agent.
        at_boundary: Whether it was taken between two rollouts, before anything was collected for the next.
    """

    def __init__(self, timestep: int, at_boundary: bool) -> None:
        self._end, self._at_boundary = timestep, at_boundary
        self.members: dict[str, Any] | None = None
        self.timestep = 0

    def on_step(self, training: Training) -> None:
        """Ends a training that was stopped before its time."""
        if self.members is None:
            self.timestep = training.timestep
        if not self._at_boundary and self._end <= training.timestep < training.total_timesteps:
            training.stop("the saved agent was trained until here")

    def on_boundary(self, training: Training) -> None:
        """Keeps what a checkpoint would hold."""
        if self._at_boundary and self.members is None and training.timestep >= self._end:
            self.members = {name: _copied(member) for name, member in training.agent.saved_members().items()}
            training.stop("the checkpoint was taken here")


def _copied(member: Any) -> Any:
    return {name: _as_array(part).copy() for name, part in member.items()} if _holds_arrays(member) else member


def _holds_arrays(member: Any) -> bool:
    return isinstance(member, Mapping) and all(hasattr(part, "dtype") for part in member.values())


# Comparing


def _as_array(part: Any) -> np.ndarray[Any, Any]:
    return part if isinstance(part, np.ndarray) else part.detach().cpu().numpy()


def _first_difference(saved: Bundle, members: Mapping[str, Any]) -> str | None:
    names = [name for name in saved.names if not name.startswith("training_state/")]
    if set(names) != set(members):
        return f"{sorted(set(names) ^ set(members))[0]} is in only one of the two"
    # Weights tell more than a counter that differs because of them.
    for name in sorted(names, key=lambda name: (name.endswith(".json"), name)):
        if name.endswith(".json"):
            difference = _difference_of_values(saved.json(name), json.loads(json.dumps(members[name])), name)
        else:
            kept = saved.arrays(name) if name.endswith(".npz") else saved.tensors(name)
            difference = _difference_of_arrays(kept, members[name], name)
        if difference is not None:
            return difference
    return None


def _difference_of_arrays(kept: Mapping[str, Any], found: Mapping[str, Any], name: str) -> str | None:
    if set(kept) != set(found):
        return f"{name}: {sorted(set(kept) ^ set(found))[0]!r} is in only one of the two"
    for key in kept:
        one, other = _as_array(kept[key]), _as_array(found[key])
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{name}: {key!r} was {one.shape} {one.dtype}, and is {other.shape} {other.dtype}"
        if one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
            return f"{name}: {key!r} differs in {int((one != other).sum())} of {one.size} numbers, by {apart.max():.3g}"
    return None


def _difference_of_values(one: Any, other: Any, where: str) -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                return f"{where}: {key!r} is in only one of the two"
        differences = (_difference_of_values(one[key], other[key], f"{where}: {key}") for key in one)
        return next((difference for difference in differences if difference is not None), None)
    return None if one == other else f"{where} was {str(one)[:100]}, and is {str(other)[:100]}"


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is otherwise than it was when the run was recorded."""
    now = run_record()
    for kind in ("versions", "platform"):
        before = record.get(kind)
        for name, value in before.items() if isinstance(before, dict) else ():
            here = now[kind].get(name)
            if here != value and name in now[kind]:
                yield f"{name} was {str(value)[:60]}, and is {here}"
    git, here = record.get("git"), now["git"]
    if isinstance(git, dict):
        if git.get("dirty"):
            yield "the working directory had changes that were not committed"
        if here is not None and git.get("commit") != here["commit"]:
            yield f"the commit was {str(git.get('commit'))[:40]}, and is {here['commit']}"
