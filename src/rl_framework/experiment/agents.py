"""The agent of a configuration: which kind, checked by the agent's own class, and made."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, replace
from functools import partial
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails, PydanticKnownError

from rl_framework import registry
from rl_framework.errors import RLFrameworkError, UnknownNameError
from rl_framework.experiment.sections.kinds import Kind, KindOf, Role, key_in, refusal_of, without_argument
from rl_framework.experiment.sections.section import Whole, complaint, complaints, whole
from rl_framework.experiment.sections.signatures import Parameter, data_type, is_scalar, members_of, parameters_of

__all__ = ["AGENT", "agent_section", "algorithm_parameters", "make_agent", "needs_episodes"]

logger = logging.getLogger(__name__)

_MOST_MISTAKES = 20

_NOT_PARAMETERS = ("env", "_init_setup_model", "observation_space", "action_space")
"""What an algorithm's constructor takes and an agent gives."""

_SHARES = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
_COUNTS = ("batch_size", "buffer_size", "n_epochs", "n_steps", "stats_window_size", "target_update_interval")
_POSITIVE = ("clip_range", "learning_rate", "learning_starts", "max_grad_norm", "target_kl", "vf_coef")
_RANGES: dict[str, dict[str, Any]] = {
    **{name: {"ge": 0, "le": 1} for name in _SHARES},
    **{name: {"ge": 1} for name in _COUNTS},
    **{name: {"ge": 0} for name in _POSITIVE},
}
"""Of parameters that mean the same in every library."""


def agent_section(algorithm: str) -> dict[str, Any]:
    """Returns the section `agent` for an algorithm by its name.

    Args:
        algorithm: A registered algorithm of whichever library ("ppo", "bc", "cql"), or parts that are put together
            ("ppo+rnd").

    Raises:
        UnknownNameError: No such name; the nearest ones of all libraries are suggested.
    """
    names = [name.strip() for name in str(algorithm).split("+")]
    if len(names) > 1:
        for name in names:
            if name not in registry.parts:
                raise UnknownNameError("algorithm", name, registry.parts)
        return {"type": "composed", "parts": [{"type": name.lower()} for name in names]}
    return {"type": type_of_algorithm(algorithm), "algorithm": str(algorithm).lower()}


def type_of_algorithm(algorithm: str) -> str:
    """Returns the type of agent that an algorithm is for; of several libraries with that name, the first of these."""
    if algorithm in registry.algorithms:
        from rl_framework.agent.reinforcement import CustomAlgorithm

        found = registry.algorithms.get(algorithm)
        return "custom" if isinstance(found, type) and issubclass(found, CustomAlgorithm) else "stable_baselines"
    if algorithm in registry.imitation_algorithms:
        return "imitation"
    if algorithm in registry.offline_algorithms:
        return "offline"
    known = {*registry.algorithms, *registry.imitation_algorithms, *registry.offline_algorithms}
    remedy = f"It is a part, which joins others: ppo+{algorithm}." if algorithm in registry.parts else ""
    raise UnknownNameError("algorithm", algorithm, known, remedy)


def _default_type(data: Mapping[str, Any]) -> str | None:
    algorithm = data.get("algorithm")
    return type_of_algorithm(algorithm) if isinstance(algorithm, str) else None


def _check(section: Kind) -> Iterable[InitErrorDetails]:
    """Makes the agent, which checks names and values, again without what it refused, until it refuses no more."""
    changed: dict[str, Any] = {}
    found: list[InitErrorDetails] = []
    for _ in range(_MOST_MISTAKES):
        try:
            agent = make_agent(section, changed)
        except RLFrameworkError as error:
            key = key_in(section, error)
            found.append(complaint(without_argument(error), key))
            if len(key) != 2 or key[0] != "parameters":
                return found
            left = changed.get("parameters", section.given()["parameters"])
            if key[1] not in left:
                return found
            changed["parameters"] = {name: value for name, value in left.items() if name != key[1]}
        except (TypeError, ValueError) as error:  # classes of other packages may raise these
            return [*found, complaint(f"{type(section).target.__name__} refuses it: {error}")]
        else:
            return [*found, *_check_values(section, agent)]
    return found


def _check_values(section: Kind, agent: Any) -> Iterable[InitErrorDetails]:
    """Compares numbers, texts and schedules with what the library's constructor says that it takes."""
    from rl_framework.agent.reinforcement.schedules import to_schedule

    given = getattr(section, "parameters", None)
    if not isinstance(given, dict):
        return []
    found: list[InitErrorDetails] = []
    for parameter in algorithm_parameters(getattr(agent, "algorithm_class", None)):
        name = parameter.name
        if name not in given or parameter.annotation is Any:
            continue
        try:
            # In place: what was written as 1e3 is from now on the integer that the library asks for.
            given[name] = TypeAdapter(parameter.annotation, config={"strict": True}).validate_python(given[name])
            if isinstance(given[name], dict):
                to_schedule(given[name], name)
        except ValidationError as error:
            found += [{**one, "loc": ("parameters", name, *one.get("loc", ()))} for one in complaints(error)]
        except RLFrameworkError as error:
            found.append(complaint(without_argument(error), ("parameters", name)))
    return found


def algorithm_parameters(algorithm_class: Any) -> list[Parameter]:
    """Returns the parameters of a library's algorithm; those whose type is no number, text or schedule as `Any`."""
    if not isinstance(algorithm_class, type):
        return []
    found = parameters_of(algorithm_class, without=_NOT_PARAMETERS, convert=_number_or_schedule)
    return [replace(each, annotation=_within(each.name, each.annotation), default=_optional(each)) for each in found]


def _optional(parameter: Parameter) -> Any:
    return None if parameter.default is MISSING else parameter.default


def _within(name: str, annotation: Any) -> Any:
    """Returns the type with the range that every library's parameter of that name has."""
    limits = _RANGES.get(name)
    if limits is None or annotation is Any:
        return annotation
    kinds = {float: Annotated[float, Field(**limits)], Whole: whole(**limits)}
    # A union has one message for all its members, which tells no range: that of its numbers is checked afterwards.
    return kinds.get(annotation) or Annotated[annotation, AfterValidator(partial(_check_range, limits))]


def _check_range(limits: Mapping[str, Any], value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not value >= limits["ge"]:
        raise PydanticKnownError("greater_than_equal", {"ge": limits["ge"]})
    if is_number and value > limits.get("le", value):
        raise PydanticKnownError("less_than_equal", {"le": limits["le"]})
    return value


def _number_or_schedule(annotation: Any) -> Any:
    members = members_of(annotation)
    schedules = [member for member in members if get_origin(member) is Callable]
    if not all(is_scalar(member) or member in schedules for member in members):
        return Any
    plain = tuple(member for member in members if member not in schedules)
    return data_type(Union[(*plain, dict[str, Any])]) if schedules and plain else Any if schedules else None


def make_agent(section: Kind, changed: Mapping[str, Any] | None = None, device: str = "auto") -> Any:
    """Makes the agent.

    Args:
        section: The configuration's.
        changed: Values to use instead, by key.
        device: Where its networks are to run; "auto": as its library chooses.

    Raises:
        RLFrameworkError: The class refuses an argument.
    """
    arguments = {name: _made(value, device) for name, value in section.arguments(changed).items()}
    target = type(section).target
    if device == "auto":
        return target(**arguments)
    taken = inspect.signature(target).parameters
    if "device" in taken:
        return target(**arguments, device=device)
    if "algorithm_parameters" not in taken:
        return target(**arguments)
    parameters = arguments.get("algorithm_parameters") or {}
    try:
        return target(**{**arguments, "algorithm_parameters": {"device": device, **parameters}})
    except UnknownNameError as error:
        if error.value != "device":
            raise
    logger.warning("%s has no parameter device: it runs where its library chooses", section.type)
    return target(**arguments)


def needs_episodes(section: Kind) -> bool:
    """Tells whether an agent cannot learn without episodes."""
    from rl_framework.agent import ILAgent

    target = type(section).target
    if not (isinstance(target, type) and issubclass(target, ILAgent)):
        return False
    return bool(getattr(getattr(make_agent(section), "learner", None), "needs_episodes", False))


def _made(value: Any, device: str) -> Any:
    """Returns a value with the agents that its sections stand for; parts are data for their agent."""
    if isinstance(value, Kind):
        return make_agent(value, None, device) if value.role is AGENT else value.to_data()
    if isinstance(value, Mapping):
        return {name: _made(part, device) for name, part in value.items()}
    return [_made(part, device) for part in value] if isinstance(value, list) else value


def _check_part(section: Kind) -> Iterable[InitErrorDetails]:
    return refusal_of(section, lambda: type(section).target(**section.arguments()))


def _sections_inside(annotation: Any) -> Any:
    """Returns what stands in a file for an agent, or for a list of parts."""
    from rl_framework.agent import Agent

    if isinstance(annotation, type) and issubclass(annotation, Agent):
        return Annotated[Kind, KindOf(AGENT)]
    lists = [get_args(member) for member in members_of(annotation) if get_origin(member) is Sequence]
    if any(_is_part(member) for arguments in lists for member in members_of(*arguments)):
        return list[Annotated[Kind, KindOf(PART)]]
    return None


def _is_part(annotation: Any) -> bool:
    module = sys.modules.get("rl_framework.agent.reinforcement.parts.part")
    return module is not None and isinstance(annotation, type) and issubclass(annotation, module.Part)


PART = Role("part", registry.parts, check=_check_part, has_short_form=True)
AGENT = Role(
    "agent",
    registry.agents,
    options={
        "renamed": {"algorithm_class": "algorithm", "algorithm_parameters": "parameters"},
        "without": ("device",),
        "convert": _sections_inside,
    },
    check=_check,
    default=_default_type,
)
