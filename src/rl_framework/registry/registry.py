"""A registry: names for objects of one kind, given by this package, the program and installed packages."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rl_framework.errors import ArgumentError, MissingExtraError, PluginError, UnknownNameError, require_extra
from rl_framework.registry.plugins import Plugin, check_address, installed_plugins, load_address

__all__ = ["Entry", "Registry"]

OURS = "rl_framework"
_EXTRAS = {"d3rlpy": "offline", "imitation": "imitation", "sb3_contrib": "contrib"}
_BY_THE_PROGRAM = "registered by the program"


@dataclass(frozen=True)
class Entry:
    """What a listing says of one entry.

    Attributes:
        kind: What it is, such as "algorithm".
        name: The name by which it can be asked for.
        origin: "rl_framework", "registered by the program", or package and version, such as "my-package 1.0".
        address: Where the object is or will be found, "module:attribute"; what it is, if it has no address.
        is_broken: Whether importing it was tried and failed.
        note: What importing it raised, or why it has no short name of its own; empty otherwise.
    """

    kind: str
    name: str
    origin: str
    address: str
    is_broken: bool = False
    note: str = ""


class Registry:
    """Names for objects of one kind.

    An entry is the object itself or a lazy `"module:attribute"` string, imported when it is first asked for.

    Args:
        kind: What the entries are, in words ("activation"); also the name of the argument in errors.
        register_call: The call that adds an entry, shown to users whose object has no name yet.
        group: Entry point group through which other packages add entries; empty: they cannot.
        home: Module of this package whose import registers the entries of this package; imported when a name is
            asked for that is not known yet. Empty: none.
        base: Address of the class that lazy entries of others have to derive from; empty: they may be anything.
    """

    def __init__(self, kind: str, register_call: str = "", *, group: str = "", home: str = "", base: str = "") -> None:
        self.kind = kind
        self.register_call = register_call
        self.group = group
        self.home = home
        self.base = base
        self._entries: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._imported: dict[Plugin, Any] = {}
        self._problems: dict[str, str] = {}  # by public name; what importing it last raised
        self._passed_over: set[str] = set()

    def register(self, name: str, target: Any, *, replace: bool = False) -> None:
        """Gives an object a name.

        Args:
            name: Short name; lower case by convention, compared without regard to case.
            target: The object, or `"module:attribute"`.
            replace: Whether another object of that name may be replaced. A class of a notebook may be, by the same
                class when its cell runs again.

        Raises:
            ArgumentError: The name is empty or taken by another object, or the lazy address is malformed.
        """
        if not name or not isinstance(name, str):
            raise ArgumentError("name", name, f"the name of a {self._word} must be a non-empty string")
        if isinstance(target, str):
            check_address(target, "target")
        key = name.lower()
        taken = self._entries.get(key)
        is_taken = taken is not None and taken is not target and taken != target
        if is_taken and not replace and not _is_defined_again(taken, target):
            raise ArgumentError(
                "name",
                name,
                f"there is already a {self._word} of that name ({taken!r}, {self._origin(key)})",
                "Pass replace=True.",
            )
        caller = sys._getframe(1).f_globals.get("__name__", "")
        self._origins[key] = OURS if caller.partition(".")[0] == OURS else _BY_THE_PROGRAM
        self._entries[key] = target

    def get(self, name: str, argument: str | None = None) -> Any:
        """Returns the object of that name, importing it if it was registered lazily.

        Args:
            name: Short name, or `"<package>:<name>"` for what an installed package offers.
            argument: Name of the argument that held the name, for errors.

        Raises:
            UnknownNameError: No such name; the nearest names are suggested.
            ArgumentError: Several installed packages offer this name.
            MissingExtraError: It belongs to an extra that is not installed.
            PluginError: It cannot be imported.
        """
        key = str(name).lower()
        argument = argument or self.kind
        if not self._has(key):
            raise self._unknown(name, argument)
        if key in self._entries:
            target = self._entries[key]
            if isinstance(target, str):
                library = target.partition(":")[0].partition(".")[0]
                if library in _EXTRAS:
                    require_extra(_EXTRAS[library], f"{argument}={name!r}", library)
                target = self._entries[key] = self._import(target, key, self._origin(key))
            return target
        plugin = self._claim(key, name, argument)
        if plugin not in self._imported:
            self._imported[plugin] = self._import(plugin.address, self._public_name(plugin), plugin.origin)
        return self._imported[plugin]

    def name_for_files(self, name: str, argument: str | None = None) -> str:
        """Returns the name to write into a file instead of one that a user gave.

        It is that name in lower case, and `"<package>:<name>"` for what comes from an installed package. Nothing is
        imported.

        Raises:
            UnknownNameError: No such name.
            ArgumentError: Several installed packages offer this name.
        """
        key = str(name).lower()
        if not self._has(key):
            raise self._unknown(name, argument or self.kind)
        return key if key in self._entries else self._claim(key, name, argument or self.kind).qualified_name

    def name_of(self, target: Any) -> str | None:
        """Returns the name under which an object is registered, or None.

        Lazy entries are compared by address, so that asking imports nothing. What comes from an installed package is
        called `"<package>:<name>"`, so that a file in which the name is written tells what has to be installed.
        """
        address = f"{getattr(target, '__module__', '')}:{getattr(target, '__qualname__', '')}"
        for name, entry in list(self._entries.items()):
            if entry is target or (isinstance(entry, str) and self._leads_to(entry, address, name, target)):
                return name
        for plugin in self._plugins():
            name = plugin.qualified_name
            if self._imported.get(plugin) is target or self._leads_to(plugin.address, address, name, target):
                return name
        return None

    def usable(self) -> Iterator[tuple[str, Any]]:
        """Yields every name with its object, importing them.

        What the program or another package added and cannot be imported is passed over with a warning, once.
        """
        for name in self:
            if self._origin(name) == OURS:
                yield name, self.get(name)
            elif name not in self._problems and (found := self._try(name)) is not None:
                yield name, found
            elif name not in self._passed_over:
                self._passed_over.add(name)
                warnings.warn(f"passed over: {self._problems[name]}", RuntimeWarning, stacklevel=3)

    def origins(self) -> dict[str, str]:
        """Returns where each name comes from, by name; see `Entry`."""
        return {name: self._origin(name) for name in self}

    def describe(self, load: bool = False) -> list[Entry]:
        """Lists the entries for people, in the order of their names.

        Args:
            load: Whether to import what other packages and the program added, to see what is broken.
        """
        if load:
            for name in self:
                if self._origin(name) != OURS:
                    self._try(name)
        return [self._describe(name) for name in self]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._has(name.lower())

    def __iter__(self) -> Iterator[str]:
        self._go_home()
        return iter(sorted([*self._entries, *map(self._public_name, self._plugins())]))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def _word(self) -> str:
        return self.kind.replace("_", " ")

    def _has(self, key: str) -> bool:
        if key in self._entries:
            return True
        self._go_home()
        return key in self._entries or bool(self._claims(key))

    def _go_home(self) -> None:
        home, self.home = self.home, ""
        if home:
            importlib.import_module(home)

    def _plugins(self) -> tuple[Plugin, ...]:
        return installed_plugins().get(self.group, ()) if self.group else ()

    def _claims(self, key: str) -> list[Plugin]:
        return [plugin for plugin in self._plugins() if key in (plugin.name, plugin.qualified_name)]

    def _claim(self, key: str, name: str, argument: str) -> Plugin:
        claims = self._claims(key)
        if len(claims) > 1:
            names = " or ".join(repr(plugin.qualified_name) for plugin in claims)
            packages = " and ".join(plugin.origin for plugin in claims)
            raise ArgumentError(argument, name, f"both {packages} have a {self._word} of that name", f"Write {names}.")
        return claims[0]

    def _public_name(self, plugin: Plugin) -> str:
        is_free = plugin.name not in self._entries and len(self._claims(plugin.name)) == 1
        return plugin.name if is_free else plugin.qualified_name

    def _origin(self, name: str) -> str:
        if name in self._entries:
            return self._origins.get(name, _BY_THE_PROGRAM)
        return self._claims(name)[0].origin

    def _import(self, address: str, name: str, origin: str) -> Any:
        try:
            found = load_address(address)
            base = load_address(self.base) if self.base and origin != OURS else None
            if base is not None and not (isinstance(found, type) and issubclass(found, base)):
                raise TypeError(f"it is no {base.__name__}")
        except (Exception, SystemExit) as error:
            if isinstance(error, MissingExtraError) and origin == OURS:
                raise
            raised = PluginError(self._word, name, origin, address, error)
            self._problems[name] = str(raised)
            raise raised from error
        self._problems.pop(name, None)
        return found

    def _try(self, name: str) -> Any:
        """Returns what is called so, or None if it cannot be imported, which is then noted for `describe`."""
        try:
            return self.get(name)
        except (PluginError, MissingExtraError) as error:
            self._problems[name] = str(error)
            return None

    def _unknown(self, name: str, argument: str) -> UnknownNameError:
        remedy = f"Add your own with {self.register_call}." if self.register_call else ""
        package, colon, _ = str(name).partition(":")
        if colon and self.group:
            remedy = (
                f"It is the name of something in the package {package!r}, and no installed package of that name has "
                f"it: install {package!r}."
            )
        return UnknownNameError(argument, name, self, remedy, self.origins())

    def _describe(self, name: str) -> Entry:
        problem = self._problems.get(name, "")
        origin = self._origin(name)
        if name in self._entries:
            target = self._entries[name]
            return Entry(self.kind, name, origin, _address_of(target), bool(problem), problem)
        (plugin,) = self._claims(name)
        note = problem
        if not problem and name != plugin.name:
            others = [other.origin for other in self._claims(plugin.name) if other is not plugin]
            if plugin.name in self._entries:
                others = [self._origin(plugin.name)]
            note = f"{plugin.name!r} is also a name of {' and '.join(others)}: write {name!r}"
        return Entry(self.kind, name, origin, plugin.address, bool(problem), note)

    def _leads_to(self, entry: str, address: str, name: str, target: Any) -> bool:
        if entry == address:
            return True
        # A class may be exported from another module than the one that defines it.
        module, _, attribute = entry.partition(":")
        root = address.partition(":")[0].partition(".")[0]
        may_be = root == module.partition(".")[0] and getattr(target, "__qualname__", None) == attribute
        return may_be and self._try(name) is target


def _is_defined_again(taken: Any, target: Any) -> bool:
    """Tells whether a cell of a notebook ran again: the same name, in what is no module."""
    origins = [(getattr(each, "__module__", None), getattr(each, "__qualname__", None)) for each in (taken, target)]
    return isinstance(taken, type) and origins[0] == origins[1] and origins[0][0] in ("__main__", "__mp_main__")


def _address_of(target: Any) -> str:
    if isinstance(target, str):
        return target
    module, attribute = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    return f"{module}:{attribute}" if module and attribute else f"an object of {type(target).__name__}"
