"""Connectors by name, for `push` and `pull`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rl_framework import registry
from rl_framework.cli.trained import hub_repository
from rl_framework.errors import ArgumentError, ConfigurationError, ConfigurationProblem
from rl_framework.experiment import load_config
from rl_framework.experiment.connectors import make_connector
from rl_framework.experiment.reading.documents import Document, from_data
from rl_framework.experiment.reading.overrides import apply_overrides, read_overrides
from rl_framework.experiment.reading.variables import check_secrets, with_secrets
from rl_framework.experiment.sections.kinds import Role
from rl_framework.experiment.sections.section import problems_of
from rl_framework.stores import is_address, parse_address

if TYPE_CHECKING:
    from rl_framework.agent import Agent

__all__ = ["connector_to", "connector_to_read", "fetched", "section_of"]

_FETCHING = Role(
    "connector",
    registry.connectors,
    options={"opened": ("download_config",), "without": ("upload_config", "task"), "optional": ("directory",)},
)


def section_of(address: str | None, name: str | None, settings: Iterable[str], option: str) -> dict[str, Any]:
    """Returns what a connector is configured with.

    Args:
        address: Where to or where from: `hf://user/name`, `s3://bucket/path`, ..., or None.
        name: Name of a connector instead.
        settings: `key=value` for it.
        option: How the address is given, for errors.

    Raises:
        ArgumentError: Both are given, or neither, or the address is none.
        ConfigurationError: A setting is none.
    """
    if (address is None) == (name is None):
        raise ArgumentError(option, address, f"either {option} or --connector is needed, and not both")
    if address is None:
        section: dict[str, Any] = {"type": name}
    elif (hub := hub_repository(address)) is not None:
        section = {"type": "huggingface", "repository_id": hub[0], **({"revision": hub[1]} if hub[1] else {})}
    else:
        if not is_address(address) and "/" not in address and not Path(address).exists():
            remedy = "Write hf://user/name, s3://bucket/path, ./folder, ..., or --connector with its name."
            raise ArgumentError(option, address, "is no address", remedy)
        parse_address(address, option)
        section = {"type": "storage", "address": address}
    document = apply_overrides(from_data(section), read_overrides(settings))
    data: dict[str, Any] = document.data
    return data


def connector_to(section: dict[str, Any], folder: Path) -> Any:
    """Returns the connector that agents are pushed to.

    Args:
        section: From `section_of`.
        folder: With what was measured in training; what cannot be sent is kept there too.

    Raises:
        ConfigurationError: Something in the section cannot be used.
    """
    try:
        config = load_config({"connectors": [section]}, injected=("agent", "training_environments"))
    except ConfigurationError as error:
        raise ConfigurationError(map(_of_one, error.problems)) from error
    chosen = config.connectors[0]
    takes_folder = any(parameter.name == "directory" for parameter in type(chosen).parameters_taken)
    if takes_folder and chosen.given().get("directory") is None:
        return connector_to({**section, "directory": str(folder)}, folder)
    return make_connector(chosen, folder)


def _of_one(problem: ConfigurationProblem) -> ConfigurationProblem:
    key = problem.key.removeprefix("connectors[0]").lstrip(".")
    return replace(problem, key="--connector" if key == "type" else key)


def connector_to_read(section: dict[str, Any]) -> Any:
    """Returns the connector that agents are pulled from.

    Raises:
        ConfigurationError: Something in the section cannot be used.
        UnknownNameError: There is no such connector.
    """
    problems = check_secrets(Document(section))
    if problems:
        raise ConfigurationError(problems)
    kind = _FETCHING.section(str(section["type"]))
    try:
        checked = kind.model_validate(section)
    except ValidationError as error:
        raise ConfigurationError(problems_of(error, Document(section))) from error
    return kind.target(**checked.arguments(with_secrets(checked.given())))


class _Keeper:
    """Stands where a connector expects an agent, and keeps the file that one would be loaded from."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load_from_file(self, path: str | Path, algorithm_parameters: Any = None) -> _Keeper:
        shutil.copyfile(path, self.path)
        return self


def fetched(connector: Any, path: Path) -> Agent:
    """Lets a connector fetch an agent into a file, and opens it.

    Args:
        connector: From `connector_to_read`.
        path: The file.

    Raises:
        ConnectorError: It could not be fetched.
        BundleError: It is no agent, or damaged.
    """
    from rl_framework.agent import load_agent

    connector.download(_Keeper(path))
    return load_agent(path)
