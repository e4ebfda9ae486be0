"""What installed packages add to the registries, read from their metadata without importing any of them."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rl_framework.errors import ArgumentError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Plugin", "check_address", "installed_plugins", "load_address"]

_ADDRESS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Plugin:
    """A name that an installed package gives to an object of its own.

    Attributes:
        name: The name, in lower case.
        address: Where the object is, "module:attribute" if the package wrote it correctly.
        package: Name of the distribution, normalised ("my-package").
        version: Version of the distribution.
    """

    name: str
    address: str
    package: str
    version: str

    @property
    def origin(self) -> str:
        """Package and version, for people."""
        return f"{self.package} {self.version}"

    @property
    def qualified_name(self) -> str:
        """A name that no other package can have."""
        return f"{self.package}:{self.name}"


@cache
def installed_plugins() -> dict[str, tuple[Plugin, ...]]:
    """Returns what installed packages offer, by entry point group, such as "rl_framework.algorithms".

    The installed packages are looked through once (about 30 ms), so that one installed later is seen by the next
    process.
    """
    from importlib.metadata import entry_points

    installed = entry_points()
    found: dict[str, tuple[Plugin, ...]] = {}
    for group in installed.groups:
        if group.startswith("rl_framework."):
            plugins = {plugin.qualified_name: plugin for plugin in map(_plugin, installed.select(group=group))}
            found[group] = tuple(sorted(plugins.values(), key=attrgetter("name", "package")))
    return found


def _plugin(point: EntryPoint) -> Plugin:
    package = re.sub(r"[-_.]+", "-", point.dist.name if point.dist else "unknown").lower()
    version = point.dist.version if point.dist else "0"
    return Plugin(point.name.lower(), point.value.partition("[")[0].strip(), package, version)


def check_address(address: str, argument: str) -> None:
    """Refuses an address that is not written "module:attribute"."""
    if not _ADDRESS.fullmatch(address):
        raise ArgumentError(argument, address, "a lazy entry is written 'module:attribute'")


def load_address(address: str) -> Any:
    """Imports what is at an address.

    Args:
        address: "module:attribute"; the attribute may be dotted.

    Raises:
        ArgumentError: It is not written so.
        ImportError: There is no such module.
        AttributeError: The module has no such attribute.
        Exception: Whatever else the module raises while it is imported.
    """
    check_address(address, "target")
    module, _, attribute = address.partition(":")
    return attrgetter(attribute)(importlib.import_module(module))
