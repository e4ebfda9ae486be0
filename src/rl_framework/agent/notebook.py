"""How a notebook shows an agent."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rl_framework.errors import NotTrainedError, UnsavableError, shorten
from rl_framework.html_table import html_table
from rl_framework.secrecy import redactor

if TYPE_CHECKING:
    from rl_framework.agent.base_agent import Agent

__all__ = ["agent_html", "constructor_defaults"]

_MOST_RUNS = 5
_LONGEST = 160
# The first two have rows of their own; a device that was chosen is no wish of anybody's.
_NO_SETTINGS = ("algorithm_class", "algorithm_parameters", "parts", "device")


def agent_html(agent: Agent) -> str:
    """Returns a table of what an agent is: algorithm, what was asked for, where it learned and for how long.

    Nothing in it can be taken for HTML, and secrets are hidden: parts of an agent may be from somebody else's file.
    """
    groups = getattr(agent, "agents", None)
    rows = _group_rows(agent, groups) if isinstance(groups, Mapping) else [*_algorithm_rows(agent), *_spaces(agent)]
    rows += _training_rows(agent)
    hide = redactor()
    return html_table(type(agent).__name__, [(hide(name), hide(value)) for name, value in rows])


def constructor_defaults(made: type[Any]) -> dict[str, Any]:
    """Returns the defaults of a constructor's parameters, and, where it hands keywords on, those of its bases."""
    defaults: dict[str, Any] = {}
    for owner in made.__mro__:
        constructor = vars(owner).get("__init__")
        if constructor is None or owner is object:
            continue
        parameters = inspect.signature(constructor).parameters.values()
        found = {each.name: each.default for each in parameters if each.default is not each.empty}
        defaults = {**found, **defaults}
        if all(each.kind is not each.VAR_KEYWORD for each in parameters):
            break
    return defaults


def _algorithm_rows(agent: Any) -> list[tuple[str, str]]:
    rows = [("algorithm", _algorithm(agent))]
    learner, made = getattr(agent, "learner", None), getattr(agent, "algorithm_class", None)
    defaults = learner.default_parameters() if learner is not None else constructor_defaults(made) if made else {}
    parameters = _differing(getattr(agent, "algorithm_parameters", {}), defaults)
    for part in getattr(agent, "parts", ()):
        rows.append((f"part {part.name}", _lines(_differing(part.arguments, constructor_defaults(type(part))))))
    settings = _lines({**parameters, **_settings(agent)})
    # Parts have parameters of their own, and what is said of none is not said here once more.
    if settings != _lines({}) or not hasattr(agent, "parts"):
        rows.append(("parameters", settings))
    return rows


def _algorithm(agent: Any) -> str:
    made = getattr(agent, "algorithm_class", None)
    own = "" if made is None else made.__name__
    if not hasattr(agent, "describe"):
        return own or "of its own"
    try:
        name = str(agent.describe()["algorithm"])
    except UnsavableError:  # it can be shown, even if it has no name by which it could be saved
        return own or "without a registered name"
    return f"{own} ({name})" if own and own.lower() != name else own or name


def _settings(agent: Any) -> dict[str, Any]:
    """Returns the arguments of the agent's own constructor that are not as they would be if nobody had given them."""
    defaults = {name: value for name, value in constructor_defaults(type(agent)).items() if name not in _NO_SETTINGS}
    holder: Any = getattr(agent, "settings", None)
    given = {**vars(agent), **(vars(holder) if hasattr(holder, "__dict__") else {})}
    if hasattr(holder, "of"):  # what was written is not how it is kept: "adam" stands for its arguments too
        defaults |= vars(holder.of(**{name: defaults[name] for name in vars(holder)}))
    return _differing({name: given[name] for name in defaults if name in given}, defaults)


def _differing(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    # By their text, because arrays and objects are not compared by a single truth.
    return {
        name: value for name, value in given.items() if name not in defaults or _text(value) != _text(defaults[name])
    }


def _group_rows(agent: Any, groups: Mapping[str, Agent]) -> list[tuple[str, str]]:
    rows = []
    for name, member in groups.items():
        learns = "frozen" if name in agent.frozen else _trained_for(member)
        said = [*_algorithm_rows(member), *_spaces(member), *_weights(member)]
        lines = [f"{label}: {', '.join(value.splitlines())}" for label, value in said]
        rows.append((f"group {name}", "\n".join([f"{type(member).__name__}, {learns}", *lines])))
    return rows


def _spaces(agent: Agent) -> list[tuple[str, str]]:
    try:
        return [("observations", shorten(agent.observation_space)), ("actions", shorten(agent.action_space))]
    except NotTrainedError:
        return []


def _training_rows(agent: Any) -> list[tuple[str, str]]:
    rows = []
    runs = [run for run in agent.history().get("runs", []) if isinstance(run, dict)]
    place = getattr(agent, "environment_id", None) or (runs[-1].get("environment") if runs else None)
    if place is not None:
        rows.append(("environment", _short(str(place))))
    if agent.wrappers:
        rows.append(("wrappers", "\n".join(_short(_wrapper(wrapper)) for wrapper in agent.wrappers)))
    rows += [("trained for", _trained_for(agent)), *_weights(agent)]
    if getattr(agent, "seed", None) is not None:
        rows.append(("seed", str(agent.seed)))
    if runs:
        earlier = len(runs) - _MOST_RUNS
        lines = [f"and {earlier} before"] if earlier > 0 else []
        rows.append(("trainings", "\n".join([*lines, *map(_run, runs[-_MOST_RUNS:])])))
    return rows


def _trained_for(agent: Any) -> str:
    timesteps = getattr(agent, "num_timesteps", 0)
    return f"{timesteps:,} timesteps" if timesteps else "nothing so far"


def _weights(agent: Any) -> list[tuple[str, str]]:
    """Returns a row with the size of what was learned; none before there is anything."""
    if not getattr(agent, "num_timesteps", 0):
        return []
    numbers = sum(int(parameter.numel()) for network in _networks(agent) for parameter in network.parameters())
    if numbers:
        return [("weights", f"{numbers:,}")]
    state = getattr(getattr(agent, "algorithm", None), "get_state", None)
    if state is None:
        return []
    return [("learned state", f"{sum(np.asarray(values).size for values in state().values()):,} numbers")]


def _networks(agent: Any) -> Iterable[Any]:
    """Returns what is trained: of a composition all of it, of a library's algorithm its policy."""
    if hasattr(agent, "composition"):
        return [agent.composition]
    if hasattr(agent, "learner"):
        return list(agent.learner.networks())
    algorithm = getattr(agent, "algorithm", None)
    policy = getattr(algorithm, "policy", None)
    held: Iterable[Any] = [policy] if policy is not None else vars(algorithm).values() if algorithm is not None else []
    return [network for network in held if callable(getattr(network, "parameters", None))]


def _run(record: Mapping[str, Any]) -> str:
    """Says in a line what a record says; it may be from somebody else's file and hold anything."""
    count = record.get("n_environments")
    several = f" × {count}" if isinstance(count, int) and count > 1 else ""
    steps = record.get("total_timesteps")
    words = [
        str(record.get("started", "")).partition("T")[0],
        f"{record['environment']}{several}" if record.get("environment") else "",
        f"{steps:,} timesteps" if isinstance(steps, int) else "",
        f"seed {record['seed']}" if "seed" in record else "",
        f"resumed from {record['resumed_from']}" if record.get("resumed_from") else "",
    ]
    return _short(", ".join(word for word in words if word))


def _wrapper(wrapper: Mapping[str, Any]) -> str:
    arguments = {name: value for name, value in wrapper.items() if name != "type"}
    return f"{wrapper.get('type')} {_text(arguments) if arguments else ''}".strip()


def _lines(parameters: Mapping[str, Any]) -> str:
    return "\n".join(f"{name} = {_short(_text(value))}" for name, value in parameters.items()) or "the defaults"


def _text(value: Any) -> str:
    """Writes a parameter as a configuration would."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, str):
        return value
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    written: Any = type(value).__repr__
    if written is object.__repr__ or hasattr(value, "named_parameters"):  # an address, or all its layers
        return type(value).__name__
    return " ".join(repr(value).split())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
