"""Every exception a user can meet.

All of them derive from `RLFrameworkError`. A message names the argument, the value that was given, what is wrong
with it and what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "ArgumentError",
    "BundleError",
    "ConfigurationError",
    "ConfigurationProblem",
    "ConnectorError",
    "EnvironmentSourceError",
    "EpisodeDataError",
    "MissingExtraError",
    "NonFiniteError",
    "NonFiniteLossError",
    "NotTrainedError",
    "PluginError",
    "RLFrameworkError",
    "RecordingError",
    "SeedConflictError",
    "SpaceMismatchError",
    "TuningError",
    "UnknownNameError",
    "UnsavableError",
    "UnsupportedSpaceError",
    "install_command",
    "require_extra",
]

_VALUE_LENGTH = 200
_MOST_NAMES = 60


class RLFrameworkError(Exception):
    """Base class of everything that this package raises on purpose."""


def shorten(value: object) -> str:
    """Represents a value in at most a line, for an error message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _VALUE_LENGTH else text[: _VALUE_LENGTH - 1] + "…"


class ArgumentError(RLFrameworkError, ValueError):
    """An argument has a value that cannot be used.

    Attributes:
        argument: Name of the argument, as the caller wrote it.
        value: The value that was given.
    """

    def __init__(self, argument: str, value: object, problem: str, remedy: str = "") -> None:
        self.argument = argument
        self.value = value
        message = f"{argument}={shorten(value)}: {problem}"
        if remedy:
            message = f"{message.rstrip('.')}. {remedy}"
        super().__init__(message)


class EnvironmentSourceError(ArgumentError):
    """What was given as environments holds none, or is nothing that the door knows."""


class SpaceMismatchError(ArgumentError):
    """Environments that should be alike have different spaces, or an agent meets spaces it was not built for."""


class UnsupportedSpaceError(ArgumentError):
    """An algorithm cannot take this observation or action space."""


class SeedConflictError(ArgumentError):
    """Two seeds were given and they disagree."""


class UnsavableError(ArgumentError):
    """An agent configured this way could not be saved; raised before training, so that no work is lost."""


class UnknownNameError(ArgumentError):
    """A name is not known; the message suggests the nearest ones.

    Args:
        argument: Name of the argument that held the name.
        name: The unknown name.
        known: The known names.
        remedy: What to do if the name should have been known.
        origins: Where each name comes from, if that is to be told.

    Attributes:
        suggestions: Known names that look like the unknown one, nearest first.
    """

    def __init__(
        self,
        argument: str,
        name: str,
        known: Iterable[str],
        remedy: str = "",
        origins: Mapping[str, str] | None = None,
    ) -> None:
        names = sorted(known)
        by_lower_case = {known_name.lower(): known_name for known_name in names}
        close = get_close_matches(str(name).lower(), by_lower_case, n=3, cutoff=0.5)
        self.suggestions = [by_lower_case[match] for match in close]
        origins = origins or {}
        near = [f"{near!r} ({origins[near]})" if near in origins else repr(near) for near in self.suggestions]
        hint = f"Did you mean {' or '.join(near)}?" if near else ""
        of: dict[str, list[str]] = {}
        for known_name in names:
            of.setdefault(origins.get(known_name, ""), []).append(known_name)
        listed = [", ".join(group) + (f" ({origin})" if origin else "") for origin, group in of.items()]
        listing = f"Known: {'; '.join(listed) or 'none'}."
        if len(names) > _MOST_NAMES:
            listing = f"Known: {len(names)} names, from {names[0]!r} to {names[-1]!r}."
        super().__init__(argument, name, "not known", " ".join(part for part in (hint, listing, remedy) if part))


class PluginError(RLFrameworkError, ImportError):
    """Something that has a name cannot be imported; whatever does not ask for it works without it.

    Attributes:
        kind: What it is, in words, such as "algorithm".
        called: Its name.
        origin: Where the name comes from: a package and its version, "registered by the program" or "rl_framework".
    """

    def __init__(self, kind: str, name: str, origin: str, address: str, error: BaseException) -> None:
        self.kind, self.called, self.origin = kind, name, origin
        super().__init__(
            f"the {kind} {name!r} ({origin}) cannot be imported from {address!r}: {type(error).__name__}: {error}"
        )


class NonFiniteError(RLFrameworkError, ValueError):
    """An environment returned NaN or infinity.

    Attributes:
        environment_index: Which environment of the batch.
        step: Steps the batch had taken since its first reset (0: the reset itself).
        kind: "observation" or "reward".
        value: The value that is not finite.
    """

    def __init__(self, kind: str, environment_index: int, step: int, value: object) -> None:
        self.kind = kind
        self.environment_index = environment_index
        self.step = step
        self.value = value
        super().__init__(
            f"environment {environment_index} returned a non-finite {kind} at step {step}: {shorten(value)}. "
            "Correct the environment: one NaN that enters the network makes all its weights NaN."
        )


class NonFiniteLossError(RLFrameworkError, ArithmeticError):
    """A training has diverged: the loss of a part of the algorithm, or its gradient, is NaN or infinite.

    Attributes:
        part: The part whose loss it is; None: every loss is finite, and their sum or its gradient is not.
        number: What is not finite, by the name under which it is tracked ("ppo_policy_loss").
        timestep: Environment steps at the end of the round.
        batch: Which batch of the round it is, from 0.
        value: NaN or an infinity.
    """

    def __init__(self, part: str | None, number: str, timestep: int, batch: int, value: float) -> None:
        self.part, self.number, self.timestep, self.batch, self.value = part, number, timestep, batch, value
        whose = "the sum of all losses" if part is None else f"the part {part}"
        super().__init__(
            f"training has diverged: {number} (of {whose}) is {value} in batch {batch} of the round that ended at "
            f"timestep {timestep}. Use a smaller learning_rate, limit max_grad_norm, or look at what the part computes."
        )


class NotTrainedError(RLFrameworkError, RuntimeError):
    """The agent has no model yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs a trained agent: call `train(...)` or `load_from_file(...)` first")


class BundleError(RLFrameworkError):
    """A bundle (an agent on disk) is damaged, hostile, or from a newer version. Nothing of it was used."""


class EpisodeDataError(RLFrameworkError, ValueError):
    """Recorded episodes are damaged, hostile, or do not fit together; the message says where (file, episode, row)."""


@dataclass(frozen=True)
class ConfigurationProblem:
    """One thing that is wrong with a configuration.

    Attributes:
        message: What is wrong, and what would be right.
        key: Where, as it is written in an override: "training.total_timesteps", "connectors[0].type"; "" for all of it.
        file: The file that says so, or the override; None: it was given in Python.
        line: Line of the file, from 1.
    """

    message: str
    key: str = ""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigurationError(RLFrameworkError, ValueError):
    """A configuration cannot be used; the message has a line for everything that is wrong with it.

    Attributes:
        problems: What is wrong.
    """

    def __init__(self, problems: Iterable[ConfigurationProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ConnectorError(RLFrameworkError):
    """A connector could not deliver or fetch. The local copy is untouched."""


class TuningError(RLFrameworkError):
    """A search for parameters found nothing, because all of its trials failed; the message says why the first did."""


class RecordingError(RLFrameworkError):
    """A video could not be recorded.

    Attributes:
        partial: The file with what was filmed before the failure, which can be played, or None if there is none.
    """

    def __init__(self, message: str, partial: Path | None = None) -> None:
        self.partial = partial
        super().__init__(message)


# What a user has to type for each optional part. The second entry is a further line for what an extra cannot say.
_IMITATION_LINE = "pip install --no-deps imitation==1.0.1"
_D3RLPY_LINE = "pip install --no-deps d3rlpy==2.8.1"
_EXTRAS: dict[str, tuple[str, ...]] = {
    "atari": (),
    "box2d": (),
    "classic-control": (),
    "clearml": (),
    "contrib": (),
    "dm-control": (),
    "huggingface": (),
    "imitation": (_IMITATION_LINE,),
    "minari": (),
    "minigrid": (),
    "mlflow": (),
    "mujoco": (),
    "offline": (_D3RLPY_LINE,),
    "onnx": (),
    "pettingzoo": (),
    "report": (),
    "robotics": (),
    "storage": (),
    "tensorboard": (),
    "tuning": (),
    "unity": (),
    "video": (),
    "wandb": (),
}


class MissingExtraError(RLFrameworkError, ImportError):
    """An optional part is not installed; the message holds the command that installs it.

    Attributes:
        extra: Name of the extra in this distribution's metadata.
    """

    def __init__(self, extra: str, needed_for: str, module: str) -> None:
        self.extra = extra
        super().__init__(f"{module!r} is needed for {needed_for}: {install_command(extra)}", name=module)


def install_command(extra: str) -> str:
    """Returns what a user has to type for an extra."""
    return " && ".join((f'pip install "rl-framework[{extra}]"', *_EXTRAS.get(extra, ())))


def require_extra(extra: str, needed_for: str, *modules: str) -> None:
    """Checks that the modules of an extra can be imported, without importing them.

    Args:
        extra: The extra that installs them.
        needed_for: What the user asked for, such as a class name.
        modules: Top-level module names.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtraError(extra, needed_for, module)
