"""The connectors of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic_core import InitErrorDetails

from rl_framework import registry
from rl_framework.experiment.reading.variables import with_secrets
from rl_framework.experiment.sections.kinds import Kind, Role, refusal_of

__all__ = ["CONNECTOR", "make_connector"]

_FOLDER = "directory"


def _check(section: Kind) -> Iterable[InitErrorDetails]:
    """Makes what the connector is configured with, but not the connector, which may open files and connections."""
    return refusal_of(section, section.arguments)


def make_connector(section: Kind, folder: Path) -> Any:
    """Makes a connector.

    Args:
        section: The configuration's.
        folder: Of the run; a connector that needs a folder gets one in it, unless the configuration says which.

    Raises:
        RLFrameworkError: It cannot be made here.
    """
    target = type(section).target
    changed = with_secrets(section.given())
    if any(parameter.name == _FOLDER for parameter in type(section).parameters_taken):
        changed.setdefault(_FOLDER, str(folder / section.type))
    return target(**section.arguments(changed))


CONNECTOR = Role(
    "connector",
    registry.connectors,
    # An experiment sends and does not fetch; tasks and runs are objects.
    options={
        "opened": ("upload_config",),
        "without": ("download_config", "task", "run", "artifact", "model_uri"),
        "optional": (_FOLDER,),
    },
    check=_check,
)
