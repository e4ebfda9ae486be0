"""The wrappers that an agent was trained in, in a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rl_framework.bundle import Bundle
from rl_framework.environment.wrappers import WrapperSpecification, check_wrappers
from rl_framework.errors import ArgumentError, BundleError

__all__ = ["choose_wrappers", "read_wrappers", "wrapper_members"]

_MEMBER = "wrappers.json"
_MOST = 100


def wrapper_members(wrappers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the member of a bundle that holds wrappers; none for agents without, as older versions wrote them."""
    return {_MEMBER: [dict(wrapper) for wrapper in wrappers]} if wrappers else {}


def read_wrappers(bundle: Bundle) -> tuple[dict[str, Any], ...]:
    """Returns the wrappers in a bundle.

    Their names are looked up in the registry and nowhere else, and none of them is made or imported.

    Raises:
        BundleError: They are damaged, or one has a name that is not known here.
    """
    if _MEMBER not in bundle:
        return ()
    saved = bundle.json(_MEMBER)
    if not isinstance(saved, list) or len(saved) > _MOST or not all(isinstance(each, dict) for each in saved):
        raise BundleError(f"{bundle.path}: its wrappers are no list of specifications")
    try:
        return tuple(check_wrappers(saved))
    except ArgumentError as error:
        raise BundleError(f"{bundle.path}: the agent was trained in a wrapper that cannot be used: {error}") from error


def choose_wrappers(
    asked: Sequence[WrapperSpecification] | None, mine: Sequence[dict[str, Any]], checkpoint: Bundle | None
) -> tuple[dict[str, Any], ...]:
    """Returns the wrappers to train in: those of the checkpoint, those that are asked for, or the agent's own.

    Args:
        asked: The argument of `train`; None: not given.
        mine: Those that the agent has.
        checkpoint: What is resumed from.

    Raises:
        ArgumentError: The checkpoint was made in other wrappers than those asked for.
    """
    wanted = None if asked is None else tuple(check_wrappers(asked))
    if checkpoint is None:
        return tuple(mine) if wanted is None else wanted
    before = read_wrappers(checkpoint)
    if wanted is not None and wanted != before:
        raise ArgumentError(
            "wrappers",
            list(wanted),
            f"the checkpoint was made in {list(before)}",
            "Leave the argument out to go on with those, or load_from_file(...) the checkpoint and train on in others.",
        )
    return before
