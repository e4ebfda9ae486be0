"""The reinforcement-learning agent inside an imitation algorithm: from data, to data, and from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_framework.agent.reinforcement.library.parameters import local_parameters, portable_parameters
from rl_framework.agent.reinforcement.stable_baselines import StableBaselinesAgent
from rl_framework.errors import ArgumentError, UnknownNameError

__all__ = ["describe_inner_agent", "inner_agent", "inner_data_from_file", "local_inner_data", "merged_inner_data"]

_FIELDS = (
    "algorithm_class",
    "algorithm_parameters",
    "features_extractor",
    "normalize_observations",
    "normalize_rewards",
)
_PARAMETERS = "algorithm_parameters"


def inner_agent(value: Any, argument: str, default: Mapping[str, Any] | None = None) -> StableBaselinesAgent:
    """Makes the agent that learns by reinforcement inside an imitation algorithm.

    Args:
        value: A `StableBaselinesAgent`, which is used as it is and trained on in place; a class of Stable-Baselines3 or
            its registered name; a dict of arguments of `StableBaselinesAgent`; or None for `default`.
        argument: What to call it in errors.
        default: What None stands for, in the form of a dict; None: "ppo" with the library's parameters.

    Raises:
        UnknownNameError: Unknown algorithm, parameter or key.
        ArgumentError: It is nothing of these, or a parameter cannot be used.
    """
    if value is None:
        value = {"algorithm_class": "ppo"} if default is None else default
    if isinstance(value, StableBaselinesAgent):
        return value
    if isinstance(value, str | type):
        value = {"algorithm_class": value}
    if not isinstance(value, Mapping):
        remedy = 'Give {"algorithm_class": "ppo", "algorithm_parameters": {...}}, a name, or a StableBaselinesAgent.'
        if callable(getattr(value, "policy_to_continue", None)):
            remedy = 'To go on with its policy, give StableBaselinesAgent.from_agent(agent, "ppo", {...}).'
        raise ArgumentError(argument, value, "is no reinforcement-learning agent", remedy)
    for name in value:
        if name not in _FIELDS:
            raise UnknownNameError(argument, str(name), _FIELDS, "These are arguments of StableBaselinesAgent.")
    if "algorithm_class" not in value:
        raise ArgumentError(argument, value, "does not say which algorithm", 'Such as {"algorithm_class": "ppo"}.')
    return StableBaselinesAgent(**value)


def describe_inner_agent(agent: StableBaselinesAgent) -> dict[str, Any]:
    """Returns JSON-able data; decoded with `decode_value`, `inner_agent` makes an agent alike of it.

    Raises:
        UnsavableError: Something in its parameters has no registered name.
    """
    description = agent.describe()
    return {"algorithm_class": description.pop("algorithm"), **description}


def local_inner_data(agent: StableBaselinesAgent) -> dict[str, Any]:
    """Returns the parameters of an agent that belong to this machine, as a change for `inner_data_from_file`."""
    parameters = local_parameters(agent.algorithm_parameters)
    return {_PARAMETERS: parameters} if parameters else {}


def inner_data_from_file(saved: Any, changed: Any) -> Any:
    """Returns the data of an inner agent that a file holds, without what a file does not choose.

    Args:
        saved: What `describe_inner_agent` returned, decoded.
        changed: What the user wants otherwise: a dict without "algorithm_class" changes single values (of
            `algorithm_parameters` too), anything else but None is taken instead.
    """
    data = dict(saved)
    data[_PARAMETERS] = portable_parameters(dict(data[_PARAMETERS]))
    if changed is None:
        return data
    return merged_inner_data(data, changed) if isinstance(changed, Mapping) else changed


def merged_inner_data(data: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Returns data of an inner agent with single values changed, or `changed` if that names an algorithm."""
    if "algorithm_class" in changed:
        return dict(changed)
    parameters = {**data.get(_PARAMETERS, {}), **dict(changed.get(_PARAMETERS) or {})}
    return {**data, **changed, _PARAMETERS: parameters}
