"""The JSON Schema of an experiment's file: what is installed here, by name, with every key, type and range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rl_framework import registry
from rl_framework.errors import RLFrameworkError
from rl_framework.experiment.agents import AGENT, PART, algorithm_parameters
from rl_framework.experiment.connectors import CONNECTOR
from rl_framework.experiment.environments import WRAPPER
from rl_framework.experiment.reading.bases import BASE
from rl_framework.experiment.sections.kinds import ROLE_MARK, Role
from rl_framework.experiment.sections.signatures import section_of

__all__ = ["json_schema", "parameters_schema", "role_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ALGORITHMS = {
    "stable_baselines": registry.algorithms,
    "custom": registry.algorithms,
    "imitation": registry.imitation_algorithms,
    "offline": registry.offline_algorithms,
}


def json_schema() -> dict[str, Any]:
    """Returns the schema. What cannot be imported here is left out."""
    from rl_framework.experiment.config import ExperimentConfig

    definitions: dict[str, Any] = {}
    schema = _hoisted(ExperimentConfig.model_json_schema(), definitions)
    schema["title"] = "An experiment of rl_framework"
    names: dict[str, Any] = {"type": "string"}
    schema["properties"] = {
        BASE: {
            "description": "A preset, another file (.yaml), or a list of them, which this file overrides.",
            "anyOf": [names, {"type": "array", "items": names}],
        },
        **schema["properties"],
    }
    for role in (AGENT, PART, CONNECTOR, WRAPPER):
        definitions[role.name] = role_schema(role, definitions)
    return {"$schema": _DIALECT, **schema, "$defs": definitions}


def _hoisted(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Moves the definitions of a schema to those of the whole, and lets its marks point to the roles."""
    for name, inner in schema.pop("$defs", {}).items():
        definitions[name] = _pointing(inner)
    found: dict[str, Any] = _pointing(schema)
    return found


def _pointing(value: Any) -> Any:
    if isinstance(value, dict):
        if ROLE_MARK in value:
            more = {key: part for key, part in value.items() if key in ("description", "default")}
            return {"$ref": f"#/$defs/{value[ROLE_MARK]}", **more}
        return {key: _pointing(part) for key, part in value.items()}
    return [_pointing(part) for part in value] if isinstance(value, list) else value


def role_schema(role: Role, definitions: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a section, whatever its type is; adds to the definitions what it refers to."""
    choices: list[dict[str, Any]] = []
    for name in role.known:
        try:
            section = role.section(name)
        except RLFrameworkError:
            continue
        choice = _hoisted(section.model_json_schema(), definitions)
        choice["required"] = ["type", *choice.get("required", ())]
        choice["properties"]["type"] = {"enum": sorted({name, section.model_fields["type"].default})}
        if role is AGENT and name in _ALGORITHMS:
            choice |= _parameters(name)
        if role.has_short_form and choice["required"] == ["type"]:
            choices.append({"const": name, "description": choice.get("description", "")})
        choices.append(choice)
    if role is AGENT:
        # Without a type, the algorithm tells it.
        choices.append({"type": "object", "required": ["algorithm"], "not": {"required": ["type"]}})
    return {"oneOf": choices}


def _parameters(kind: str) -> dict[str, Any]:
    """Returns the algorithms of one type of agent, and which parameters each has."""
    known = dict(_algorithms_of(kind))
    rules = [
        {
            "if": {"properties": {"algorithm": {"const": name}}, "required": ["algorithm"]},
            "then": {"properties": {"parameters": parameters}},
        }
        for name, parameters in known.items()
    ]
    return {"allOf": [{"properties": {"algorithm": {"enum": sorted(known)}}}, *rules]}


def _algorithms_of(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    agent_class = registry.agents.get(kind)
    for name in _ALGORITHMS[kind]:
        try:
            agent = agent_class(name)
        except RLFrameworkError:  # it belongs to another type of agent, or to an extra that is not there
            continue
        yield name, parameters_schema(agent)


def parameters_schema(agent: Any) -> dict[str, Any]:
    """Returns the schema of the parameters of an agent's algorithm."""
    typed = section_of("parameters", algorithm_parameters(agent.algorithm_class)).model_json_schema()
    properties = typed.get("properties", {})
    learner = getattr(agent, "learner", None)
    if learner is not None:
        known = sorted(learner.known_parameters() - set(learner.owned))
        properties = {name: properties.get(name, {}) for name in known}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
