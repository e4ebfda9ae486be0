"""From the options of `train` to one configuration, checked in the words of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.cli.networks import learning_rate_key, network_setting
from rl_framework.environment.backends import environment_source
from rl_framework.errors import (
    ArgumentError,
    ConfigurationError,
    ConfigurationProblem,
    RLFrameworkError,
    UnknownNameError,
)
from rl_framework.experiment import Experiment, agent_section
from rl_framework.experiment.presets import list_presets, preset_for
from rl_framework.stores import is_address, parse_address

if TYPE_CHECKING:
    from rl_framework.experiment.presets import Preset

__all__ = ["Asked", "episodes_section", "in_words_of_options", "make_experiment", "seeds_of"]

_PLAIN = {
    "--name": "name",
    "--run-dir": "run_directory",
    "--device": "device",
    "--seed": "seed",
    "--seeds": "seeds",
    "--backend": "environment.type",
    "--env": "environment.id",
    "--n-environments": "environment.n_environments",
    "--total-timesteps": "training.total_timesteps",
    "--checkpoint-every": "training.checkpoint_every",
    "--evaluate-every": "training.evaluate_every",
    "--n-eval-episodes": "evaluation.n_episodes",
    "--progress": "training.progress_bar",
}
"""Options that are a value of the configuration, and which."""

_WITHOUT_EPISODES = ("composed", "custom", "stable_baselines")
"""Types of agents that learn from what they do."""

_NEEDED = {
    "agent": ("--algo", "is needed, such as ppo"),
    "episodes": ("--episodes", "is needed, such as data/cartpole_expert or minari:name"),
    "environment": ("--env", "is needed, such as CartPole-v1 (or --episodes, for imitation)"),
}
"""What to say of sections that are missing."""


@dataclass
class Asked:
    """What was asked for on the command line.

    Attributes:
        plain: Values of the options in `_PLAIN`, by option; None: not given.
        algorithm: `--algo`.
        network: `--net`.
        learning_rate: `--lr`.
        episodes: `--episodes`.
        connectors: `--connector`, each a name.
        video: `--record-video`.
        file: `--config`.
        preset: `--preset` (True), `--no-preset` (False), or neither.
        overrides: Further `key=value`.
    """

    plain: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str | None = None
    network: str | None = None
    learning_rate: float | None = None
    episodes: str | None = None
    connectors: Iterable[str] = ()
    video: bool = False
    file: Path | None = None
    preset: bool | None = None
    overrides: Iterable[str] = ()


def seeds_of(text: str | None) -> list[int] | None:
    """Reads `--seeds 0,1,2`.

    Raises:
        ArgumentError: It is no list of integers.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError("--seeds", text, "must be integers with commas between them", "Such as 0,1,2.") from error


def episodes_section(text: str) -> dict[str, Any]:
    """Returns the section `episodes` for `--episodes`: a path, `minari:name`, `hub:user/name`, or a recording of Unity.

    Raises:
        ArgumentError: Nothing follows the colon.
    """
    kind, colon, name = text.partition(":")
    if colon and kind in ("minari", "hub") and not name.startswith("//"):
        if not name:
            raise ArgumentError("--episodes", text, "does not say which", f"Such as {kind}:user/name.")
        return {kind: name}
    if is_address(text):
        address = parse_address(text, "--episodes")
        steps = address.path.split("/")
        if address.scheme == "hf" and steps[0] == "datasets" and len(steps) == 3:
            return {"hub": "/".join(steps[1:])}
    return {"unity_demo" if text.endswith(".demo") else "path": text}


def make_experiment(asked: Asked, **injected: Any) -> tuple[Experiment, list[str]]:
    """Makes the experiment that was asked for.

    Args:
        asked: What was asked for.
        injected: Passed to `Experiment`.

    Returns:
        The experiment, and what was chosen for the user, in a line each.

    Raises:
        RLFrameworkError: Something cannot be used.
    """
    given = {option: value for option, value in asked.plain.items() if value is not None}
    changes = {_PLAIN[option]: value for option, value in given.items()}
    spoken = {_PLAIN[option]: option for option in given}
    notes: list[str] = []
    if changes.get("training.checkpoint_every") == 0:
        changes["training.checkpoint_every"] = None
    agent = None if asked.algorithm is None else _agent_of(asked.algorithm)
    source: dict[str, Any] | Path
    if asked.file is not None:
        source = asked.file
        if asked.preset:
            raise ArgumentError("--preset", True, "is not for a file", "Write base: <preset> into it.")
        if agent is not None:
            changes, spoken = {"agent": agent, **changes}, {"agent": "--algo", **spoken}
    else:
        source, notes = _source(asked, agent, given)
    for key, value, option in _further(asked, agent):
        changes[key], spoken[key] = value, option
    written = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    try:
        if isinstance(source, Path):
            experiment = Experiment.from_yaml(source, [*written, *asked.overrides], **injected)
        else:
            experiment = Experiment.from_config(source, [*written, *asked.overrides], **injected)
    except ConfigurationError as error:
        raise in_words_of_options(error, spoken) from error
    return experiment, notes


def _agent_of(algorithm: str) -> dict[str, Any]:
    try:
        return agent_section(algorithm)
    except UnknownNameError as error:
        error.args = (str(error).replace("algorithm=", "--algo=", 1),)
        raise


def _source(asked: Asked, agent: dict[str, Any] | None, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns what the configuration begins with: a preset, or what the algorithm's library thinks right."""
    plain = {} if agent is None else {"agent": agent}
    if asked.algorithm is None or any(override.startswith("base=") for override in asked.overrides):
        return plain, []
    environment = _environment_of(given)
    found = preset_for(asked.algorithm, environment) if environment and asked.preset is not False else None
    if found is None:
        if asked.preset:
            wanted = f"{asked.algorithm}/{environment}"
            raise UnknownNameError("--preset", wanted, list_presets(), "Leave --preset out to do without.")
        why = f"there is no preset for {asked.algorithm} here" if asked.preset is None else "--no-preset"
        return plain, [f"Parameters: as the library has them ({why})"]
    return {"base": found.name}, [f"Parameters: {_told(found)}; --no-preset does without"]


def _environment_of(given: Mapping[str, Any]) -> str | None:
    """Returns what presets call the environment: an id in full, or the name of an adapter."""
    backend, identifier = given.get("--backend"), given.get("--env")
    if backend is None:
        return identifier
    try:
        source, _ = environment_source(backend, identifier)
    except RLFrameworkError:
        return identifier  # what is wrong is told when the configuration is checked
    return source if isinstance(source, str) else identifier


def _told(preset: Preset) -> str:
    source = f" ({preset.source})" if preset.source else ""
    return f"preset {preset.name}{source}"


def _further(asked: Asked, agent: dict[str, Any] | None) -> Iterable[tuple[str, Any, str]]:
    """Yields keys and values of the options that are no single value of the configuration, and the options."""
    in_file = _data_of(asked.file)
    if asked.network is not None:
        yield *network_setting(_known(agent, in_file, "--net", asked.network), asked.network), "--net"
    if asked.learning_rate is not None:
        key = learning_rate_key(_known(agent, in_file, "--lr", asked.learning_rate), asked.learning_rate)
        yield key, asked.learning_rate, "--lr"
    if asked.episodes is not None:
        section = _known(agent, in_file, "--episodes", asked.episodes)
        if section["type"] in _WITHOUT_EPISODES:
            remedy = "Algorithms that do: bc, gail, cql, ...; see rl-framework list algorithms."
            raise ArgumentError("--episodes", asked.episodes, "this algorithm does not learn from episodes", remedy)
        yield "episodes", episodes_section(asked.episodes), "--episodes"
    if asked.video and in_file.get("video") is None:
        yield "video", {}, "--record-video"
    names = list(asked.connectors)
    if names:
        there = in_file.get("connectors") or []
        yield "connectors", [*there, *({"type": name} for name in names)], "--connector"


def _data_of(file: Path | None) -> dict[str, Any]:
    """Returns what a file says itself, unchecked."""
    if file is None:
        return {}
    from rl_framework.experiment.reading.documents import read_file

    data = read_file(file).data
    return data if isinstance(data, dict) else {}


def _known(agent: dict[str, Any] | None, in_file: dict[str, Any], option: str, value: Any) -> dict[str, Any]:
    """Returns the section `agent` with its type."""
    section = agent or in_file.get("agent")
    if isinstance(section, dict) and isinstance(section.get("algorithm"), str):
        section = {**agent_section(section["algorithm"]), **section}
    if not isinstance(section, dict) or "type" not in section:
        raise ArgumentError(option, value, "depends on the algorithm", "Give --algo too.")
    return section


def in_words_of_options(error: ConfigurationError, spoken: Mapping[str, str]) -> ConfigurationError:
    """Returns an error whose problems name the options that they come from.

    Args:
        error: What was found.
        spoken: The options that were given, by their keys.
    """
    return ConfigurationError(_spoken(problem, spoken) for problem in error.problems)


def _spoken(problem: ConfigurationProblem, spoken: Mapping[str, str]) -> ConfigurationProblem:
    for key, option in spoken.items():
        if problem.key == key or problem.key.startswith((f"{key}.", f"{key}[")):
            rest = problem.key[len(key) :].lstrip(".")
            return replace(problem, key=f"{option} ({rest})" if rest else option, file=None, line=None)
    if problem.key == _PLAIN["--env"] and problem.line is None and problem.message.startswith("None: "):
        return replace(problem, key="--env", message=problem.message.removeprefix("None: "), file=None)
    if problem.key in _NEEDED and problem.message.startswith("is needed"):
        option, message = _NEEDED[problem.key]
        return replace(problem, key=option, message=message)
    return problem
