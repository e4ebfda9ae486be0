"""What a configuration builds on: presets and other files, named by `base:`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_framework.errors import ConfigurationError, RLFrameworkError
from rl_framework.experiment.reading.documents import Document, Key, from_data, read_file
from rl_framework.experiment.sections.kinds import without_argument

__all__ = ["BASE", "merged", "with_bases"]

BASE = "base"
_ENDINGS = (".yaml", ".yml")


def with_bases(document: Document, folder: Path, chain: tuple[str, ...] = ()) -> Document:
    """Returns a document without `base`, on top of what that names.

    Args:
        document: What was read.
        folder: Where files that it names are looked for.
        chain: The files and presets that led here.

    Raises:
        ConfigurationError: A base is not known, cannot be read, or is based on itself.
    """
    if not isinstance(document.data, dict) or BASE not in document.data:
        return document
    named = document.data[BASE]
    names = [] if named is None else [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError([document.problem("must be the name of a preset, a file, or a list of them", (BASE,))])
    below = Document({})
    for name in names:
        below = merged(below, _opened(name, document, folder, chain))
    own = {key: value for key, value in document.data.items() if key != BASE}
    places = {key: place for key, place in document.places.items() if key[:1] != (BASE,)}
    return merged(below, Document(own, places))


def _opened(name: str, document: Document, folder: Path, chain: tuple[str, ...]) -> Document:
    try:
        if name.lower().endswith(_ENDINGS):
            found: Any = folder / name
        else:
            from rl_framework.experiment.presets import find_preset

            found = find_preset(name)
    except RLFrameworkError as error:
        message = f"{without_argument(error)} (the name of a file ends with .yaml)"
        raise ConfigurationError([document.problem(message, (BASE,))]) from error
    place = str(found.resolve()) if isinstance(found, Path) else f"preset {name.lower()}"
    if place in chain:
        loop = " -> ".join(Path(link).name for link in (*chain[chain.index(place) :], place))
        raise ConfigurationError([document.problem(f"is based on itself: {loop}", (BASE,))])
    if isinstance(found, Mapping):
        return with_bases(from_data(found), folder, (*chain, place))
    if not found.is_file():
        raise ConfigurationError([document.problem(f"there is no file {found}", (BASE,))])
    return with_bases(read_file(found), found.parent, (*chain, place))


def merged(below: Document, above: Document, key: Key = ()) -> Document:
    """Returns two documents in one: mappings key by key, everything else as the one above says.

    A mapping whose `type` is another one than that below takes its place as a whole: what else is there belongs to the
    other type.

    Args:
        below: What is overridden.
        above: What overrides.
        key: Where the two are.
    """
    if not _mixes(below.data, above.data):
        return above
    data, places = dict(below.data), dict(below.places)
    for name, value in above.data.items():
        here = (*key, name)
        part = Document(value, {k: place for k, place in above.places.items() if k[: len(here)] == here})
        if name in data:
            under = Document(data[name], {k: place for k, place in places.items() if k[: len(here)] == here})
            part = merged(under, part, here)
        places = {k: place for k, place in places.items() if k[: len(here)] != here} | part.places
        data[name] = part.data
    return Document(data, places)


def _mixes(below: Any, above: Any) -> bool:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return False
    return "type" not in above or above["type"] == below.get("type", above["type"])
